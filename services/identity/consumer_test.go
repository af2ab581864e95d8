package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	"github.com/mekong-cdp/mekong/services/identity/dedupe"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
)

// tape is a Publisher that keeps what it was given, up to the record at which it is told to fail.
type tape struct {
	records []*kgo.Record
	room    int // records that still succeed; negative: all
}

func (p *tape) Publish(_ context.Context, records ...*kgo.Record) (kafka.Result, error) {
	for _, r := range records {
		if p.room == 0 {
			return kafka.Result{}, errs.New(errs.Unavailable, "publish_failed", "Kafka did not take a record; try again")
		}
		p.room--
		p.records = append(p.records, r)
	}
	return kafka.Result{}, nil
}

func (p *tape) srcOffsets(t *testing.T) []int64 {
	t.Helper()
	var out []int64
	for _, r := range p.records {
		src, ok := kafka.SrcOffset(r)
		require.True(t, ok)
		out = append(out, src)
	}
	return out
}

// brokenStore fails as it is told before it does its work.
type brokenStore struct {
	Store
	err error
}

func (s *brokenStore) Assign(ctx context.Context, partition int32, events []Event) (Assigned, error) {
	if s.err != nil {
		return Assigned{}, s.err
	}
	return s.Store.Assign(ctx, partition, events)
}

func newHandler(t testing.TB, dir string, store Store, publisher Publisher) *consumer {
	t.Helper()
	m, err := newMetrics()
	require.NoError(t, err)
	window, err := dedupe.Open(slog.New(slog.DiscardHandler), dir, dedupe.DefaultOptions())
	require.NoError(t, err)
	service, err := NewService(store, 100_000, 500, m)
	require.NoError(t, err)
	return &consumer{dedupe: window, service: service, publisher: publisher, metrics: m}
}

func input(t testing.TB, workspace string, from int64, names ...string) *kafka.Batch {
	t.Helper()
	b := &kafka.Batch{Topic: "in", Partition: 4}
	for i, name := range names {
		value, err := proto.Marshal(&collectorv1.Event{WorkspaceId: workspace, EventId: name, AnonymousId: "device-" + name})
		require.NoError(t, err)
		b.Records = append(b.Records, &kgo.Record{
			Topic: "in", Partition: 4, Offset: from + int64(i), Key: []byte(name), Value: value, Timestamp: time.Now(),
			Headers: []kgo.RecordHeader{{Key: "traceparent", Value: []byte("00-trace")}, {Key: "other", Value: []byte("x")}},
		})
	}
	return b
}

func TestCrashBetweenTheSteps(t *testing.T) {
	t.Parallel()
	ws, dir := ids.New(), t.TempDir()
	store := NewMemoryStore(clock.Real())
	out := &tape{}
	batch := func() []*kafka.Batch { return []*kafka.Batch{input(t, ws, 10, "a", "b", "a", "c")} }

	// It dies after the dedupe put and the decision, having published only the first record.
	c := newHandler(t, dir, store, out)
	out.room = 1
	require.Equal(t, errs.Unavailable, errs.KindOf(c.Handle(t.Context(), batch())))
	require.NoError(t, c.dedupe.Close())

	// The next one gets the same records: its own offsets are stored, so they are no duplicates.
	c = newHandler(t, dir, store, out)
	require.NoError(t, c.service.Take(t.Context(), 4, 10))
	out.room = -1
	require.NoError(t, c.Handle(t.Context(), batch()))
	require.Equal(t, []int64{10, 10, 11, 13}, out.srcOffsets(t))
	require.NoError(t, c.dedupe.Close())

	// It dies before its offset was committed: the same bytes go out again under the same source offsets.
	c = newHandler(t, dir, store, out)
	require.NoError(t, c.service.Take(t.Context(), 4, 10))
	require.NoError(t, c.Handle(t.Context(), batch()))
	require.Equal(t, []int64{10, 10, 11, 13, 10, 11, 13}, out.srcOffsets(t))
	for i := range 3 {
		require.Equal(t, out.records[i+1].Value, out.records[i+4].Value)
	}
	require.Len(t, store.Changes(), 3)
	require.Equal(t, "00-trace", kafka.Header(out.records[0], "traceparent"))
	require.Empty(t, kafka.Header(out.records[0], "other"))
	require.NoError(t, c.dedupe.Close())
}

func TestFaultsOfOursAreWaitedFor(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]error{
		"postgres away":    errs.New(errs.Unavailable, "postgres_unavailable", "away"),
		"a lost race":      errs.New(errs.Conflict, "transaction_conflict", "lost"),
		"a bug":            errors.New("boom"),
		"a missing right":  errs.New(errs.Forbidden, "row_forbidden", "no"),
		"a missing table":  errs.New(errs.Precondition, "database_missing", "no"),
		"a refused record": errs.New(errs.Invalid, "value_refused", "no"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &brokenStore{Store: NewMemoryStore(clock.Real()), err: fault}
			out := &tape{room: -1}
			c := newHandler(t, t.TempDir(), store, out)
			defer func() { require.NoError(t, c.dedupe.Close()) }()
			batches := []*kafka.Batch{input(t, ids.New(), 0, "a", "b")}
			err := c.Handle(t.Context(), batches)
			if errs.KindOf(fault) == errs.Invalid {
				require.Equal(t, errs.Invalid, errs.KindOf(err), "only the content of a record makes it a dead letter")
				return
			}
			require.Equal(t, errs.Unavailable, errs.KindOf(err))
			require.ErrorIs(t, err, fault)
			require.Empty(t, out.records)

			store.err = nil
			require.NoError(t, c.Handle(t.Context(), batches))
			require.Len(t, out.records, 2)
		})
	}
}

