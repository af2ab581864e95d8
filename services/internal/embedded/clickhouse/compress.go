package clickhouse

import (
	"compress/zlib"
	"errors"
	"io"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// maxWindow bounds what one compressed request may make the decoder allocate.
const maxWindow = 128 << 20

// decodeBody undoes Content-Encoding and then, with native, ClickHouse's own block compression.
func decodeBody(body io.Reader, encoding string, native bool) (io.Reader, error) {
	decoded, err := decodeEncoding(body, strings.ToLower(strings.TrimSpace(encoding)))
	if err != nil {
		return nil, newException(codeCannotDecompress, "CANNOT_DECOMPRESS", "Cannot read the %s body: %v", encoding, err)
	}
	if native {
		decoded = &nativeReader{src: decoded}
	}
	return decoded, nil
}

func decodeEncoding(body io.Reader, encoding string) (io.Reader, error) {
	switch encoding {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		return gzip.NewReader(body)
	case "deflate":
		return zlib.NewReader(body)
	case "br":
		return brotli.NewReader(body), nil
	case "lz4":
		return lz4.NewReader(body), nil
	case "zstd":
		d, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWindow),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	default:
		return nil, errors.New("unknown Content-Encoding; use gzip, deflate, br, zstd or lz4")
	}
}

// chooseEncoding picks the first encoding of Accept-Encoding that is spoken here.
func chooseEncoding(accept string) string {
	for part := range strings.SplitSeq(accept, ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if q = strings.ReplaceAll(q, " ", ""); q == "q=0" || q == "q=0.0" {
			continue
		}
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "gzip", "deflate", "br", "zstd", "lz4":
			return name
		}
	}
	return ""
}

// encoder is a compressing writer; Flush makes what was written readable at the other end.
type encoder interface {
	io.WriteCloser
	Flush() error
}

func newEncoder(w io.Writer, encoding string) (encoder, error) {
	switch encoding {
	case "gzip":
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	case "deflate":
		return zlib.NewWriterLevel(w, zlib.BestSpeed)
	case "br":
		tail := &tailWriter{w: w}
		return brotliEncoder{brotli.NewWriterLevel(tail, brotli.BestSpeed), tail}, nil
	case "zstd":
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	case "lz4":
		return lz4.NewWriter(w), nil
	default:
		return plainEncoder{w}, nil
	}
}

// brotliEncoder sends the last byte of a stream, which brotli writes by itself, together with those before it: the
// reader in Go takes it for excessive input when it arrives alone.
type brotliEncoder struct {
	*brotli.Writer
	tail *tailWriter
}

// Close is io.Closer.
func (b brotliEncoder) Close() error {
	return errors.Join(b.Writer.Close(), b.tail.flush())
}

// Flush is encoder.
func (b brotliEncoder) Flush() error {
	return errors.Join(b.Writer.Flush(), b.tail.flush())
}

// tailWriter keeps the last bytes back until more follow.
type tailWriter struct {
	w    io.Writer
	tail []byte
}

const tailSize = 64

// Write is io.Writer.
func (t *tailWriter) Write(p []byte) (int, error) {
	t.tail = append(t.tail, p...)
	if ready := len(t.tail) - tailSize; ready > 0 {
		if _, err := t.w.Write(t.tail[:ready]); err != nil {
			return 0, err
		}
		t.tail = append(t.tail[:0], t.tail[ready:]...)
	}
	return len(p), nil
}

func (t *tailWriter) flush() error {
	_, err := t.w.Write(t.tail)
	t.tail = t.tail[:0]
	return err
}

type plainEncoder struct{ io.Writer }

// Flush does nothing: nothing is held back.
func (plainEncoder) Flush() error { return nil }

// Close does nothing: the response is closed by its server.
func (plainEncoder) Close() error { return nil }

// networkBlock is how much data goes into one native block; ClickHouse's own default.
const networkBlock = 1 << 20

// networkWriter writes ClickHouse's block compression: a CityHash128 checksum, method, sizes, data.
type networkWriter struct {
	w      io.Writer
	writer *compress.Writer
	plain  *compress.Writer
}

func newNetworkWriter(w io.Writer, method string) *networkWriter {
	m := compress.LZ4
	switch strings.ToUpper(method) {
	case "ZSTD":
		m = compress.ZSTD
	case "NONE":
		m = compress.None
	case "LZ4HC":
		m = compress.LZ4HC
	}
	return &networkWriter{w: w, writer: compress.NewWriter(compress.LevelZero, m), plain: compress.NewWriter(compress.LevelZero, compress.None)}
}

// Write is io.Writer.
func (n *networkWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		size := min(len(rest), networkBlock)
		if err := n.block(n.writer, rest[:size]); err != nil {
			return len(p) - len(rest), err
		}
		rest = rest[size:]
	}
	return len(p), nil
}

// writePlain writes a block of its own that is not compressed: clickhouse-go looks for exceptions in the raw stream.
func (n *networkWriter) writePlain(p []byte) error { return n.block(n.plain, p) }

func (n *networkWriter) block(w *compress.Writer, p []byte) error {
	if err := w.Compress(p); err != nil {
		return err
	}
	_, err := n.w.Write(w.Data)
	return err
}
