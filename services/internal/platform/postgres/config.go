package postgres

import (
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Config says where PostgreSQL is and how the pool behaves.
type Config struct {
	// URL is the connection string of a login role that is a member of the three roles (or may create them).
	URL config.Secret `koanf:"url"`
	// MaxConns bounds the pool; MinConns are kept open.
	MaxConns int32 `koanf:"max_conns"`
	MinConns int32 `koanf:"min_conns"`
	// OpenTimeout is how long Open waits for a server that does not answer yet.
	OpenTimeout time.Duration `koanf:"open_timeout"`
	// ConnectTimeout bounds one attempt to connect.
	ConnectTimeout time.Duration `koanf:"connect_timeout"`
	// StatementTimeout and LockTimeout bound one statement; IdleInTransactionTimeout bounds a transaction that waits for
	// its program. They keep a stuck transaction from holding back vacuum and every outbox.
	StatementTimeout         time.Duration `koanf:"statement_timeout"`
	LockTimeout              time.Duration `koanf:"lock_timeout"`
	IdleInTransactionTimeout time.Duration `koanf:"idle_in_transaction_timeout"`
	// MaxConnLifetime closes connections of this age, so that a moved server is found again.
	MaxConnLifetime time.Duration `koanf:"max_conn_lifetime"`
}

// DefaultConfig suits one process on a machine with few cores; the URL stays empty.
func DefaultConfig() Config {
	return Config{
		MaxConns:                 12,
		MinConns:                 1,
		OpenTimeout:              30 * time.Second,
		ConnectTimeout:           5 * time.Second,
		StatementTimeout:         60 * time.Second,
		LockTimeout:              20 * time.Second,
		IdleInTransactionTimeout: 30 * time.Second,
		MaxConnLifetime:          30 * time.Minute,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.URL == "":
		return errs.New(errs.Invalid, "postgres_url_missing", "set postgres.url (MEKONG_POSTGRES__URL) to the address of a PostgreSQL server")
	case c.MaxConns < 1 || c.MinConns < 0 || c.MinConns > c.MaxConns:
		return errs.New(errs.Invalid, "postgres_conns_invalid", "postgres.max_conns must be at least 1 and postgres.min_conns between 0 and max_conns")
	case c.OpenTimeout <= 0 || c.ConnectTimeout <= 0 || c.MaxConnLifetime <= 0:
		return errs.New(errs.Invalid, "postgres_timeout_invalid", "postgres.open_timeout, connect_timeout and max_conn_lifetime must be positive")
	case c.StatementTimeout < 0 || c.LockTimeout < 0 || c.IdleInTransactionTimeout < 0:
		return errs.New(errs.Invalid, "postgres_timeout_invalid", "postgres.statement_timeout, lock_timeout and idle_in_transaction_timeout must not be negative (0 means no limit)")
	default:
		return nil
	}
}
