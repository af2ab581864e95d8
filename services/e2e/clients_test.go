package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// clientLimit bounds what one client does.
const clientLimit = 2 * time.Minute

// TestClients gives unmodified clients of each engine the address that `mekong addresses` prints, and real work to do.
func TestClients(t *testing.T) {
	s := single(t)
	ws := newWorkspace(t, api{s.api, s.token}, "clients")
	s.waitKey(t, ws)
	s.requireStored(t, ws, s.track(t, ws, "c", 50))
	for _, client := range []struct {
		name string
		work func(ctx context.Context, t *testing.T, s *system, ws workspace)
	}{
		{"franz-go", franzGo},
		{"clickhouse-go", clickhouseGo},
		{"pgx", pgxPool},
		{"clickhouse-connect", clickhouseConnect},
		{"confluent-kafka", confluentKafka},
		{"psql", psql},
	} {
		t.Run(client.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), clientLimit)
			defer cancel()
			client.work(ctx, t, s, ws)
		})
	}
}

func franzGo(ctx context.Context, t *testing.T, s *system, ws workspace) {
	const topic, total = "e2e.franz", 1000
	producer, err := kgo.NewClient(kgo.SeedBrokers(s.kafka), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	require.NoError(t, err)
	defer producer.Close()
	admin := kadm.NewClient(producer)
	_, err = admin.CreateTopic(ctx, 3, 1, nil, topic)
	require.NoError(t, err)
	records := make([]*kgo.Record, total)
	for i := range records {
		records[i] = &kgo.Record{
			Topic: topic, Key: fmt.Appendf(nil, "device-%d", i%11), Value: fmt.Appendf(nil, "%d", i),
			Headers: []kgo.RecordHeader{{Key: "n", Value: fmt.Appendf(nil, "%d", i)}},
		}
	}
	require.NoError(t, producer.ProduceSync(ctx, records...).FirstErr())

	// Two members one after the other: the second goes on where the first has committed.
	seen := map[string]int{}
	for _, limit := range []int{total / 2, total} {
		readGroup(ctx, t, s, topic, seen, limit)
	}
	for value, n := range seen {
		require.Equal(t, 1, n, "record %s", value)
	}
	lag, err := admin.Lag(ctx, topic)
	require.NoError(t, err)
	require.Zero(t, lag[topic].Lag.Total())

	// What the system itself has written is plain Kafka as well.
	reader, err := kgo.NewClient(kgo.SeedBrokers(s.kafka), kgo.ConsumeTopics("mekong.collector.events.v1"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer reader.Close()
	// Read records are deleted soon, so a new one is sent until one was caught.
	for caught := false; !caught; {
		s.track(t, ws, "caught", 1)
		poll, cancel := context.WithTimeout(ctx, time.Second)
		fetches := reader.PollFetches(poll)
		cancel()
		if err := fetches.Err(); !errors.Is(err, context.DeadlineExceeded) {
			require.NoError(t, err)
		}
		require.NoError(t, ctx.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			for _, h := range r.Headers {
				caught = caught || string(h.Value) == ws.id
			}
		})
	}
}

// readGroup is one member of a group: it reads until seen holds limit records, commits and leaves.
func readGroup(ctx context.Context, t *testing.T, s *system, topic string, seen map[string]int, limit int) {
	t.Helper()
	member, err := kgo.NewClient(kgo.SeedBrokers(s.kafka), kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer member.Close()
	for len(seen) < limit {
		fetches := member.PollRecords(ctx, limit-len(seen))
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			require.Equal(t, string(r.Headers[0].Value), string(r.Value))
			seen[string(r.Value)]++
		})
	}
	require.NoError(t, member.CommitUncommittedOffsets(ctx))
}

func clickhouseGo(ctx context.Context, t *testing.T, s *system, ws workspace) {
	options, err := clickhouse.ParseDSN(s.clickhouse)
	require.NoError(t, err)
	require.Equal(t, clickhouse.HTTP, options.Protocol)
	options.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	conn, err := clickhouse.Open(options)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.Ping(ctx))
	require.NoError(t, conn.Exec(ctx, `CREATE OR REPLACE TABLE go_scores (id UInt32, name String, tags Array(String), score Nullable(Float64),
		at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY id`))
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	const total, perBatch = 20_000, 5_000
	for first := 0; first < total; first += perBatch {
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO go_scores")
		require.NoError(t, err)
		for i := first; i < first+perBatch; i++ {
			score := new(float64)
			*score = float64(i) / 4
			if i%3 == 0 {
				score = nil
			}
			require.NoError(t, batch.Append(uint32(i), fmt.Sprintf("người %d", i), []string{"a", fmt.Sprint(i)}, score, at))
		}
		require.NoError(t, batch.Send())
	}
	rows, err := conn.Query(clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"above": "100"})),
		"SELECT id, name, tags, score, at FROM go_scores WHERE id >= {above:UInt32} ORDER BY id")
	require.NoError(t, err)
	defer rows.Close()
	next := 100
	for rows.Next() {
		var id uint32
		var name string
		var tags []string
		var score *float64
		var when time.Time
		require.NoError(t, rows.Scan(&id, &name, &tags, &score, &when))
		require.Equal(t, uint32(next), id)
		require.Equal(t, fmt.Sprintf("người %d", next), name)
		require.Equal(t, []string{"a", fmt.Sprint(next)}, tags)
		require.Equal(t, next%3 == 0, score == nil)
		require.True(t, at.Equal(when), "%s", when)
		next++
	}
	require.NoError(t, rows.Err())
	require.Equal(t, total, next)

	var events uint64
	require.NoError(t, conn.QueryRow(ctx, "SELECT count() FROM fact_events WHERE workspace_id = @w", clickhouse.Named("w", ws.id)).Scan(&events))
	require.GreaterOrEqual(t, events, uint64(50))
	var exception *clickhouse.Exception
	require.ErrorAs(t, conn.Exec(ctx, "SELECT * FROM no_such_table"), &exception)
	require.Equal(t, int32(60), exception.Code)
	require.NoError(t, conn.Exec(ctx, "DROP TABLE go_scores"))
}

