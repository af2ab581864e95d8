package jobs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

// Config of a context's queue.
type Config struct {
	// Context names the queue's owner, as its schema in the database.
	Context string `koanf:"-"`
	// MaxWorkers is how many jobs run at a time in this process.
	MaxWorkers int `koanf:"max_workers"`
	// JobTimeout bounds one run; RescueAfter is when a job of a process that died is tried again.
	JobTimeout  time.Duration `koanf:"job_timeout"`
	RescueAfter time.Duration `koanf:"rescue_after"`
	// StopTimeout is how long running jobs may go on when the process stops.
	StopTimeout time.Duration `koanf:"stop_timeout"`
}

// DefaultConfig suits jobs that wait for other systems.
func DefaultConfig() Config {
	return Config{MaxWorkers: 8, JobTimeout: time.Minute, RescueAfter: 5 * time.Minute, StopTimeout: 20 * time.Second}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if c.MaxWorkers < 1 || c.MaxWorkers > river.QueueNumWorkersMax {
		return errs.New(errs.Invalid, "jobs_max_workers", "jobs.max_workers must be between 1 and 10000")
	}
	if c.JobTimeout <= 0 || c.StopTimeout <= 0 || c.RescueAfter <= c.JobTimeout {
		return errs.New(errs.Invalid, "jobs_timeouts", "jobs.job_timeout and jobs.stop_timeout must be positive and jobs.rescue_after longer than jobs.job_timeout")
	}
	return nil
}

// Migrate creates or updates the queues of the named contexts.
func Migrate(ctx context.Context, url string, contexts ...string) error {
	for _, name := range contexts {
		schema := schemaOf(name)
		err := postgres.MigrateSchema(ctx, url, schema, func(ctx context.Context, owner *pgxpool.Pool) error {
			migrator, err := rivermigrate.New(riverpgxv5.New(owner), &rivermigrate.Config{Schema: schema, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
			return err
		})
		if err != nil {
			return errs.Wrap(postgres.Classify(err), errs.KindOf(err), "migration_failed", "the job queue of "+name+" could not be migrated")
		}
	}
	return nil
}

// Queue inserts and works the jobs of one context.
type Queue struct {
	cfg    Config
	client *river.Client[pgx.Tx]
}

// New returns the queue of cfg.Context with the workers for its kinds of jobs, and jobs that are inserted on a schedule by
// whichever process leads.
func New(db *postgres.DB, cfg Config, workers *river.Workers, periodic []*river.PeriodicJob, log *slog.Logger) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	client, err := river.NewClient(riverpgxv5.New(db.Pool()), &river.Config{
		Schema:               schemaOf(cfg.Context),
		Workers:              workers,
		PeriodicJobs:         periodic,
		Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: cfg.MaxWorkers}},
		JobTimeout:           cfg.JobTimeout,
		RescueStuckJobsAfter: cfg.RescueAfter,
		// Only an owner may reindex, and the services own nothing.
		ReindexerIndexNames: []string{},
		Logger:              log.With("queue", cfg.Context),
	})
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, "jobs_invalid", "the workers or schedules of "+cfg.Context+" are not valid")
	}
	return &Queue{cfg: cfg, client: client}, nil
}

// InsertTx adds a job that exists only if tx commits. opts may be nil.
func (q *Queue) InsertTx(ctx context.Context, tx pgx.Tx, args river.JobArgs, opts *river.InsertOpts) error {
	_, err := q.client.InsertTx(ctx, tx, args, opts)
	return postgres.Classify(err)
}

// Insert adds a job in a transaction of its own. opts may be nil.
func (q *Queue) Insert(ctx context.Context, args river.JobArgs, opts *river.InsertOpts) error {
	_, err := q.client.Insert(ctx, args, opts)
	return postgres.Classify(err)
}

// Runner works jobs until its context is done, then lets running ones finish.
func (q *Queue) Runner() runtime.Runner {
	return runtime.Runner{Name: q.cfg.Context + ".jobs", Run: q.run}
}

func (q *Queue) run(ctx context.Context, started func()) error {
	// The client's own context would cancel the jobs; Stop lets them end.
	if err := q.client.Start(context.WithoutCancel(ctx)); err != nil {
		return postgres.Classify(err)
	}
	started()
	select {
	case <-ctx.Done():
	case <-q.client.Stopped():
		return errs.New(errs.Unavailable, "jobs_stopped", "the job queue of "+q.cfg.Context+" stopped by itself; see the log")
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.cfg.StopTimeout)
	defer cancel()
	err := q.client.Stop(stopping)
	if errors.Is(err, context.DeadlineExceeded) {
		err = q.client.StopAndCancel(context.WithoutCancel(ctx))
	}
	return err
}

func schemaOf(name string) string { return "river_" + name }
