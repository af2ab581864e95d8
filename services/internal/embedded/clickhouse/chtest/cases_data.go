package chtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
)

var compressions = map[string]ch.CompressionMethod{
	"none": ch.CompressionNone, "lz4": ch.CompressionLZ4, "zstd": ch.CompressionZSTD,
	"gzip": ch.CompressionGZIP, "deflate": ch.CompressionDeflate, "br": ch.CompressionBrotli,
}

func testPing(t *testing.T, s *suite) {
	require.NoError(t, s.conn.Ping(t.Context()))
	version, err := s.conn.ServerVersion()
	require.NoError(t, err)
	require.GreaterOrEqual(t, version.Version.Major, uint64(25))
	target := *s.dsn
	target.User, target.Path, target.RawQuery = nil, "/ping", ""
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target.String(), nil)
	require.NoError(t, err)
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

// row has every type that tables of the CDP use.
type row struct {
	ID       uint64             `ch:"id"`
	UUID     uuid.UUID          `ch:"uuid"`
	Name     string             `ch:"name"`
	Fixed    string             `ch:"fixed"`
	Kind     string             `ch:"kind"`
	Maybe    *string            `ch:"maybe"`
	MaybeInt *int64             `ch:"maybe_int"`
	LowMaybe *string            `ch:"low_maybe"`
	Tags     []string           `ch:"tags"`
	Nested   [][]int32          `ch:"nested"`
	Labels   map[string]string  `ch:"labels"`
	Scores   map[string]float64 `ch:"scores"`
	At       time.Time          `ch:"at"`
	Second   time.Time          `ch:"second"`
	Day      time.Time          `ch:"day"`
	Price    decimal.Decimal    `ch:"price"`
	Level    string             `ch:"level"`
	Pair     []any              `ch:"pair"`
	Hash     big.Int            `ch:"hash"`
	Flag     bool               `ch:"flag"`
	IP       net.IP             `ch:"ip"`
	IP4      net.IP             `ch:"ip4"`
	Ratio    float64            `ch:"ratio"`
	Small    int8               `ch:"small"`
}

const rowColumns = `id UInt64, uuid UUID, name String, fixed FixedString(4), kind LowCardinality(String), maybe Nullable(String),
	maybe_int Nullable(Int64), low_maybe LowCardinality(Nullable(String)), tags Array(String), nested Array(Array(Int32)),
	labels Map(String, String), scores Map(LowCardinality(String), Float64), at DateTime64(6, 'UTC'), second DateTime('UTC'), day Date,
	price Decimal(38, 6), level Enum8('low' = 1, 'high' = 2), pair Tuple(String, Int64), hash UInt128, flag Bool, ip IPv6, ip4 IPv4,
	ratio Float64, small Int8`

func sampleRow(i int) row {
	text, number := fmt.Sprintf("maybe\n\n%d ơ", i), int64(-i)
	r := row{
		ID: uint64(i), UUID: uuid.NewSHA1(uuid.NameSpaceURL, []byte{byte(i)}), Name: strings.Repeat("\n\x00'\\ nước ", i%5), Fixed: "abcd",
		Kind: fmt.Sprintf("kind-%d", i%3), Tags: []string{}, Nested: [][]int32{{1, int32(i)}, {}},
		Labels: map[string]string{"a": "b", "": fmt.Sprint(i)}, Scores: map[string]float64{"x": float64(i) / 4},
		At: time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC), Second: time.Date(2026, 1, 1, 0, 0, i%60, 0, time.UTC),
		Day: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Price: decimal.New(int64(-123456789+i), -6), Level: "high",
		Pair: []any{"left", int64(i)}, Hash: *new(big.Int).Lsh(big.NewInt(int64(i+1)), 100), Flag: i%2 == 0,
		IP: net.ParseIP("2001:db8::1"), IP4: net.ParseIP("10.0.0.1").To4(), Ratio: float64(i) / 3, Small: int8(-i % 100),
	}
	if i%2 == 0 {
		r.Maybe, r.MaybeInt, r.LowMaybe = &text, &number, &r.Kind
		r.Tags = []string{"x", "", "ba\nna\nna"}
	}
	return r
}