func pgxPool(ctx context.Context, t *testing.T, s *system, _ workspace) {
	pool, err := pgxpool.New(ctx, s.postgres)
	require.NoError(t, err)
	defer pool.Close()
	_, err = pool.Exec(ctx, "CREATE SCHEMA e2e; CREATE TABLE e2e.scores (id int PRIMARY KEY, name text, tags text[], score numeric, at timestamptz)")
	require.NoError(t, err)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const total = 1000
	copied, err := pool.CopyFrom(ctx, pgx.Identifier{"e2e", "scores"}, []string{"id", "name", "tags", "score", "at"},
		pgx.CopyFromSlice(total, func(i int) ([]any, error) {
			return []any{i, fmt.Sprintf("người %d", i), []string{"a"}, float64(i) / 4, at}, nil
		}))
	require.NoError(t, err)
	require.Equal(t, int64(total), copied)

	batch := &pgx.Batch{}
	for i := range 10 {
		batch.Queue("UPDATE e2e.scores SET tags = tags || $1::text WHERE id = $2", "b", i)
	}
	require.NoError(t, pool.SendBatch(ctx, batch).Close())

	// A transaction that fails leaves nothing.
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM e2e.scores"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO e2e.scores (id) VALUES (1), (1)")
		return err
	})
	var violation *pgconn.PgError
	require.ErrorAs(t, err, &violation)
	require.Equal(t, "23505", violation.Code)

	var tagged, all int
	var newest time.Time
	require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FILTER (WHERE 'b' = ANY(tags)), count(*), max(at) FROM e2e.scores WHERE score >= $1", 0).
		Scan(&tagged, &all, &newest))
	require.Equal(t, []int{10, total}, []int{tagged, all})
	require.True(t, at.Equal(newest), "%s", newest)

	wrong, err := pgx.ParseConfig(s.postgres)
	require.NoError(t, err)
	wrong.Password = "wrong"
	_, err = pgx.ConnectConfig(ctx, wrong)
	require.ErrorAs(t, err, &violation)
	require.Equal(t, "28P01", violation.Code, "the password counts on loopback too")
}

func clickhouseConnect(ctx context.Context, t *testing.T, s *system, ws workspace) {
	python(ctx, t, "clickhouse_connect_job.py", s.clickhouse, ws.id)
}

func confluentKafka(ctx context.Context, t *testing.T, s *system, _ workspace) {
	python(ctx, t, "confluent_kafka_job.py", s.kafka, "e2e.confluent")
}

// python runs a script of testdata with the interpreter that `make tools` installs the clients into.
func python(ctx context.Context, t *testing.T, script string, args ...string) {
	t.Helper()
	interpreter := filepath.Join(repoRoot(t), ".tools", "py", "bin", "python")
	_, err := os.Stat(interpreter)
	require.NoError(t, err, "the Python of the tests is missing: run `make tools`")
	cmd := exec.CommandContext(ctx, interpreter, append([]string{filepath.Join("testdata", script)}, args...)...) //nolint:gosec // our own script
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	require.NoError(t, err, "%s", lazy(said.String))
	require.Equal(t, "ok\n", string(out))
}

func psql(ctx context.Context, t *testing.T, s *system, _ workspace) {
	path, err := exec.LookPath("psql")
	require.NoError(t, err, "psql is missing: run `tools/os-packages.sh` as root, or `sudo apt-get install postgresql-client`")
	run := func(stdin string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, path, append([]string{s.postgres, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"}, args...)...) //nolint:gosec // an address of the test's own
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	var lines strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&lines, "%d\tngười %d\n", i, i)
	}
	out, err := run("CREATE SCHEMA psql; CREATE TABLE psql.people (id int, name text);\n\\copy psql.people FROM STDIN\n" + lines.String() + "\\.\n" +
		"\\set least 990\nSELECT count(*), min(name) FROM psql.people WHERE id >= :least;\n")
	require.NoError(t, err, out)
	require.Equal(t, "10|người 990", out)
	out, err = run("", "-c", `\d psql.people`)
	require.NoError(t, err, out)
	require.Contains(t, out, "name|text")
	out, err = run("", "-c", "SELECT * FROM nothing_here")
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit), out)
	require.Contains(t, out, `relation "nothing_here" does not exist`)
}
