package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/activation"
	"github.com/mekong-cdp/mekong/services/admin"
	"github.com/mekong-cdp/mekong/services/collector"
	"github.com/mekong-cdp/mekong/services/identity"
	"github.com/mekong-cdp/mekong/services/internal/platform/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
	"github.com/mekong-cdp/mekong/services/internal/stream"
	"github.com/mekong-cdp/mekong/services/warehouse"
)

// Names of the modules. Engines, contexts and api are targets too.
const (
	TargetAll = "all"

	moduleAdmin      = "admin"
	moduleIdentity   = "identity"
	moduleWarehouse  = "warehouse"
	moduleActivation = "activation"
	moduleCollector  = "collector"
	moduleAPI        = "api"

	moduleTopics   = "topics"
	modulePostgres = "postgres-pool"
	moduleDoors    = "doors"
)

// Targets returns what --target accepts.
func Targets() []string {
	return []string{
		TargetAll, moduleCollector, moduleIdentity, moduleWarehouse, moduleActivation, moduleAdmin, moduleAPI,
		engineKafka, enginePostgres, engineClickHouse,
	}
}

// checkTargets refuses names that are no targets; modules that others bring along are none.
func checkTargets(names []string) error {
	for _, name := range names {
		if !slices.Contains(Targets(), name) {
			return errs.New(errs.Invalid, "unknown_target",
				fmt.Sprintf("There is no target %q; the targets are: %s", name, strings.Join(Targets(), ", ")))
		}
	}
	return nil
}

// table is the module table: who needs whom, and who builds it. An engine is ordered before those that use it, but only
// started where it is selected: elsewhere its address is given.
func (p *Process) table() []runtime.Module {
	return []runtime.Module{
		{Name: engineKafka, Build: p.buildKafka},
		{Name: enginePostgres, Build: p.buildPostgres},
		{Name: engineClickHouse, Build: p.buildClickHouse},
		{Name: moduleTopics, After: []string{engineKafka}, Build: p.buildTopics},
		{Name: modulePostgres, After: []string{enginePostgres}, Build: p.buildPool},
		{Name: moduleAdmin, Needs: []string{moduleTopics, modulePostgres}, Build: p.buildAdmin},
		{Name: moduleWarehouse, Needs: []string{moduleTopics, modulePostgres}, After: []string{engineClickHouse, moduleAdmin}, Build: p.buildWarehouse},
		{Name: moduleActivation, Needs: []string{moduleTopics, modulePostgres}, After: []string{moduleAdmin}, Build: p.buildActivation},
		{Name: moduleIdentity, Needs: []string{moduleTopics, modulePostgres}, After: []string{moduleWarehouse}, Build: p.buildIdentity},
		{Name: moduleCollector, Needs: []string{moduleTopics}, After: []string{moduleAdmin, moduleIdentity}, Build: p.buildCollector},
		{Name: moduleAPI, After: []string{moduleAdmin, moduleActivation}, Build: p.buildAPI},
		{
			Name: moduleDoors, Build: p.buildDoors,
			After: []string{engineKafka, enginePostgres, engineClickHouse, moduleAdmin, moduleWarehouse, moduleActivation, moduleIdentity, moduleCollector, moduleAPI},
		},
	}
}

// expand replaces "all" by every context and by the engines that have no address, and adds the doors.
func expand(targets []string, cfg Config) []string {
	var list []string
	for _, t := range targets {
		if t != TargetAll {
			list = append(list, t)
			continue
		}
		list = append(list, moduleAdmin, moduleWarehouse, moduleActivation, moduleIdentity, moduleCollector, moduleAPI)
		for engine, external := range map[string]bool{
			engineKafka: len(cfg.Kafka.Brokers) > 0, enginePostgres: cfg.Postgres.URL != "", engineClickHouse: cfg.ClickHouse.URL != "",
		} {
			if !external {
				list = append(list, engine)
			}
		}
	}
	return append(list, moduleDoors)
}

func onlyEngines(targets []string) bool {
	return !slices.ContainsFunc(targets, func(t string) bool {
		return t != engineKafka && t != enginePostgres && t != engineClickHouse
	})
}

func upper(name string) string { return strings.ToUpper(name) }

func peerMissing(module string) error {
	return errs.New(errs.Invalid, "peer_missing",
		"This process needs the service "+module+", which runs elsewhere: set MEKONG_PEERS__"+upper(module)+" to its gRPC address")
}