func testTypes(t *testing.T, s *suite) {
	s.exec("CREATE TABLE types (" + rowColumns + ") ENGINE = MergeTree ORDER BY id")
	for name, compression := range compressions {
		conn := s.open(compression)
		s.exec("TRUNCATE TABLE types")
		batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO types")
		require.NoError(t, err, name)
		var want []row
		for i := range 100 {
			r := sampleRow(i)
			want = append(want, r)
			require.NoError(t, batch.AppendStruct(&r), name)
		}
		require.NoError(t, batch.Send(), name)
		var got []row
		require.NoError(t, conn.Select(t.Context(), &got, "SELECT * FROM types ORDER BY id"), name)
		require.Empty(t, cmp.Diff(want, got, cmp.Comparer(func(a, b big.Int) bool { return a.Cmp(&b) == 0 })), name)
	}
}

func testJSON(t *testing.T, s *suite) {
	s.exec("CREATE TABLE j (id UInt64, raw String, v JSON, n Nullable(Int64)) ENGINE = MergeTree ORDER BY id")
	s.post(`INSERT INTO j FORMAT JSONEachRow
{"id":1,"raw":"{\"a\":null}","v":{"a":null,"b":{"c":1},"d":[1,2]},"n":null}
{"id":2,"raw":"{}","v":{"b":{"c":"two"}},"n":7}
`, nil)
	require.Equal(t, "1\t\\N\t1\t[1,2]\t\\N\n2\t\\N\ttwo\t\\N\t7\n", s.post("SELECT id, v.a, v.b.c, v.d, n FROM j ORDER BY id", nil))
	var kept, raw string
	s.scan("SELECT toJSONString(v), raw FROM j WHERE id = 1", &kept, &raw)
	require.JSONEq(t, `{"b":{"c":1},"d":[1,2]}`, kept, "the JSON type drops nulls: the raw text is the truth")
	require.Equal(t, `{"a":null}`, raw)
	conn := s.open(ch.CompressionLZ4)
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO j (id, raw, v)")
	require.NoError(t, err)
	require.NoError(t, batch.Append(uint64(3), "x", `{"deep":{"er":[{"k":"v"}]}}`))
	require.NoError(t, batch.Send())
	require.Equal(t, "{\"deep\":{\"er\":[{\"k\":\"v\"}]}}\n", s.post("SELECT v FROM j WHERE id = 3 FORMAT TSVRaw", nil))
}

const batchRows = 100_000

func testBatchInsert(t *testing.T, s *suite) {
	s.exec("CREATE TABLE expected (id UInt64, name String, at DateTime64(3, 'UTC')) ENGINE = Memory")
	s.exec(fmt.Sprintf("INSERT INTO expected SELECT number, concat('name\n\n-', toString(number %% 1000)), fromUnixTimestamp64Milli(toInt64(number)) FROM numbers(%d)", batchRows))
	const sums = "SELECT count(), sum(id), sum(cityHash64(id, name, at)) FROM "
	var wantCount, wantSum, wantHash uint64
	s.scan(sums+"expected", &wantCount, &wantSum, &wantHash)
	for name, compression := range compressions {
		table := "batch_" + name
		s.exec("CREATE TABLE " + table + " (id UInt64, name String, at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY id")
		conn := s.open(compression)
		batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+table)
		require.NoError(t, err, name)
		for i := range batchRows {
			require.NoError(t, batch.Append(uint64(i), fmt.Sprintf("name\n\n-%d", i%1000), time.UnixMilli(int64(i))))
		}
		require.NoError(t, batch.Send(), name)
		var count, sum, hash uint64
		s.scan(sums+table, &count, &sum, &hash)
		require.Equal(t, []uint64{wantCount, wantSum, wantHash}, []uint64{count, sum, hash}, name)

		rows, err := conn.Query(t.Context(), "SELECT id, name FROM "+table)
		require.NoError(t, err, name)
		count, sum = 0, 0
		for rows.Next() {
			var id uint64
			var text string
			require.NoError(t, rows.Scan(&id, &text))
			require.Equal(t, fmt.Sprintf("name\n\n-%d", id%1000), text)
			count, sum = count+1, sum+id
		}
		require.NoError(t, rows.Err(), name)
		require.NoError(t, rows.Close())
		require.Equal(t, []uint64{wantCount, wantSum}, []uint64{count, sum}, name)
	}
}

