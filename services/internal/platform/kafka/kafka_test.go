package kafka_test

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
)

const eventually = 60 * time.Second

func TestMain(m *testing.M) {
	// kfake keeps one goroutine per cluster that it closed while a request was held.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).read.func1"))
}

// fake starts a broker in memory.
func fake(t *testing.T) (*kfake.Cluster, kafka.Config) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster, config(cluster.ListenAddrs()...)
}

func config(brokers ...string) kafka.Config {
	cfg := kafka.DefaultConfig()
	cfg.Brokers = brokers
	return cfg
}

// bench is a topic with its dead letters and a publisher on some broker.
type bench struct {
	cfg       kafka.Config
	publisher *kafka.Publisher
	topic     string
	group     string
	log       *slog.Logger
}

func newBench(t *testing.T, cfg kafka.Config, partitions int32) *bench {
	t.Helper()
	b := &bench{cfg: cfg, topic: "test." + ids.New(), group: "test." + ids.New(), log: slog.New(slog.DiscardHandler)}
	publisher, err := kafka.NewPublisher(t.Context(), cfg)
	require.NoError(t, err)
	b.publisher = publisher
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
		defer cancel()
		_ = publisher.Close(ctx) // some tests leave records behind on purpose
	})
	require.NoError(t, kafka.EnsureTopics(t.Context(), publisher.Client(), []kafka.TopicSpec{
		{Name: b.topic, Partitions: partitions}, {Name: b.topic + kafka.DeadLetterSuffix, Partitions: 1},
	}))
	return b
}

// record is the i-th record, pinned to partition i mod n; its src_offset is i.
func (b *bench) record(t *testing.T, i int, partitions int32) *kgo.Record {
	t.Helper()
	r := &kgo.Record{Topic: b.topic, Key: []byte(strconv.Itoa(i)), Value: []byte(strconv.Itoa(i))}
	kafka.SetSrcOffset(r, int64(i))
	kafka.PinPartition(t.Context(), r, int32(i)%partitions) //nolint:gosec // small numbers
	return r
}

func (b *bench) publish(t *testing.T, from, to int, partitions int32) {
	t.Helper()
	var records []*kgo.Record
	for i := from; i < to; i++ {
		records = append(records, b.record(t, i, partitions))
	}
	res, err := b.publisher.Publish(t.Context(), records...)
	require.NoError(t, err)
	require.Equal(t, to-from, res.Prefix())
}

// values reads the whole topic from the start, n records, in the order of their offsets per partition.
func values(t *testing.T, cfg kafka.Config, topic string, n int) map[int32][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	client, err := kafka.NewClient(cfg, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	out := map[int32][]string{}
	for got := 0; got < n; {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			out[r.Partition] = append(out[r.Partition], string(r.Value))
			got++
		})
	}
	return out
}

func ends(t *testing.T, cfg kafka.Config, topic string) map[int32]int64 {
	t.Helper()
	client, err := kafka.NewClient(cfg)
	require.NoError(t, err)
	defer client.Close()
	listed, err := kadm.NewClient(client).ListEndOffsets(t.Context(), topic)
	require.NoError(t, err)
	out := map[int32]int64{}
	for p, o := range listed[topic] {
		out[p] = o.Offset
	}
	return out
}

func TestPartitionForIsTheClientsChoice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		n := rapid.Int32Range(1, 300).Draw(t, "partitions")
		want := kgo.StickyKeyPartitioner(nil).ForTopic("t").Partition(&kgo.Record{Key: append([]byte{}, key...)}, int(n))
		if got := kafka.PartitionFor(key, n); int(got) != want {
			t.Fatalf("PartitionFor = %d, the client sends to %d", got, want)
		}
	})
}

func TestPublishInOrderByKeyAndByPin(t *testing.T) {
	t.Parallel()
	_, cfg := fake(t)
	b := newBench(t, cfg, 4)
	var records []*kgo.Record
	want := map[int32][]string{}
	for i := range 3_000 {
		r := &kgo.Record{Topic: b.topic, Key: []byte("key" + strconv.Itoa(i%50)), Value: []byte(strconv.Itoa(i))}
		p := kafka.PartitionFor(r.Key, 4)
		if i%3 == 0 {
			p = int32(i % 4) //nolint:gosec // small numbers
			kafka.PinPartition(t.Context(), r, p)
		}
		want[p] = append(want[p], string(r.Value))
		records = append(records, r)
	}
	res, err := b.publisher.Publish(t.Context(), records...)
	require.NoError(t, err)
	require.Equal(t, len(records), res.Prefix())
	require.Equal(t, want, values(t, cfg, b.topic, len(records)))
	require.Equal(t, int64(len(want[records[2_999].Partition])-1), lastOffset(records, records[2_999].Partition))
}

