package activation

import (
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Config is how patiently and how fast messages are sent.
type Config struct {
	// AllowPrivateAddresses lets destinations name addresses of this machine and of private networks.
	AllowPrivateAddresses bool
	// Concurrency bounds the requests under way to one destination from one partition.
	Concurrency int
	// BackoffMin and BackoffMax bound the wait between two attempts of a device.
	BackoffMin, BackoffMax time.Duration
	// MaxAge is how long a message is tried before it is declared dead.
	MaxAge time.Duration
	// BreakAfter failures in a row open the circuit of a destination: its messages are parked without a try until the
	// break is over.
	BreakAfter int
	// SlowAfter is the mean latency from which a destination's messages are parked at once and sent from there, so that
	// it does not hold up the others of its partition.
	SlowAfter time.Duration
	// RetryInterval is how often due devices are looked for; RetryDevices how many of a partition are taken at a time.
	RetryInterval time.Duration
	RetryDevices  int
}

// DefaultConfig suits webhooks of other companies.
func DefaultConfig() Config {
	return Config{
		Concurrency: 8, BackoffMin: time.Second, BackoffMax: 10 * time.Minute, MaxAge: 72 * time.Hour,
		BreakAfter: 5, SlowAfter: time.Second, RetryInterval: 200 * time.Millisecond, RetryDevices: 500,
	}
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Concurrency < 1 || c.Concurrency > 256:
		return errs.New(errs.Invalid, "activation_concurrency", "activation.concurrency must be between 1 and 256")
	case c.BackoffMin <= 0 || c.BackoffMax < c.BackoffMin:
		return errs.New(errs.Invalid, "activation_backoff", "activation.backoff_min must be positive and not above backoff_max")
	case c.MaxAge < c.BackoffMin:
		return errs.New(errs.Invalid, "activation_max_age", "activation.max_age must be at least backoff_min")
	case c.BreakAfter < 1 || c.SlowAfter <= 0:
		return errs.New(errs.Invalid, "activation_break", "activation.break_after must be at least 1 and slow_after positive")
	case c.RetryInterval <= 0 || c.RetryDevices < 1:
		return errs.New(errs.Invalid, "activation_retry", "activation.retry_interval and retry_devices must be positive")
	default:
		return nil
	}
}