// testBlankLines sends binary rows full of line feeds: an engine that takes data for text stops at the first blank line.
func testBlankLines(t *testing.T, s *suite) {
	s.exec("CREATE TABLE b (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
	var binaryRows bytes.Buffer
	for i := range batchRows {
		binaryRows.Write(binary.LittleEndian.AppendUint64(nil, 0x0a0a0a0a00000000+uint64(i)))
		binaryRows.Write([]byte{3, '\n', '\n', '\n'})
	}
	s.post(binaryRows.String(), url.Values{"query": {"INSERT INTO b FORMAT RowBinary"}})
	require.EqualValues(t, batchRows, s.count("b"))
	s.post("INSERT INTO b FORMAT RowBinary\n"+binaryRows.String(), nil)
	require.EqualValues(t, 2*batchRows, s.count("b"))
	require.Equal(t, fmt.Sprintf("%d\t%d\n", 2*batchRows, batchRows), s.post("SELECT countIf(s = '\n\n\n'), uniqExact(a) FROM b", nil))
}

func testStatementForms(t *testing.T, s *suite) {
	s.exec("CREATE TABLE f (a Int32, s String) ENGINE = MergeTree ORDER BY a")
	s.exec("INSERT INTO f VALUES (1, 'one'), (2, 't;w''o')")
	s.exec("INSERT INTO f (s, a) VALUES ('three', 3)")
	s.exec("INSERT INTO f SELECT a + 10, s FROM f")
	s.post("(20, 'twenty')", url.Values{"query": {"INSERT INTO f VALUES"}})
	s.post("INSERT INTO f FORMAT CSV\n30,\"thir\n\nty\"\n", nil)
	s.post("", url.Values{"query": {"INSERT INTO f FORMAT JSONEachRow {\"a\": 40, \"s\": \"forty\"}"}})
	s.post("INSERT INTO f (a) SETTINGS max_insert_block_size = 10 FORMAT TSV\n50\n60\n", nil)
	require.Equal(t, "11\t242\n", s.post("SELECT count(), sum(a) FROM f", nil))
	require.Equal(t, "1\n", s.post("1", url.Values{"query": {"SELECT"}}), "query and body are one text")
	require.Equal(t, "1\n", s.post("", url.Values{"query": {"/* c */ SELECT 1; -- end"}}))
	require.Equal(t, "thir\\n\\nty\n", s.post("SELECT s FROM f WHERE a = 30", nil))
	for _, sql := range []string{"DESCRIBE TABLE f", "SHOW TABLES", "SHOW CREATE TABLE f", "EXPLAIN SELECT 1", "EXISTS TABLE f", "CHECK TABLE f", "(SELECT 1) UNION ALL (SELECT 2)", "WITH 1 AS x SELECT x"} {
		require.NotEmpty(t, s.post(sql, nil), sql)
	}
}

func testContentEncodings(t *testing.T, s *suite) {
	s.exec("CREATE TABLE e (a UInt64) ENGINE = MergeTree ORDER BY a")
	var plain strings.Builder
	for i := range 200_000 {
		fmt.Fprintln(&plain, i)
	}
	for encoding, body := range encodings(t, plain.String()) {
		before := s.count("e")
		status, _, text, err := s.request(t.Context(), body, url.Values{"query": {"INSERT INTO e FORMAT TSV"}}, http.Header{"Content-Encoding": {encoding}})
		require.NoError(t, err, encoding)
		require.Equal(t, http.StatusOK, status, "%s: %s", encoding, text)
		require.EqualValues(t, before+200_000, s.count("e"), encoding)

		status, _, _, err = s.request(t.Context(), body[:len(body)*2/3], url.Values{"query": {"INSERT INTO e FORMAT TSV"}}, http.Header{"Content-Encoding": {encoding}})
		require.NoError(t, err, encoding)
		require.GreaterOrEqual(t, status, 400, "a %s body that ends early must fail", encoding)
		require.EqualValues(t, before+200_000, s.count("e"), "%s: nothing of a truncated body is written", encoding)
	}
}

func encodings(t *testing.T, plain string) map[string]string {
	t.Helper()
	out := map[string]string{}
	var gz, df, br, zs, l4 bytes.Buffer
	zw, err := zstd.NewWriter(&zs)
	require.NoError(t, err)
	for name, w := range map[string]interface {
		Write(p []byte) (int, error)
		Close() error
	}{
		"gzip": gzip.NewWriter(&gz), "deflate": zlib.NewWriter(&df), "br": brotli.NewWriter(&br), "zstd": zw, "lz4": lz4.NewWriter(&l4),
	} {
		_, err := w.Write([]byte(plain))
		require.NoError(t, err, name)
		require.NoError(t, w.Close(), name)
	}
	out["gzip"], out["deflate"], out["br"], out["zstd"], out["lz4"] = gz.String(), df.String(), br.String(), zs.String(), l4.String()
	return out
}

func testFormats(t *testing.T, s *suite) {
	const sql = "SELECT number AS n, toString(number) AS s FROM numbers(100000) FORMAT "
	for format, magic := range map[string]string{
		"JSON": "{", "JSONCompact": "{", "JSONEachRow": `{"n":`, "CSV": `0,"0"`, "CSVWithNames": `"n","s"`, "TSV": "0\t0\n", "TSVWithNames": "n\ts\n",
		"TSVWithNamesAndTypes": "n\ts\nUInt64\tString\n", "Parquet": "PAR1", "Arrow": "ARROW1", "ORC": "ORC", "Native": "\x02", "RowBinary": "\x00\x00",
		"RowBinaryWithNamesAndTypes": "\x02\x01n", "Values": "(0,'0'),(1,'1')", "Pretty": "", "XML": "<?xml", "Markdown": "| n", "Vertical": "Row 1",
	} {
		text := s.post(sql+format, nil)
		require.True(t, strings.HasPrefix(text, magic), "%s begins with %.20q", format, text)
		require.Equal(t, strings.Count(text, magic) > 1, strings.Contains(text[len(magic):], magic))
	}
	require.Equal(t, 100001, strings.Count(s.post(sql+"CSVWithNames", nil), "\n"), "one header, every row")
	require.Equal(t, 100000, strings.Count(s.post(sql+"JSONEachRow", nil), "\n"))
	parquet := s.post(sql+"Parquet", nil)
	s.exec("CREATE TABLE p (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
	s.post(parquet, url.Values{"query": {"INSERT INTO p FORMAT Parquet"}})
	require.EqualValues(t, 100000, s.count("p"))
	require.Equal(t, "{\"n\":1}\n", s.post("SELECT 1 AS n", url.Values{"default_format": {"JSONEachRow"}}))
}

func testFeatures(t *testing.T, s *suite) {
	s.exec(`CREATE TABLE events (ws UInt32, id_hash UInt64, profile_no UInt64, name LowCardinality(String), ts DateTime64(3, 'UTC'))
		ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY (ws, name, toDate(ts), id_hash)`)
	s.exec(`CREATE TABLE redirect (profile_no UInt64, current UInt64, version UInt64) ENGINE = ReplacingMergeTree(version) ORDER BY profile_no`)
	s.exec("INSERT INTO events SELECT 1, number % 100, number % 100, ['view', 'cart', 'buy'][number % 3 + 1], toDateTime64('2026-01-01 00:00:00', 3, 'UTC') + number FROM numbers(9000)")
	s.exec("INSERT INTO redirect VALUES (5, 6, 1)")
	s.exec(fmt.Sprintf(`CREATE DICTIONARY current_profile (profile_no UInt64, current UInt64) PRIMARY KEY profile_no
		SOURCE(CLICKHOUSE(QUERY 'SELECT profile_no, current FROM %s.redirect FINAL' USER '%s' PASSWORD '%s' HOST 'localhost')) LAYOUT(HASHED()) LIFETIME(0)`,
		s.database, s.dictionaryUser(), s.dictionaryPassword()))
	s.exec("SYSTEM RELOAD DICTIONARY current_profile")
	require.Equal(t, "99\n", s.post("SELECT uniqExact(dictGetOrDefault('current_profile', 'current', profile_no, profile_no)) FROM events", nil))
	require.NotEmpty(t, s.post("SELECT windowFunnel(86400)(toDateTime(ts), name = 'view', name = 'cart', name = 'buy') FROM events GROUP BY id_hash", nil))
	s.exec("CREATE VIEW v AS SELECT name, count() AS n FROM events GROUP BY name")
	require.Equal(t, "buy\t3000\ncart\t3000\nview\t3000\n", s.post("SELECT * FROM v ORDER BY name", nil))
	s.exec("CREATE TABLE shadow AS events")
	s.exec("INSERT INTO shadow SELECT * FROM events WHERE name = 'buy'")
	s.exec("ALTER TABLE events REPLACE PARTITION 202601 FROM shadow")
	require.EqualValues(t, 3000, s.count("events"))
}

// dictionaryUser is the user that a dictionary connects to its own server as; the embedded engine needs none.
func (s *suite) dictionaryUser() string {
	if s.embedded() {
		return "default"
	}
	return s.dsn.User.Username()
}

func (s *suite) dictionaryPassword() string {
	if s.embedded() {
		return ""
	}
	password, _ := s.dsn.User.Password()
	return password
}

func (s *suite) embedded() bool {
	_, header, _, err := s.request(s.t.Context(), "SELECT 1", nil, nil)
	require.NoError(s.t, err)
	return header.Get("X-ClickHouse-Server-Display-Name") == "mekong"
}

func testDeduplicationToken(t *testing.T, s *suite) {
	s.exec("CREATE TABLE d (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
	for range 2 {
		s.post("1\n2\n", url.Values{"query": {"INSERT INTO d FORMAT TSV"}, "insert_deduplication_token": {"batch-1"}})
	}
	require.EqualValues(t, 2, s.count("d"))
}

func testMutations(t *testing.T, s *suite) {
	s.exec("CREATE TABLE m (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
	s.exec("INSERT INTO m SELECT number, 'x' FROM numbers(1000)")
	s.exec("ALTER TABLE m UPDATE s = 'y' WHERE a < 10 SETTINGS mutations_sync = 1")
	require.Equal(t, "10\n", s.post("SELECT count() FROM m WHERE s = 'y'", nil))
	s.exec("DELETE FROM m WHERE a < 10")
	require.EqualValues(t, 990, s.count("m"))
	s.exec("ALTER TABLE m DELETE WHERE a < 20 SETTINGS mutations_sync = 1")
	require.EqualValues(t, 980, s.count("m"))
	s.exec("OPTIMIZE TABLE m FINAL")
	s.exec("ALTER TABLE m ADD COLUMN n Nullable(Int32)")
	require.Equal(t, "980\n", s.post("SELECT count() FROM m WHERE n IS NULL", nil))
}