func lastOffset(records []*kgo.Record, p int32) int64 {
	last := int64(-1)
	for _, r := range records {
		if r.Partition == p {
			last = max(last, r.Offset)
		}
	}
	return last
}

func TestPublishRefusesBeforeSending(t *testing.T) {
	t.Parallel()
	_, cfg := fake(t)
	cfg.MaxRecordBytes = 1_000
	b := newBench(t, cfg, 2)
	b.publish(t, 0, 2, 2)
	good := b.record(t, 2, 2)
	for code, bad := range map[string]*kgo.Record{
		"record_without_topic": {Value: []byte("x")},
		"record_too_large":     {Topic: b.topic, Value: make([]byte, 1_001)},
		"partition_unknown":    b.pinned(t, 2),
	} {
		res, err := b.publisher.Publish(t.Context(), good, bad)
		require.Equal(t, errs.Invalid, errs.KindOf(err), code)
		require.Equal(t, code, errs.CodeOf(err))
		require.Zero(t, res.Prefix())
	}
	require.Equal(t, map[int32]int64{0: 1, 1: 1}, ends(t, cfg, b.topic), "nothing of a refused call is sent")
}

func (b *bench) pinned(t *testing.T, p int32) *kgo.Record {
	t.Helper()
	r := &kgo.Record{Topic: b.topic, Value: []byte("x")}
	kafka.PinPartition(t.Context(), r, p)
	return r
}

// The broker refuses one batch in the middle of many: nothing behind it in its partition may be written, since a retry
// would then come behind higher src_offsets and be dropped.
func TestPublishStopsAtTheFirstFailure(t *testing.T) {
	t.Parallel()
	for seed := range 8 {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			cluster, cfg := fake(t)
			b := newBench(t, cfg, 2)
			b.publish(t, 0, 2, 2)
			requests := 0
			cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.Produce}, Partitions: []int32{0}, Err: kerr.InvalidRecord, Count: 1,
				When: func(kmsg.Request) bool { requests++; return requests == 1+seed },
			})
			const n = 40_000
			var records []*kgo.Record
			for i := 2; i < n; i++ {
				r := b.record(t, i, 2)
				r.Value = append(r.Value, make([]byte, 500)...)
				records = append(records, r)
			}
			res, err := b.publisher.Publish(t.Context(), records...)
			if err == nil { // fewer requests than the one that was to fail
				require.Equal(t, len(records), res.Prefix())
				return
			}
			require.Equal(t, "record_refused", errs.CodeOf(err))
			acked := int64(1)
			for i, r := range records {
				if r.Partition == 0 && i%2 == 0 && res.Acked(i) {
					acked++
					require.Equal(t, int64(i/2)+1, r.Offset, "an acknowledged record has no gap before it")
				}
			}
			require.Equal(t, acked, ends(t, cfg, b.topic)[0], "nothing is written behind the failure")
			// The publisher goes on working.
			b.publish(t, 2, 100, 2)
		})
	}
}

func TestPublishManyCallersShareRounds(t *testing.T) {
	t.Parallel()
	cluster, cfg := fake(t)
	b := newBench(t, cfg, 3)
	b.publish(t, 0, 3, 3)
	produced := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1})
	var wg sync.WaitGroup
	const callers, calls = 50, 20
	for c := range callers {
		wg.Go(func() {
			for i := range calls {
				res, err := b.publisher.Publish(t.Context(), b.record(t, c*calls+i, 3))
				if err != nil || res.Prefix() != 1 {
					t.Errorf("call %d of %d: %v", i, c, err)
				}
			}
		})
	}
	wg.Wait()
	total := int64(0)
	for _, end := range ends(t, cfg, b.topic) {
		total += end
	}
	require.EqualValues(t, callers*calls+3, total)
	require.Less(t, produced.Hits(), callers*calls, "waiting callers go out together")
}

