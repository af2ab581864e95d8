package kafka_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka/kafkatest"
)

// recorder is a handler that remembers what it saw.
type recorder struct {
	fail   func(r *kgo.Record) error // nil: all records are fine
	reject func(r *kgo.Record) error
	assign func(partitions []*kafka.Assignment) error

	mu       sync.Mutex
	handled  map[string]int
	order    map[int32][]int64 // src_offsets per partition
	assigned []kafka.Assignment
	revoked  []kafka.TopicPartition
	batches  []int // how many batches each Handle had
	calls    int
}

func newRecorder() *recorder {
	return &recorder{handled: map[string]int{}, order: map[int32][]int64{}}
}

func (h *recorder) Assigned(_ context.Context, partitions []*kafka.Assignment) error {
	if h.assign != nil {
		if err := h.assign(partitions); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range partitions {
		h.assigned = append(h.assigned, *p)
	}
	return nil
}

func (h *recorder) Handle(_ context.Context, batches []*kafka.Batch) error {
	h.mu.Lock()
	h.calls++
	h.batches = append(h.batches, len(batches))
	h.mu.Unlock()
	if h.fail != nil {
		for _, b := range batches {
			for _, r := range b.Records {
				if err := h.fail(r); err != nil {
					return err
				}
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range batches {
		for _, r := range b.Records {
			if h.reject != nil {
				if err := h.reject(r); err != nil {
					b.Reject(r, err)
					continue
				}
			}
			h.handled[string(r.Value)]++
			if src, ok := kafka.SrcOffset(r); ok {
				h.order[r.Partition] = append(h.order[r.Partition], src)
			}
		}
	}
	return nil
}

func (h *recorder) Revoked(_ context.Context, partitions []kafka.TopicPartition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revoked = append(h.revoked, partitions...)
}

func (h *recorder) distinct() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.handled)
}

func (h *recorder) requireRising(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, srcs := range h.order {
		for i := 1; i < len(srcs); i++ {
			require.Greater(t, srcs[i], srcs[i-1], "partition %d handled a record at or below its watermark", p)
		}
	}
}

// consumer is a running Consumer.
type consumer struct {
	*kafka.Consumer
	stop func()
	done chan error
}

func (b *bench) consume(t *testing.T, h kafka.Handler, change func(*kafka.ConsumerConfig)) *consumer {
	t.Helper()
	cfg := kafka.DefaultConsumerConfig(b.group, b.topic)
	cfg.CommitInterval = 20 * time.Millisecond
	cfg.BackoffMin, cfg.BackoffMax = 5*time.Millisecond, 50*time.Millisecond
	cfg.SessionTimeout = 6 * time.Second
	cfg.DropBelowWatermark = true
	if change != nil {
		change(&cfg)
	}
	c, err := kafka.NewConsumer(b.cfg, cfg, h, b.publisher, b.log)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	running := &consumer{Consumer: c, done: make(chan error, 1)}
	var once sync.Once
	running.stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-running.done)
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := c.Runner().Run(ctx, func() { close(started) })
		if err != nil {
			t.Log("the consumer ended:", err)
		}
		running.done <- err
	}()
	<-started
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return running
}

func (b *bench) committed(t *testing.T) map[int32]kadm.Offset {
	t.Helper()
	offsets, err := kadm.NewClient(b.publisher.Client()).FetchOffsets(t.Context(), b.group)
	if !errors.Is(err, kerr.GroupIDNotFound) && !errors.Is(err, kerr.CoordinatorNotAvailable) {
		require.NoError(t, err)
	}
	out := map[int32]kadm.Offset{}
	for p, o := range offsets[b.topic] {
		out[p] = o.Offset
	}
	return out
}

func (b *bench) waitCommitted(t *testing.T, partition int32, offset int64) {
	t.Helper()
	require.Eventually(t, func() bool { return b.committed(t)[partition].At >= offset }, eventually, 10*time.Millisecond)
}

