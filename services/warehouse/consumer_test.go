package warehouse

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	warehousev1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/warehouse/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// street is the engines around one or more warehouse modules.
type street struct {
	kafka      kafka.Config
	postgres   *postgres.DB
	clickhouse *clickhouse.DB
	producer   *kgo.Client
}

func newStreet(t testing.TB) *street {
	t.Helper()
	if testing.Short() {
		t.Skip("needs engines")
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1),
		kfake.SeedTopics(stream.EventPartitions, stream.ResolvedEvents), kfake.SeedTopics(3, stream.ResolvedEvents+kafka.DeadLetterSuffix))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	cfg := kafka.DefaultConfig()
	cfg.Brokers = cluster.ListenAddrs()
	producer, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(producer.Close)
	return &street{
		kafka: cfg, producer: producer,
		postgres: testkit.PostgresDB(t, Migrations()), clickhouse: testkit.ClickHouseDB(t, ClickHouseMigrations()),
	}
}

// module runs a warehouse until stop is called or the test ends; conn reaches its gRPC service as our own service.
func (s *street) module(t testing.TB) (stop func(), conn *grpc.ClientConn) {
	t.Helper()
	asService := func(ctx context.Context) context.Context { return tenant.With(ctx, tenant.Principal{Service: true}) }
	server := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(asService(ctx), req)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(srv, serviceStream{ss, asService(ss.Context())})
		}))
	m, err := New(t.Context(), DefaultConfig(), Deps{
		Log: slog.New(slog.DiscardHandler), Postgres: s.postgres, ClickHouse: s.clickhouse, Kafka: s.kafka, Clock: clock.Real(), GRPC: server,
	})
	require.NoError(t, err)
	listener := bufconn.Listen(1 << 20)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	for _, r := range m.Runners() {
		running.Go(func() { require.NoError(t, r.Run(ctx, func() {})) })
	}
	stop = sync.OnceFunc(func() {
		cancel()
		server.Stop()
		running.Wait()
		require.NoError(t, m.Close(ctx))
	})
	t.Cleanup(stop)
	conn, err = grpc.NewClient("passthrough:///warehouse", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return stop, conn
}

type serviceStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // what a stream wrapper is
}

func (s serviceStream) Context() context.Context { return s.ctx }

func (s *street) produce(t testing.TB, events ...*identityv1.ResolvedEvent) {
	t.Helper()
	var records []*kgo.Record
	for _, e := range events {
		value, err := proto.Marshal(e)
		require.NoError(t, err)
		records = append(records, record(e.GetSrcPartition(), e.GetSrcOffset(), value))
	}
	require.NoError(t, s.producer.ProduceSync(t.Context(), records...).FirstErr())
}

func record(partition int32, srcOffset int64, value []byte) *kgo.Record {
	return &kgo.Record{
		Topic: stream.ResolvedEvents, Partition: partition, Value: value,
		Headers: []kgo.RecordHeader{{Key: kafka.HeaderSrcOffset, Value: []byte(strconv.FormatInt(srcOffset, 10))}},
	}
}

func (s *street) count(t testing.TB) int {
	t.Helper()
	var n uint64
	require.NoError(t, s.clickhouse.QueryRow(t.Context(), "SELECT count() FROM fact_events", nil, &n))
	return int(n) //nolint:gosec // a test's rows
}

func (s *street) requireStored(t testing.TB, want int) {
	t.Helper()
	require.Eventually(t, func() bool { return s.count(t) >= want }, 40*time.Second, 50*time.Millisecond)
	tables := clickhouseTables{db: s.clickhouse, t: nil}
	for _, table := range []string{tableEvents, tableByPerson} {
		var rows, distinct uint64
		require.NoError(t, tables.db.QueryRow(t.Context(), "SELECT count(), uniqExact(src_partition, src_offset) FROM "+table, nil, &rows, &distinct))
		require.EqualValues(t, want, rows, table)
		require.EqualValues(t, want, distinct, table)
	}
}

func events(first, last int64) []*identityv1.ResolvedEvent {
	var out []*identityv1.ResolvedEvent
	for o := first; o <= last; o++ {
		for p := range int32(stream.EventPartitions) {
			out = append(out, resolved(p, o))
		}
	}
	return out
}

