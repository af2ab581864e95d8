package postgres

import (
	"net"
	"strconv"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Config of the embedded server.
type Config struct {
	// Listen is host:port on a loopback address.
	Listen string `koanf:"listen"`
	// DataDir holds everything that the server keeps; it is created.
	DataDir string `koanf:"data_dir"`
	// BinDir is the folder of initdb and postgres; share/ and lib/ lie beside it.
	BinDir string `koanf:"bin_dir"`
	// SharedBuffersMB is the server's own cache; the system's file cache serves the rest.
	SharedBuffersMB int `koanf:"shared_buffers_mb"`
	MaxConnections  int `koanf:"max_connections"`
	// StartTimeout includes recovery after a crash; StopTimeout includes the last checkpoint.
	StartTimeout time.Duration `koanf:"start_timeout"`
	StopTimeout  time.Duration `koanf:"stop_timeout"`
	// UnsafeNoSync skips every fsync. For throw-away data of tests only.
	UnsafeNoSync bool `koanf:"-"`
}

// DefaultConfig leaves DataDir and BinDir to the program.
func DefaultConfig() Config {
	return Config{
		Listen:          "127.0.0.1:15432",
		SharedBuffersMB: 96,
		MaxConnections:  80,
		StartTimeout:    2 * time.Minute,
		StopTimeout:     30 * time.Second,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return invalid("embedded_postgres_listen", "embedded.postgres.listen must be host:port, for example 127.0.0.1:15432")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return invalid("embedded_postgres_listen", "the port of embedded.postgres.listen must be between 1 and 65535")
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return invalid("embedded_postgres_listen", "embedded.postgres.listen must be a loopback address such as 127.0.0.1; use an external PostgreSQL to serve other machines")
	}
	switch {
	case c.DataDir == "" || c.BinDir == "":
		return invalid("embedded_postgres_dirs", "embedded.postgres.data_dir and embedded.postgres.bin_dir must be set")
	case c.SharedBuffersMB < 16 || c.SharedBuffersMB > 1<<16:
		return invalid("embedded_postgres_memory", "embedded.postgres.shared_buffers_mb must be between 16 and 65536")
	case c.MaxConnections < 10 || c.MaxConnections > 1000:
		return invalid("embedded_postgres_connections", "embedded.postgres.max_connections must be between 10 and 1000")
	case c.StartTimeout <= 0 || c.StopTimeout <= 0:
		return invalid("embedded_postgres_timeouts", "embedded.postgres.start_timeout and stop_timeout must be positive")
	default:
		return nil
	}
}

func invalid(code, message string) error { return errs.New(errs.Invalid, code, message) }

func precondition(cause error, code, message string) error {
	return errs.Wrap(cause, errs.Precondition, code, message)
}