// A broker that stops answering with records in flight: the client library cannot give those up, Publish can.
func TestPublishEndsByItsDeadlineWhenTheBrokerIsGone(t *testing.T) {
	t.Parallel()
	cluster, cfg := fake(t)
	b := newBench(t, cfg, 1)
	b.publish(t, 0, 1, 1)
	hold := make(chan struct{})
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		select {
		case <-hold:
		default:
			cluster.SleepControl(func() { <-hold })
		}
		return nil, nil, false
	})
	for i := range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		started := time.Now()
		_, err := b.publisher.Publish(ctx, b.record(t, i+1, 1))
		cancel()
		require.Equal(t, errs.Unavailable, errs.KindOf(err))
		require.Less(t, time.Since(started), 3*time.Second)
	}
	// The broker is back: what was in flight is settled and new calls work, still in order.
	close(hold)
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := b.publisher.Publish(ctx, b.record(t, 100, 1))
		return err == nil
	}, eventually, 10*time.Millisecond)
	got := values(t, cfg, b.topic, int(ends(t, cfg, b.topic)[0]))[0]
	numbers := make([]int, len(got))
	for i, v := range got {
		numbers[i], _ = strconv.Atoi(v)
	}
	require.True(t, slices.IsSorted(numbers), "%v", got)
}

func TestPublishToADeadBrokerIsUnavailable(t *testing.T) {
	t.Parallel()
	cluster, cfg := fake(t)
	b := newBench(t, cfg, 1)
	b.publish(t, 0, 1, 1)
	cluster.Close()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			started := time.Now()
			_, err := b.publisher.Publish(ctx, b.record(t, i, 1))
			if errs.KindOf(err) != errs.Unavailable || err == nil || time.Since(started) > 5*time.Second {
				t.Errorf("err %v after %s", err, time.Since(started))
			}
		})
	}
	wg.Wait()
}

func TestEnsureTopics(t *testing.T) {
	t.Parallel()
	_, cfg := fake(t)
	client, err := kafka.NewClient(cfg)
	require.NoError(t, err)
	defer client.Close()
	specs := []kafka.TopicSpec{{Name: "a", Partitions: 3, Retention: time.Hour}, {Name: "b", Partitions: 1, Compact: true}}
	require.NoError(t, kafka.EnsureTopics(t.Context(), client, specs))
	require.NoError(t, kafka.EnsureTopics(t.Context(), client, specs), "a second time changes nothing")
	require.Len(t, ends(t, cfg, "a"), 3)
	specs[0].Partitions = 4
	err = kafka.EnsureTopics(t.Context(), client, specs)
	require.Equal(t, errs.Precondition, errs.KindOf(err))
	require.Equal(t, "partition_count_differs", errs.CodeOf(err))
	require.ErrorContains(t, err, "a has 3, not 4")
	require.Len(t, ends(t, cfg, "a"), 3)
	require.Equal(t, errs.Invalid, errs.KindOf(kafka.EnsureTopics(t.Context(), client, []kafka.TopicSpec{{Name: "c"}})))
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	r := &kgo.Record{}
	_, ok := kafka.SrcOffset(r)
	require.False(t, ok)
	kafka.SetSrcOffset(r, 7)
	kafka.SetSrcOffset(r, 8)
	kafka.SetHeader(r, kafka.HeaderWorkspace, "w")
	n, ok := kafka.SrcOffset(r)
	require.True(t, ok)
	require.EqualValues(t, 8, n)
	require.Len(t, r.Headers, 2)
	require.Equal(t, "w", kafka.Header(r, kafka.HeaderWorkspace))
	require.Empty(t, kafka.Header(r, "other"))
	for _, bad := range []string{"", "x", "-1", "9223372036854775808"} {
		kafka.SetHeader(r, kafka.HeaderSrcOffset, bad)
		_, ok := kafka.SrcOffset(r)
		require.False(t, ok, bad)
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*kafka.Config){
		"kafka.brokers is empty":        func(c *kafka.Config) { c.Brokers = nil },
		"not host:port":                 func(c *kafka.Config) { c.Brokers = []string{"localhost"} },
		"kafka.sasl_mechanism must":     func(c *kafka.Config) { c.SASLMechanism = "GSSAPI" },
		"set kafka.sasl_user":           func(c *kafka.Config) { c.SASLMechanism = kafka.SASLPlain },
		"kafka.max_buffered_records":    func(c *kafka.Config) { c.MaxBufferedRecords = 0 },
		"kafka.max_record_bytes must":   func(c *kafka.Config) { c.MaxRecordBytes = 2 << 20 },
		"kafka.publish_timeout must be": func(c *kafka.Config) { c.PublishTimeout = 0 },
	} {
		cfg := config("127.0.0.1:1")
		require.NoError(t, cfg.Validate())
		change(&cfg)
		require.ErrorContains(t, cfg.Validate(), want)
	}
}
