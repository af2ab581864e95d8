package warehouse

import (
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Config tunes how events are stored.
type Config struct {
	// FlushInterval is how long to gather events for one insert.
	FlushInterval time.Duration `koanf:"flush_interval"`
	// MaxRows and MaxBytes bound one insert.
	MaxRows  int `koanf:"max_rows"`
	MaxBytes int `koanf:"max_bytes"`
	// InsertTimeout bounds one insert; SettleTimeout bounds finding out what became of one that did not end well.
	InsertTimeout time.Duration `koanf:"insert_timeout"`
	SettleTimeout time.Duration `koanf:"settle_timeout"`
	// SweepInterval is how often late rows of aborted batches are looked for, SweepWindow how long after the abort.
	SweepInterval time.Duration `koanf:"sweep_interval"`
	SweepWindow   time.Duration `koanf:"sweep_window"`
}

// DefaultConfig suits one machine with few cores.
func DefaultConfig() Config {
	return Config{
		FlushInterval: 800 * time.Millisecond,
		MaxRows:       25_000,
		MaxBytes:      64 << 20,
		InsertTimeout: 2 * time.Minute,
		SettleTimeout: 2 * time.Minute,
		SweepInterval: time.Minute,
		SweepWindow:   time.Hour,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.FlushInterval <= 0 || c.FlushInterval > 10*time.Second:
		return errs.New(errs.Invalid, "flush_interval_invalid", "warehouse.flush_interval must be above 0 and at most 10s")
	case c.MaxRows < 1 || c.MaxRows > 50_000:
		return errs.New(errs.Invalid, "max_rows_invalid", "warehouse.max_rows must be between 1 and 50000")
	case c.MaxBytes < 1<<20 || c.MaxBytes > 1<<30:
		return errs.New(errs.Invalid, "max_bytes_invalid", "warehouse.max_bytes must be between 1 MiB and 1 GiB")
	case c.InsertTimeout <= 0 || c.SettleTimeout <= 0:
		return errs.New(errs.Invalid, "timeout_invalid", "warehouse.insert_timeout and warehouse.settle_timeout must be positive")
	case c.SweepInterval <= 0 || c.SweepWindow < 2*c.InsertTimeout || c.SweepWindow < c.SweepInterval:
		return errs.New(errs.Invalid, "sweep_invalid",
			"warehouse.sweep_interval must be positive, warehouse.sweep_window at least as long and twice warehouse.insert_timeout")
	}
	return nil
}
