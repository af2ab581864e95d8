package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Roles of the database, created by Bootstrap.
const (
	RoleOwner  = "mekong_owner"
	RoleApp    = "mekong_app"
	RoleSystem = "mekong_system"
)

const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = time.Second
)

// DB is a pool whose connections can see no tenant row outside its transaction methods.
type DB struct {
	pool *pgxpool.Pool
	url  string
}

// Open connects and waits up to cfg.OpenTimeout for a server that is away or starting. It does not wait for what time
// will not mend: a wrong password, a missing database, roles that were never created.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	pc, err := poolConfig(cfg)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, Classify(err)
	}
	if err := waitFor(ctx, cfg.OpenTimeout, pool.Ping); err != nil {
		pool.Close()
		return nil, err
	}
	return &DB{pool: pool, url: cfg.URL.Reveal()}, nil
}

// Close ends all connections after their transactions are done.
func (db *DB) Close() { db.pool.Close() }

// Ping reports whether the server answers.
func (db *DB) Ping(ctx context.Context) error { return Classify(db.pool.Ping(ctx)) }

// Pool is for libraries that need the pool itself (the job queue). Its connections have role mekong_app and no
// workspace: tenant tables look empty to them.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// ConnectAsSystem opens a connection of its own, outside the pool, with role mekong_system: for relays that hold a session
// lock or listen. The caller closes it.
func (db *DB) ConnectAsSystem(ctx context.Context) (*pgx.Conn, error) {
	return connectAs(ctx, db.url, RoleSystem)
}

func poolConfig(cfg Config) (*pgxpool.Config, error) {
	pc, err := pgxpool.ParseConfig(cfg.URL.Reveal())
	if err != nil {
		return nil, invalidURL()
	}
	pc.MaxConns = cfg.MaxConns
	pc.MinConns = cfg.MinConns
	pc.MaxConnLifetime = cfg.MaxConnLifetime
	pc.MaxConnLifetimeJitter = cfg.MaxConnLifetime / 10
	pc.ConnConfig.ConnectTimeout = cfg.ConnectTimeout
	pc.ConnConfig.Tracer = tracer{}
	params := pc.ConnConfig.RuntimeParams
	params["TimeZone"] = "UTC"
	if params["application_name"] == "" {
		params["application_name"] = "mekong"
	}
	setup := fmt.Sprintf(
		"SET ROLE %s; SET statement_timeout = %d; SET lock_timeout = %d; SET idle_in_transaction_session_timeout = %d",
		RoleApp, cfg.StatementTimeout.Milliseconds(), cfg.LockTimeout.Milliseconds(), cfg.IdleInTransactionTimeout.Milliseconds())
	pc.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, setup)
		return roleError(err)
	}
	return pc, nil
}

func connectAs(ctx context.Context, url, role string) (*pgx.Conn, error) {
	cc, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, invalidURL()
	}
	cc.RuntimeParams["TimeZone"] = "UTC"
	if cc.RuntimeParams["application_name"] == "" {
		cc.RuntimeParams["application_name"] = "mekong"
	}
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return nil, Classify(err)
	}
	if role == "" {
		return conn, nil
	}
	if _, err := conn.Exec(ctx, "SET ROLE "+role); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, Classify(roleError(err))
	}
	return conn, nil
}

// waitFor repeats try with backoff while its error is one that time may mend.
func waitFor(ctx context.Context, limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	backoff := firstBackoff
	var last error
	for {
		err := Classify(try(ctx))
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if errs.KindOf(err) != errs.Unavailable {
			return err
		}
		timer := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
			timer.Stop()
			return last
		case <-timer.C:
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func invalidURL() error {
	// The parser's own error may repeat parts of the address, and the address holds a password.
	return errs.New(errs.Invalid, "postgres_url_invalid", "postgres.url is not a PostgreSQL address; use postgres://user:password@host:5432/database")
}

// roleError gives the two ways in which SET ROLE fails their remedy.
func roleError(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	switch pg.Code {
	case "22023": // invalid_parameter_value: no such role
		return errs.Wrap(redact(pg), errs.Precondition, "database_not_bootstrapped", "the database has no Mekong roles yet; run the migrations first")
	case "42501": // insufficient_privilege
		return errs.Wrap(redact(pg), errs.Precondition, "role_not_granted", "the login role may not become mekong_app, mekong_owner or mekong_system; grant it the three roles")
	default:
		return err
	}
}