func (p *Process) buildKafka(context.Context) (runtime.Parts, error) {
	return runtime.Parts{Runners: []runtime.Runner{p.engines.kafka.Runner()}}, nil
}

func (p *Process) buildPostgres(context.Context) (runtime.Parts, error) {
	return runtime.Parts{Runners: []runtime.Runner{p.engines.postgres.Runner()}}, nil
}

func (p *Process) buildClickHouse(context.Context) (runtime.Parts, error) {
	return runtime.Parts{Runners: []runtime.Runner{p.engines.clickhouse.Runner()}}, nil
}

// TopicSpecs is the registry as Kafka must have it.
func TopicSpecs() []kafka.TopicSpec {
	topics := stream.Topics()
	specs := make([]kafka.TopicSpec, 0, len(topics))
	for _, t := range topics {
		specs = append(specs, kafka.TopicSpec{Name: t.Name, Partitions: t.Partitions, Retention: t.Retention, Compact: t.Compact})
	}
	return specs
}

func (p *Process) buildTopics(ctx context.Context) (runtime.Parts, error) {
	client, err := kafka.NewClient(p.cfg.Kafka)
	if err != nil {
		return runtime.Parts{}, err
	}
	defer client.Close()
	return runtime.Parts{}, p.untilAvailable(ctx, "Kafka", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, topicsTimeout)
		defer cancel()
		return kafka.EnsureTopics(ctx, client, TopicSpecs())
	})
}

const (
	// topicsTimeout bounds one try to look at the topics: a client waits for brokers that are away.
	topicsTimeout = 15 * time.Second
	// attemptPause is the wait between two tries to reach an engine at start.
	attemptPause = time.Second
)

