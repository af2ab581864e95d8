package chtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// RunConformance proves that a ClickHouse behaves as Mekong needs. dsn is an HTTP address with the credentials of a user
// that may create databases; every case works in a database of its own. The embedded engine and an external server must
// pass it alike, so that one can stand for the other.
func RunConformance(t *testing.T, dsn string) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *suite){
		"ping":                        testPing,
		"types":                       testTypes,
		"json":                        testJSON,
		"batch insert":                testBatchInsert,
		"blank lines in binary data":  testBlankLines,
		"statement forms":             testStatementForms,
		"content encodings":           testContentEncodings,
		"formats":                     testFormats,
		"parameters":                  testParameters,
		"settings":                    testSettings,
		"typed errors":                testTypedErrors,
		"wrong password":              testWrongPassword,
		"empty answers":               testEmptyAnswers,
		"mutations":                   testMutations,
		"cancel by context":           testCancel,
		"kill query":                  testKillQuery,
		"query id in use":             testQueryIDInUse,
		"concurrent statements":       testConcurrent,
		"error after the first byte":  testMidStreamError,
		"truncated insert":            testTruncatedInsert,
		"damaged compressed insert":   testDamagedInsert,
		"multi-statements":            testMultiStatements,
		"headers":                     testHeaders,
		"engine features of the CDP":  testFeatures,
		"deduplication token":         testDeduplicationToken,
		"error does not leak further": testNoLeakAfterError,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newSuite(t, dsn))
		})
	}
}

// suite is one case: an address and a database that is dropped at the end.
type suite struct {
	t        *testing.T
	dsn      *url.URL
	database string
	conn     driver.Conn // no compression
}

func newSuite(t *testing.T, dsn string) *suite {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	s := &suite{t: t, dsn: u, database: "conformance_" + strings.ReplaceAll(uuid.NewString(), "-", "")}
	s.post("CREATE DATABASE "+s.database, url.Values{"database": {"default"}})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		status, _, body, err := s.request(ctx, "DROP DATABASE "+s.database, url.Values{"database": {"default"}}, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, body)
	})
	s.conn = s.open(ch.CompressionNone)
	return s
}

// open connects with clickhouse-go.
func (s *suite) open(compression ch.CompressionMethod) driver.Conn {
	s.t.Helper()
	opts, err := ch.ParseDSN(s.dsn.String())
	require.NoError(s.t, err)
	require.Equal(s.t, ch.HTTP, opts.Protocol, "the suite needs an http:// address")
	opts.Auth.Database = s.database
	opts.Compression = &ch.Compression{Method: compression, Level: 1}
	opts.MaxOpenConns = 16
	opts.ReadTimeout = 2 * time.Minute
	conn, err := ch.Open(opts)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, conn.Close()) })
	return conn
}

// exec runs a statement through clickhouse-go.
func (s *suite) exec(sql string) {
	s.t.Helper()
	require.NoError(s.t, s.conn.Exec(s.t.Context(), sql), sql)
}

// scan reads one row.
func (s *suite) scan(sql string, dest ...any) {
	s.t.Helper()
	require.NoError(s.t, s.conn.QueryRow(s.t.Context(), sql).Scan(dest...), sql)
}

// count is the number of rows of a table.
func (s *suite) count(table string) (n uint64) {
	s.t.Helper()
	s.scan("SELECT count() FROM "+table, &n)
	return n
}

// request sends one HTTP request with body as it is.
func (s *suite) request(ctx context.Context, body string, query url.Values, header http.Header) (int, http.Header, string, error) {
	target := *s.dsn
	target.User, target.Path = nil, "/"
	values := url.Values{"database": {s.database}}
	for k, v := range query {
		values[k] = v
	}
	target.RawQuery = values.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	password, _ := s.dsn.User.Password()
	req.SetBasicAuth(s.dsn.User.Username(), password)
	for k, v := range header {
		req.Header[k] = v
	}
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, nil, "", err
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header, string(text), err
}

// post is request for statements that must succeed.
func (s *suite) post(body string, query url.Values) string {
	s.t.Helper()
	status, _, text, err := s.request(s.t.Context(), body, query, nil)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, status, text)
	return text
}

// codeOf is the ClickHouse code of an error of clickhouse-go.
func codeOf(t *testing.T, err error) int32 {
	t.Helper()
	var e *ch.Exception
	require.ErrorAs(t, err, &e, fmt.Sprint(err))
	return e.Code
}
