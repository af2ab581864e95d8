package outbox

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

// Publish sends rows in their order and returns nil only when all are acknowledged. After an error, rows that were sent
// are sent again. It must stop sending at its first failure, or rows of a key could overtake each other.
type Publish func(ctx context.Context, rows []Row) error

// Config of a relay.
type Config struct {
	// BatchSize is the most rows that one call of Publish gets.
	BatchSize int `koanf:"batch_size"`
	// Poll is how often the relay looks without having been woken: rows that waited for another transaction wake nobody.
	Poll time.Duration `koanf:"poll"`
	// PublishTimeout bounds one call of Publish.
	PublishTimeout time.Duration `koanf:"publish_timeout"`
	// TakeOver is how often a relay that waits asks whether it may work.
	TakeOver time.Duration `koanf:"take_over"`
	// MaxBackoff bounds the pause after failures.
	MaxBackoff time.Duration `koanf:"max_backoff"`
}

// DefaultConfig keeps the delay of a waiting row below a quarter of a second.
func DefaultConfig() Config {
	return Config{
		BatchSize: 1000, Poll: 200 * time.Millisecond, PublishTimeout: 30 * time.Second,
		TakeOver: time.Second, MaxBackoff: 10 * time.Second,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if c.BatchSize < 1 || c.BatchSize > 100_000 {
		return errs.New(errs.Invalid, "outbox_batch_size", "outbox.batch_size must be between 1 and 100000")
	}
	if c.Poll <= 0 || c.PublishTimeout <= 0 || c.TakeOver <= 0 || c.MaxBackoff <= 0 {
		return errs.New(errs.Invalid, "outbox_durations", "outbox.poll, publish_timeout, take_over and max_backoff must be positive")
	}
	return nil
}

const (
	firstBackoff = 50 * time.Millisecond
	// lockClass is the first half of the advisory lock of a relay; the second is the table's oid.
	lockClass = 0x6f7574
)

// Relay moves the rows of one table to Publish.
type Relay struct {
	db      *postgres.DB
	table   Table
	cfg     Config
	publish Publish
	log     *slog.Logger

	failing atomic.Pointer[string]
}

// NewRelay returns a relay for the outbox of a context; several processes may run it.
func NewRelay(db *postgres.DB, table Table, cfg Config, publish Publish, log *slog.Logger) (*Relay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Relay{db: db, table: table, cfg: cfg, publish: publish, log: log.With("outbox", table.Schema)}, nil
}

// Runner runs the relay. It is started at once, because others need not wait for it, and not ready while its last attempt
// failed.
func (r *Relay) Runner() runtime.Runner {
	return runtime.Runner{Name: r.table.Schema + ".outbox", Run: r.run, Ready: r.ready}
}

func (r *Relay) ready(context.Context) error {
	if code := r.failing.Load(); code != nil {
		return errs.New(errs.Unavailable, "outbox_failing", "messages wait in the outbox of "+r.table.Schema+": "+*code)
	}
	return nil
}

func (r *Relay) run(ctx context.Context, started func()) error {
	started()
	backoff := firstBackoff
	for {
		progressed, err := r.session(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // being stopped is no failure
		}
		if progressed {
			backoff = firstBackoff
		}
		code := errs.CodeOf(err)
		r.failing.Store(&code)
		r.log.WarnContext(ctx, "relay failed; trying again", "error", err, "pause", backoff)
		if !sleep(ctx, backoff) {
			return nil
		}
		backoff = min(2*backoff, r.cfg.MaxBackoff)
	}
}

// session works on one connection until it or Publish fails. The lock, the wake-ups and all reads and deletes share the
// connection: when it is lost so is the lock, and nothing can be deleted any more.
func (r *Relay) session(ctx context.Context) (progressed bool, err error) {
	conn, err := r.db.ConnectAsSystem(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // closing is what gives the lock back
	if _, err := conn.Exec(ctx, "LISTEN mekong_outbox"); err != nil {
		return false, postgres.Classify(err)
	}
	for {
		if got, err := r.tryLock(ctx, conn); err != nil {
			return false, err
		} else if got {
			break
		}
		// Waiting is health: another process does the work.
		r.failing.Store(nil)
		if !sleep(ctx, r.cfg.TakeOver) {
			return false, nil
		}
	}
	for {
		full, err := r.step(ctx, conn)
		if err != nil {
			return progressed, err
		}
		progressed = true
		r.failing.Store(nil)
		if full {
			continue
		}
		if err := r.wait(ctx, conn); err != nil {
			return progressed, err
		}
	}
}

func (r *Relay) tryLock(ctx context.Context, conn *pgx.Conn) (got bool, err error) {
	err = conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, $2::regclass::oid::int)", lockClass, r.table.name()).Scan(&got)
	return got, postgres.Classify(err)
}

// step publishes and deletes one batch and reports whether more may be ready.
func (r *Relay) step(ctx context.Context, conn *pgx.Conn) (full bool, err error) {
	rows, full, err := r.read(ctx, conn)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	publishing, cancel := context.WithTimeout(ctx, r.cfg.PublishTimeout)
	defer cancel()
	if err := r.publish(publishing, rows); err != nil {
		return false, err
	}
	acknowledged := make([]int64, len(rows))
	for i, row := range rows {
		acknowledged[i] = row.ID
	}
	// Once acknowledged they should go even when we are asked to stop, else they would be sent twice.
	deleting, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.PublishTimeout)
	defer cancel()
	_, err = conn.Exec(deleting, "DELETE FROM "+r.table.name()+" WHERE id = ANY ($1)", acknowledged)
	return full, postgres.Classify(err)
}

// read returns the rows that may be published now: from the first on, up to the first whose transaction is not below the
// horizon of this snapshot.
func (r *Relay) read(ctx context.Context, conn *pgx.Conn) (batch []Row, full bool, err error) {
	rows, err := conn.Query(ctx, `
		SELECT xid < pg_snapshot_xmin(pg_current_snapshot()), id, created_at, workspace_id::text, topic, key, partition, headers, value
		FROM `+r.table.name()+`
		ORDER BY id
		LIMIT $1`, r.cfg.BatchSize)
	if err != nil {
		return nil, false, postgres.Classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		var row Row
		var settled bool
		if err := rows.Scan(&settled, &row.ID, &row.CreatedAt, &row.WorkspaceID, &row.Topic, &row.Key, &row.Partition, &row.Headers, &row.Value); err != nil {
			return nil, false, postgres.Classify(err)
		}
		if !settled {
			return batch, false, nil
		}
		batch = append(batch, row)
	}
	return batch, len(batch) == r.cfg.BatchSize, postgres.Classify(rows.Err())
}

// wait returns when a transaction has written to some outbox, or after Poll.
func (r *Relay) wait(ctx context.Context, conn *pgx.Conn) error {
	waiting, cancel := context.WithTimeout(ctx, r.cfg.Poll)
	defer cancel()
	for {
		notification, err := conn.WaitForNotification(waiting)
		switch {
		case err == nil && notification.Payload != r.table.Schema:
			continue // another context's
		case err == nil, pgconn.Timeout(err) && ctx.Err() == nil && !conn.IsClosed():
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded) && !conn.IsClosed():
			return nil
		default:
			return postgres.Classify(err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
