package clickhouse

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"
	chdriver "github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = time.Second
	idleTimeout  = time.Minute
)

// DB is a pool of connections to one database.
type DB struct {
	conn      chdriver.Conn
	endpoint  endpoint
	options   driver.Options
	transport http.RoundTripper
	client    *http.Client
	idle      func()
}

// Open connects and waits up to cfg.OpenTimeout for a server that is away or starting. It does not wait for what time
// will not mend, such as a wrong password. A missing database is created.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	ep, err := cfg.endpoint()
	if err != nil {
		return nil, err
	}
	db := &DB{endpoint: ep}
	db.buildTransport(cfg)
	db.options = db.driverOptions(cfg)
	opts := db.options
	if db.conn, err = driver.Open(&opts); err != nil {
		return nil, errs.Wrap(err, errs.Invalid, "clickhouse_config_invalid", "The ClickHouse settings do not fit together")
	}
	if err := waitFor(ctx, cfg.OpenTimeout, db.hello); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// Close ends all connections.
func (db *DB) Close() error {
	err := db.conn.Close()
	db.idle()
	return Classify(err)
}

// Ping reports whether the server answers.
func (db *DB) Ping(ctx context.Context) error { return Classify(db.conn.Ping(ctx)) }

// Database is the name of the database in use.
func (db *DB) Database() string { return db.endpoint.database }

// Conn is the driver's own connection pool, for what the methods here do not cover; give its errors to Classify.
func (db *DB) Conn() chdriver.Conn { return db.conn }

// Exec runs a statement that answers nothing.
func (db *DB) Exec(ctx context.Context, query string, args ...any) error {
	return Classify(db.conn.Exec(ctx, query, args...))
}

// Query runs a SELECT. The caller closes the rows and gives their errors to Classify.
func (db *DB) Query(ctx context.Context, query string, args ...any) (chdriver.Rows, error) {
	rows, err := db.conn.Query(ctx, query, args...)
	return rows, Classify(err)
}

// QueryRow runs a SELECT of one row and scans it into dest; NotFound when there is none.
func (db *DB) QueryRow(ctx context.Context, query string, args []any, dest ...any) error {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return Classify(err)
		}
		return errs.New(errs.NotFound, "not_found", "there is no such row")
	}
	if err := rows.Scan(dest...); err != nil {
		return Classify(err)
	}
	return Classify(rows.Err())
}

func (db *DB) buildTransport(cfg Config) {
	base := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer(cfg.DialTimeout).DialContext,
		TLSHandshakeTimeout: cfg.DialTimeout,
		MaxIdleConns:        cfg.MaxConns,
		MaxIdleConnsPerHost: cfg.MaxConns,
		MaxConnsPerHost:     cfg.MaxConns,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true,
		// A large write buffer: a block is megabytes.
		WriteBufferSize: 64 << 10,
	}
	if db.endpoint.tls {
		base.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	db.idle = base.CloseIdleConnections
	db.transport = newTracing(base)
	db.client = &http.Client{Transport: db.transport}
}

func (db *DB) driverOptions(cfg Config) driver.Options {
	opts := driver.Options{
		Protocol:     driver.HTTP,
		Addr:         []string{db.endpoint.host},
		Auth:         driver.Auth{Database: db.endpoint.database, Username: db.endpoint.user, Password: db.endpoint.password},
		HttpUrlPath:  db.endpoint.path,
		DialTimeout:  cfg.OpenTimeout,
		MaxOpenConns: cfg.MaxConns,
		MaxIdleConns: cfg.MaxConns,
		ReadTimeout:  10 * time.Minute,
		// All of the driver's connections share one transport, so that idle ones are shared too.
		TransportFunc: func(*http.Transport) (http.RoundTripper, error) { return db.transport, nil },
	}
	if db.endpoint.tls {
		opts.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if db.endpoint.lz4 {
		opts.Compression = &driver.Compression{Method: driver.CompressionLZ4}
	}
	return opts
}

func (db *DB) hello(ctx context.Context) error {
	err := Classify(db.conn.Ping(ctx))
	if codeOf(err) != codeUnknownDatabase {
		return err
	}
	if err := db.post(ctx, "CREATE DATABASE IF NOT EXISTS "+QuoteName(db.endpoint.database), "", nil, nil, nil); err != nil {
		return err
	}
	return Classify(db.conn.Ping(ctx))
}

// QuoteName quotes an identifier.
func QuoteName(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}

// waitFor repeats try with backoff while its error is one that time may mend.
func waitFor(ctx context.Context, limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	backoff := firstBackoff
	var last error
	for {
		err := try(ctx)
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
