package activation

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	activationv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/activation/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

const (
	patience = 60 * time.Second
	glance   = 10 * time.Millisecond
)

// street is the engines around one or more activation modules.
type street struct {
	cluster  *kfake.Cluster
	kafka    kafka.Config
	store    *postgresStore
	producer *kgo.Client

	mu      sync.Mutex
	devices map[int]int // how many events each has sent
	offsets map[int32]int64
}

func newStreet(t testing.TB) *street {
	t.Helper()
	if testing.Short() {
		t.Skip("needs engines")
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(stream.EventPartitions, stream.ResolvedEvents),
		kfake.SeedTopics(3, stream.ResolvedEvents+kafka.DeadLetterSuffix), kfake.SeedTopics(6, stream.Outcomes))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	s := &street{
		cluster: cluster, kafka: kafka.DefaultConfig(), store: newPostgresStore(testkit.PostgresDB(t, Migrations())),
		devices: map[int]int{}, offsets: map[int32]int64{},
	}
	s.kafka.Brokers = cluster.ListenAddrs()
	s.producer, err = kgo.NewClient(kgo.SeedBrokers(s.kafka.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(s.producer.Close)
	return s
}

// quick is patient in milliseconds.
func quick() Config {
	cfg := DefaultConfig()
	cfg.AllowPrivateAddresses = true
	cfg.BackoffMin, cfg.BackoffMax, cfg.RetryInterval = 20*time.Millisecond, 200*time.Millisecond, 10*time.Millisecond
	return cfg
}

// module runs one until stop is called or the test ends.
func (s *street) module(t testing.TB, tune ...func(*Config)) (m *Module, stop func()) {
	t.Helper()
	cfg := quick()
	for _, change := range tune {
		change(&cfg)
	}
	m, err := New(t.Context(), cfg, Deps{
		Log: slog.New(slog.DiscardHandler), Postgres: s.store.db, Kafka: s.kafka, Clock: clock.Real(), GRPC: grpc.NewServer(),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	for _, r := range m.Runners() {
		running.Go(func() {
			if err := r.Run(ctx, func() {}); err != nil {
				t.Error(r.Name, err)
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		require.NoError(t, m.Close(context.WithoutCancel(ctx)))
	})
	t.Cleanup(stop)
	return m, stop
}

// idle reports whether nothing parked for a destination is being sent.
func (m *Module) idle(destinationID string) bool {
	for _, q := range m.forwarder.owned() {
		q.mu.Lock()
		b := q.backlogs[destinationID]
		busy := b != nil && b.busy
		q.mu.Unlock()
		if busy {
			return false
		}
	}
	return true
}

// produce sends n more events of each device, 0 to devices-1.
func (s *street) produce(t testing.TB, devices, n int) {
	t.Helper()
	require.NoError(t, s.send(t.Context(), devices, n))
}

func (s *street) send(ctx context.Context, devices, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var records []*kgo.Record
	for range n {
		for device := range devices {
			e := order()
			e.Event.AnonymousId, e.Event.EventId = "device-"+strconv.Itoa(device), strconv.Itoa(device)+"-"+strconv.Itoa(s.devices[device])
			e.Event.ReceivedAt = timestamppb.Now()
			s.devices[device]++
			value, err := proto.Marshal(e)
			if err != nil {
				return err
			}
			rec := &kgo.Record{Topic: stream.ResolvedEvents, Partition: int32(device % stream.EventPartitions), Value: value}
			kafka.SetSrcOffset(rec, s.offsets[rec.Partition])
			s.offsets[rec.Partition]++
			records = append(records, rec)
		}
	}
	return s.producer.ProduceSync(ctx, records...).FirstErr()
}

// total is how many events there are.
func (s *street) total() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, count := range s.devices {
		n += count
	}
	return n
}

// committed reports whether the group has nothing left to do.
func (s *street) committed(t testing.TB) bool {
	t.Helper()
	offsets, err := kadm.NewClient(s.producer).FetchOffsets(t.Context(), stream.GroupActivation)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, end := range s.offsets {
		if o, ok := offsets.Lookup(stream.ResolvedEvents, p); end > 0 && (!ok || o.At < end) {
			return false
		}
	}
	return true
}

func (s *street) waitCommitted(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool { return s.committed(t) }, patience, glance)
}

func (s *street) queue(t testing.TB, d Destination) Queue {
	t.Helper()
	q, err := s.store.Queue(t.Context(), d.WorkspaceID, d.ID)
	require.NoError(t, err)
	return q
}

func (s *street) destination(t testing.TB, url string, tune ...func(*Destination)) Destination {
	t.Helper()
	d := destination(testWorkspace, url)
	d.Filter, d.Webhook = "", Webhook{URL: url, BatchSize: 1, TimeoutS: 10}
	for _, change := range tune {
		change(&d)
	}
	require.NoError(t, s.store.Insert(t.Context(), d))
	return d
}

func (s *street) update(t testing.TB, d *Destination, change func(d *Destination)) {
	t.Helper()
	change(d)
	d.Revision++
	require.NoError(t, s.store.Update(t.Context(), *d))
}

// postpone makes all devices of a destination but one wait.
func (s *street) postpone(t testing.TB, d Destination, wait time.Duration) {
	t.Helper()
	require.NoError(t, s.store.db.AsSystem(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE activation.parked_device SET next_attempt_at = now() + $2 WHERE destination_id = $1
			AND device_hash <> (SELECT device_hash FROM activation.parked_device WHERE destination_id = $1 LIMIT 1)`, d.ID, wait)
		return err
	}))
}

// outcomes reads the attempts of a destination, n at least.
func (s *street) outcomes(t testing.TB, d Destination, n int) []*activationv1.Outcome {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.kafka.Brokers...), kgo.ConsumeTopics(stream.Outcomes), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var list []*activationv1.Outcome
	for len(list) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(rec *kgo.Record) {
			o := &activationv1.Outcome{}
			require.NoError(t, proto.Unmarshal(rec.Value, o))
			require.Equal(t, o.GetWorkspaceId()+"/"+o.GetDestinationId(), string(rec.Key))
			if o.GetDestinationId() == d.ID {
				list = append(list, o)
			}
		})
	}
	return list
}

// receiver is a webhook that notes what it took, by event id.
type receiver struct {
	url string

	mu       sync.Mutex
	answer   func(ids []string) int // nil takes everything
	before   func()                 // runs before an answer
	header   http.Header
	requests []time.Time
	counts   map[string]int
	first    map[string][]int // device → numbers of its events in the order of their first arrival
}

func newReceiver(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{counts: map[string]int{}, first: map[string][]int{}, header: http.Header{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if raw[0] != '[' {
		raw = []byte("[" + string(raw) + "]")
	}
	var events []struct{ ID string }
	if err := json.Unmarshal(raw, &events); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	r.mu.Lock()
	r.requests = append(r.requests, time.Now())
	before := r.before
	r.mu.Unlock()
	if before != nil {
		before()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answer != nil {
		if code := r.answer(ids); code != http.StatusOK {
			for name := range r.header {
				w.Header().Set(name, r.header.Get(name))
			}
			w.WriteHeader(code)
			return
		}
	}
	for _, id := range ids {
		device, number, _ := strings.Cut(id, "-")
		if r.counts[id]++; r.counts[id] == 1 {
			n, _ := strconv.Atoi(number)
			r.first[device] = append(r.first[device], n)
		}
	}
}

func (r *receiver) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *receiver) fails(code int) {
	r.set(func() { r.answer = func([]string) int { return code } })
}

func (r *receiver) recovers() { r.set(func() { r.answer = nil }) }

func (r *receiver) distinct() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.counts)
}

func (r *receiver) tries() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests)
}

func (r *receiver) waitFor(t testing.TB, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return r.distinct() >= n }, patience, glance, "%d of %d", r.distinct(), n)
}

// requireOrder checks that first deliveries came in the order of each device.
func (r *receiver) requireOrder(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for device, numbers := range r.first {
		for i := 1; i < len(numbers); i++ {
			require.Greater(t, numbers[i], numbers[i-1], "device %s: %v", device, numbers)
		}
	}
}

// repeats is how often something came again.
func (r *receiver) repeats() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, count := range r.counts {
		n += count - 1
	}
	return n
}