func TestModuleStoresWhatIdentityResolved(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	stop, conn := s.module(t)
	s.produce(t, events(0, 99)...)
	// A record that is no event, and one that names another partition, are dead letters; the others go on.
	wrong, err := proto.Marshal(resolved(7, 200))
	require.NoError(t, err)
	require.NoError(t, s.producer.ProduceSync(t.Context(), record(3, 100, []byte("no protobuf")), record(3, 101, wrong)).FirstErr())
	s.produce(t, resolved(3, 102), resolved(3, 102), resolved(3, 50))
	s.requireStored(t, 1201)

	client := warehousev1.NewWarehouseServiceClient(conn)
	marks, err := client.GetWatermarks(t.Context(), &warehousev1.GetWatermarksRequest{})
	require.NoError(t, err)
	require.Len(t, marks.GetWatermarks(), 12)
	require.EqualValues(t, 3, marks.GetWatermarks()[3].GetSrcPartition())
	require.EqualValues(t, 102, marks.GetWatermarks()[3].GetSrcOffset())
	require.Equal(t, []int64{10, 11, 12}, scan(t, client, &warehousev1.ScanEventHashesRequest{SrcPartition: 3, FromOffset: 10, ToOffset: 13}))

	// Another instance goes on where this one stopped, whatever is delivered again.
	stop()
	s.produce(t, events(90, 120)...)
	s.module(t)
	s.requireStored(t, 1201+11*21+18)
}

func scan(t *testing.T, client warehousev1.WarehouseServiceClient, req *warehousev1.ScanEventHashesRequest) []int64 {
	t.Helper()
	call, err := client.ScanEventHashes(t.Context(), req)
	require.NoError(t, err)
	res, err := call.Recv()
	require.NoError(t, err)
	require.Len(t, res.GetEventHashes(), 16*len(res.GetFirstOffsets()))
	slices.Sort(res.GetFirstOffsets())
	return res.GetFirstOffsets()
}

// Two instances share the partitions; one joins late and one leaves early while events come in.
func TestModulesShareThePartitions(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	stop, _ := s.module(t)
	s.produce(t, events(0, 49)...)
	require.Eventually(t, func() bool { return s.count(t) > 0 }, 40*time.Second, 50*time.Millisecond)
	s.module(t)
	s.produce(t, events(50, 149)...)
	require.Eventually(t, func() bool { return s.count(t) > 600 }, 40*time.Second, 50*time.Millisecond)
	stop()
	s.produce(t, events(150, 199)...)
	s.requireStored(t, 2400)
}

// BenchmarkFreshness offers 5,000 events a second and reports how long after its Kafka acknowledgement an event is seen.
func BenchmarkFreshness(b *testing.B) {
	const rate, seconds, tick = 5_000, 20, 20
	s := newStreet(b)
	s.module(b)
	batch := benchEvents(b, 0)
	produced := make([]time.Time, 0, rate*seconds)
	var mu sync.Mutex
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(time.Second / tick)
		defer ticker.Stop()
		for n := int64(0); n < rate*seconds; {
			<-ticker.C
			var records []*kgo.Record
			for range rate / tick {
				e := &identityv1.ResolvedEvent{}
				if err := proto.Unmarshal(batch[n%benchRows], e); err != nil {
					b.Error(err)
				}
				e.SrcPartition, e.SrcOffset = int32(n%12), n
				value, _ := proto.Marshal(e)
				records = append(records, record(e.SrcPartition, n, value))
				n++
			}
			if err := s.producer.ProduceSync(b.Context(), records...).FirstErr(); err != nil {
				b.Error(err)
			}
			now := time.Now()
			mu.Lock()
			for range records {
				produced = append(produced, now)
			}
			mu.Unlock()
		}
	}()
	var delays []time.Duration
	for len(delays) < rate*seconds {
		seen, now := s.count(b), time.Now()
		mu.Lock()
		for len(delays) < min(seen, len(produced)) {
			delays = append(delays, now.Sub(produced[len(delays)]))
		}
		mu.Unlock()
		select {
		case <-b.Context().Done():
			b.Fatal("not all events arrived")
		case <-time.After(50 * time.Millisecond):
		}
	}
	<-done
	slices.Sort(delays)
	b.ReportMetric(delays[len(delays)/2].Seconds(), "p50-s")
	b.ReportMetric(delays[len(delays)*99/100].Seconds(), "p99-s")
	b.ReportMetric(0, "ns/op")
}
