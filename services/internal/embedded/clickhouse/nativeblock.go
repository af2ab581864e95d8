package clickhouse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/go-faster/city"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// A native block is a CityHash128 of the rest, a method, the size with this 9-byte header, the size of the data.
const (
	checksumSize    = 16
	blockHeaderSize = checksumSize + 9
	maxBlockData    = 1 << 30
)

// Methods of a native block.
const (
	methodNone = 0x02
	methodLZ4  = 0x82
	methodZSTD = 0x90
)

// nativeReader reads ClickHouse's block compression. The data ends between two blocks; an end anywhere else is
// io.ErrUnexpectedEOF, which the reader of ch-go does not always tell apart.
type nativeReader struct {
	src       io.Reader
	raw, data []byte
	left      []byte
	zstd      *zstd.Decoder
}

// Read is io.Reader.
func (r *nativeReader) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

func (r *nativeReader) next() error {
	r.raw = resize(r.raw, blockHeaderSize)
	if _, err := io.ReadFull(r.src, r.raw); err != nil {
		return err // io.EOF before the first byte of a block is the end
	}
	size := int64(binary.LittleEndian.Uint32(r.raw[17:])) - (blockHeaderSize - checksumSize)
	dataSize := int64(binary.LittleEndian.Uint32(r.raw[21:]))
	if size < 0 || size > maxBlockData || dataSize > maxBlockData {
		return fmt.Errorf("compressed block claims %d bytes for %d bytes of data", size, dataSize)
	}
	r.raw = resize(r.raw, blockHeaderSize+int(size))
	if _, err := io.ReadFull(r.src, r.raw[blockHeaderSize:]); err != nil {
		return io.ErrUnexpectedEOF
	}
	sum := city.U128{Low: binary.LittleEndian.Uint64(r.raw), High: binary.LittleEndian.Uint64(r.raw[8:])}
	if city.CH128(r.raw[checksumSize:]) != sum {
		return errors.New("checksum of a compressed block does not match its data")
	}
	return r.decompress(r.raw[checksumSize], r.raw[blockHeaderSize:], int(dataSize))
}

func (r *nativeReader) decompress(method byte, raw []byte, size int) error {
	r.data = resize(r.data, size)
	var n int
	var err error
	switch method {
	case methodNone:
		n = copy(r.data, raw)
	case methodLZ4:
		n, err = lz4.UncompressBlock(raw, r.data)
	case methodZSTD:
		if r.zstd == nil {
			if r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlockData)); err != nil {
				return err
			}
		}
		r.data, err = r.zstd.DecodeAll(raw, r.data[:0])
		n = len(r.data)
	default:
		return fmt.Errorf("compression method 0x%02x is not known; use LZ4, ZSTD or NONE", method)
	}
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("compressed block gave %d bytes instead of %d", n, size)
	}
	r.left = r.data[:n]
	return nil
}

// resize returns a slice of n bytes, keeping what b holds and its memory where it suffices.
func resize(b []byte, n int) []byte {
	if cap(b) >= n {
		return b[:n]
	}
	grown := make([]byte, n)
	copy(grown, b)
	return grown
}
