package chtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"
)

func testParameters(t *testing.T, s *suite) {
	var text string
	var number int64
	ctx := ch.Context(t.Context(), ch.WithParameters(ch.Parameters{"text": "it's; -- \\ \"x\"", "number": "-42"}))
	require.NoError(t, s.conn.QueryRow(ctx, "SELECT {text:String}, {number:Int64}").Scan(&text, &number))
	require.Equal(t, "it's; -- \\ \"x\"", text)
	require.EqualValues(t, -42, number)
	require.Equal(t, "['a','b']\t3\n", s.post("SELECT {list:Array(String)}, {n:UInt8} + 1", url.Values{"param_list": {"['a','b']"}, "param_n": {"2"}}))
	status, _, body, err := s.request(t.Context(), "SELECT {text:String}", nil, nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, status, 400, "parameters must not leak into the next statement: %s", body)
	s.exec("CREATE TABLE p (a Int64) ENGINE = MergeTree ORDER BY a")
	s.post("INSERT INTO p SELECT {a:Int64} FROM numbers(3)", url.Values{"param_a": {"7"}})
	require.EqualValues(t, 3, s.count("p"))
}

func testSettings(t *testing.T, s *suite) {
	ctx := ch.Context(t.Context(), ch.WithSettings(ch.Settings{"max_threads": 1, "join_algorithm": "hash", "max_block_size": 1234}))
	for range 3 {
		var threads, block uint64
		var join string
		require.NoError(t, s.conn.QueryRow(ctx, "SELECT toUInt64(getSetting('max_threads')), getSetting('join_algorithm'), toUInt64(getSetting('max_block_size'))").Scan(&threads, &join, &block))
		require.Equal(t, "hash", join)
		require.EqualValues(t, 1, threads)
		require.EqualValues(t, 1234, block)
	}
	require.NotEqual(t, "1234\n", s.post("SELECT getSetting('max_block_size')", nil), "settings end with their request")
	status, header, body, err := s.request(t.Context(), "SELECT 1", url.Values{"no_such_setting": {"1"}}, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "115", header.Get("X-ClickHouse-Exception-Code"))
	require.Contains(t, body, "Code: 115. DB::Exception: ")
	status, _, _, err = s.request(t.Context(), "SELECT 1", url.Values{"max_threads": {"many"}}, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, status)
	err = s.conn.Exec(ch.Context(t.Context(), ch.WithSettings(ch.Settings{"max_execution_time": 1})), "SELECT sleepEachRow(0.5) FROM numbers(20) SETTINGS max_block_size = 1")
	require.EqualValues(t, 159, codeOf(t, err))
	err = s.conn.Exec(ch.Context(t.Context(), ch.WithSettings(ch.Settings{"max_memory_usage": 10_000_000})), "SELECT groupArray(number) FROM numbers(10000000)")
	require.EqualValues(t, 241, codeOf(t, err))
}

func testTypedErrors(t *testing.T, s *suite) {
	for sql, code := range map[string]int32{
		"SELECT * FROM no_such_table": 60, "SELECT no_such_function(1)": 46, "SELECT no_such_column": 47, "SELEC 1": 62,
		"SELECT toInt32('x')": 6, "SELECT throwIf(1, 'my text')": 395, "CREATE TABLE x (a NoSuchType) ENGINE = Memory": 50,
	} {
		rows, err := s.conn.Query(t.Context(), sql)
		if err == nil {
			for rows.Next() {
			}
			err = errors.Join(rows.Err(), rows.Close())
		}
		require.Equal(t, code, codeOf(t, err), sql)
	}
	for sql, status := range map[string]int{"SELECT * FROM no_such_table": http.StatusNotFound, "SELEC 1": http.StatusBadRequest, "SELECT throwIf(1)": http.StatusInternalServerError} {
		got, _, body, err := s.request(t.Context(), sql, nil, nil)
		require.NoError(t, err)
		require.Equal(t, status, got, body)
	}
	status, _, _, err := s.request(t.Context(), "SELECT 1", url.Values{"database": {"no_such_database"}}, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, status)
	s.exec("CREATE TABLE bad (a Int32) ENGINE = MergeTree ORDER BY a")
	status, _, body, err := s.request(t.Context(), "INSERT INTO bad FORMAT TSV\n1\nnot a number\n", nil, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, status, body)
	require.Zero(t, s.count("bad"), "an insert with a bad row writes nothing")
}

