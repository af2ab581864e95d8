package clickhouse_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	driver "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func TestConfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	valid := clickhouse.DefaultConfig()
	valid.URL = "http://user:secret@127.0.0.1:8123/mekong"
	require.NoError(t, valid.Validate())
	for name, change := range map[string]func(*clickhouse.Config){
		"clickhouse_url_missing":         func(c *clickhouse.Config) { c.URL = "" },
		"clickhouse_url_invalid":         func(c *clickhouse.Config) { c.URL = "clickhouse://user:secret@host:9000" },
		"clickhouse_conns_invalid":       func(c *clickhouse.Config) { c.MaxConns = 0 },
		"clickhouse_timeout_invalid":     func(c *clickhouse.Config) { c.OpenTimeout = 0 },
		"clickhouse_compression_invalid": func(c *clickhouse.Config) { c.Compression = "brotli" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := valid
			change(&cfg)
			err := cfg.Validate()
			require.Equal(t, errs.Invalid, errs.KindOf(err))
			require.Equal(t, name, errs.CodeOf(err))
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func open(t *testing.T, dsn, compression string) *clickhouse.DB {
	t.Helper()
	cfg := clickhouse.DefaultConfig()
	cfg.URL, cfg.Compression = config.Secret(dsn), compression
	db, err := clickhouse.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestInsertWritesAllRows(t *testing.T) {
	t.Parallel()
	for _, compression := range []string{clickhouse.CompressionNone, clickhouse.CompressionLZ4} {
		t.Run(compression, func(t *testing.T) {
			t.Parallel()
			db := open(t, testkit.ClickHouse(t), compression)
			require.NoError(t, db.Exec(t.Context(), "CREATE TABLE x (a UInt64, s LowCardinality(String)) ENGINE = MergeTree ORDER BY a"))
			var a proto.ColUInt64
			var s proto.ColStr
			const rows = 100_000
			for i := range uint64(rows) {
				a.Append(i)
				s.Append(strings.Repeat("\n\n", int(i%3)))
			}
			var enc clickhouse.Encoder
			written, err := db.Insert(t.Context(), &enc, clickhouse.Insert{
				Table: "x", Columns: proto.Input{{Name: "a", Data: &a}, {Name: "s", Data: &s}}, QueryID: "insert-1",
				Settings: map[string]string{"max_partitions_per_insert_block": "0"},
			})
			require.NoError(t, err)
			require.EqualValues(t, rows, written)
			var count, sum, length uint64
			require.NoError(t, db.QueryRow(t.Context(), "SELECT count(), sum(a), sum(length(s)) FROM x", nil, &count, &sum, &length))
			require.EqualValues(t, rows, count)
			require.EqualValues(t, rows*(rows-1)/2, sum)
			require.EqualValues(t, 199_998, length)
		})
	}
}

func TestErrorsHaveKindsAndHideValues(t *testing.T) {
	t.Parallel()
	db := testkit.ClickHouseDB(t)
	require.NoError(t, db.Exec(t.Context(), "CREATE TABLE x (a UInt8, j JSON) ENGINE = MergeTree ORDER BY a"))
	err := db.Exec(t.Context(), "SELECT throwIf(1, 'private@example.com')")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "private@example.com")

	_, err = db.Query(t.Context(), "SELECT * FROM missing")
	require.Equal(t, "table_missing", errs.CodeOf(err))
	require.Equal(t, errs.Precondition, errs.KindOf(err))

	var a proto.ColUInt8
	var j proto.ColStr
	a.Append(1)
	j.Append(`{"mail":"private@example.com"`)
	var enc clickhouse.Encoder
	_, err = db.Insert(t.Context(), &enc, clickhouse.Insert{Table: "x", Columns: proto.Input{{Name: "a", Data: &a}, {Name: "j", Data: &j}}})
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	require.Equal(t, "value_refused", errs.CodeOf(err))
	require.NotContains(t, err.Error(), "private")

	_, err = db.Insert(t.Context(), &enc, clickhouse.Insert{Table: "missing", Columns: proto.Input{{Name: "a", Data: &a}}})
	require.Equal(t, "table_missing", errs.CodeOf(err))
}

func TestKillEndsAStatementAndWaits(t *testing.T) {
	t.Parallel()
	db := testkit.ClickHouseDB(t)
	require.NoError(t, db.Kill(t.Context(), "nothing-runs-under-this-id"))
	require.Error(t, db.Kill(t.Context(), "a' OR 1"))

	done := make(chan error)
	go func() {
		ctx := driver.Context(t.Context(), driver.WithQueryID("kill-me"))
		done <- db.Exec(ctx, "SELECT sum(sleepEachRow(0.05)) FROM numbers(100000) SETTINGS max_block_size = 1")
	}()
	require.Eventually(t, func() bool {
		require.NoError(t, db.Kill(t.Context(), "kill-me", "and-me"))
		select {
		case err := <-done:
			require.Equal(t, errs.Unavailable, errs.KindOf(err))
			require.Equal(t, "statement_timeout", errs.CodeOf(err))
			return true
		default:
			return false
		}
	}, 20*time.Second, 20*time.Millisecond)
}

func TestOpenCreatesTheDatabase(t *testing.T) {
	t.Parallel()
	dsn := testkit.ClickHouse(t)
	first := testkit.OpenClickHouse(t, dsn)
	other := first.Database() + "_other"
	db := testkit.OpenClickHouse(t, strings.Replace(dsn, first.Database(), other, 1))
	t.Cleanup(func() {
		require.NoError(t, first.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+other))
	})
	var name string
	require.NoError(t, db.QueryRow(t.Context(), "SELECT currentDatabase()", nil, &name))
	require.Equal(t, other, name)
}

func TestOpenDoesNotWaitForAWrongPassword(t *testing.T) {
	t.Parallel()
	cfg := clickhouse.DefaultConfig()
	dsn := testkit.ClickHouse(t)
	at := strings.LastIndexByte(dsn, '@')
	cfg.URL = config.Secret("http://mekong:wrong" + dsn[at:])
	start := time.Now()
	_, err := clickhouse.Open(t.Context(), cfg)
	require.Equal(t, errs.Unauthenticated, errs.KindOf(err))
	require.Less(t, time.Since(start), cfg.OpenTimeout/2)
}

func TestOpenGivesUpAfterItsTimeout(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	cfg := clickhouse.DefaultConfig()
	cfg.URL, cfg.OpenTimeout = config.Secret("http://u:secret@"+address), 300*time.Millisecond
	_, err = clickhouse.Open(t.Context(), cfg)
	require.Equal(t, errs.Unavailable, errs.KindOf(err))
	require.NotContains(t, err.Error(), "secret")
}

func TestAProxyWithoutServerIsUnavailable(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	t.Cleanup(proxy.Close)
	cfg := clickhouse.DefaultConfig()
	cfg.URL, cfg.OpenTimeout = config.Secret(proxy.URL+"/x"), 200*time.Millisecond
	_, err := clickhouse.Open(t.Context(), cfg)
	require.Equal(t, errs.Unavailable, errs.KindOf(err))
}

func migrations(files map[string]string) clickhouse.Set {
	fs := fstest.MapFS{}
	for name, sql := range files {
		fs["m/"+name] = &fstest.MapFile{Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\n" + sql)}
	}
	return clickhouse.Set{Name: "test", FS: fs, Dir: "m"}
}

func TestMigrateAppliesOnceAndRefusesANewerDatabase(t *testing.T) {
	t.Parallel()
	db := testkit.ClickHouseDB(t)
	one := "CREATE TABLE IF NOT EXISTS a (x UInt8) ENGINE = MergeTree ORDER BY x;\nINSERT INTO a VALUES (1);"
	two := "ALTER TABLE a ADD COLUMN IF NOT EXISTS y UInt8 DEFAULT 7;"
	old := migrations(map[string]string{"0001_a.sql": one})
	newer := migrations(map[string]string{"0001_a.sql": one, "0002_b.sql": two})

	require.NoError(t, clickhouse.Migrate(t.Context(), db, old))
	status, err := clickhouse.Status(t.Context(), db, newer)
	require.NoError(t, err)
	require.Equal(t, clickhouse.SetStatus{Name: "test", Applied: 1, Known: 2}, status)
	require.Equal(t, "database_not_migrated", errs.CodeOf(status.Err()))

	require.NoError(t, clickhouse.Migrate(t.Context(), db, newer))
	require.NoError(t, clickhouse.Migrate(t.Context(), db, newer))
	var rows uint64
	var y uint8
	require.NoError(t, db.QueryRow(t.Context(), "SELECT count(), any(y) FROM a", nil, &rows, &y))
	require.EqualValues(t, 1, rows)
	require.EqualValues(t, 7, y)

	err = clickhouse.Migrate(t.Context(), db, old)
	require.Equal(t, errs.Precondition, errs.KindOf(err))
	require.Equal(t, "database_newer", errs.CodeOf(err))
}

func TestMigrateSaysWhichOneFailed(t *testing.T) {
	t.Parallel()
	db := testkit.ClickHouseDB(t)
	err := clickhouse.Migrate(t.Context(), db, migrations(map[string]string{"0001_a.sql": "CREATE TABL x;"}))
	require.Equal(t, "migration_failed", errs.CodeOf(err))
	require.Contains(t, err.Error(), "migration 1 of test")
	require.NoError(t, clickhouse.Migrate(t.Context(), db, migrations(map[string]string{"0001_a.sql": "CREATE TABLE x (a UInt8) ENGINE = MergeTree ORDER BY a;"})))
}

func TestClassifyKeepsWhatHasAKind(t *testing.T) {
	t.Parallel()
	require.NoError(t, clickhouse.Classify(nil))
	known := errs.New(errs.Conflict, "x", "y")
	require.Same(t, known, clickhouse.Classify(known))
	require.ErrorIs(t, clickhouse.Classify(context.Canceled), context.Canceled)
	plain := errors.New("plain")
	require.Equal(t, plain, clickhouse.Classify(plain))
}
