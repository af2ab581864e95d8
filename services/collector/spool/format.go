package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"time"
)

// Record is one message for Kafka.
type Record struct {
	Topic   string
	Key     []byte
	Value   []byte
	Headers []Header
}

// Header is one header of a record.
type Header struct{ Name, Value string }

// Position counts the bytes of all blocks that were ever appended.
type Position uint64

const (
	segmentMagic     = "MKSPOOL1"
	segmentHeaderLen = 24
	blockHeaderLen   = 24
	// maxBlockBytes refuses lengths that only damage can produce.
	maxBlockBytes = 256 << 20
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func appendRecord(dst []byte, r *Record) []byte {
	dst = appendString(dst, r.Topic)
	dst = appendBytes(dst, r.Key)
	dst = binary.AppendUvarint(dst, uint64(len(r.Headers)))
	for i := range r.Headers {
		dst = appendString(dst, r.Headers[i].Name)
		dst = appendString(dst, r.Headers[i].Value)
	}
	return appendBytes(dst, r.Value)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// size is what r takes at most in a block.
func (r *Record) size() int {
	n := len(r.Topic) + len(r.Key) + len(r.Value) + 4*binary.MaxVarintLen32
	for i := range r.Headers {
		n += len(r.Headers[i].Name) + len(r.Headers[i].Value) + 2*binary.MaxVarintLen32
	}
	return n
}

// block is one group of records as it stands in a segment.
type block struct {
	pos   Position
	count int
	at    time.Time
	// frame is the header and the records.
	frame []byte
}

func (b *block) end() Position   { return b.pos + Position(len(b.frame)) }
func (b *block) records() []byte { return b.frame[blockHeaderLen:] }

// seal fills the header of a frame whose records are in place.
func seal(frame []byte, mark uint32, pos Position, count int, at time.Time) {
	binary.LittleEndian.PutUint32(frame[0:], mark)
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(frame)-blockHeaderLen))
	binary.LittleEndian.PutUint32(frame[12:], uint32(count))
	binary.LittleEndian.PutUint64(frame[16:], uint64(at.UnixMilli()))
	binary.LittleEndian.PutUint32(frame[8:], blockCRC(frame, pos))
}

func blockCRC(frame []byte, pos Position) uint32 {
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], uint64(pos))
	crc := crc32.Update(0, crcTable, p[:])
	crc = crc32.Update(crc, crcTable, frame[4:8])
	return crc32.Update(crc, crcTable, frame[12:])
}

// blockLength returns the length of the whole frame that head begins; false when it cannot be a block of this segment.
func blockLength(head []byte, mark uint32) (int, bool) {
	if len(head) < blockHeaderLen || binary.LittleEndian.Uint32(head) != mark {
		return 0, false
	}
	n := binary.LittleEndian.Uint32(head[4:])
	return int(n) + blockHeaderLen, n > 0 && n <= maxBlockBytes
}

// openBlock returns the block that data begins with; false when it is not whole and right.
func openBlock(data []byte, mark uint32, pos Position) (block, bool) {
	n, ok := blockLength(data, mark)
	if !ok || n > len(data) {
		return block{}, false
	}
	frame := data[:n:n]
	if binary.LittleEndian.Uint32(frame[8:]) != blockCRC(frame, pos) {
		return block{}, false
	}
	return block{
		pos:   pos,
		count: int(binary.LittleEndian.Uint32(frame[12:])),
		at:    time.UnixMilli(int64(binary.LittleEndian.Uint64(frame[16:]))),
		frame: frame,
	}, true
}

// findBlock reports whether any right block begins within data.
func findBlock(data []byte, mark uint32, pos Position) bool {
	var m [4]byte
	binary.LittleEndian.PutUint32(m[:], mark)
	for off := 0; ; off++ {
		i := bytes.Index(data[off:], m[:])
		if i < 0 {
			return false
		}
		off += i
		if _, ok := openBlock(data[off:], mark, pos+Position(off)); ok {
			return true
		}
	}
}

// decode appends the records of b to dst; they share b's memory. False means that the writer and the reader disagree,
// since the CRC was right.
func (b *block) decode(dst []Record) ([]Record, bool) {
	d := decoder{rest: b.records()}
	var headers []Header
	for range b.count {
		r := Record{Topic: string(d.bytes()), Key: d.bytes()}
		n := d.uvarint()
		if n > uint64(len(d.rest)) {
			return dst, false
		}
		first := len(headers)
		for range n {
			headers = append(headers, Header{Name: string(d.bytes()), Value: string(d.bytes())})
		}
		r.Headers = headers[first:len(headers):len(headers)]
		r.Value = d.bytes()
		dst = append(dst, r)
	}
	return dst, !d.bad && len(d.rest) == 0
}

type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func segmentHeader(base Position, mark uint32) []byte {
	h := append(make([]byte, 0, segmentHeaderLen), segmentMagic...)
	h = binary.LittleEndian.AppendUint64(h, uint64(base))
	h = binary.LittleEndian.AppendUint32(h, mark)
	return binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, crcTable))
}

func openSegmentHeader(h []byte, base Position) (mark uint32, ok bool) {
	if len(h) < segmentHeaderLen {
		return 0, false
	}
	mark = binary.LittleEndian.Uint32(h[16:])
	return mark, bytes.Equal(h[:segmentHeaderLen], segmentHeader(base, mark))
}
