package clickhouse

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const (
	// compressChunk keeps compressed frames at a size that the server reads without a large buffer.
	compressChunk = 1 << 20
	maxErrorBytes = 64 << 10
)

var queryID = regexp.MustCompile(`^[0-9a-zA-Z_:.-]{1,100}$`)

// Insert is one block for one table.
type Insert struct {
	Table   string
	Columns proto.Input
	// QueryID names the statement for Kill.
	QueryID string
	// Settings become the SETTINGS clause: names and values are SQL and come from code only.
	Settings map[string]string
}

// Encoder turns blocks into request bodies; it keeps its buffers from call to call and is not safe for concurrent use.
type Encoder struct {
	plain      proto.Buffer
	compressed bytes.Buffer
	writer     *compress.Writer
}

// Insert writes one block and returns how many rows the server says it wrote; -1 when it does not say. It is never
// repeated here: after an error, the block may be stored in full, in part or not at all.
func (db *DB) Insert(ctx context.Context, enc *Encoder, ins Insert) (int64, error) {
	if len(ins.Columns) == 0 {
		return 0, errs.New(errs.Internal, "insert_invalid", "an insert needs columns")
	}
	body, err := enc.encode(ins.Columns, db.endpoint.lz4)
	if err != nil {
		return 0, err
	}
	names := make([]string, len(ins.Columns))
	for i, c := range ins.Columns {
		names[i] = QuoteName(c.Name)
	}
	query := "INSERT INTO " + QuoteName(ins.Table) + " (" + strings.Join(names, ", ") + ")" + settingsClause(ins.Settings) + " FORMAT Native"
	params := url.Values{"query": {query}, "database": {db.endpoint.database}}
	if ins.QueryID != "" {
		params.Set("query_id", ins.QueryID)
	}
	if db.endpoint.lz4 {
		params.Set("decompress", "1")
	}
	written := int64(-1)
	err = db.post(ctx, "", "application/octet-stream", params, body, func(h http.Header) { written = writtenRows(h) })
	return written, err
}

// settingsClause names the settings in the statement itself: as parameters of the request, a server may read them for
// the transport only.
func settingsClause(settings map[string]string) string {
	if len(settings) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(" SETTINGS ")
	for i, name := range slices.Sorted(maps.Keys(settings)) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(name + " = " + settings[name])
	}
	return b.String()
}

// Kill stops the statements that run under the query ids and waits until none is left, or ctx ends.
func (db *DB) Kill(ctx context.Context, queryIDs ...string) error {
	quoted := make([]string, len(queryIDs))
	for i, id := range queryIDs {
		if !queryID.MatchString(id) {
			return errs.New(errs.Internal, "query_id_invalid", "a query id has letters, digits and _ : . - only")
		}
		quoted[i] = "'" + id + "'"
	}
	running := "query_id IN (" + strings.Join(quoted, ", ") + ")"
	pause := 10 * time.Millisecond
	for {
		if err := db.Exec(ctx, "KILL QUERY WHERE "+running+" SYNC"); err != nil {
			return err
		}
		var n uint64
		if err := db.QueryRow(ctx, "SELECT count() FROM system.processes WHERE "+running, nil, &n); err != nil || n == 0 {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errs.Wrap(ctx.Err(), errs.Unavailable, "statement_not_stopped", "ClickHouse has not stopped a statement yet; try again")
		case <-timer.C:
		}
		pause = min(2*pause, 500*time.Millisecond)
	}
}

func (e *Encoder) encode(columns proto.Input, lz4 bool) ([]byte, error) {
	rows := columns[0].Data.Rows()
	e.plain.Reset()
	block := proto.Block{Columns: len(columns), Rows: rows}
	if err := block.EncodeRawBlock(&e.plain, 0, columns); err != nil {
		return nil, errs.Wrap(err, errs.Internal, "block_invalid", "a block for ClickHouse could not be encoded")
	}
	if !lz4 {
		return e.plain.Buf, nil
	}
	if e.writer == nil {
		e.writer = compress.NewWriter(compress.LevelZero, compress.LZ4)
	}
	e.compressed.Reset()
	for rest := e.plain.Buf; len(rest) > 0; {
		n := min(len(rest), compressChunk)
		if err := e.writer.Compress(rest[:n]); err != nil {
			return nil, errs.Wrap(err, errs.Internal, "block_invalid", "a block for ClickHouse could not be compressed")
		}
		e.compressed.Write(e.writer.Data)
		rest = rest[n:]
	}
	return e.compressed.Bytes(), nil
}

// post sends one request past the driver: statement or body, never both.
func (db *DB) post(ctx context.Context, statement, contentType string, params url.Values, body []byte, done func(http.Header)) error {
	scheme := "http"
	if db.endpoint.tls {
		scheme = "https"
	}
	target := url.URL{Scheme: scheme, Host: db.endpoint.host, Path: db.endpoint.path + "/", RawQuery: params.Encode()}
	if statement != "" {
		body = []byte(statement)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return errs.New(errs.Internal, "request_invalid", "a request to ClickHouse could not be built")
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.SetBasicAuth(db.endpoint.user, db.endpoint.password)
	res, err := db.client.Do(req)
	if err != nil {
		return classifyTransport(ctx, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBytes))
	if err != nil {
		return classifyTransport(ctx, err)
	}
	if e := exceptionOf(res, text); e != nil {
		return wrapSQL(e)
	}
	if done != nil {
		done(res.Header)
	}
	return nil
}

func classifyTransport(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errs.Wrap(ctx.Err(), errs.Unavailable, "statement_timeout", "ClickHouse took too long; try again")
	}
	return errs.Wrap(withoutURL(err), errs.Unavailable, "clickhouse_unavailable", "ClickHouse does not answer; check that it runs and clickhouse.url")
}

// withoutURL drops the address from an error of net/http: its query holds the statement.
func withoutURL(err error) error {
	if u, ok := err.(*url.Error); ok { //nolint:errorlint // the client returns exactly this type
		return u.Err
	}
	return err
}

var exceptionText = regexp.MustCompile(`(?s)Code: (\d+)\. (.*?)(?: \(([A-Z0-9_]+)\))? ?(?:\(version [^)]*\)\)?)?\s*$`)

func exceptionOf(res *http.Response, text []byte) *SQLError {
	header := res.Header.Get("X-ClickHouse-Exception-Code")
	if res.StatusCode == http.StatusOK && header == "" && !bytes.Contains(text, []byte("__exception__\r\n")) {
		return nil
	}
	e := &SQLError{Name: "HTTP_" + strconv.Itoa(res.StatusCode)}
	if m := exceptionText.FindSubmatch(text); m != nil {
		code, _ := strconv.ParseInt(string(m[1]), 10, 32)
		e.Code, e.message, e.Name = int32(code), string(m[2]), string(m[3])
	}
	if code, err := strconv.ParseInt(header, 10, 32); err == nil {
		e.Code = int32(code)
	}
	if e.Code == 0 && res.StatusCode >= http.StatusBadGateway && res.StatusCode <= http.StatusGatewayTimeout {
		e.Code = 210 // a proxy speaks for a server that is away: NETWORK_ERROR
	}
	return e
}

func writtenRows(h http.Header) int64 {
	var summary struct {
		WrittenRows string `json:"written_rows"`
	}
	if json.Unmarshal([]byte(h.Get("X-ClickHouse-Summary")), &summary) != nil {
		return -1
	}
	n, err := strconv.ParseInt(summary.WrittenRows, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func dialer(timeout time.Duration) *net.Dialer { return &net.Dialer{Timeout: timeout} }
