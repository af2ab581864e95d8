package identity_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	warehousev1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/warehouse/v1"
	"github.com/mekong-cdp/mekong/services/identity"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

const patience = 60 * time.Second

// street is a broker with the topics, a database and a warehouse, on which instances of the context run.
type street struct {
	t         *testing.T
	kafka     kafka.Config
	client    *kgo.Client
	db        *postgres.DB
	archive   *archive
	warehouse *grpc.ClientConn
	workspace string
}

func newStreet(t *testing.T) *street {
	t.Helper()
	s := &street{t: t, kafka: newBroker(t), db: testkit.PostgresDB(t, identity.Migrations()), archive: &archive{}, workspace: ids.New()}
	var err error
	s.client, err = kgo.NewClient(kgo.SeedBrokers(s.kafka.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(s.client.Close)
	s.warehouse = serve(t, func(r grpc.ServiceRegistrar) { warehousev1.RegisterWarehouseServiceServer(r, s.archive) })
	return s
}

// newBroker starts a broker that has all topics.
func newBroker(t testing.TB) kafka.Config {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	cfg := kafka.DefaultConfig()
	cfg.Brokers = cluster.ListenAddrs()
	client, err := kafka.NewClient(cfg)
	require.NoError(t, err)
	defer client.Close()
	var specs []kafka.TopicSpec
	for _, topic := range stream.Topics() {
		specs = append(specs, kafka.TopicSpec{Name: topic.Name, Partitions: topic.Partitions})
	}
	require.NoError(t, kafka.EnsureTopics(t.Context(), client, specs))
	return cfg
}

// serve connects to services over memory.
func serve(t testing.TB, register func(grpc.ServiceRegistrar)) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	register(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		server.Stop()
		require.NoError(t, <-done)
	})
	return conn
}

// instance is one running identity.
type instance struct {
	client identityv1.IdentityServiceClient
	module *identity.Module
	stop   func()
}

// start runs an instance with its own directory; stop ends it and waits.
func (s *street) start(dir string) *instance {
	s.t.Helper()
	as := &registrar{}
	cfg := identity.DefaultConfig()
	cfg.BatchEvents, cfg.TransactionEvents = 50, 20
	m, err := identity.New(s.t.Context(), cfg, identity.Deps{
		Log: slog.New(slog.DiscardHandler), Clock: clock.Real(), Postgres: s.db, Kafka: s.kafka, GRPC: as, Warehouse: s.warehouse, DataDir: dir,
	})
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	for _, r := range m.Runners() {
		wg.Go(func() {
			if err := r.Run(ctx, func() {}); err != nil {
				s.t.Errorf("runner %s: %v", r.Name, err)
			}
		})
	}
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			wg.Wait()
			require.NoError(s.t, m.Close(context.WithoutCancel(ctx)))
		})
	}
	s.t.Cleanup(stop)
	return &instance{client: identityv1.NewIdentityServiceClient(as.serve(s.t)), module: m, stop: stop}
}

// registrar keeps what a module registers until it is served, with the caller set as the interceptor of the process does.
type registrar struct {
	desc *grpc.ServiceDesc
	impl any
}

func (r *registrar) RegisterService(desc *grpc.ServiceDesc, impl any) { r.desc, r.impl = desc, impl }

func (r *registrar) serve(t *testing.T) *grpc.ClientConn {
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		return h(tenant.With(ctx, tenant.Principal{Service: true}), req)
	}))
	server.RegisterService(r.desc, r.impl)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		server.Stop()
		require.NoError(t, <-done)
	})
	return conn
}

// send appends the events named by numbers to a partition: the same number is the same event.
func (s *street) send(partition int32, numbers ...int) {
	s.t.Helper()
	records := make([]*kgo.Record, len(numbers))
	for i, n := range numbers {
		records[i] = s.record(partition, n)
	}
	require.NoError(s.t, s.client.ProduceSync(s.t.Context(), records...).FirstErr())
}

func (s *street) record(partition int32, n int) *kgo.Record {
	e := &collectorv1.Event{
		WorkspaceId: s.workspace, EventId: fmt.Sprintf("event-%d-%d", partition, n), Type: collectorv1.EventType_EVENT_TYPE_TRACK,
		AnonymousId: fmt.Sprintf("device-%d-%d", partition, n%7), Properties: []byte(`{"n":1}`),
	}
	if n%3 == 0 {
		e.UserId = fmt.Sprintf("user-%d", n%5)
	}
	value, err := proto.Marshal(e)
	require.NoError(s.t, err)
	return &kgo.Record{Topic: stream.CollectorEvents, Partition: partition, Key: []byte(e.GetAnonymousId()), Value: value}
}

// hash is the hash of the event that send makes of n.
func (s *street) hash(partition int32, n int) []byte {
	h := ids.Hash128(s.workspace, fmt.Sprintf("event-%d-%d", partition, n))
	return h[:]
}

