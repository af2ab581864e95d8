package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

const patience = 60 * time.Second

func newBroker(t *testing.T, opts ...kfake.Opt) []string {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.SeedTopics(1, stream.ConfigChanges, stream.Audit),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()
}

// instance is a running module.
type instance struct {
	*Module
	started chan struct{}
	stop    func()
}

func startInstance(t *testing.T, db *postgres.DB, brokers []string, tune ...func(*Config)) *instance {
	t.Helper()
	cfg := DefaultConfig()
	cfg.SnapshotWait = patience
	cfg.Outbox.Poll, cfg.Outbox.TakeOver = 20*time.Millisecond, 50*time.Millisecond
	cfg.Outbox.BatchSize, cfg.Outbox.MaxBackoff, cfg.Outbox.PublishTimeout = 7, 50*time.Millisecond, time.Second
	for _, change := range tune {
		change(&cfg)
	}
	brokerConfig := kafka.DefaultConfig()
	brokerConfig.Brokers = brokers
	m, err := New(t.Context(), cfg, Deps{
		Log: slog.New(slog.DiscardHandler), Postgres: db, Kafka: brokerConfig, Clock: clock.Real(), GRPC: grpc.NewServer(),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	i := &instance{Module: m, started: make(chan struct{})}
	runners := m.Runners()
	failures := make([]error, len(runners))
	for n, r := range runners {
		last := n == len(runners)-1
		running.Go(func() {
			failures[n] = r.Run(ctx, func() {
				if last {
					close(i.started)
				}
			})
		})
	}
	i.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		for _, err := range failures {
			require.NoError(t, err)
		}
		require.NoError(t, m.Close(t.Context()))
	})
	t.Cleanup(i.stop)
	return i
}

func (i *instance) waitStarted(t *testing.T) {
	t.Helper()
	select {
	case <-i.started:
	case <-time.After(patience):
		t.Fatal("not started in time")
	}
}

