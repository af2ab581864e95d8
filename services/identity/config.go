package identity

import (
	"fmt"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres/outbox"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// Config is what an operator may set: section identity.
type Config struct {
	// CacheIdentifiers is how many identifiers are kept in memory, about 200 bytes each.
	CacheIdentifiers int `koanf:"cache_identifiers"`
	// BatchEvents is how many events of a partition are worked on at once.
	BatchEvents int `koanf:"batch_events"`
	// TransactionEvents is how many events one transaction decides about.
	TransactionEvents int `koanf:"transaction_events"`
	// Dedupe is the window in which a repeated event is recognised.
	Dedupe DedupeConfig `koanf:"dedupe"`
	// DecisionMargin is how many offsets below the committed one decisions are kept.
	DecisionMargin int64 `koanf:"decision_margin"`
	// CleanInterval is how often expired keys and decisions are removed.
	CleanInterval time.Duration `koanf:"clean_interval"`
	// Outbox is the relay of profile changes.
	Outbox outbox.Config `koanf:"outbox"`
}

// DedupeConfig is the dedupe window: Window or MaxKeys, whichever is reached first.
type DedupeConfig struct {
	Window  time.Duration `koanf:"window"`
	MaxKeys int64         `koanf:"max_keys"`
	// CacheBytes should be about 1.3 bytes a key; it is taken only as it is needed.
	CacheBytes int64 `koanf:"cache_bytes"`
	// SweepRate is how many keys a second expiry may look at.
	SweepRate int `koanf:"sweep_rate"`
}

// DefaultConfig suits one machine with few cores.
func DefaultConfig() Config {
	return Config{
		CacheIdentifiers: 500_000, BatchEvents: 2_000, TransactionEvents: 500,
		Dedupe:         DedupeConfig{Window: 7 * 24 * time.Hour, MaxKeys: 200_000_000, CacheBytes: 64 << 20, SweepRate: 100_000},
		DecisionMargin: 100_000, CleanInterval: 10 * time.Minute,
		Outbox: outbox.DefaultConfig(),
	}
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	invalid := func(key, rule string) error {
		return errs.New(errs.Invalid, "config_invalid", fmt.Sprintf("identity.%s %s", key, rule))
	}
	switch {
	case c.CacheIdentifiers < 1000:
		return invalid("cache_identifiers", "must be at least 1000")
	case c.BatchEvents < 1 || c.BatchEvents > 50_000:
		return invalid("batch_events", "must be between 1 and 50000")
	case c.TransactionEvents < 1 || c.TransactionEvents > 5_000:
		return invalid("transaction_events", "must be between 1 and 5000")
	case c.Dedupe.Window < time.Hour:
		return invalid("dedupe.window", "must be at least 1h")
	case c.Dedupe.MaxKeys < 100_000:
		return invalid("dedupe.max_keys", "must be at least 100000")
	case c.Dedupe.CacheBytes < 1<<20:
		return invalid("dedupe.cache_bytes", "must be at least 1048576")
	case c.Dedupe.SweepRate < 1000:
		return invalid("dedupe.sweep_rate", "must be at least 1000")
	case c.DecisionMargin < 0:
		return invalid("decision_margin", "must not be negative")
	case c.CleanInterval < time.Second:
		return invalid("clean_interval", "must be at least 1s")
	}
	return c.Outbox.Validate()
}

func (c Config) consumer() kafka.ConsumerConfig {
	cfg := kafka.DefaultConsumerConfig(stream.GroupIdentity, stream.CollectorEvents)
	cfg.MaxRecords = c.BatchEvents
	cfg.QueueRecords = 4 * c.BatchEvents
	return cfg
}