func testWrongPassword(t *testing.T, s *suite) {
	for _, header := range []http.Header{
		{"Authorization": nil},
		{"Authorization": nil, "X-Clickhouse-User": {s.dsn.User.Username()}, "X-Clickhouse-Key": {"wrong"}},
		{"Authorization": {"Basic bm9ib2R5Og=="}},
	} {
		status, h, body, err := s.request(t.Context(), "SELECT 1", nil, header)
		require.NoError(t, err)
		if header.Get("Authorization") == "" && len(header) == 1 && status == http.StatusOK {
			continue // an external server may have a default user without a password
		}
		require.Contains(t, []int{http.StatusForbidden, http.StatusUnauthorized}, status, body)
		require.Contains(t, []string{"516", "194"}, h.Get("X-ClickHouse-Exception-Code"))
	}
	password, _ := s.dsn.User.Password()
	require.Equal(t, "1\n", func() string {
		_, _, body, err := s.request(t.Context(), "SELECT 1", url.Values{"user": {s.dsn.User.Username()}, "password": {password}}, http.Header{"Authorization": nil})
		require.NoError(t, err)
		return body
	}())
}

func testEmptyAnswers(t *testing.T, s *suite) {
	s.exec("CREATE TABLE empty (a UInt64) ENGINE = MergeTree ORDER BY a")
	for _, compression := range compressions {
		conn := s.open(compression)
		rows, err := conn.Query(t.Context(), "SELECT a FROM empty")
		require.NoError(t, err)
		require.False(t, rows.Next())
		require.NoError(t, rows.Err())
		require.NoError(t, rows.Close())
	}
	require.Equal(t, "\"a\"\n", s.post("SELECT a FROM empty FORMAT CSVWithNames", nil))
	require.Empty(t, s.post("", url.Values{"query": {"INSERT INTO empty FORMAT TSV"}}))
}

func testCancel(t *testing.T, s *suite) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	started := time.Now()
	rows, err := s.conn.Query(ctx, "SELECT sleepEachRow(0.05), 'cancel-me-"+s.database+"' FROM numbers(2000) SETTINGS max_block_size = 1")
	if err == nil {
		for rows.Next() {
		}
		err = errors.Join(rows.Err(), rows.Close())
	}
	require.Error(t, err)
	require.Less(t, time.Since(started), 20*time.Second)
	require.Eventually(t, func() bool {
		return s.post("SELECT count() FROM system.processes WHERE query LIKE '%cancel-me-"+s.database+"%' AND query NOT LIKE '%system.processes%'", nil) == "0\n"
	}, 20*time.Second, 50*time.Millisecond, "the engine must not go on with a statement that nobody waits for")
}

func testKillQuery(t *testing.T, s *suite) {
	id := "kill-" + s.database
	failed := make(chan error, 1)
	go func() {
		failed <- s.conn.Exec(ch.Context(t.Context(), ch.WithQueryID(id)), "SELECT sleepEachRow(0.05) FROM numbers(2000) SETTINGS max_block_size = 1")
	}()
	require.Eventually(t, func() bool {
		return strings.Contains(s.post("KILL QUERY WHERE query_id = '"+id+"' TEST", nil), id)
	}, 20*time.Second, 20*time.Millisecond)
	require.Contains(t, s.post("KILL QUERY WHERE query_id = '"+id+"' SYNC", nil), "finished\t"+id)
	require.EqualValues(t, 394, codeOf(t, <-failed))
	require.Empty(t, s.post("KILL QUERY WHERE query_id = '"+id+"' SYNC", nil), "a statement that does not run is no error")

	// An insert that is still waiting for its body ends as well, and leaves nothing behind.
	s.exec("CREATE TABLE k (a UInt64) ENGINE = MergeTree ORDER BY a")
	reader, writer := io.Pipe()
	insert := make(chan error, 1)
	go func() {
		status, err := s.stream(reader, url.Values{"query": {"INSERT INTO k FORMAT TSV"}, "query_id": {id}})
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		insert <- err
	}()
	_, err := io.WriteString(writer, "1\n2\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return strings.Contains(s.post("KILL QUERY WHERE query_id = '"+id+"' TEST", nil), id)
	}, 20*time.Second, 20*time.Millisecond)
	if s.embedded() { // an external server notices only when the next data arrive
		s.post("KILL QUERY WHERE query_id = '"+id+"' SYNC", nil)
		require.Error(t, <-insert)
	}
	_ = writer.CloseWithError(errors.New("given up"))
	require.Zero(t, s.count("k"))
}

// stream posts a body that is still being written.
func (s *suite) stream(body io.Reader, query url.Values) (int, error) {
	target := *s.dsn
	target.User, target.Path = nil, "/"
	query.Set("database", s.database)
	target.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, target.String(), body)
	if err != nil {
		return 0, err
	}
	password, _ := s.dsn.User.Password()
	req.SetBasicAuth(s.dsn.User.Username(), password)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