// eachBroker runs the stream suite against kfake and against a real Kafka.
func eachBroker(t *testing.T, run func(t *testing.T, cfg kafka.Config)) {
	t.Helper()
	t.Run("kfake", func(t *testing.T) {
		_, cfg := fake(t)
		run(t, cfg)
	})
	t.Run("kafka", func(t *testing.T) {
		if testing.Short() {
			t.Skip("real Kafka is left out by -short")
		}
		run(t, config(kafkatest.RealTarget(t).Brokers...))
	})
}

func TestStream(t *testing.T) {
	t.Parallel()
	eachBroker(t, func(t *testing.T, cfg kafka.Config) {
		for name, run := range map[string]func(*testing.T, kafka.Config){
			"all records are handled and committed":                streamHandlesAll,
			"records that were handled come again and are dropped": streamRedelivery,
			"poison goes to the dead letters, the rest goes on":    streamPoison,
			"what is unavailable is waited for without a commit":   streamUnavailable,
			"bounded retries end in a dead letter":                 streamBoundedRetry,
			"two consumers share and lose nothing":                 streamRebalance,
			"the watermark survives a restart":                     streamWatermark,
			"all partitions together":                              streamTogether,
			"a handler brings its own start and watermark":         streamOwnStart,
			"a paused partition goes on when there is room":        streamBackPressure,
			"ready is caught up":                                   streamReady,
			"a log below the commit is refused":                    streamLogLost,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t, cfg)
			})
		}
	})
}

func streamHandlesAll(t *testing.T, cfg kafka.Config) {
	b := newBench(t, cfg, 4)
	b.publish(t, 0, 2_000, 4)
	h := newRecorder()
	c := b.consume(t, h, nil)
	b.publish(t, 2_000, 2_400, 4)
	require.Eventually(t, func() bool { return h.distinct() == 2_400 }, eventually, 10*time.Millisecond)
	c.stop()
	h.requireRising(t)
	require.Len(t, h.revoked, 4, "the handler hears of the end")
	for p, o := range b.committed(t) {
		require.EqualValues(t, 600, o.At)
		require.Equal(t, "mekong1 watermark="+strconv.Itoa(2_396+int(p)), o.Metadata)
	}
}

func streamRedelivery(t *testing.T, cfg kafka.Config) {
	b := newBench(t, cfg, 2)
	b.publish(t, 0, 100, 2)
	b.publish(t, 0, 100, 2) // what a producer does that lost the answers
	b.publish(t, 50, 150, 2)
	h := newRecorder()
	c := b.consume(t, h, func(cfg *kafka.ConsumerConfig) { cfg.MaxRecords, cfg.QueueRecords = 7, 7 })
	b.waitCommitted(t, 0, 150)
	b.waitCommitted(t, 1, 150)
	c.stop()
	require.Equal(t, 150, h.distinct())
	for v, n := range h.handled {
		require.Equal(t, 1, n, v)
	}
	h.requireRising(t)
}