// untilAvailable repeats fn while an engine is away: a process that is started before its engines, or while one of them
// restarts, waits for it instead of giving up.
func (p *Process) untilAvailable(ctx context.Context, engine string, fn func(ctx context.Context) error) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := fn(ctx)
		if errs.KindOf(err) != errs.Unavailable || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		p.log.WarnContext(ctx, "waiting for an engine", "engine", engine, "error", err)
		pause := time.NewTimer(attemptPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// buildPool migrates what this process's contexts keep in PostgreSQL, then opens the pool that they share.
func (p *Process) buildPool(ctx context.Context) (runtime.Parts, error) {
	if err := p.cfg.Postgres.Validate(); err != nil {
		return runtime.Parts{}, err
	}
	err := p.untilAvailable(ctx, "Postgres", func(ctx context.Context) error {
		return postgres.Migrate(ctx, p.cfg.Postgres.URL.Reveal(), p.migrations())
	})
	if err != nil {
		return runtime.Parts{}, err
	}
	db, err := postgres.Open(ctx, p.cfg.Postgres)
	if err != nil {
		return runtime.Parts{}, err
	}
	p.db = db
	return runtime.Parts{Close: func(context.Context) error { db.Close(); return nil }}, nil
}

func (p *Process) migrations() []postgres.Set {
	var sets []postgres.Set
	for name, set := range migrationSets() {
		if p.selected[name] {
			sets = append(sets, set)
		}
	}
	slices.SortFunc(sets, func(a, b postgres.Set) int { return strings.Compare(a.Name, b.Name) })
	return sets
}

func migrationSets() map[string]postgres.Set {
	return map[string]postgres.Set{
		moduleAdmin: admin.Migrations(), moduleIdentity: identity.Migrations(),
		moduleWarehouse: warehouse.Migrations(), moduleActivation: activation.Migrations(),
	}
}

// built is what every context's New returns.
type built interface {
	Runners() []runtime.Runner
	Close(ctx context.Context) error
}

func parts(m built, conns ...*grpc.ClientConn) runtime.Parts {
	return runtime.Parts{Runners: m.Runners(), Close: func(ctx context.Context) error {
		err := m.Close(ctx)
		for _, conn := range conns {
			err = errors.Join(err, conn.Close())
		}
		return err
	}}
}

func (p *Process) buildAdmin(ctx context.Context) (runtime.Parts, error) {
	m, err := admin.New(ctx, p.cfg.Admin, admin.Deps{
		Log: p.log.With("context", moduleAdmin), Postgres: p.db, Kafka: p.cfg.Kafka, Clock: clock.Real(), GRPC: p.grpc,
	})
	if err != nil {
		return runtime.Parts{}, err
	}
	first, err := m.Bootstrap(ctx, admin.BootstrapInput{Demo: p.opts.Demo})
	if err != nil {
		return runtime.Parts{}, errors.Join(err, m.Close(ctx))
	}
	p.ownerToken = first.OwnerToken.Reveal()
	return parts(m), nil
}

func (p *Process) buildWarehouse(ctx context.Context) (runtime.Parts, error) {
	if err := p.cfg.ClickHouse.Validate(); err != nil {
		return runtime.Parts{}, err
	}
	db, err := clickhouse.Open(ctx, p.cfg.ClickHouse)
	if err != nil {
		return runtime.Parts{}, err
	}
	err = p.untilAvailable(ctx, "ClickHouse", func(ctx context.Context) error {
		return clickhouse.Migrate(ctx, db, warehouse.ClickHouseMigrations())
	})
	if err != nil {
		return runtime.Parts{}, errors.Join(err, db.Close())
	}
	m, err := warehouse.New(ctx, p.cfg.Warehouse, warehouse.Deps{
		Log: p.log.With("context", moduleWarehouse), Postgres: p.db, ClickHouse: db, Kafka: p.cfg.Kafka, Clock: clock.Real(), GRPC: p.grpc,
	})
	if err != nil {
		return runtime.Parts{}, errors.Join(err, db.Close())
	}
	result := parts(m)
	closeModule := result.Close
	result.Close = func(ctx context.Context) error { return errors.Join(closeModule(ctx), db.Close()) }
	return result, nil
}

func (p *Process) buildIdentity(ctx context.Context) (runtime.Parts, error) {
	conn, err := p.connection(moduleWarehouse, p.cfg.Peers.Warehouse)
	if err != nil {
		return runtime.Parts{}, err
	}
	dir, err := dataPath(p.cfg.DataDir, moduleIdentity)
	if err != nil {
		return runtime.Parts{}, err
	}
	m, err := identity.New(ctx, p.cfg.Identity, identity.Deps{
		Log: p.log.With("context", moduleIdentity), Postgres: p.db, Kafka: p.cfg.Kafka, Clock: clock.Real(), GRPC: p.grpc,
		Warehouse: conn, DataDir: dir,
	})
	if err != nil {
		return runtime.Parts{}, errors.Join(err, conn.Close())
	}
	return parts(m, conn), nil
}

func (p *Process) buildActivation(ctx context.Context) (runtime.Parts, error) {
	conn, err := p.connection(moduleAdmin, p.cfg.Peers.Admin)
	if err != nil {
		return runtime.Parts{}, err
	}
	m, err := activation.New(ctx, p.cfg.Activation, activation.Deps{
		Log: p.log.With("context", moduleActivation), Postgres: p.db, Kafka: p.cfg.Kafka, Clock: clock.Real(), GRPC: p.grpc,
		Admin: adminv1.NewAdminServiceClient(conn),
	})
	if err != nil {
		return runtime.Parts{}, errors.Join(err, conn.Close())
	}
	return parts(m, conn), nil
}

func (p *Process) buildCollector(ctx context.Context) (runtime.Parts, error) {
	adminConn, err := p.connection(moduleAdmin, p.cfg.Peers.Admin)
	if err != nil {
		return runtime.Parts{}, err
	}
	conns := []*grpc.ClientConn{adminConn}
	var identities []grpc.ClientConnInterface
	addresses := p.cfg.Peers.Identity
	if p.selected[moduleIdentity] {
		addresses = []string{""}
	}
	for _, address := range addresses {
		conn, err := p.connection(moduleIdentity, address)
		if err != nil {
			return runtime.Parts{}, err
		}
		conns = append(conns, conn)
		identities = append(identities, conn)
	}
	dir, err := dataPath(p.cfg.DataDir, moduleCollector)
	if err != nil {
		return runtime.Parts{}, err
	}
	m, err := collector.New(ctx, p.cfg.Collector, collector.Deps{
		Log: p.log.With("context", moduleCollector), Kafka: p.cfg.Kafka, Clock: clock.Real(), HTTP: p.routes,
		Admin: adminConn, Identity: identities, DataDir: dir,
	})
	if err != nil {
		return runtime.Parts{}, err
	}
	return parts(m, conns...), nil
}
