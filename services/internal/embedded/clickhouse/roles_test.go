package clickhouse_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse/chtest"
)

// door sends statements over HTTP as one user.
type door struct {
	t              *testing.T
	host           string
	user, password string
}

func newDoor(t *testing.T, e *chtest.Running) door {
	u, err := url.Parse(e.URL())
	require.NoError(t, err)
	password, _ := u.User.Password()
	return door{t, u.Host, u.User.Username(), password}
}

func (d door) as(user, password string) door { return door{d.t, d.host, user, password} }

func (d door) send(ctx context.Context, method, sql string, query url.Values) (status int, code, body string, err error) {
	target := url.URL{Scheme: "http", Host: d.host, Path: "/", RawQuery: query.Encode()}
	var reader io.Reader = strings.NewReader(sql)
	if method == http.MethodGet {
		values := url.Values{"query": {sql}}
		target.RawQuery, reader = values.Encode(), nil
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), reader)
	if err != nil {
		return 0, "", "", err
	}
	req.Header.Set("X-ClickHouse-User", d.user)
	req.Header.Set("X-ClickHouse-Key", d.password)
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", "", err
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("X-ClickHouse-Exception-Code"), string(text), err
}

func (d door) must(sql string) string {
	d.t.Helper()
	status, _, body, err := d.send(d.t.Context(), http.MethodPost, sql, nil)
	require.NoError(d.t, err)
	require.Equal(d.t, http.StatusOK, status, "%s: %s", sql, body)
	return body
}

func (d door) refuses(sql string, query url.Values) (code string) {
	d.t.Helper()
	status, code, body, err := d.send(d.t.Context(), http.MethodPost, sql, query)
	require.NoError(d.t, err)
	require.GreaterOrEqual(d.t, status, 400, "%s: %s", sql, body)
	return code
}

func TestRoles(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	t.Parallel()
	cfg := chtest.Config(t)
	cfg.Users = map[string]clickhouse.User{"reader": {Password: "read", ReadOnly: true}, "second": {Password: "own"}}
	owner := newDoor(t, chtest.Start(t, cfg))
	reader, second := owner.as("reader", "read"), owner.as("second", "own")
	owner.must("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
	second.must("INSERT INTO t VALUES (1)")
	out := filepath.Join(t.TempDir(), "out")

	t.Run("a reader reads", func(t *testing.T) {
		for _, sql := range []string{"SELECT * FROM t", "SHOW TABLES", "DESCRIBE t", "EXPLAIN SELECT 1", "SELECT count() FROM numbers(10)", "SELECT 'file(1)' -- url(", "SELECT format('{}', 1)"} {
			reader.must(sql)
		}
	})
	t.Run("a reader does nothing else", func(t *testing.T) {
		for _, sql := range []string{
			"INSERT INTO t VALUES (2)", "INSERT INTO t SELECT 2", "CREATE TABLE x (a Int8) ENGINE = Memory", "DROP TABLE t", "ALTER TABLE t DELETE WHERE 1",
			"TRUNCATE TABLE t", "OPTIMIZE TABLE t", "SYSTEM FLUSH LOGS", "SYSTEM SHUTDOWN", "KILL QUERY WHERE query_id = 'x'", "KILL MUTATION WHERE 1",
			"BACKUP DATABASE mekong TO File('x')", "ATTACH TABLE y FROM '/tmp/y' (a Int8) ENGINE = Log", "GRANT ALL ON *.* TO x", "SET max_threads = 1",
			"SELECT * FROM file('/etc/passwd', 'TSV', 'a String')", "SELECT file('/etc/passwd')", "SELECT * FROM url('http://127.0.0.1:1/', 'TSV', 'a String')",
			"SELECT * FROM `url`('http://127.0.0.1:1/', 'TSV', 'a String')", "SELECT * FROM \"FILE\" /* x */ ('/etc/passwd')", "SELECT * FROM s3('http://127.0.0.1:1/b/k')",
			"SELECT * FROM remote('127.0.0.1', system.one)", "SELECT * FROM mysql('127.0.0.1:1', 'd', 't', 'u', 'p')", "SELECT * FROM postgresql('127.0.0.1:1', 'd', 't', 'u', 'p')",
			"SELECT * FROM executable('id', 'TSV', 'a String')", "SELECT * FROM sqlite('/tmp/x', 't')", "SELECT * FROM python('x')", "SELECT * FROM clusterAllReplicas('default', system.one)",
			"SELECT * FROM filesystem('/')", "SELECT 1 INTO OUTFILE '" + out + "'", "SELECT 1 SETTINGS readonly = 0", "SELECT 1 SETTINGS max_threads = 1",
			"SELECT 1; DROP TABLE t", "CREATE TEMPORARY TABLE x (a Int8)", "EXPLAIN AST SELECT 1; DROP TABLE t", "SELECT $$ ' $$; DROP TABLE t --'", "WITH 1 AS x INSERT INTO t SELECT x",
			"SELECT 1 // comment\n; DROP TABLE t", "SELECT 1 --\\\n; DROP TABLE t", "/* /* */ DROP TABLE t /* */ */",
		} {
			if code := reader.refuses(sql, nil); code == "" {
				t.Errorf("%s: refused without a code", sql)
			}
		}
		for _, name := range []string{"readonly", "max_threads", "max_memory_usage", "allow_introspection_functions", "max_execution_time"} {
			require.NotEmpty(t, reader.refuses("SELECT 1", url.Values{name: {"0"}}), name)
		}
		require.Equal(t, "1\n", owner.must("SELECT count() FROM t"))
		require.Equal(t, "1\n", owner.must("EXISTS TABLE t"))
	})
	t.Run("refused to everyone", func(t *testing.T) {
		for _, sql := range []string{
			"SYSTEM SHUTDOWN", "SYSTEM KILL", "SYSTEM /* x */ shutdown", "SELECT 1 INTO OUTFILE '" + out + "'", "SELECT 1 into/**/outfile '" + out + "' TRUNCATE", "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT TSV",
			"SELECT 1; SELECT 2", "KILL QUERY WHERE 1", "USE system", "SET max_threads = 1", "BEGIN TRANSACTION", "CREATE TEMPORARY TABLE x (a Int8)", "DROP TABLE t; SELECT FROM WHERE ((", "SYSTEM STOP LISTEN HTTP",
		} {
			require.NotEmpty(t, owner.refuses(sql, nil), sql)
		}
		require.NoFileExists(t, out)
		for _, name := range []string{"readonly", "path", "config-file", "user_files_path", "insert_distributed_sync", "allow_introspection_functions", "format_schema", "no_such"} {
			require.NotEmpty(t, owner.refuses("SELECT 1", url.Values{name: {"1"}}), name)
		}
		require.Equal(t, "1\n", owner.must("SELECT count() FROM t"))
	})
	t.Run("GET only reads", func(t *testing.T) {
		status, code, body, err := owner.send(t.Context(), http.MethodGet, "DROP TABLE t", nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, status, body)
		require.Equal(t, "164", code)
		status, _, body, err = owner.send(t.Context(), http.MethodGet, "SELECT count() FROM t", nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "1\n", body)
	})
	t.Run("an owner may leave the engine", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "in.tsv")
		require.NoError(t, os.WriteFile(file, []byte("41\n42\n"), 0o600))
		require.Equal(t, "42\n", owner.must("SELECT max(a) FROM file('"+file+"', 'TSV', 'a UInt64')"))
		owner.must("SYSTEM FLUSH LOGS")
		owner.must("KILL MUTATION WHERE database = 'none'")
	})
}
