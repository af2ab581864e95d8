package identity

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"google.golang.org/grpc"

	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	warehousev1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/warehouse/v1"
	"github.com/mekong-cdp/mekong/services/identity/dedupe"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres/outbox"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// Deps is what the context needs from the process.
type Deps struct {
	Log      *slog.Logger
	Clock    clock.Clock
	Postgres *postgres.DB
	Kafka    kafka.Config
	// GRPC gets IdentityService.
	GRPC grpc.ServiceRegistrar
	// Warehouse is asked for events that the log has forgotten, when a dedupe store must be rebuilt.
	Warehouse grpc.ClientConnInterface
	// DataDir is this instance's own folder; two instances never share one.
	DataDir string
}

// Module is the context, built and wired.
type Module struct {
	dedupe    *dedupe.Store
	publisher *kafka.Publisher
	runners   []runtime.Runner
	unobserve func() error
}

// New opens the dedupe store, registers IdentityService and builds the runners; nothing runs yet. The tables of
// Migrations must exist.
func New(ctx context.Context, cfg Config, deps Deps) (*Module, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Module{unobserve: func() error { return nil }}
	if err := m.build(ctx, cfg, deps); err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	return m, nil
}

func (m *Module) build(ctx context.Context, cfg Config, deps Deps) error {
	log := deps.Log.With("component", "identity")
	metrics, err := newMetrics()
	if err != nil {
		return err
	}
	if m.dedupe, err = dedupe.Open(log, filepath.Join(deps.DataDir, "dedupe"), dedupe.Options(cfg.Dedupe)); err != nil {
		return err
	}
	if m.unobserve, err = metrics.observeDedupe(m.dedupe, deps.Clock); err != nil {
		return err
	}
	if m.publisher, err = kafka.NewPublisher(ctx, deps.Kafka); err != nil {
		return err
	}
	store := NewPostgresStore(deps.Postgres, deps.Clock, changeRow)
	service, err := NewService(store, cfg.CacheIdentifiers, cfg.TransactionEvents, metrics)
	if err != nil {
		return err
	}
	handler := &consumer{
		dedupe: m.dedupe, service: service, publisher: m.publisher, metrics: metrics,
		rebuild: &rebuilder{
			store: m.dedupe, log: kafkaLog{deps.Kafka}, archive: warehousev1.NewWarehouseServiceClient(deps.Warehouse),
			metrics: metrics, slog: log, reach: cfg.Dedupe.MaxKeys / stream.EventPartitions,
		},
	}
	consumer, err := kafka.NewConsumer(deps.Kafka, cfg.consumer(), handler, m.publisher, log)
	if err != nil {
		return err
	}
	relay, err := outbox.NewRelay(deps.Postgres, outbox.Table{Schema: schema}, cfg.Outbox, relayTo(m.publisher), log)
	if err != nil {
		return err
	}
	clean := &cleaner{
		dedupe: m.dedupe, store: store, client: m.publisher.Client(), clock: deps.Clock, log: log, metrics: metrics,
		interval: cfg.CleanInterval, margin: cfg.DecisionMargin,
	}
	identityv1.RegisterIdentityServiceServer(deps.GRPC, &server{dedupe: m.dedupe, metrics: metrics})
	m.runners = []runtime.Runner{relay.Runner(), consumer.Runner(), clean.runner()}
	return nil
}

// Runners returns what must run, in the order of start.
func (m *Module) Runners() []runtime.Runner { return m.runners }

// Close frees what New opened, after the runners have stopped.
func (m *Module) Close(ctx context.Context) error {
	err := m.unobserve()
	if m.publisher != nil {
		err = errors.Join(err, m.publisher.Close(ctx))
	}
	if m.dedupe != nil {
		err = errors.Join(err, m.dedupe.Close())
	}
	return err
}
