package clickhouse

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// response writes one answer. The first limit bytes are held back, so that an error among them is a clean HTTP error;
// with wait_end_of_query everything is held back, in a file once it is large. An error after the first byte was sent is
// written into the stream as ClickHouse's exception block and then the connection is broken.
type response struct {
	w        http.ResponseWriter
	limit    int
	wait     bool
	tempDir  string
	encoding string
	compress bool
	method   string
	native   bool // the answer is in format Native

	tag       string
	held      bytes.Buffer
	file      *os.File
	committed bool
	encoder   encoder
	network   *networkWriter
	sink      io.Writer
	started   time.Time
	status    int
}

func newResponse(w http.ResponseWriter, r *request, limit int, tempDir string) *response {
	tag := make([]byte, 8)
	_, _ = rand.Read(tag) // never fails
	resp := &response{
		w: w, limit: limit, wait: r.waitEnd, tempDir: tempDir, encoding: r.acceptEncoding,
		compress: r.compress, method: r.networkMethod, tag: hex.EncodeToString(tag), started: time.Now(), status: http.StatusOK,
	}
	h := w.Header()
	h.Set("X-ClickHouse-Query-Id", r.queryID)
	h.Set("X-ClickHouse-Server-Display-Name", displayName)
	h.Set("X-ClickHouse-Timezone", timezone)
	h.Set("X-ClickHouse-Exception-Tag", resp.tag)
	return resp
}

// setFormat announces the format of the answer; it must come before the first byte.
func (r *response) setFormat(format string) {
	r.native = format == "Native"
	r.w.Header().Set("X-ClickHouse-Format", format)
	r.w.Header().Set("Content-Type", contentType(format))
}

// Write is io.Writer.
func (r *response) Write(p []byte) (int, error) {
	switch {
	case r.committed:
		return r.sink.Write(p)
	case r.file != nil:
		return r.file.Write(p)
	case r.held.Len()+len(p) <= r.limit:
		return r.held.Write(p)
	case r.wait:
		if err := r.spill(); err != nil {
			return 0, err
		}
		return r.file.Write(p)
	default:
		if err := r.commit(r.w); err != nil {
			return 0, err
		}
		return r.sink.Write(p)
	}
}