func streamPoison(t *testing.T, cfg kafka.Config) {
	b := newBench(t, cfg, 2)
	h := newRecorder()
	h.fail = func(r *kgo.Record) error {
		if string(r.Value) == "37" || string(r.Value) == "38" {
			return errs.New(errs.Invalid, "cannot_be_so", "No.")
		}
		return nil
	}
	h.reject = func(r *kgo.Record) error {
		if string(r.Value) == "61" {
			return errs.New(errs.NotFound, "no_such_thing", "No.")
		}
		return nil
	}
	b.publish(t, 0, 200, 2)
	c := b.consume(t, h, nil)
	b.waitCommitted(t, 0, 100)
	b.waitCommitted(t, 1, 100)
	c.stop()
	require.Equal(t, 197, h.distinct())
	h.requireRising(t)
	client, err := kafka.NewClient(cfg, kgo.ConsumeTopics(b.topic+kafka.DeadLetterSuffix), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	letters := map[string]*kgo.Record{}
	for len(letters) < 3 {
		fetches := client.PollFetches(t.Context())
		require.NoError(t, fetches.Err())
		for _, r := range fetches.Records() {
			letters[string(r.Value)] = r
		}
	}
	for value, code := range map[string]string{"37": "cannot_be_so", "38": "cannot_be_so", "61": "no_such_thing"} {
		l := letters[value]
		require.NotNil(t, l, value)
		require.Equal(t, value, string(l.Key))
		require.Equal(t, code, kafka.Header(l, kafka.HeaderDeadReason))
		require.Equal(t, b.topic, kafka.Header(l, kafka.HeaderDeadTopic))
		n, _ := strconv.Atoi(value)
		require.Equal(t, strconv.Itoa(n%2), kafka.Header(l, kafka.HeaderDeadPartition))
		require.Equal(t, strconv.Itoa(n/2), kafka.Header(l, kafka.HeaderDeadOffset))
		require.Equal(t, b.group, kafka.Header(l, kafka.HeaderDeadGroup))
		require.Equal(t, value, kafka.Header(l, kafka.HeaderSrcOffset), "headers of the record stay")
	}
}

func streamUnavailable(t *testing.T, cfg kafka.Config) {
	b := newBench(t, cfg, 2)
	var away atomic.Bool
	away.Store(true)
	tries := atomic.Int32{}
	h := newRecorder()
	h.fail = func(r *kgo.Record) error {
		if r.Partition == 1 && away.Load() {
			tries.Add(1)
			return errs.New(errs.Unavailable, "database_away", "No.")
		}
		return nil
	}
	b.publish(t, 0, 100, 2)
	c := b.consume(t, h, nil)
	b.waitCommitted(t, 0, 50)
	require.Eventually(t, func() bool { return tries.Load() > 8 }, eventually, 5*time.Millisecond)
	require.LessOrEqual(t, b.committed(t)[1].At, int64(0), "nothing is committed while the dependency is away")
	away.Store(false)
	b.waitCommitted(t, 1, 50)
	c.stop()
	require.Equal(t, 100, h.distinct())
	require.Empty(t, ends(t, cfg, b.topic+kafka.DeadLetterSuffix)[0])
}

func streamBoundedRetry(t *testing.T, cfg kafka.Config) {
	b := newBench(t, cfg, 1)
	var mu sync.Mutex
	tries := map[string]int{}
	h := newRecorder()
	h.fail = func(r *kgo.Record) error {
		mu.Lock()
		defer mu.Unlock()
		switch v := string(r.Value); v {
		case "5": // heals
			if tries[v]++; tries[v] < 3 {
				return errs.New(errs.Conflict, "lost_race", "No.")
			}
		case "9":
			tries[v]++
			return errors.New("a bug")
		case "12": // late, but comes
			if tries[v]++; tries[v] < 4 {
				return kafka.Late(errs.New(errs.NotFound, "not_yet", "No."))
			}
		}
		return nil
	}
	b.publish(t, 0, 20, 1)
	c := b.consume(t, h, nil)
	b.waitCommitted(t, 0, 20)
	c.stop()
	require.Equal(t, 19, h.distinct())
	require.Equal(t, 1, h.handled["5"])
	require.Equal(t, 1, h.handled["12"])
	require.GreaterOrEqual(t, tries["9"], 5)
	require.EqualValues(t, 1, ends(t, cfg, b.topic+kafka.DeadLetterSuffix)[0])
	require.Equal(t, []string{"9"}, values(t, cfg, b.topic+kafka.DeadLetterSuffix, 1)[0])
}

func streamRebalance(t *testing.T, cfg kafka.Config) {
	const partitions, total = 6, 6_000
	b := newBench(t, cfg, partitions)
	h := newRecorder() // one recorder for both: what one handled the other must not handle again
	small := func(cfg *kafka.ConsumerConfig) { cfg.MaxRecords, cfg.QueueRecords = 50, 100 }
	first := b.consume(t, h, small)
	published := make(chan struct{})
	go func() {
		defer close(published)
		for i := 0; i < total; i += 60 {
			b.publish(t, i, i+60, partitions)
		}
	}()
	require.Eventually(t, func() bool { return h.distinct() > total/10 }, eventually, time.Millisecond)
	second := b.consume(t, h, small)
	require.Eventually(t, func() bool { return second.Runner().Ready(t.Context()) == nil }, eventually, 5*time.Millisecond)
	<-published
	first.stop()
	b.publish(t, total, total+600, partitions)
	require.Eventually(t, func() bool { return h.distinct() == total+600 }, eventually, 10*time.Millisecond)
	second.stop()
	h.requireRising(t)
	for v, n := range h.handled {
		require.Equal(t, 1, n, "an orderly hand-over repeats nothing: %s", v)
	}
	require.NotEmpty(t, h.revoked)
}

func streamWatermark(t *testing.T, cfg kafka.Config) {
	b := newBench(t, cfg, 1)
	b.publish(t, 0, 100, 1)
	h := newRecorder()
	c := b.consume(t, h, nil)
	b.waitCommitted(t, 0, 100)
	c.stop()
	b.publish(t, 60, 130, 1) // a replay of the producer: 60–99 were handled
	again := newRecorder()
	c = b.consume(t, again, nil)
	b.waitCommitted(t, 0, 170)
	c.stop()
	require.Equal(t, 30, again.distinct())
	require.EqualValues(t, 100, again.order[0][0])
	require.EqualValues(t, 99, again.assigned[0].Watermark)
	require.EqualValues(t, 100, again.assigned[0].Committed)
}

func streamTogether(t *testing.T, cfg kafka.Config) {
	b := newBench(t, cfg, 4)
	b.publish(t, 0, 4_000, 4)
	h := newRecorder()
	c := b.consume(t, h, func(cfg *kafka.ConsumerConfig) {
		cfg.Together, cfg.MaxRecords, cfg.QueueRecords, cfg.MaxWait = true, 5_000, 5_000, 200*time.Millisecond
	})
	require.Eventually(t, func() bool { return h.distinct() == 4_000 }, eventually, 10*time.Millisecond)
	for p := range int32(4) {
		b.waitCommitted(t, p, 1_000)
	}
	c.stop()
	h.requireRising(t)
	require.Less(t, h.calls, 20, "records are gathered")
	require.Contains(t, h.batches, 4, "one call has the batches of all partitions")
}

func streamOwnStart(t *testing.T, cfg kafka.Config) {
	b := newBench(t, cfg, 1)
	b.publish(t, 0, 100, 1)
	h := newRecorder()
	failures := atomic.Int32{}
	h.assign = func(partitions []*kafka.Assignment) error {
		if failures.Add(1) < 3 {
			return errs.New(errs.Unavailable, "database_away", "No.")
		}
		partitions[0].Start, partitions[0].Watermark = 40, 59
		return nil
	}
	c := b.consume(t, h, nil)
	b.waitCommitted(t, 0, 100)
	c.stop()
	require.Equal(t, 40, h.distinct())
	require.EqualValues(t, 60, h.order[0][0])

	h.assign = func([]*kafka.Assignment) error { return errs.New(errs.Precondition, "schema_old", "Migrate first.") }
	c = b.consume(t, h, nil)
	require.ErrorContains(t, <-c.done, "Migrate first")
}

func streamBackPressure(t *testing.T, cfg kafka.Config) {
	b := newBench(t, cfg, 2)
	gate := make(chan struct{})
	h := newRecorder()
	h.fail = func(r *kgo.Record) error {
		if r.Partition == 0 {
			<-gate
		}
		return nil
	}
	c := b.consume(t, h, func(cfg *kafka.ConsumerConfig) { cfg.MaxRecords, cfg.QueueRecords = 10, 20 })
	b.publish(t, 0, 2_000, 2)
	b.waitCommitted(t, 1, 1_000) // the other partition is not held up
	close(gate)
	b.waitCommitted(t, 0, 1_000)
	c.stop()
	require.Equal(t, 2_000, h.distinct())
	h.requireRising(t)
}

func streamReady(t *testing.T, cfg kafka.Config) {
	b := newBench(t, cfg, 2)
	b.publish(t, 0, 100, 2)
	gate := make(chan struct{})
	h := newRecorder()
	h.fail = func(*kgo.Record) error { <-gate; return nil }
	c := b.consume(t, h, func(cfg *kafka.ConsumerConfig) { cfg.CaughtUpLag = 5 })
	ready := c.Runner().Ready
	require.Equal(t, "not_assigned", errs.CodeOf(ready(t.Context())))
	require.Eventually(t, func() bool { return errs.CodeOf(ready(t.Context())) == "catching_up" }, eventually, time.Millisecond)
	close(gate)
	require.Eventually(t, func() bool { return ready(t.Context()) == nil }, eventually, time.Millisecond)
	c.stop()
}

func streamLogLost(t *testing.T, cfg kafka.Config) {
	b := newBench(t, cfg, 1)
	b.publish(t, 0, 10, 1)
	commit := kadm.Offsets{}
	commit.AddOffset(b.topic, 0, 11, -1)
	require.NoError(t, kadm.NewClient(b.publisher.Client()).CommitAllOffsets(t.Context(), b.group, commit))
	c := b.consume(t, newRecorder(), nil)
	err := <-c.done
	require.Equal(t, errs.Precondition, errs.KindOf(err))
	require.Equal(t, "log_lost", errs.CodeOf(err))
}

func TestConsumerNamesAMissingTopic(t *testing.T) {
	t.Parallel()
	_, cfg := fake(t)
	b := newBench(t, cfg, 1)
	_, err := kadm.NewClient(b.publisher.Client()).DeleteTopic(t.Context(), b.topic+kafka.DeadLetterSuffix)
	require.NoError(t, err)
	err = <-b.consume(t, newRecorder(), nil).done
	require.Equal(t, "topic_missing", errs.CodeOf(err))
	require.ErrorContains(t, err, kafka.DeadLetterSuffix)
}

func TestConsumerWaitsForDeadLettersToBeWritten(t *testing.T) {
	t.Parallel()
	cluster, cfg := fake(t)
	b := newBench(t, cfg, 1)
	b.publish(t, 0, 10, 1)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: b.topic + kafka.DeadLetterSuffix, Err: kerr.PolicyViolation, Count: -1})
	h := newRecorder()
	h.reject = func(r *kgo.Record) error {
		if string(r.Value) == "3" {
			return errs.New(errs.Invalid, "bad", "No.")
		}
		return nil
	}
	c := b.consume(t, h, nil)
	require.NoError(t, fault.Wait(t.Context(), 3))
	require.LessOrEqual(t, b.committed(t)[0].At, int64(0))
	fault.Remove()
	b.waitCommitted(t, 0, 10)
	c.stop()
	require.EqualValues(t, 1, ends(t, cfg, b.topic+kafka.DeadLetterSuffix)[0])
}

func TestConsumerStartsAndStopsAtAnyMoment(t *testing.T) {
	t.Parallel()
	_, cfg := fake(t)
	b := newBench(t, cfg, 3)
	b.publish(t, 0, 300, 3)
	h := newRecorder()
	for i := range 15 {
		c := b.consume(t, h, nil)
		if i%3 == 1 {
			require.Eventually(t, func() bool { return c.Runner().Ready(t.Context()) == nil }, eventually, time.Millisecond)
		}
		c.stop()
	}
	c := b.consume(t, h, nil)
	require.Eventually(t, func() bool { return h.distinct() == 300 }, eventually, 5*time.Millisecond)
	c.stop()
	h.requireRising(t)
}
