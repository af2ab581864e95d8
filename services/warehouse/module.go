package warehouse

import (
	"context"
	"embed"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	warehousev1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/warehouse/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

//go:embed migrations
var migrations embed.FS

const closeTimeout = 5 * time.Second

// Migrations are the tables in Postgres: announced batches and watermarks.
func Migrations() postgres.Set {
	return postgres.Set{Name: "warehouse", FS: migrations, Dir: "migrations/postgres"}
}

// ClickHouseMigrations are the tables and views in ClickHouse.
func ClickHouseMigrations() clickhouse.Set {
	return clickhouse.Set{Name: "warehouse", FS: migrations, Dir: "migrations/clickhouse"}
}

// Deps is what the module needs from the process.
type Deps struct {
	Log *slog.Logger
	// Postgres and ClickHouse have the migrations of Migrations and ClickHouseMigrations.
	Postgres   *postgres.DB
	ClickHouse *clickhouse.DB
	Kafka      kafka.Config
	Clock      clock.Clock
	// GRPC takes the WarehouseService.
	GRPC grpc.ServiceRegistrar
}

// Module is the warehouse in a process.
type Module struct {
	metrics     *metrics
	deadLetters *kafka.Publisher
	consumer    *kafka.Consumer
	sweeper     *sweeper
}

// New builds the module and registers its gRPC service. Nothing runs yet.
func New(ctx context.Context, cfg Config, deps Deps) (*Module, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(deps.Clock)
	if err != nil {
		return nil, err
	}
	deadLetters, err := kafka.NewPublisher(ctx, deps.Kafka)
	if err != nil {
		return nil, errors.Join(err, m.unregister())
	}
	ledger := NewPostgresLedger(deps.Postgres)
	// The doors read while the sink writes: each has its own tables, because the sink's reuse their buffers.
	sink, reader := NewClickHouseTables(deps.ClickHouse), NewClickHouseTables(deps.ClickHouse)
	module := &Module{
		metrics: m, deadLetters: deadLetters,
		sweeper: &sweeper{graveyard: ledger, tables: reader, cfg: cfg, clock: deps.Clock, log: deps.Log, metrics: m},
	}
	h := &handler{
		log: deps.Log, builder: NewBuilder(),
		service: newService(cfg, ledger, sink, deps.Clock, deps.Log, m, ids.New()),
	}
	if module.consumer, err = kafka.NewConsumer(deps.Kafka, consumerConfig(cfg), h, deadLetters, deps.Log); err != nil {
		return nil, errors.Join(err, module.Close(ctx))
	}
	warehousev1.RegisterWarehouseServiceServer(deps.GRPC, &server{ledger: ledger, hashes: reader})
	return module, nil
}

// Runners returns the sink and the sweeper, in start order.
func (m *Module) Runners() []runtime.Runner {
	return []runtime.Runner{m.consumer.Runner(), {Name: "warehouse.sweeper", Run: m.sweeper.run}}
}

// Close ends the connection to Kafka after the runners have stopped.
func (m *Module) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return errors.Join(m.metrics.unregister(), m.deadLetters.Close(ctx))
}
