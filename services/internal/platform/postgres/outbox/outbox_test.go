package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres/outbox"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testkit.StopPostgres()
	os.Exit(code)
}

const patience = 20 * time.Second

var table = outbox.Table{Schema: "shop"}

func setup(t *testing.T) *postgres.DB {
	t.Helper()
	return testkit.PostgresDB(t, postgres.Set{Name: "shop", Dir: ".", FS: fstest.MapFS{"0001_outbox.sql": {Data: []byte(`-- +goose Up
SELECT mekong.create_outbox('shop');
CREATE TABLE shop.counter (key text PRIMARY KEY, n int NOT NULL);
CREATE TABLE shop.committed (seq bigint GENERATED ALWAYS AS IDENTITY, key text NOT NULL, value text NOT NULL);
`)}}})
}

// sink collects what is published, without repeats of a row.
type sink struct {
	mu    sync.Mutex
	seen  map[int64]bool
	byKey map[string][]string
	order []string
	all   []outbox.Row
	fail  func() bool
}

func newSink() *sink { return &sink{seen: map[int64]bool{}, byKey: map[string][]string{}} }

func (s *sink) publish(_ context.Context, rows []outbox.Row) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range rows {
		if s.fail != nil && s.fail() {
			return errors.New("broker is away")
		}
		s.all = append(s.all, row)
		if s.seen[row.ID] {
			continue
		}
		s.seen[row.ID] = true
		s.order = append(s.order, string(row.Value))
		s.byKey[string(row.Key)] = append(s.byKey[string(row.Key)], string(row.Value))
	}
	return nil
}

func (s *sink) values() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.order...)
}