func testQueryIDInUse(t *testing.T, s *suite) {
	id := "twice-" + s.database
	first := make(chan error, 1)
	ctx, cancel := context.WithCancel(ch.Context(t.Context(), ch.WithQueryID(id)))
	defer cancel()
	go func() {
		first <- s.conn.Exec(ctx, "SELECT sleepEachRow(0.05) FROM numbers(2000) SETTINGS max_block_size = 1")
	}()
	require.Eventually(t, func() bool {
		return strings.Contains(s.post("KILL QUERY WHERE query_id = '"+id+"' TEST", nil), id)
	}, 20*time.Second, 20*time.Millisecond)
	status, header, body, err := s.request(t.Context(), "SELECT 1", url.Values{"query_id": {id}}, nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, status, 400, body)
	require.Equal(t, "216", header.Get("X-ClickHouse-Exception-Code"))
	cancel()
	require.Error(t, <-first)
}

func testConcurrent(t *testing.T, s *suite) {
	s.exec("CREATE TABLE c (w UInt32, a UInt64) ENGINE = MergeTree ORDER BY (w, a)")
	var wg sync.WaitGroup
	failures := make(chan error, 1000)
	for w := range 12 {
		wg.Go(func() {
			for i := range 10 {
				var n uint64
				if err := s.conn.QueryRow(t.Context(), fmt.Sprintf("SELECT sum(number) + %d FROM numbers(1000)", w)).Scan(&n); err != nil || n != uint64(499500+w) {
					failures <- fmt.Errorf("answer %d: %w", n, err)
				}
				batch, err := s.conn.PrepareBatch(t.Context(), "INSERT INTO c")
				if err == nil {
					err = batch.Append(uint32(w), uint64(i))
				}
				if err == nil {
					err = batch.Send()
				}
				if err != nil {
					failures <- err
				}
				if i%3 == 0 {
					if err := s.conn.Exec(t.Context(), "SELECT throwIf(1)"); err == nil {
						failures <- errors.New("an error was lost")
					}
				}
			}
		})
	}
	wg.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	require.EqualValues(t, 120, s.count("c"))
}

// testMidStreamError: an error after the first byte must reach the client as an error, in every compression.
func testMidStreamError(t *testing.T, s *suite) {
	const sql = "SELECT number, toString(cityHash64(number)) AS s, throwIf(number = 250000, 'late trouble') FROM numbers(400000) SETTINGS max_threads = 1"
	for name, compression := range compressions {
		rows, err := s.open(compression).Query(t.Context(), sql)
		n := 0
		if err == nil {
			for rows.Next() {
				n++
			}
			err = errors.Join(rows.Err(), rows.Close())
		}
		require.Error(t, err, "%s: %d rows without an error", name, n)
		if s.embedded() { // clickhouse-go loses the code of an external server with LZ4 and ZSTD
			require.EqualValues(t, 395, codeOf(t, err), name)
			require.ErrorContains(t, err, "late trouble", name)
			require.Positive(t, n, "%s: the error must come after the first rows", name)
		}
	}
	for _, encoding := range []string{"", "gzip", "zstd", "lz4", "br", "deflate"} {
		status, _, body, err := s.request(t.Context(), sql+" FORMAT TSV", nil, http.Header{"Accept-Encoding": {encoding}})
		require.True(t, err != nil || status != http.StatusOK || strings.Contains(body, "Code: 395"), "encoding %q: a short answer looks whole", encoding)
	}
	status, _, body, err := s.request(t.Context(), sql+" FORMAT TSV", url.Values{"wait_end_of_query": {"1"}}, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusInternalServerError, status)
	require.Contains(t, body, "late trouble")
	whole := s.post("SELECT number FROM numbers(1000000)", url.Values{"wait_end_of_query": {"1"}})
	require.Equal(t, 1000000, strings.Count(whole, "\n"))
}

