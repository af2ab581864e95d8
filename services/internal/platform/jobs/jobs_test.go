package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/jobs"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testkit.StopPostgres()
	os.Exit(code)
}

const patience = 30 * time.Second

type greet struct {
	Name string `json:"name"`
}

func (greet) Kind() string { return "greet" }

// greeter counts what it greeted.
type greeter struct {
	river.WorkerDefaults[greet]
	mu   sync.Mutex
	seen map[string]int
}

func (g *greeter) Work(_ context.Context, job *river.Job[greet]) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen[job.Args.Name]++
	return nil
}

func (g *greeter) counts(name string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[name]
}

func setup(t *testing.T) *postgres.DB {
	t.Helper()
	address := testkit.PostgresURL(t)
	require.NoError(t, jobs.Migrate(t.Context(), address, "shop"))
	require.NoError(t, jobs.Migrate(t.Context(), address, "shop"), "repeatable")
	return testkit.OpenPostgres(t, address)
}

func newQueue(t *testing.T, db *postgres.DB, g *greeter, periodic ...*river.PeriodicJob) *jobs.Queue {
	t.Helper()
	workers := river.NewWorkers()
	river.AddWorker(workers, g)
	cfg := jobs.DefaultConfig()
	cfg.Context = "shop"
	queue, err := jobs.New(db, cfg, workers, periodic, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return queue
}

func start(t *testing.T, queue *jobs.Queue) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	started, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- queue.Runner().Run(ctx, func() { close(started) }) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	select {
	case <-started:
	case err := <-done:
		require.NoError(t, err)
	}
	return stop
}

func TestJobsFollowTheirTransactionAndSurviveARestart(t *testing.T) {
	t.Parallel()
	db, g := setup(t), &greeter{seen: map[string]int{}}
	queue := newQueue(t, db, g)
	boom := errors.New("boom")
	err := db.InWorkspace(t.Context(), ids.New(), func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, queue.InsertTx(ctx, tx, greet{"never"}, nil))
		return boom
	})
	require.ErrorIs(t, err, boom)
	insert := func(name string, opts *river.InsertOpts) {
		require.NoError(t, db.InWorkspace(t.Context(), ids.New(), func(ctx context.Context, tx pgx.Tx) error {
			return queue.InsertTx(ctx, tx, greet{name}, opts)
		}))
	}
	insert("now", nil)
	insert("later", &river.InsertOpts{ScheduledAt: time.Now().Add(2 * time.Second)})

	stop := start(t, queue)
	require.Eventually(t, func() bool { return g.counts("now") == 1 }, patience, 10*time.Millisecond)
	stop()
	require.Zero(t, g.counts("later"))

	start(t, newQueue(t, db, g))
	require.NoError(t, queue.Insert(t.Context(), greet{"after"}, nil))
	require.Eventually(t, func() bool { return g.counts("later") == 1 && g.counts("after") == 1 }, patience, 10*time.Millisecond)
	require.Equal(t, []int{1, 1, 1, 0}, []int{g.counts("now"), g.counts("later"), g.counts("after"), g.counts("never")})
}

func TestPeriodicJobs(t *testing.T) {
	t.Parallel()
	db, g := setup(t), &greeter{seen: map[string]int{}}
	start(t, newQueue(t, db, g, river.NewPeriodicJob(river.PeriodicInterval(time.Second),
		func() (river.JobArgs, *river.InsertOpts) { return greet{"again"}, nil }, &river.PeriodicJobOpts{RunOnStart: true})))
	require.Eventually(t, func() bool { return g.counts("again") >= 2 }, patience, 20*time.Millisecond)
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	cfg := jobs.DefaultConfig()
	require.NoError(t, cfg.Validate())
	cfg.RescueAfter = cfg.JobTimeout
	require.Equal(t, "jobs_timeouts", errs.CodeOf(cfg.Validate()))
	cfg.MaxWorkers = 0
	require.Equal(t, "jobs_max_workers", errs.CodeOf(cfg.Validate()))
}
