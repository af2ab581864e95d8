package clickhouse_test

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse/chtest"
)

// benchRows is one flush of the warehouse.
const benchRows = 50_000

const benchTable = `CREATE TABLE bench (workspace_id UInt32, event_name LowCardinality(String), ts DateTime64(3, 'UTC'), id_hash UInt64, event_id UUID,
	profile_no UInt64, src_partition UInt16, src_offset UInt64, batch UInt64, user_id String, anonymous_id String, session_id String, page_url String,
	referrer String, channel LowCardinality(String), utm_source LowCardinality(String), utm_medium LowCardinality(String), device LowCardinality(String),
	os LowCardinality(String), browser LowCardinality(String), country LowCardinality(String), city LowCardinality(Nullable(String)), product_id String,
	category LowCardinality(String), currency LowCardinality(String), price Decimal(18, 4), quantity UInt32, order_id Nullable(String), is_bot Bool,
	properties_raw String, tags Array(String)) ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY (workspace_id, event_name, toDate(ts), id_hash, event_id)`

const benchData = `SELECT 1, ['view', 'click', 'cart'][number % 3 + 1], toDateTime64('2026-01-01 00:00:00', 3, 'UTC') + number, cityHash64(number % 5000),
	reinterpretAsUUID(sipHash128(number)), number % 5000, number % 16, number, 7, concat('user-', toString(number % 5000)), toString(cityHash64(number % 5000)),
	toString(cityHash64(intDiv(number, 20))), concat('https://shop.example/p/', toString(number % 900)), 'https://google.com', 'organic', 'google', 'cpc', 'mobile',
	'android', 'chrome', 'VN', if(number % 3 = 0, null, 'Hanoi'), concat('sku-', toString(number % 900)), 'Laptops', 'VND', toDecimal64(number % 1000, 4), 1,
	if(number % 10 = 0, toString(number), null), false, concat('{"search_query":"gaming laptop","n":', toString(number), '}'), ['a', 'b'] FROM numbers(50000) FORMAT Native`

// client is an HTTP client of the door with connections that stay open.
type client struct {
	tb     testing.TB
	target url.URL
	user   *url.Userinfo
	http   *http.Client
}

func newClient(tb testing.TB, dsn string) client {
	u, err := url.Parse(dsn)
	require.NoError(tb, err)
	return client{tb, url.URL{Scheme: "http", Host: u.Host, Path: "/"}, u.User, &http.Client{Transport: &http.Transport{DisableCompression: true}}}
}

func (c client) post(query string, body []byte) []byte {
	target := c.target
	target.RawQuery = url.Values{"query": {query}}.Encode()
	req, err := http.NewRequestWithContext(c.tb.Context(), http.MethodPost, target.String(), bytes.NewReader(body))
	require.NoError(c.tb, err)
	password, _ := c.user.Password()
	req.SetBasicAuth(c.user.Username(), password)
	resp, err := c.http.Do(req)
	require.NoError(c.tb, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(c.tb, err)
	require.NoError(c.tb, resp.Body.Close())
	require.Equal(c.tb, http.StatusOK, resp.StatusCode, string(text))
	return text
}

func benchPair(b *testing.B) (client, *clickhouse.Direct) {
	e := chtest.Start(b, chtest.Config(b))
	direct, err := clickhouse.OpenDirect(b.Context(), chtest.Config(b))
	require.NoError(b, err)
	b.Cleanup(direct.Close)
	return newClient(b, e.DSN()), direct
}

// alternate runs both sides in turn, so that load on the machine hits them alike, and reports medians.
func alternate(b *testing.B, door, library func()) (ratio float64) {
	door()
	library()
	var doors, libraries []time.Duration
	for b.Loop() {
		t0 := time.Now()
		library()
		t1 := time.Now()
		door()
		doors, libraries = append(doors, time.Since(t1)), append(libraries, t1.Sub(t0))
	}
	slices.Sort(doors)
	slices.Sort(libraries)
	d, l := doors[len(doors)/2], libraries[len(libraries)/2]
	b.ReportMetric(float64(d.Microseconds())/1000, "door-p50-ms")
	b.ReportMetric(float64(l.Microseconds())/1000, "library-p50-ms")
	return float64(d) / float64(l)
}

// BenchmarkInsert compares the door with handing the same Native batches to the library; at least 0.8 of its speed is wanted.
func BenchmarkInsert(b *testing.B) {
	c, direct := benchPair(b)
	c.post(benchTable, nil)
	_, err := direct.Query(benchTable, "Null")
	require.NoError(b, err)
	batch := c.post(benchData, nil)
	b.SetBytes(int64(len(batch)))
	for _, sql := range []string{"SYSTEM STOP MERGES bench"} { // merges would disturb both sides at random
		c.post(sql, nil)
		_, err := direct.Query(sql, "Null")
		require.NoError(b, err)
	}
	ratio := alternate(b, func() {
		c.post("INSERT INTO bench FORMAT Native", batch)
	}, func() {
		rows, err := direct.Insert("INSERT INTO bench", "Native", batch)
		require.NoError(b, err)
		require.EqualValues(b, benchRows, rows)
	})
	b.ReportMetric(1/ratio, "speed-of-library")
}

// BenchmarkSelectOne compares the latency of SELECT 1; at most twice the library's is wanted.
func BenchmarkSelectOne(b *testing.B) {
	c, direct := benchPair(b)
	ratio := alternate(b, func() {
		c.post("SELECT 1 FORMAT Native", nil)
	}, func() {
		_, err := direct.Query("SELECT 1", "Native")
		require.NoError(b, err)
	})
	b.ReportMetric(ratio, "times-library")
}

// BenchmarkClickhouseGo is the same batch through the client that the warehouse uses, built row by row.
func BenchmarkClickhouseGo(b *testing.B) {
	for name, method := range map[string]ch.CompressionMethod{"none": ch.CompressionNone, "lz4": ch.CompressionLZ4} {
		b.Run(name, func(b *testing.B) {
			e := chtest.Start(b, chtest.Config(b))
			newClient(b, e.DSN()).post("CREATE TABLE bench (id UInt64, name LowCardinality(String), raw String) ENGINE = MergeTree ORDER BY id", nil)
			opts, err := ch.ParseDSN(e.DSN())
			require.NoError(b, err)
			opts.Compression = &ch.Compression{Method: method}
			conn, err := ch.Open(opts)
			require.NoError(b, err)
			defer func() { require.NoError(b, conn.Close()) }()
			for b.Loop() {
				batch, err := conn.PrepareBatch(b.Context(), "INSERT INTO bench")
				require.NoError(b, err)
				for i := range benchRows {
					require.NoError(b, batch.Append(uint64(i), "name", `{"search_query":"gaming laptop"}`))
				}
				require.NoError(b, batch.Send())
			}
			b.ReportMetric(benchRows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkFsync shows what durable inserts cost: the same rows into a table that syncs and one that does not.
func BenchmarkFsync(b *testing.B) {
	c := newClient(b, chtest.Start(b, chtest.Config(b)).DSN())
	c.post(strings.Replace(benchTable, "TABLE bench", "TABLE synced", 1), nil)
	c.post(strings.Replace(benchTable, "TABLE bench", "TABLE unsynced", 1)+" SETTINGS fsync_after_insert = 0, fsync_part_directory = 0", nil)
	batch := c.post(benchData, nil)
	ratio := alternate(b, func() { c.post("INSERT INTO synced FORMAT Native", batch) }, func() { c.post("INSERT INTO unsynced FORMAT Native", batch) })
	b.ReportMetric(ratio, "times-unsynced")
}
