package collector

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

var (
	errBodyTooLarge = errs.New(errs.Invalid, "body_too_large", "The body is larger than this server accepts; send fewer events at once.")
	errBodyEmpty    = errs.New(errs.Invalid, "body_empty", "The body is empty; send events as JSON.")
	errOverloaded   = errs.New(errs.Unavailable, "overloaded", "The server holds as many requests as it can; try again.").WithRetryAfter(time.Second)
)

const (
	firstRead     = 4 << 10
	maxPooledBody = 256 << 10
)

// bodyReader reads and decompresses bodies within the limits and within the memory that all requests share.
type bodyReader struct {
	limits Limits
	// free is what is left of the memory for bodies.
	free    atomic.Int64
	buffers sync.Pool
	gzips   sync.Pool
	zstds   sync.Pool
	brotlis sync.Pool
}

func newBodyReader(limits Limits, inFlight int64) *bodyReader {
	b := &bodyReader{limits: limits}
	b.free.Store(inFlight)
	return b
}

// reservation is the memory of one request.
type reservation struct {
	owner *bodyReader
	bytes int64
}

func (r *reservation) take(n int) bool {
	if r.owner.free.Add(-int64(n)) < 0 {
		r.owner.free.Add(int64(n))
		return false
	}
	r.bytes += int64(n)
	return true
}

func (r *reservation) release() { r.owner.free.Add(r.bytes) }

// read returns the body as text. done gives its memory back and must be called in any case.
// Errors: Invalid "body_empty", "body_too_large", "body_cut", "unsupported_encoding", "invalid_compression";
// Unavailable "overloaded".
func (b *bodyReader) read(r *http.Request) (body string, done func(), err error) {
	held := &reservation{owner: b}
	done = held.release
	if r.ContentLength > int64(b.limits.BodyBytes) {
		return "", done, errBodyTooLarge
	}
	raw := b.buffer()
	defer b.putBack(raw)
	if err := fill(raw, r.Body, int(r.ContentLength), b.limits.BodyBytes, held); err != nil {
		return "", done, bodyError(err, "body_cut", "The body ended before all of it was there; send it again.")
	}
	if len(*raw) == 0 {
		return "", done, errBodyEmpty
	}
	reader, release, err := b.decompressor(*raw, r.Header.Get("Content-Encoding"))
	if err != nil {
		return "", done, err
	}
	if reader == nil {
		if !held.take(len(*raw)) {
			return "", done, errOverloaded
		}
		return string(*raw), done, nil
	}
	defer release()
	plain := b.buffer()
	defer b.putBack(plain)
	if err := fill(plain, reader, 4*len(*raw), b.limits.DecodedBytes, held); err != nil {
		return "", done, bodyError(err, "invalid_compression", "The body cannot be decompressed.")
	}
	if !held.take(len(*plain)) {
		return "", done, errOverloaded
	}
	return string(*plain), done, nil
}

// bodyError keeps our own errors and gives those of a reader a code.
func bodyError(err error, code, message string) error {
	if errors.Is(err, errBodyTooLarge) || errors.Is(err, errOverloaded) {
		return err
	}
	return errs.Wrap(err, errs.Invalid, code, message)
}

// decompressor looks at what the body is, since some SDKs compress without saying so and some proxies decompress and
// leave the header. Only brotli cannot be recognised.
func (b *bodyReader) decompressor(raw []byte, encoding string) (io.Reader, func(), error) {
	switch {
	case bytes.HasPrefix(raw, []byte{0x1f, 0x8b}):
		return b.gzip(raw)
	case bytes.HasPrefix(raw, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return b.zstd(raw)
	}
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity", "gzip", "x-gzip", "zstd":
		return nil, nil, nil
	case "br":
		reader, ok := b.brotlis.Get().(*brotli.Reader)
		if !ok {
			reader = brotli.NewReader(nil)
		}
		return reader, func() { b.brotlis.Put(reader) }, reader.Reset(bytes.NewReader(raw))
	default:
		return nil, nil, errs.New(errs.Invalid, "unsupported_encoding", "Content-Encoding must be gzip, zstd, br or absent.")
	}
}

func (b *bodyReader) gzip(raw []byte) (io.Reader, func(), error) {
	reader, ok := b.gzips.Get().(*gzip.Reader)
	if !ok {
		reader = new(gzip.Reader)
	}
	if err := reader.Reset(bytes.NewReader(raw)); err != nil {
		return nil, nil, errs.Wrap(err, errs.Invalid, "invalid_compression", "The body cannot be decompressed.")
	}
	return reader, func() { b.gzips.Put(reader) }, nil
}

func (b *bodyReader) zstd(raw []byte) (io.Reader, func(), error) {
	decoder, ok := b.zstds.Get().(*zstd.Decoder)
	if !ok {
		var err error
		decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(uint64(b.limits.DecodedBytes)), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, nil, errs.Wrap(err, errs.Internal, "zstd_failed", "The decompressor could not be made.")
		}
	}
	if err := decoder.Reset(bytes.NewReader(raw)); err != nil {
		return nil, nil, errs.Wrap(err, errs.Invalid, "invalid_compression", "The body cannot be decompressed.")
	}
	return decoder, func() { b.zstds.Put(decoder) }, nil
}

func (b *bodyReader) buffer() *[]byte {
	if buf, ok := b.buffers.Get().(*[]byte); ok {
		return buf
	}
	buf := make([]byte, 0, firstRead)
	return &buf
}

func (b *bodyReader) putBack(buf *[]byte) {
	if cap(*buf) <= maxPooledBody {
		*buf = (*buf)[:0]
		b.buffers.Put(buf)
	}
}

// fill reads all of r into buf, at most limit bytes, reserving memory as it grows.
func fill(buf *[]byte, r io.Reader, expect, limit int, held *reservation) error {
	if !held.take(cap(*buf)) {
		return errOverloaded
	}
	p := (*buf)[:0]
	defer func() { *buf = p }()
	if expect = min(expect, limit); expect+1 > cap(p) {
		if !held.take(expect + 1) {
			return errOverloaded
		}
		p = make([]byte, 0, expect+1)
	}
	for {
		if len(p) == cap(p) {
			size := min(2*cap(p), limit+1)
			if !held.take(size - cap(p)) {
				return errOverloaded
			}
			p = append(make([]byte, 0, size), p...)
		}
		n, err := r.Read(p[len(p):min(cap(p), limit+1)])
		p = p[:len(p)+n]
		switch {
		case len(p) > limit:
			return errBodyTooLarge
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