// TestDecisionsAreRepeatedFromTheDatabase: what was decided before a restart holds, even when the graph has moved on.
func TestDecisionsAreRepeatedFromTheDatabase(t *testing.T) {
	t.Parallel()
	ws := ids.New()
	store := NewMemoryStore(clock.Real())
	first := NewEventForTest(ws, "e1", "", "phone", 5)
	later := NewEventForTest(ws, "e2", "u", "phone", 6)
	m, err := newMetrics()
	require.NoError(t, err)
	s, err := NewService(store, 1000, 10, m)
	require.NoError(t, err)
	before, err := s.Resolve(t.Context(), 0, []Event{first, later})
	require.NoError(t, err)
	require.EqualValues(t, 1, before[0].Version)
	again, err := s.Resolve(t.Context(), 0, []Event{first, later})
	require.NoError(t, err)
	require.Equal(t, before, again)

	s, err = NewService(store, 1000, 10, m)
	require.NoError(t, err)
	require.NoError(t, s.Take(t.Context(), 0, 5))
	again, err = s.Resolve(t.Context(), 0, []Event{first, later})
	require.NoError(t, err)
	require.Equal(t, before, again)
}

func TestConfigNamesWhatCannotWork(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultConfig().Validate())
	for key, spoil := range map[string]func(*Config){
		"cache_identifiers":   func(c *Config) { c.CacheIdentifiers = 0 },
		"batch_events":        func(c *Config) { c.BatchEvents = 0 },
		"transaction_events":  func(c *Config) { c.TransactionEvents = 5_001 },
		"dedupe.window":       func(c *Config) { c.Dedupe.Window = time.Minute },
		"dedupe.max_keys":     func(c *Config) { c.Dedupe.MaxKeys = 1 },
		"dedupe.cache_bytes":  func(c *Config) { c.Dedupe.CacheBytes = 0 },
		"dedupe.sweep_rate":   func(c *Config) { c.Dedupe.SweepRate = 0 },
		"decision_margin":     func(c *Config) { c.DecisionMargin = -1 },
		"clean_interval":      func(c *Config) { c.CleanInterval = 0 },
		"outbox.batch_size":   func(c *Config) { c.Outbox.BatchSize = 0 },
		"take_over and max_b": func(c *Config) { c.Outbox.TakeOver = 0 },
	} {
		c := DefaultConfig()
		spoil(&c)
		require.ErrorContains(t, c.Validate(), key)
	}
}

// BenchmarkHandle measures the work on warm batches without Kafka: decode, dedupe, cache, encode.
func BenchmarkHandle(b *testing.B) {
	c := newHandler(b, b.TempDir(), NewMemoryStore(clock.Real()), discard{})
	defer func() { require.NoError(b, c.dedupe.Close()) }()
	ws, next := ids.New(), int64(0)
	batch := func() *kafka.Batch {
		out := &kafka.Batch{Partition: 1, Records: benchRecords(b, ws, next, 500)}
		next += 500
		return out
	}
	for range 4 {
		require.NoError(b, c.Handle(b.Context(), []*kafka.Batch{batch()}))
	}
	for b.Loop() {
		b.StopTimer()
		in := batch()
		b.StartTimer()
		require.NoError(b, c.Handle(b.Context(), []*kafka.Batch{in}))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*500), "ns/event")
}

type discard struct{}

func (discard) Publish(context.Context, ...*kgo.Record) (kafka.Result, error) {
	return kafka.Result{}, nil
}

// benchRecords makes events of about 1 KiB from 2,000 devices, some of them of people who signed in.
func benchRecords(t testing.TB, workspace string, from int64, n int) []*kgo.Record {
	t.Helper()
	properties := make([]byte, 700)
	for i := range properties {
		properties[i] = 'x'
	}
	out := make([]*kgo.Record, n)
	for i := range out {
		k := from + int64(i)
		e := &collectorv1.Event{
			WorkspaceId: workspace, SourceId: workspace, EventId: fmt.Sprintf("%s-%d", workspace, k), Type: collectorv1.EventType_EVENT_TYPE_TRACK,
			Name: "Product Viewed", AnonymousId: fmt.Sprint("device-", k%2000), SessionId: workspace, Properties: properties, Ip: "10.0.0.1",
			UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36", Wire: "v1/track",
		}
		if k%2 == 0 {
			e.UserId = fmt.Sprint("user-", k%2000)
		}
		value, err := proto.Marshal(e)
		require.NoError(t, err)
		out[i] = &kgo.Record{Offset: k, Key: []byte(e.GetAnonymousId()), Value: value, Timestamp: time.Now()}
	}
	return out
}