func (i *instance) ready(ctx context.Context) error {
	for _, r := range i.Runners() {
		if err := r.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// reader follows the log from its beginning, as collector does.
type reader struct {
	client *kgo.Client
	// model is what the revision rule makes of the log, newest the last record of each key, as compaction keeps it.
	model, newest map[string]*adminv1.ConfigChange
	keys          []string
	snapshots     int
	audit         map[string]int
	audits        int
}

func newReader(t *testing.T, brokers []string) *reader {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(stream.ConfigChanges, stream.Audit),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return &reader{
		client: client, model: map[string]*adminv1.ConfigChange{}, newest: map[string]*adminv1.ConfigChange{}, audit: map[string]int{},
	}
}

// until reads on until done says so.
func (r *reader) until(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !done() {
		fetches := r.client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(rec *kgo.Record) { r.take(t, rec) })
	}
}

// untilEnd reads what the log has by now.
func (r *reader) untilEnd(t *testing.T) {
	t.Helper()
	ends, err := kadm.NewClient(r.client).ListEndOffsets(t.Context(), stream.ConfigChanges, stream.Audit)
	require.NoError(t, err)
	require.NoError(t, ends.Error())
	r.until(t, func() bool {
		read := map[string]int64{stream.ConfigChanges: int64(len(r.keys)), stream.Audit: int64(r.audits)}
		for topic, n := range read {
			if end, _ := ends.Lookup(topic, 0); n < end.Offset {
				return false
			}
		}
		return true
	})
}

func (r *reader) take(t *testing.T, rec *kgo.Record) {
	require.NotEmpty(t, kafka.Header(rec, kafka.HeaderWorkspace))
	require.Equal(t, "1", kafka.Header(rec, kafka.HeaderSchemaVersion))
	if rec.Topic == stream.Audit {
		require.Equal(t, "mekong.admin.v1.AuditRecorded", kafka.Header(rec, kafka.HeaderMessageType))
		a := &adminv1.AuditRecorded{}
		require.NoError(t, proto.Unmarshal(rec.Value, a))
		r.audit[a.GetAction()]++
		r.audits++
		return
	}
	require.Equal(t, "mekong.admin.v1.ConfigChange", kafka.Header(rec, kafka.HeaderMessageType))
	c := &adminv1.ConfigChange{}
	require.NoError(t, proto.Unmarshal(rec.Value, c))
	key := string(rec.Key)
	r.keys = append(r.keys, key)
	r.newest[key] = c
	if c.GetRevision() > r.model[key].GetRevision() {
		r.model[key] = c
	}
	if c.GetSnapshotCompleted() != nil {
		r.snapshots++
	}
}

// state is what the database would publish now.
func state(t *testing.T, db *postgres.DB) map[string]*adminv1.ConfigChange {
	t.Helper()
	out := map[string]*adminv1.ConfigChange{}
	require.NoError(t, NewPostgresStore(db).View(t.Context(), system(), func(ctx context.Context, tx Tx) error {
		changes, err := tx.Snapshot.Read(ctx)
		for _, c := range changes {
			m, err := changeMessage(c)
			require.NoError(t, err)
			event := &adminv1.ConfigChange{}
			require.NoError(t, proto.Unmarshal(m.value, event))
			out[m.key] = event
		}
		return err
	}))
	return out
}

func withoutSnapshot(model map[string]*adminv1.ConfigChange) map[string]*adminv1.ConfigChange {
	out := map[string]*adminv1.ConfigChange{}
	for key, c := range model {
		if c.GetSnapshotCompleted() == nil {
			out[key] = c
		}
	}
	return out
}

func outboxIsEmpty(t *testing.T, db *postgres.DB) bool {
	t.Helper()
	var n int
	require.NoError(t, db.AsSystem(t.Context(), countRows("admin.outbox", &n)))
	return n == 0
}

func TestAStartPublishesEverything(t *testing.T) {
	t.Parallel()
	db, brokers := testkit.PostgresDB(t, Migrations()), newBroker(t)
	// given a state of which the log has lost everything, a deletion included
	s := newService(t, NewPostgresStore(db))
	s.clock = clock.Real()
	boot, err := s.Bootstrap(t.Context(), BootstrapInput{Demo: true})
	require.NoError(t, err)
	ctx := asService(t.Context())
	for _, name := range []string{"lives", "gone"} {
		source, err := s.CreateSource(ctx, CreateSourceInput{WorkspaceID: boot.DemoWorkspaceID, Name: name, Type: SourceServer})
		require.NoError(t, err)
		if name == "gone" {
			require.NoError(t, s.DeleteSource(ctx, boot.DemoWorkspaceID, source.ID))
		}
	}
	require.NoError(t, db.AsSystem(t.Context(), exec("DELETE FROM admin.outbox")))

	// when an instance has started, the log has all of it already
	first := startInstance(t, db, brokers)
	first.waitStarted(t)
	require.NoError(t, first.ready(t.Context()))
	r := newReader(t, brokers)
	r.until(t, func() bool { return r.snapshots == 1 })
	want := state(t, db)
	require.Len(t, want, 7)
	require.Empty(t, cmp.Diff(want, withoutSnapshot(r.model), protocmp.Transform()))
	require.Equal(t, "snapshot_completed", r.keys[len(r.keys)-1], "it comes last")

	// then the next start does it again, and changes follow
	second := startInstance(t, db, brokers)
	second.waitStarted(t)
	r.until(t, func() bool { return r.snapshots == 2 })
	require.NoError(t, second.ready(t.Context()))
	_, err = second.service.CreateWriteKey(ctx, CreateWriteKeyInput{WorkspaceID: boot.DemoWorkspaceID, SourceID: demoSource(t, s, boot).ID})
	require.NoError(t, err)
	r.until(t, func() bool { return r.audit["write_key.create"] == 1 && len(r.model) == len(want)+2 })
	require.Empty(t, cmp.Diff(state(t, db), withoutSnapshot(r.model), protocmp.Transform()))
}

func demoSource(t *testing.T, s *Service, boot BootstrapResult) Source {
	t.Helper()
	sources, err := s.ListSources(asService(t.Context()), boot.DemoWorkspaceID)
	require.NoError(t, err)
	for _, source := range sources {
		if source.Name == demoSourceName {
			return source.Source
		}
	}
	t.Fatal("no demo source")
	return Source{}
}

// Instances come and go, each with a full publication, while others change the same things. Whoever reads the whole
// log, and whoever reads only what compaction has left, must end with the newest state.
func TestTheLogEndsWithTheNewestState(t *testing.T) {
	t.Parallel()
	db, brokers := testkit.PostgresDB(t, Migrations()), newBroker(t)
	s := newService(t, NewPostgresStore(db))
	s.clock = clock.Real()
	boot, err := s.Bootstrap(t.Context(), BootstrapInput{Demo: true})
	require.NoError(t, err)
	ctx, source := asService(t.Context()), demoSource(t, s, boot)
	const writers, rounds, starts = 3, 15, 4
	var wg sync.WaitGroup
	failures := make(chan error, writers*rounds)
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				name, on := fmt.Sprintf("name %d/%d", w, i), i%2 == 0
				_, err := s.UpdateSource(ctx, UpdateSourceInput{WorkspaceID: boot.DemoWorkspaceID, SourceID: source.ID, Name: &name, Enabled: &on})
				if err == nil && i%5 == 0 {
					at := time.Duration(i) * time.Hour
					_, err = s.CreateWriteKey(ctx, CreateWriteKeyInput{WorkspaceID: boot.DemoWorkspaceID, SourceID: source.ID, RotateAfter: &at})
				}
				failures <- err
			}
		})
	}
	old := startInstance(t, db, brokers)
	for range starts {
		next := startInstance(t, db, brokers)
		next.waitStarted(t)
		old.stop()
		old = next
	}
	wg.Wait()
	for range writers * rounds {
		require.NoError(t, <-failures)
	}
	require.Eventually(t, func() bool { return outboxIsEmpty(t, db) }, patience, 20*time.Millisecond)
	r := newReader(t, brokers)
	r.untilEnd(t)
	require.GreaterOrEqual(t, r.snapshots, starts)
	require.GreaterOrEqual(t, r.audit["source.update"], writers*rounds)
	want := state(t, db)
	require.Empty(t, cmp.Diff(want, withoutSnapshot(r.model), protocmp.Transform()))
	require.Empty(t, cmp.Diff(want, withoutSnapshot(r.newest), protocmp.Transform()))
}

func TestAdminStartsWithoutKafkaAndPublishesLater(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, Migrations())
	address := testkit.FreeAddress(t)
	i := startInstance(t, db, []string{address}, func(c *Config) { c.SnapshotWait = 50 * time.Millisecond })
	i.waitStarted(t)
	require.Equal(t, errs.Unavailable, errs.KindOf(i.ready(t.Context())))
	_, err := i.Bootstrap(t.Context(), BootstrapInput{Demo: true})
	require.NoError(t, err, "the control plane works")

	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	r := newReader(t, newBroker(t, kfake.Ports(n)))
	r.until(t, func() bool { return r.snapshots == 1 && len(r.model) == 4 })
	require.Eventually(t, func() bool { return i.ready(t.Context()) == nil }, patience, 20*time.Millisecond)
}

func TestStoppingAtAnyMomentIsClean(t *testing.T) {
	t.Parallel()
	db, brokers := testkit.PostgresDB(t, Migrations()), newBroker(t)
	for range 5 {
		startInstance(t, db, brokers).stop()
	}
}
