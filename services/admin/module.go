package admin

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	gwruntime "github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres/outbox"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

const (
	closeTimeout     = 5 * time.Second
	snapshotPoll     = 50 * time.Millisecond
	snapshotBackoff  = 100 * time.Millisecond
	maxSnapshotPause = 5 * time.Second
)

// Deps is what the module needs from the process.
type Deps struct {
	Log *slog.Logger
	// Postgres has the migrations of Migrations.
	Postgres *postgres.DB
	Kafka    kafka.Config
	Clock    clock.Clock
	// GRPC takes the AdminService.
	GRPC grpc.ServiceRegistrar
}

// Module is admin in a process.
type Module struct {
	cfg       Config
	log       *slog.Logger
	clock     clock.Clock
	db        *postgres.DB
	service   *Service
	publisher *kafka.Publisher
	relay     *outbox.Relay
	// published is true once the log has the snapshot of this start.
	published atomic.Bool
}

// New builds the module and registers its gRPC service. Nothing runs yet.
func New(ctx context.Context, cfg Config, deps Deps) (*Module, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	metrics, err := newMetrics()
	if err != nil {
		return nil, err
	}
	publisher, err := kafka.NewPublisher(ctx, deps.Kafka)
	if err != nil {
		return nil, err
	}
	m := &Module{
		cfg: cfg, log: deps.Log, clock: deps.Clock, db: deps.Postgres, publisher: publisher,
		service: &Service{
			store: NewPostgresStore(deps.Postgres), clock: deps.Clock, cfg: cfg, metrics: metrics, requestID: rpc.RequestID,
		},
	}
	m.relay, err = outbox.NewRelay(deps.Postgres, outboxTable(), cfg.Outbox, m.publish, deps.Log)
	if err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	adminv1.RegisterAdminServiceServer(deps.GRPC, newServer(m.service))
	return m, nil
}

// RegisterREST serves the REST paths of AdminService on mux, by calls over conn.
func RegisterREST(ctx context.Context, mux *gwruntime.ServeMux, conn *grpc.ClientConn) error {
	return adminv1.RegisterAdminServiceHandler(ctx, mux, conn)
}

// Bootstrap makes what the installation needs before anyone can use it; see Service.Bootstrap. It needs no runner.
func (m *Module) Bootstrap(ctx context.Context, in BootstrapInput) (BootstrapResult, error) {
	return m.service.Bootstrap(ctx, in)
}

// Runners returns the relay of the outbox and the publication of the read model, in start order.
func (m *Module) Runners() []runtime.Runner {
	return []runtime.Runner{
		m.relay.Runner(),
		{Name: "admin.snapshot", Run: m.runSnapshot, Ready: m.snapshotReady},
	}
}

// Close ends the connection to Kafka after the runners have stopped.
func (m *Module) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return m.publisher.Close(ctx)
}

func (m *Module) publish(ctx context.Context, rows []outbox.Row) error {
	records := make([]*kgo.Record, len(rows))
	for i, row := range rows {
		records[i] = &kgo.Record{Topic: row.Topic, Key: row.Key, Value: row.Value}
		for _, name := range slices.Sorted(maps.Keys(row.Headers)) {
			kafka.SetHeader(records[i], name, row.Headers[name])
		}
	}
	_, err := m.publisher.Publish(ctx, records...)
	return err
}

// runSnapshot publishes the read model once. It counts as started when the log has all of it, or when that takes longer
// than SnapshotWait: the control plane must not stay away because Kafka is.
func (m *Module) runSnapshot(ctx context.Context, started func()) error {
	completed, err := m.writeSnapshot(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	limit := m.clock.NewTimer(m.cfg.SnapshotWait)
	defer limit.Stop()
	waiting := limit.C()
	for !m.published.Load() {
		poll := m.clock.NewTimer(snapshotPoll)
		select {
		case <-ctx.Done():
			poll.Stop()
			return nil
		case <-waiting:
			m.log.WarnContext(ctx, "starting before the read model is published", "waited", m.cfg.SnapshotWait)
			started()
			started, waiting = func() {}, nil
		case <-poll.C():
		}
		poll.Stop()
		relayed, err := m.service.SnapshotRelayed(ctx, completed)
		if err != nil {
			// The relay reports what is wrong; this only watches.
			m.log.DebugContext(ctx, "cannot see the outbox", "error", err)
			continue
		}
		m.published.Store(relayed)
	}
	started()
	<-ctx.Done()
	return nil
}

// writeSnapshot tries until the snapshot is in the outbox; it returns no error when ctx ends before.
func (m *Module) writeSnapshot(ctx context.Context) (completed time.Time, err error) {
	pause := snapshotBackoff
	for {
		completed, err = m.service.PublishSnapshot(ctx)
		switch {
		case ctx.Err() != nil:
			return time.Time{}, nil //nolint:nilerr // being stopped is no failure
		case err == nil:
			return completed, nil
		case errs.KindOf(err) != errs.Unavailable && errs.KindOf(err) != errs.Conflict:
			return time.Time{}, err
		}
		m.log.WarnContext(ctx, "cannot write the read model; trying again", "error", err, "pause", pause)
		timer := m.clock.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return time.Time{}, nil
		case <-timer.C():
		}
		pause = min(2*pause, maxSnapshotPause)
	}
}

func (m *Module) snapshotReady(context.Context) error {
	if m.published.Load() {
		return nil
	}
	return errs.New(errs.Unavailable, "read_model_not_published", "The read model of admin is not in Kafka yet.")
}
