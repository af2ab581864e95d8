package collector

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Config is what an operator may set: section collector.
type Config struct {
	Limits Limits      `koanf:"limits"`
	Rates  Rates       `koanf:"rates"`
	Spool  SpoolConfig `koanf:"spool"`
	// InFlightBytes bounds the bodies that are held in memory at once; above it the door answers 503.
	InFlightBytes int64 `koanf:"in_flight_bytes"`
	// RememberedEvents is how many of its newest events the door can answer "duplicate" for by itself (16 bytes each).
	RememberedEvents int `koanf:"remembered_events"`
	// LookupTimeout bounds the question to identity on paths that answer for each event; 0 asks nobody.
	LookupTimeout time.Duration `koanf:"lookup_timeout"`
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []string `koanf:"trusted_proxies"`
}

// Rates are limits per second; 0 means none.
type Rates struct {
	// SourceEvents bounds the events of one source, SourceBurst what it may send at once.
	SourceEvents int `koanf:"source_events"`
	SourceBurst  int `koanf:"source_burst"`
	// AddressRequests bounds the requests of one address, AddressBurst what it may send at once.
	AddressRequests int `koanf:"address_requests"`
	AddressBurst    int `koanf:"address_burst"`
}

// SpoolConfig says where accepted events wait for Kafka.
type SpoolConfig struct {
	// Enabled needs a volume that survives the process. Without it the door answers after Kafka's acknowledgement, and 503
	// while Kafka is away.
	Enabled      bool  `koanf:"enabled"`
	MaxBytes     int64 `koanf:"max_bytes"`
	SegmentBytes int64 `koanf:"segment_bytes"`
	// WaitingBytes bounds what waits for the disk, FreshBytes what is kept in memory for forwarding.
	WaitingBytes int64 `koanf:"waiting_bytes"`
	FreshBytes   int64 `koanf:"fresh_bytes"`
	// CursorInterval is how often the forwarded position is made durable; a crash forwards that much again.
	CursorInterval time.Duration `koanf:"cursor_interval"`
	// ForwardBytes is how much goes to Kafka in one piece.
	ForwardBytes int `koanf:"forward_bytes"`
	// ForwardLinger is the least time between two small pieces.
	ForwardLinger time.Duration `koanf:"forward_linger"`
}

// DefaultConfig suits one machine with a disk.
func DefaultConfig() Config {
	return Config{
		Limits: Limits{
			EventBytes: 32 << 10, Events: 2500, BodyBytes: 4 << 20, DecodedBytes: 16 << 20, Depth: 64, MaxFuture: 24 * time.Hour,
		},
		Rates: Rates{SourceEvents: 200_000, SourceBurst: 400_000, AddressRequests: 50_000, AddressBurst: 100_000},
		Spool: SpoolConfig{
			Enabled: true, MaxBytes: 1 << 30, SegmentBytes: 32 << 20, WaitingBytes: 64 << 20, FreshBytes: 32 << 20,
			CursorInterval: time.Second, ForwardBytes: 8 << 20, ForwardLinger: 10 * time.Millisecond,
		},
		InFlightBytes:    256 << 20,
		RememberedEvents: 1 << 20,
		LookupTimeout:    20 * time.Millisecond,
	}
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	for _, positive := range []struct {
		name  string
		value int64
	}{
		{"limits.event_bytes", int64(c.Limits.EventBytes)},
		{"limits.events", int64(c.Limits.Events)},
		{"limits.body_bytes", int64(c.Limits.BodyBytes)},
		{"limits.decoded_bytes", int64(c.Limits.DecodedBytes)},
		{"limits.depth", int64(c.Limits.Depth)},
		{"limits.max_future", int64(c.Limits.MaxFuture)},
		{"spool.max_bytes", c.Spool.MaxBytes},
		{"spool.segment_bytes", c.Spool.SegmentBytes},
		{"spool.waiting_bytes", c.Spool.WaitingBytes},
		{"spool.fresh_bytes", c.Spool.FreshBytes},
		{"spool.forward_bytes", int64(c.Spool.ForwardBytes)},
		{"in_flight_bytes", c.InFlightBytes},
		{"remembered_events", int64(c.RememberedEvents)},
	} {
		if positive.value <= 0 {
			return invalid("collector.%s must be positive", positive.name)
		}
	}
	switch {
	case c.Limits.EventBytes > 256<<10:
		return invalid("collector.limits.event_bytes must be at most 262144: larger records do not fit through Kafka")
	case c.Limits.BodyBytes < c.Limits.EventBytes, c.Limits.DecodedBytes < c.Limits.BodyBytes:
		return invalid("collector.limits must grow from event_bytes to body_bytes to decoded_bytes")
	case c.Limits.Depth > 512:
		return invalid("collector.limits.depth must be at most 512")
	case c.InFlightBytes < int64(2*c.Limits.DecodedBytes+c.Limits.BodyBytes+maxPooledBody):
		return invalid("collector.in_flight_bytes must hold at least one body: limits.body_bytes, twice limits.decoded_bytes, and 256 KiB")
	case c.Spool.SegmentBytes > c.Spool.MaxBytes/4:
		return invalid("collector.spool.segment_bytes must be at most a quarter of collector.spool.max_bytes")
	case c.Spool.CursorInterval < 0 || c.Spool.ForwardLinger < 0 || c.LookupTimeout < 0:
		return invalid("collector.spool.cursor_interval, collector.spool.forward_linger and collector.lookup_timeout must not be negative")
	case c.Rates.SourceEvents < 0 || c.Rates.SourceBurst < 0 || c.Rates.AddressRequests < 0 || c.Rates.AddressBurst < 0:
		return invalid("collector.rates must not be negative; 0 means no limit")
	case c.Rates.SourceEvents > 1e9 || c.Rates.AddressRequests > 1e9:
		return invalid("collector.rates must be at most 1000000000 a second; 0 means no limit")
	}
	_, err := c.proxies()
	return err
}

func (c Config) proxies() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range c.TrustedProxies {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, invalid("collector.trusted_proxies holds %q, which is no network like 10.0.0.0/8", text)
		}
		out = append(out, p)
	}
	return out, nil
}

func invalid(format string, args ...any) error {
	return errs.New(errs.Invalid, "collector_config_invalid", fmt.Sprintf(format, args...))
}