// settled waits until the group has committed everything that was sent.
func (s *street) settled() {
	s.t.Helper()
	admin := kadm.NewClient(s.client)
	require.Eventually(s.t, func() bool {
		ends, err := admin.ListEndOffsets(s.t.Context(), stream.CollectorEvents)
		if err != nil {
			return false
		}
		commits, err := admin.FetchOffsets(s.t.Context(), stream.GroupIdentity)
		if err != nil {
			return false
		}
		whole := true
		ends.Each(func(end kadm.ListedOffset) {
			if commit, ok := commits.Lookup(end.Topic, end.Partition); end.Offset > 0 && (!ok || commit.At < end.Offset) {
				whole = false
			}
		})
		return whole
	}, patience, 50*time.Millisecond)
}

// read returns all records of a topic by partition.
func (s *street) read(topic string) map[int32][]*kgo.Record {
	s.t.Helper()
	ends, err := kadm.NewClient(s.client).ListEndOffsets(s.t.Context(), topic)
	require.NoError(s.t, err)
	starts, err := kadm.NewClient(s.client).ListStartOffsets(s.t.Context(), topic)
	require.NoError(s.t, err)
	client, err := kgo.NewClient(kgo.SeedBrokers(s.kafka.Brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(s.t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) {
		start, _ := starts.Lookup(topic, o.Partition)
		left += o.Offset - start.Offset
	})
	out := map[int32][]*kgo.Record{}
	for left > 0 {
		fetches := client.PollFetches(ctx)
		require.NoError(s.t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			out[r.Partition] = append(out[r.Partition], r)
			left--
		})
	}
	return out
}

// accepted returns, by partition, what a consumer that keeps a watermark takes of the resolved events, after checking
// each record.
func (s *street) accepted() map[int32][]*identityv1.ResolvedEvent {
	s.t.Helper()
	out := map[int32][]*identityv1.ResolvedEvent{}
	for partition, records := range s.read(stream.ResolvedEvents) {
		watermark := int64(-1)
		for _, rec := range records {
			var e identityv1.ResolvedEvent
			require.NoError(s.t, proto.Unmarshal(rec.Value, &e))
			src, ok := kafka.SrcOffset(rec)
			require.True(s.t, ok)
			require.Equal(s.t, src, e.GetSrcOffset())
			require.Equal(s.t, partition, e.GetSrcPartition())
			require.Equal(s.t, e.GetProfileId(), kafka.Header(rec, kafka.HeaderProfileID))
			require.Equal(s.t, fmt.Sprint(e.GetProfileVersion()), kafka.Header(rec, kafka.HeaderProfileVersion))
			require.Equal(s.t, e.GetEvent().GetWorkspaceId(), kafka.Header(rec, kafka.HeaderWorkspace))
			require.Equal(s.t, "mekong.identity.v1.ResolvedEvent", kafka.Header(rec, kafka.HeaderMessageType))
			require.Equal(s.t, "1", kafka.Header(rec, kafka.HeaderSchemaVersion))
			require.Equal(s.t, e.GetEvent().GetAnonymousId(), string(rec.Key))
			if src > watermark {
				watermark = src
				out[partition] = append(out[partition], &e)
			}
		}
	}
	return out
}

// wantOnce wants exactly the first record of each event of the input, dead letters apart, in order.
func (s *street) wantOnce(input map[int32][]*kgo.Record) {
	s.t.Helper()
	accepted := s.accepted()
	for partition, records := range input {
		var want, got []int64
		seen := map[string]bool{}
		for _, rec := range records {
			var e collectorv1.Event
			if err := proto.Unmarshal(rec.Value, &e); err != nil || seen[e.GetEventId()] {
				continue
			}
			seen[e.GetEventId()] = true
			want = append(want, rec.Offset)
		}
		for _, e := range accepted[partition] {
			got = append(got, e.GetSrcOffset())
		}
		require.Equal(s.t, want, got, "partition %d", partition)
	}
}

func TestEventsGoThroughOnceInOrder(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	one := s.start(t.TempDir())
	s.send(0, 1, 2, 1, 3)
	s.send(5, 1, 1)
	poison := &kgo.Record{Topic: stream.CollectorEvents, Partition: 0, Value: []byte{0xff}}
	nobody, err := proto.Marshal(&collectorv1.Event{WorkspaceId: s.workspace, EventId: "nobody"})
	require.NoError(t, err)
	require.NoError(t, s.client.ProduceSync(t.Context(), poison,
		&kgo.Record{Topic: stream.CollectorEvents, Partition: 0, Value: nobody}).FirstErr())
	s.send(0, 2, 4)
	s.settled()

	got := s.accepted()
	require.Len(t, got[0], 4)
	require.Len(t, got[5], 1)
	var offsets []int64
	for _, e := range got[0] {
		offsets = append(offsets, e.GetSrcOffset())
	}
	require.Equal(t, []int64{0, 1, 3, 7}, offsets)
	require.Equal(t, s.hash(0, 1), got[0][0].GetEventHash())
	require.Equal(t, `{"n":1}`, string(got[0][0].GetEvent().GetProperties()))

	reasons := map[string]int{}
	for _, records := range s.read(stream.CollectorEvents + kafka.DeadLetterSuffix) {
		for _, rec := range records {
			reasons[kafka.Header(rec, kafka.HeaderDeadReason)]++
		}
	}
	require.Equal(t, map[string]int{"event_malformed": 1, "identifier_missing": 1}, reasons)

	res, err := one.client.LookupEvents(t.Context(), &identityv1.LookupEventsRequest{
		EventHashes: [][]byte{s.hash(5, 1), s.hash(5, 2), s.hash(0, 4)},
	})
	require.NoError(t, err)
	require.Equal(t, []bool{true, false, true}, res.GetSeen())

	// Each change reaches its topic, in order within a profile.
	require.Eventually(t, func() bool { return len(outboxOf(t, s.db)) == 0 }, patience, 50*time.Millisecond)
	versions := map[string]int64{}
	for _, records := range s.read(stream.ProfileChanges) {
		for _, rec := range records {
			var c identityv1.ProfileChange
			require.NoError(t, proto.Unmarshal(rec.Value, &c))
			require.Equal(t, versions[c.GetProfileId()]+1, c.GetProfileVersion())
			versions[c.GetProfileId()]++
		}
	}
	for _, e := range got[0] {
		require.GreaterOrEqual(t, versions[e.GetProfileId()], e.GetProfileVersion())
	}
}

func TestRebalanceLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	first := s.start(t.TempDir())
	round := func(from int) {
		for partition := range int32(stream.EventPartitions) {
			var numbers []int
			for n := from; n < from+60; n++ {
				numbers = append(numbers, n)
				if n%4 == 0 {
					numbers = append(numbers, n/2) // an event of long ago, out of order
				}
			}
			s.send(partition, numbers...)
		}
	}
	round(0)
	second := s.start(t.TempDir())
	round(60) // while partitions move to the second
	s.settled()
	round(120)
	first.stop() // and back
	round(180)
	third := s.start(t.TempDir())
	round(240)
	s.settled()
	second.stop()
	round(300)
	s.settled()
	third.stop()
	s.wantOnce(s.read(stream.CollectorEvents))
}

func TestLostDedupeStoreIsRebuilt(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	dir := t.TempDir()
	one := s.start(dir)
	s.send(2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	s.settled()
	one.stop()
	input := s.read(stream.CollectorEvents)

	// Given the log keeps only its last events, the first ones are in the warehouse, those between only in the resolved
	// log, and the store is gone:
	s.archive.store(s.accepted()[2][:3])
	s.archive.failures = 2
	s.drop(stream.CollectorEvents, 2, 7)
	s.drop(stream.ResolvedEvents, 2, 3)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "dedupe")))

	// when all events come again,
	s.send(2, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 10)
	two := s.start(dir)
	s.settled()

	// then only the new one goes out, and the door is told about the old ones.
	var offsets []int64
	for _, e := range s.accepted()[2] {
		offsets = append(offsets, e.GetSrcOffset())
	}
	require.Equal(t, []int64{3, 4, 5, 6, 7, 8, 9, 20}, offsets)
	require.Len(t, input[2], 10)
	res, err := two.client.LookupEvents(t.Context(), &identityv1.LookupEventsRequest{EventHashes: [][]byte{s.hash(2, 0), s.hash(2, 5), s.hash(2, 8)}})
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, true}, res.GetSeen())
	require.Zero(t, s.archive.left(), "the warehouse was asked again after it had been away")
}

func TestLookupRefusesWhatItMust(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	one := s.start(t.TempDir())
	for _, hashes := range [][][]byte{{[]byte("short")}, make([][]byte, 10_001)} {
		_, err := one.client.LookupEvents(t.Context(), &identityv1.LookupEventsRequest{EventHashes: hashes})
		require.Error(t, err)
	}
}

// drop deletes what a partition has below an offset, as retention does.
func (s *street) drop(topic string, partition int32, below int64) {
	s.t.Helper()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: below})
	res, err := kadm.NewClient(s.client).DeleteRecords(s.t.Context(), offsets)
	require.NoError(s.t, err)
	require.NoError(s.t, res.Error())
}

// archive is a warehouse that knows the events it was given.
type archive struct {
	warehousev1.UnimplementedWarehouseServiceServer

	mu       sync.Mutex
	events   []*identityv1.ResolvedEvent
	failures int
}

func (a *archive) store(events []*identityv1.ResolvedEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, events...)
}

func (a *archive) left() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failures
}

func (a *archive) ScanEventHashes(req *warehousev1.ScanEventHashesRequest, out grpc.ServerStreamingServer[warehousev1.ScanEventHashesResponse]) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failures > 0 {
		a.failures--
		return status.Error(codes.Unavailable, "ClickHouse is away")
	}
	for _, e := range a.events {
		if e.GetSrcPartition() != req.GetSrcPartition() || e.GetSrcOffset() < req.GetFromOffset() || e.GetSrcOffset() >= req.GetToOffset() {
			continue
		}
		if err := out.Send(&warehousev1.ScanEventHashesResponse{EventHashes: e.GetEventHash(), FirstOffsets: []int64{e.GetSrcOffset()}}); err != nil {
			return err
		}
	}
	return nil
}
