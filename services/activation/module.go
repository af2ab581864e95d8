package activation

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc"

	activationv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/activation/v1"
	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// Deps is what the module needs from the process.
type Deps struct {
	Log *slog.Logger
	// Postgres has the migrations of Migrations.
	Postgres *postgres.DB
	Kafka    kafka.Config
	Clock    clock.Clock
	// GRPC takes the DestinationService.
	GRPC grpc.ServiceRegistrar
	// Admin keeps the audit log.
	Admin adminv1.AdminServiceClient
}

// Module is activation in a process.
type Module struct {
	forwarder   *forwarder
	consumer    *kafka.Consumer
	deadLetters *kafka.Publisher
	outcomes    *kafka.Publisher
}

// batchRecords bounds how many events are sent before their offsets are committed: what a crash may repeat.
const batchRecords = 500

// New builds the module and registers its gRPC service. Nothing runs yet.
func New(ctx context.Context, cfg Config, deps Deps) (*Module, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Module{}
	var err error
	if m.outcomes, err = kafka.NewPublisher(ctx, deps.Kafka); err != nil {
		return nil, err
	}
	if m.deadLetters, err = kafka.NewPublisher(ctx, deps.Kafka); err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	store := newPostgresStore(deps.Postgres)
	m.forwarder, err = newForwarder(cfg, deps.Log, deps.Clock, store, store, &outcomePublisher{publisher: m.outcomes, clock: deps.Clock})
	if err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	consumer := kafka.DefaultConsumerConfig(stream.GroupActivation, stream.ResolvedEvents)
	consumer.DropBelowWatermark, consumer.MaxRecords = true, batchRecords
	if m.consumer, err = kafka.NewConsumer(deps.Kafka, consumer, m.forwarder, m.deadLetters, deps.Log); err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	activationv1.RegisterDestinationServiceServer(deps.GRPC, &server{service: &Service{
		store: store, audit: adminAudit{admin: deps.Admin, clock: deps.Clock}, now: deps.Clock.Now, allowPrivate: cfg.AllowPrivateAddresses,
	}})
	return m, nil
}

// Runners returns the forwarder and the retrier.
func (m *Module) Runners() []runtime.Runner {
	return []runtime.Runner{newRetrier(m.forwarder).runner(), m.consumer.Runner()}
}

// Close ends the connections after the runners have stopped.
func (m *Module) Close(ctx context.Context) error {
	var all error
	if m.forwarder != nil {
		all = m.forwarder.close()
	}
	for _, publisher := range []*kafka.Publisher{m.outcomes, m.deadLetters} {
		if publisher != nil {
			all = errors.Join(all, publisher.Close(ctx))
		}
	}
	return all
}