// testTruncatedInsert breaks the connection in the middle of a body.
func testTruncatedInsert(t *testing.T, s *suite) {
	s.exec("CREATE TABLE tr (a UInt64) ENGINE = MergeTree ORDER BY a")
	password, _ := s.dsn.User.Password()
	for _, framing := range []string{"Content-Length: 1000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n7d000\r\n"} {
		id := fmt.Sprintf("truncated-%s-%d", s.database, len(framing))
		var dialer net.Dialer
		conn, err := dialer.DialContext(t.Context(), "tcp", s.dsn.Host)
		require.NoError(t, err)
		w := bufio.NewWriter(conn)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.dsn.String(), nil)
		require.NoError(t, err)
		req.SetBasicAuth(s.dsn.User.Username(), password)
		_, err = fmt.Fprintf(w, "POST /?database=%s&query_id=%s&query=%s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n%s", s.database, id,
			url.QueryEscape("INSERT INTO tr FORMAT TSV"), req.Header.Get("Authorization"), framing)
		require.NoError(t, err)
		for i := range 50000 {
			_, err = fmt.Fprintln(w, i)
			require.NoError(t, err)
		}
		require.NoError(t, w.Flush())
		runs := func() bool { return s.post("KILL QUERY WHERE query_id = '"+id+"' TEST", nil) != "" }
		require.Eventually(t, runs, 20*time.Second, 5*time.Millisecond, "the insert has begun")
		require.NoError(t, conn.Close())
		require.Eventually(t, func() bool { return !runs() }, 20*time.Second, 20*time.Millisecond)
		require.Zero(t, s.count("tr"), framing)
	}
	native := s.post("SELECT number AS a FROM numbers(60000) FORMAT Native", nil)
	status, _, body, err := s.request(t.Context(), native[:len(native)-5], url.Values{"query": {"INSERT INTO tr FORMAT Native"}}, nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, status, 400, body)
	require.Zero(t, s.count("tr"))
	s.post(native, url.Values{"query": {"INSERT INTO tr FORMAT Native"}})
	require.EqualValues(t, 60000, s.count("tr"))
}

func testDamagedInsert(t *testing.T, s *suite) {
	s.exec("CREATE TABLE da (a UInt64) ENGINE = MergeTree ORDER BY a")
	native := s.post("SELECT number AS a FROM numbers(60000) FORMAT Native", nil)
	for name, method := range map[string]compress.Method{"lz4": compress.LZ4, "zstd": compress.ZSTD, "none": compress.None} {
		w := compress.NewWriter(compress.LevelZero, method)
		require.NoError(t, w.Compress([]byte(native)))
		block := string(w.Data)
		flipped := []byte(block)
		flipped[len(flipped)/2] ^= 1
		for kind, body := range map[string]string{"flipped": string(flipped), "cut": block[:len(block)-1], "header only": block[:25], "half a header": block[:10]} {
			status, _, text, err := s.request(t.Context(), body, url.Values{"query": {"INSERT INTO da FORMAT Native"}, "decompress": {"1"}}, nil)
			require.NoError(t, err)
			require.GreaterOrEqual(t, status, 400, "%s %s: %s", name, kind, text)
			require.Zero(t, s.count("da"), "%s %s", name, kind)
		}
		s.post(block+block, url.Values{"query": {"INSERT INTO da FORMAT Native"}, "decompress": {"1"}})
		require.EqualValues(t, 120000, s.count("da"), name)
		s.exec("TRUNCATE TABLE da")
	}
}

func testMultiStatements(t *testing.T, s *suite) {
	s.exec("CREATE TABLE one (a UInt64) ENGINE = MergeTree ORDER BY a")
	for _, sql := range []string{"SELECT 1; SELECT 2", "SELECT 1; DROP TABLE one", "INSERT INTO one VALUES (1); DROP TABLE one", "SELECT 1 /* ; */; DROP TABLE one"} {
		status, header, body, err := s.request(t.Context(), sql, nil, nil)
		require.NoError(t, err)
		require.GreaterOrEqual(t, status, 400, "%s: %s", sql, body)
		require.NotEmpty(t, header.Get("X-ClickHouse-Exception-Code"))
	}
	require.Equal(t, "1\n", s.post("EXISTS TABLE one", nil))
}

func testHeaders(t *testing.T, s *suite) {
	status, header, _, err := s.request(t.Context(), "SELECT 1", url.Values{"query_id": {"headers-" + s.database}, "session_id": {s.database}}, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "headers-"+s.database, header.Get("X-ClickHouse-Query-Id"))
	require.NotEmpty(t, header.Get("X-ClickHouse-Server-Display-Name"))
	require.NotEmpty(t, header.Get("X-ClickHouse-Timezone"))
	require.Contains(t, header.Get("X-ClickHouse-Summary"), `"read_rows":"1"`)
	require.Contains(t, header.Get("Content-Type"), "text/tab-separated-values")
	s.exec("CREATE TABLE h (a UInt64) ENGINE = MergeTree ORDER BY a")
	_, header, _, err = s.request(t.Context(), "INSERT INTO h FORMAT TSV\n1\n2\n3\n", url.Values{"wait_end_of_query": {"1"}}, nil)
	require.NoError(t, err)
	require.Contains(t, header.Get("X-ClickHouse-Summary"), `"written_rows":"3"`)
}

// testNoLeakAfterError: what a failed statement produced must not show up in a later answer.
func testNoLeakAfterError(t *testing.T, s *suite) {
	for i := range 20 {
		_, _, _, err := s.request(t.Context(), "SELECT number, throwIf(number = 5) FROM numbers(10) SETTINGS max_block_size = 1", nil, nil)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%d\n", i), s.post(fmt.Sprintf("SELECT %d", i), nil))
	}
}
