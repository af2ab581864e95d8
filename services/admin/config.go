package admin

import (
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/postgres/outbox"
)

// minDeletedRetention is how long the log's readers may lag behind and still learn of a deletion.
const minDeletedRetention = 7 * 24 * time.Hour

// Config is what an operator may set: section admin.
type Config struct {
	// DeletedRetention is how long deleted sources and ended keys are still published as such.
	DeletedRetention time.Duration `koanf:"deleted_retention"`
	// SnapshotWait is how long a start waits for Kafka to take the read model before it goes on without.
	SnapshotWait time.Duration `koanf:"snapshot_wait"`
	// Outbox is the relay of what admin publishes.
	Outbox outbox.Config `koanf:"outbox"`
	// Limits of one installation, organisation, workspace and source.
	MaxWorkspaces int `koanf:"max_workspaces"`
	MaxTokens     int `koanf:"max_tokens"`
	MaxSources    int `koanf:"max_sources"`
	MaxWriteKeys  int `koanf:"max_write_keys"`
}

// DefaultConfig returns limits that no hand-made setup reaches.
func DefaultConfig() Config {
	return Config{
		DeletedRetention: 30 * 24 * time.Hour,
		SnapshotWait:     5 * time.Second,
		Outbox:           outbox.DefaultConfig(),
		MaxWorkspaces:    500,
		MaxTokens:        1000,
		MaxSources:       500,
		MaxWriteKeys:     20,
	}
}

// Validate names every setting that cannot work.
func (c Config) Validate() error {
	var p problems
	if c.DeletedRetention < minDeletedRetention {
		p.add("admin.deleted_retention", "must be at least 168h, so that readers that were away learn what is gone")
	}
	if c.SnapshotWait < 0 {
		p.add("admin.snapshot_wait", "must not be negative")
	}
	for _, limit := range []struct {
		name  string
		value int
	}{
		{"admin.max_workspaces", c.MaxWorkspaces},
		{"admin.max_tokens", c.MaxTokens},
		{"admin.max_sources", c.MaxSources},
		{"admin.max_write_keys", c.MaxWriteKeys},
	} {
		if limit.value < 1 || limit.value > 10_000 {
			p.add(limit.name, "must be between 1 and 10000")
		}
	}
	if err := p.err("invalid_config"); err != nil {
		return err
	}
	return c.Outbox.Validate()
}