func (r *response) spill() error {
	file, err := os.CreateTemp(r.tempDir, "answer-*")
	if err != nil {
		return fmt.Errorf("hold back the answer: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return fmt.Errorf("hold back the answer: %w", err)
	}
	r.file = file
	_, err = r.held.WriteTo(file)
	return err
}

// commit starts the chain of encodings into w and moves what was held into it.
func (r *response) commit(w io.Writer) (err error) {
	r.committed = true
	if r.encoding != "" {
		r.w.Header().Set("Content-Encoding", r.encoding)
		r.w.Header().Set("Vary", "Accept-Encoding")
	}
	if r.encoder, err = newEncoder(w, r.encoding); err != nil {
		return err
	}
	r.sink = r.encoder
	if r.compress {
		r.network = newNetworkWriter(r.encoder, r.method)
		r.sink = r.network
	}
	_, err = r.held.WriteTo(r.sink)
	return err
}

// finish sends what is left of a successful answer.
func (r *response) finish(p progress) error {
	if r.committed {
		return r.encoder.Close()
	}
	r.w.Header().Set("X-ClickHouse-Summary", p.summary(time.Since(r.started)))
	if r.file != nil {
		return r.sendFile()
	}
	if r.held.Len() == 0 {
		r.w.Header().Set("Content-Length", "0")
		r.w.WriteHeader(r.status)
		return nil
	}
	var body bytes.Buffer
	if err := r.commit(&body); err != nil {
		return err
	}
	if err := r.encoder.Close(); err != nil {
		return err
	}
	r.w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	r.w.WriteHeader(r.status)
	_, err := body.WriteTo(r.w)
	return err
}

func (r *response) sendFile() error {
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := r.commit(r.w); err != nil {
		return err
	}
	if _, err := io.Copy(r.sink, r.file); err != nil {
		return err
	}
	return r.encoder.Close()
}

// close frees what fail and finish leave behind.
func (r *response) close() {
	if r.file != nil {
		_ = r.file.Close() // already removed; nothing in it matters now
	}
}

// fail answers with an error. broken tells that part of the answer was sent, so that the connection must be cut.
func (r *response) fail(e *exception) (broken bool) {
	if r.committed {
		r.writeException(e)
		return true
	}
	h := r.w.Header()
	h.Del("X-ClickHouse-Format")
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("X-ClickHouse-Exception-Code", strconv.Itoa(e.code))
	body := e.Error() + " (version " + serverVersion + ")\n"
	h.Set("Content-Length", strconv.Itoa(len(body)))
	r.w.WriteHeader(e.status())
	_, _ = io.WriteString(r.w, body) // a client that is gone needs no error
	return false
}

// writeException puts ClickHouse's exception block behind what was sent:
//
//	\r\n__exception__\r\n<tag>\r\n<message>\n<length> <tag>\r\n__exception__\r\n
//
// In Native it is preceded by bytes that no block starts with, so that the decoder stops there and not inside the text;
// with block compression it is stored uncompressed, because clickhouse-go looks for it in the raw stream.
func (r *response) writeException(e *exception) {
	message := e.Error()
	frame := []byte(fmt.Sprintf("\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", r.tag, message, len(message)+1, r.tag))
	write := func(p []byte) error { _, err := r.sink.Write(p); return err }
	if r.network != nil {
		write = r.network.writePlain
	}
	var err error
	if r.native {
		err = write(bytes.Repeat([]byte{0xff}, 10))
	}
	if err == nil {
		err = write(frame)
	}
	if err == nil {
		err = r.encoder.Close()
	}
	if err == nil {
		_ = http.NewResponseController(r.w).Flush() // the connection is cut next; a client that is gone needs no error
	}
}

func (p progress) summary(elapsed time.Duration) string {
	return fmt.Sprintf(`{"read_rows":"%d","read_bytes":"%d","written_rows":"%d","written_bytes":"%d","total_rows_to_read":"%d",`+
		`"result_rows":"%d","result_bytes":"0","elapsed_ns":"%d"}`,
		p.readRows, p.readBytes, p.writtenRows, p.writtenBytes, p.readRows, max(p.resultRows, p.writtenRows), elapsed.Nanoseconds())
}

// contentType is what ClickHouse says for a format.
func contentType(format string) string {
	switch format {
	case "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "Raw", "TabSeparatedWithNames", "TSVWithNames",
		"TabSeparatedWithNamesAndTypes", "TSVWithNamesAndTypes":
		return "text/tab-separated-values; charset=UTF-8"
	case "CSV":
		return "text/csv; charset=UTF-8; header=absent"
	case "CSVWithNames", "CSVWithNamesAndTypes":
		return "text/csv; charset=UTF-8; header=present"
	case "JSON", "JSONCompact", "JSONStrings", "JSONColumns", "JSONCompactColumns", "JSONColumnsWithMetadata":
		return "application/json; charset=UTF-8"
	case "JSONEachRow", "JSONCompactEachRow", "JSONStringsEachRow", "JSONLines", "NDJSON":
		return "application/x-ndjson; charset=UTF-8"
	case "Native", "RowBinary", "RowBinaryWithNames", "RowBinaryWithNamesAndTypes", "Parquet", "Arrow", "ArrowStream", "ORC", "Avro", "MsgPack":
		return "application/octet-stream"
	case "XML":
		return "application/xml; charset=UTF-8"
	case "Markdown":
		return "text/markdown; charset=UTF-8"
	default:
		return "text/plain; charset=UTF-8"
	}
}

// streamable formats are self-concatenating: the chunks that the engine formats one by one make a whole answer.
var streamable = newNameSet("Native TabSeparated TSV TabSeparatedRaw TSVRaw Raw CSV JSONEachRow JSONLines NDJSON " +
	"JSONCompactEachRow JSONStringsEachRow JSONCompactStringsEachRow RowBinary LineAsString TSKV MsgPack")
