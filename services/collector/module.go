package collector

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/collector/spool"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

// Deps is what the collector needs from its process.
type Deps struct {
	Log   *slog.Logger
	Clock clock.Clock
	Kafka kafka.Config
	// HTTP gets the ingestion paths.
	HTTP *http.ServeMux
	// Admin resolves unknown write keys; Identity are all instances that answer for known events, none is allowed.
	Admin    grpc.ClientConnInterface
	Identity []grpc.ClientConnInterface
	// DataDir is the collector's own folder; the spool is in it.
	DataDir string
}

// Module is the collector in one process.
type Module struct {
	spool     *spool.Spool
	watched   metric.Registration
	publisher *kafka.Publisher
	runners   []runtime.Runner
}

// New opens the spool and registers the ingestion paths; they answer 503 until the keys are loaded.
// Errors: Invalid (configuration), those of spool.Open.
func New(ctx context.Context, cfg Config, deps Deps) (*Module, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	wires := map[string]struct{}{}
	for _, w := range routes() {
		wires[w.name] = struct{}{}
	}
	ms, err := newMetrics(slices.Sorted(maps.Keys(wires)))
	if err != nil {
		return nil, err
	}
	keys := &keyConsumer{cfg: deps.Kafka, ring: newKeyRing(), log: deps.Log, clock: deps.Clock}
	finder, err := newKeyFinder(keys.ring, adminv1.NewAdminServiceClient(deps.Admin), deps.Clock, keys.loaded.Load)
	if err != nil {
		return nil, err
	}
	m := &Module{}
	if m.publisher, err = kafka.NewPublisher(ctx, deps.Kafka); err != nil {
		return nil, err
	}
	m.runners = append(m.runners, runtime.Runner{Name: "collector.keys", Run: keys.run, Ready: keys.ready})
	events, err := m.log(ctx, cfg, deps, ms)
	if err != nil {
		return nil, errors.Join(err, m.publisher.Close(context.WithoutCancel(ctx)))
	}
	h, err := newDoor(cfg, deps, events, finder, ms)
	if err != nil {
		return nil, errors.Join(err, m.Close(context.WithoutCancel(ctx)))
	}
	h.register(deps.HTTP)
	return m, nil
}

func newDoor(cfg Config, deps Deps, events Log, finder *keyFinder, ms *metrics) (*door, error) {
	proxies, err := cfg.proxies()
	if err != nil {
		return nil, err
	}
	s := &service{
		decoder: &decoder{limits: cfg.Limits, words: newVocabulary()},
		log:     events, seen: newSeenIndex(cfg.RememberedEvents), clock: deps.Clock, metrics: ms,
	}
	if len(deps.Identity) > 0 && cfg.LookupTimeout > 0 {
		var clients []identityEvents
		for _, conn := range deps.Identity {
			clients = append(clients, identityv1.NewIdentityServiceClient(conn))
		}
		s.remote = newRemoteSeen(clients, cfg.LookupTimeout, deps.Clock)
	}
	return &door{
		service: s, keys: finder, bodies: newBodyReader(cfg.Limits, cfg.InFlightBytes),
		sources:   newLimiter(cfg.Rates.SourceEvents, cfg.Rates.SourceBurst),
		addresses: newLimiter(cfg.Rates.AddressRequests, cfg.Rates.AddressBurst),
		proxies:   proxies, metrics: ms,
	}, nil
}

// log opens the spool with its forwarder, or writes to Kafka directly when there is no volume.
func (m *Module) log(ctx context.Context, cfg Config, deps Deps, ms *metrics) (Log, error) {
	if !cfg.Spool.Enabled {
		return kafkaLog{m.publisher}, nil
	}
	measured := context.WithoutCancel(ctx)
	s, found, err := spool.Open(filepath.Join(deps.DataDir, "spool"), spool.Options{
		MaxBytes: cfg.Spool.MaxBytes, SegmentBytes: cfg.Spool.SegmentBytes, MaxWaitingBytes: cfg.Spool.WaitingBytes,
		MaxFreshBytes: cfg.Spool.FreshBytes, CursorInterval: cfg.Spool.CursorInterval, Clock: deps.Clock,
		Synced: func(records, _ int, took time.Duration) { ms.synced(measured, records, took) },
	})
	if err != nil {
		return nil, err
	}
	m.spool = s
	if m.watched, err = ms.watch(s, deps.Clock); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if found.Records > 0 || found.CutBytes > 0 {
		deps.Log.InfoContext(ctx, "the spool holds events from before", "records", found.Records, "bytes", found.Bytes, "torn_bytes", found.CutBytes)
	}
	f := &forwarder{queue: s, publisher: m.publisher, bytes: cfg.Spool.ForwardBytes, linger: cfg.Spool.ForwardLinger, clock: deps.Clock, log: deps.Log, metrics: ms}
	m.runners = append(m.runners,
		runtime.Runner{Name: "collector.spool", Run: guard(s)},
		runtime.Runner{Name: "collector.forwarder", Run: f.run},
	)
	return s, nil
}

// guard stops the process when the spool has closed itself: what the disk holds is known only after a restart.
func guard(s *spool.Spool) func(context.Context, func()) error {
	return func(ctx context.Context, started func()) error {
		started()
		select {
		case <-ctx.Done():
			return nil
		case <-s.Failed():
			return s.Err()
		}
	}
}

// Runners returns the jobs in the order in which they start.
func (m *Module) Runners() []runtime.Runner { return m.runners }

// Close releases the spool and the client; the runners have stopped and HTTP is drained.
func (m *Module) Close(ctx context.Context) error {
	var err error
	if m.watched != nil {
		err = m.watched.Unregister()
	}
	if m.spool != nil {
		err = errors.Join(err, m.spool.Close())
	}
	return errors.Join(err, m.publisher.Close(ctx))
}
