package clickhouse

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
)

// insertChunk is how much data goes to the engine at once.
const insertChunk = 1 << 20

// insert streams the rows of a request into the engine. They are committed only after the body was read to its end:
// a body that breaks off cancels the insert.
func (s *server) insert(ctx context.Context, c *connection, req *request, resp *response, tag string) error {
	stream, err := c.insert(tag+req.stmt.sql, req.stmt.format, req.params)
	if err != nil {
		return err
	}
	defer stream.free()
	first, err := s.feed(stream, req)
	if err == nil && ctx.Err() != nil {
		err = s.cause(ctx, ctx.Err())
	}
	if err != nil {
		stream.cancel()
		return err
	}
	p, err := stream.done()
	if err != nil {
		return err
	}
	if p.writtenRows < first {
		return newException(codeIncorrectData, "INCORRECT_DATA",
			"The first block of the body has %d rows but only %d rows were written; compare the table with what was sent", first, p.writtenRows)
	}
	return resp.finish(p)
}

// feed sends the body; it returns how many rows its first block claims, where the format tells.
func (s *server) feed(stream insertStream, req *request) (firstRows uint64, err error) {
	buf := s.takeChunk()
	defer s.chunks.Put(buf)
	values := valuesScanner{}
	for started := false; ; started = true {
		n, readErr := readChunk(req.data, *buf)
		if readErr != nil && !errors.Is(readErr, io.EOF) {
			return 0, bodyError(readErr)
		}
		chunk := (*buf)[:n]
		if !started && req.stmt.format == "Native" {
			firstRows = nativeRows(chunk)
		}
		if req.stmt.format == "Values" {
			if chunk, err = values.scan(chunk); err != nil {
				return 0, err
			}
		}
		if appendErr := stream.append(chunk); appendErr != nil {
			return 0, appendErr
		}
		if readErr != nil {
			return firstRows, nil
		}
	}
}

func (s *server) takeChunk() *[]byte {
	if buf, ok := s.chunks.Get().(*[]byte); ok {
		return buf
	}
	buf := make([]byte, insertChunk)
	return &buf
}

// readChunk fills buf. io.EOF is the clean end of the data; a body that broke off gives another error.
func readChunk(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var k int
		k, err = r.Read(buf[n:])
		n += k
	}
	return n, err
}

// nativeRows reads the row count of the first block of Native data, 0 when there is none.
func nativeRows(data []byte) uint64 {
	_, n := binary.Uvarint(data)
	if n <= 0 {
		return 0
	}
	rows, m := binary.Uvarint(data[n:])
	if m <= 0 {
		return 0
	}
	return rows
}

// valuesScanner ends VALUES at a semicolon: the engine would drop what follows without a word.
type valuesScanner struct {
	quote   byte
	escaped bool
	ended   bool
}

// scan returns the part of chunk that belongs to the rows.
func (v *valuesScanner) scan(chunk []byte) ([]byte, error) {
	keep := len(chunk)
	for i, c := range chunk {
		switch {
		case v.ended:
			if !isSpace(c) {
				return nil, newException(codeSyntaxError, "SYNTAX_ERROR", "Cannot read data after semicolon; send one statement in a request")
			}
		case v.escaped:
			v.escaped = false
		case v.quote != 0:
			switch c {
			case '\\':
				v.escaped = true
			case v.quote:
				v.quote = 0
			}
		case c == '\'' || c == '"' || c == '`':
			v.quote = c
		case c == ';':
			v.ended = true
			keep = i
		}
	}
	if v.ended && keep == len(chunk) {
		keep = 0
	}
	return chunk[:keep], nil
}