// start runs a relay; stop ends it and waits.
func start(t *testing.T, db *postgres.DB, publish outbox.Publish) (stop func()) {
	t.Helper()
	cfg := outbox.DefaultConfig()
	cfg.Poll, cfg.TakeOver, cfg.BatchSize, cfg.MaxBackoff = 20*time.Millisecond, 50*time.Millisecond, 7, 50*time.Millisecond
	relay, err := outbox.NewRelay(db, table, cfg, publish, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- relay.Runner().Run(ctx, func() {}) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

func row(key, value string) outbox.Row {
	return outbox.Row{WorkspaceID: workspace, Topic: "topic", Key: []byte(key), Value: []byte(value)}
}

const workspace = "0190a0b1-0000-7000-8000-000000000001"

// begin opens a transaction that has its transaction id already.
func begin(t *testing.T, db *postgres.DB) pgx.Tx {
	t.Helper()
	tx, err := db.Pool().Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SET LOCAL ROLE mekong_system; SELECT pg_current_xact_id()")
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	return tx
}

func waiting(t *testing.T, db *postgres.DB) int {
	t.Helper()
	rows, oldest, err := table.Backlog(t.Context(), db)
	require.NoError(t, err)
	require.Equal(t, rows > 0, oldest > 0)
	return int(rows)
}

func TestRowsArriveWholeAndAreDeleted(t *testing.T) {
	t.Parallel()
	db, got := setup(t), newSink()
	start(t, db, got.publish)
	five := int32(5)
	want := []outbox.Row{
		{WorkspaceID: workspace, Topic: "a", Key: []byte{0, 1}, Partition: &five, Headers: map[string]string{"src_offset": "7"}, Value: []byte{0xff, 0}},
		{WorkspaceID: workspace, Topic: "b", Key: []byte{}, Headers: map[string]string{}},
	}
	require.NoError(t, db.InWorkspace(t.Context(), workspace, func(ctx context.Context, tx pgx.Tx) error {
		return table.Append(ctx, tx, want...)
	}))
	require.Eventually(t, func() bool { return len(got.values()) == 2 && waiting(t, db) == 0 }, patience, 10*time.Millisecond)
	for i, r := range got.all {
		require.NotZero(t, r.ID)
		require.WithinDuration(t, time.Now(), r.CreatedAt, time.Minute)
		want[i].ID, want[i].CreatedAt = r.ID, r.CreatedAt
	}
	require.Equal(t, want, got.all)

	err := db.InWorkspace(t.Context(), ids.New(), func(ctx context.Context, tx pgx.Tx) error {
		return table.Append(ctx, tx, want[0])
	})
	require.Equal(t, errs.Forbidden, errs.KindOf(err), "a row of another workspace")
	err = db.InWorkspace(t.Context(), workspace, func(ctx context.Context, tx pgx.Tx) error {
		return table.Append(ctx, tx, outbox.Row{WorkspaceID: workspace, Topic: "a"})
	})
	require.Equal(t, "outbox_row_invalid", errs.CodeOf(err))
}

func TestAnEarlyIDOfALongTransactionIsNotLost(t *testing.T) {
	t.Parallel()
	db, got := setup(t), newSink()
	long, rolledBack := begin(t, db), begin(t, db)
	require.NoError(t, table.Append(t.Context(), long, row("k", "early")))
	require.NoError(t, table.Append(t.Context(), rolledBack, row("k", "never")))
	for i := range 20 {
		tx := begin(t, db)
		require.NoError(t, table.Append(t.Context(), tx, row("k", strconv.Itoa(i))))
		require.NoError(t, tx.Commit(t.Context()))
	}
	start(t, db, got.publish)
	require.Never(t, func() bool { return len(got.values()) > 0 }, 300*time.Millisecond, 20*time.Millisecond)
	require.NoError(t, rolledBack.Rollback(t.Context()))
	require.NoError(t, long.Commit(t.Context()))
	require.Eventually(t, func() bool { return len(got.values()) == 21 && waiting(t, db) == 0 }, patience, 10*time.Millisecond)
	want := []string{"early"}
	for i := range 20 {
		want = append(want, strconv.Itoa(i))
	}
	require.Equal(t, want, got.values())
}

// An older transaction that writes after a younger one has committed must not overtake it, although the horizon lies
// between the two.
func TestAnOldTransactionDoesNotOvertakeAYoungerOneThatCommittedFirst(t *testing.T) {
	t.Parallel()
	db, got := setup(t), newSink()
	old, between, young := begin(t, db), begin(t, db), begin(t, db)
	start(t, db, got.publish)
	require.NoError(t, table.AppendSerialized(t.Context(), young, row("k", "first")))
	require.NoError(t, young.Commit(t.Context()))
	require.NoError(t, table.AppendSerialized(t.Context(), old, row("k", "second")))
	require.NoError(t, old.Commit(t.Context()))
	require.Never(t, func() bool { return len(got.values()) > 0 }, 300*time.Millisecond, 20*time.Millisecond)
	require.NoError(t, between.Commit(t.Context()))
	require.Eventually(t, func() bool { return len(got.values()) == 2 }, patience, 10*time.Millisecond)
	require.Equal(t, []string{"first", "second"}, got.values())
}

// Writers of shared keys in random order, with rollbacks, a publisher that fails midway and relays that come and go.
func TestOrderOfEachKeyIsTheOrderOfCommits(t *testing.T) {
	t.Parallel()
	db, got := setup(t), newSink()
	got.fail = func() bool { return rand.IntN(40) == 0 }
	const writers, rounds = 6, 40

	first := start(t, db, got.publish)
	start(t, db, got.publish)
	done := make(chan error, writers)
	for w := range writers {
		go func() {
			for i := range rounds {
				if err := writeOne(t.Context(), db, w, i); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for w := range writers {
		require.NoError(t, <-done)
		if w == 0 {
			first() // the other relay takes over
		}
	}
	require.Eventually(t, func() bool { return waiting(t, db) == 0 }, patience, 20*time.Millisecond)

	want := map[string][]string{}
	rows, err := db.Pool().Query(t.Context(), "SELECT key, value FROM shop.committed ORDER BY seq")
	require.NoError(t, err)
	var key, value string
	_, err = pgx.ForEachRow(rows, []any{&key, &value}, func() error {
		want[key] = append(want[key], value)
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, want)
	require.Equal(t, want, got.byKey)
}

// writeOne appends under a lock of the outbox (even writers' rounds) or of its own (odd), and notes the order of commits
// while it still holds it.
func writeOne(ctx context.Context, db *postgres.DB, writer, round int) error {
	rollback := errors.New("roll back")
	key, value := "serialized-"+strconv.Itoa(rand.IntN(3)), fmt.Sprintf("%d/%d", writer, round)
	err := db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if rand.IntN(2) == 0 { // take a transaction id long before the row
			if _, err := tx.Exec(ctx, "SELECT pg_current_xact_id(), pg_sleep($1)", rand.Float64()/100); err != nil {
				return err
			}
		}
		if round%2 == 0 {
			if err := table.AppendSerialized(ctx, tx, row(key, value)); err != nil {
				return err
			}
		} else {
			key = "locked-" + strconv.Itoa(rand.IntN(3))
			if _, err := tx.Exec(ctx, "INSERT INTO shop.counter VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = counter.n + 1", key); err != nil {
				return err
			}
			if err := table.Append(ctx, tx, row(key, value)); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "SELECT pg_sleep($1)", rand.Float64()/200); err != nil {
			return err
		}
		if rand.IntN(8) == 0 {
			return rollback
		}
		_, err := tx.Exec(ctx, "INSERT INTO shop.committed (key, value) VALUES ($1, $2)", key, value)
		return err
	})
	if errors.Is(err, rollback) {
		return nil
	}
	return err
}

func TestReadyTellsOfAFailingPublisher(t *testing.T) {
	t.Parallel()
	db, got := setup(t), newSink()
	var mu sync.Mutex
	away := true
	got.fail = func() bool { mu.Lock(); defer mu.Unlock(); return away }
	cfg := outbox.DefaultConfig()
	cfg.MaxBackoff = 50 * time.Millisecond
	relay, err := outbox.NewRelay(db, table, cfg, got.publish, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	runner := relay.Runner()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx, func() {}) }()
	require.NoError(t, db.InWorkspace(t.Context(), workspace, func(ctx context.Context, tx pgx.Tx) error {
		return table.Append(ctx, tx, row("k", "v"))
	}))
	require.Eventually(t, func() bool { return runner.Ready(t.Context()) != nil }, patience, 5*time.Millisecond)
	mu.Lock()
	away = false
	mu.Unlock()
	require.Eventually(t, func() bool { return runner.Ready(t.Context()) == nil && waiting(t, db) == 0 }, patience, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}
