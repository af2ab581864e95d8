package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

const caseTimeout = 60 * time.Second

// Target is a broker under test.
type Target struct {
	Brokers []string
	// Restart kills the broker and starts it on the same data and address; nil when the test cannot.
	Restart func(t testing.TB)
}

// RunConformance checks what the project relies on from a broker.
func RunConformance(t *testing.T, target Target) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, Target)
	}{
		{"records come back in order with key, headers and time", conformOrder},
		{"a partition that was asked for is the one that is used", conformPartition},
		{"a group hands its partitions on and loses nothing", conformRebalance},
		{"commit metadata comes back", conformCommitMetadata},
		{"deleted records are gone and offsets go on", conformDeleteRecords},
		{"an offset out of range is an error and not a silent jump", conformOutOfRange},
		{"an idempotent producer goes on over a restart", conformRestart},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
}

func newClient(t *testing.T, target Target, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(target.Brokers...), kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(client.CloseAllowingRebalance)
	return client
}

func newTopic(ctx context.Context, t *testing.T, client *kgo.Client, partitions int32) string {
	t.Helper()
	topic := "conformance." + ids.New()
	_, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 1, nil, topic)
	require.NoError(t, err)
	return topic
}

func caseContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), caseTimeout)
	t.Cleanup(cancel)
	return ctx
}

// read polls until n records came.
func read(ctx context.Context, t *testing.T, client *kgo.Client, n int) []*kgo.Record {
	t.Helper()
	var out []*kgo.Record
	for len(out) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		out = append(out, fetches.Records()...)
	}
	return out
}

func conformOrder(t *testing.T, target Target) {
	ctx := caseContext(t)
	client := newClient(t, target, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	topic := newTopic(ctx, t, client, 1)
	at := time.UnixMilli(1_700_000_000_123)
	const n = 500
	for i := range n {
		client.Produce(ctx, &kgo.Record{
			Topic: topic, Key: []byte("k" + strconv.Itoa(i)), Value: []byte(strconv.Itoa(i)), Timestamp: at,
			Headers: []kgo.RecordHeader{{Key: "src_offset", Value: []byte(strconv.Itoa(i))}, {Key: "empty", Value: nil}},
		}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error("produce:", err)
			}
		})
	}
	require.NoError(t, client.Flush(ctx))
	consumer := newClient(t, target, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for i, r := range read(ctx, t, consumer, n) {
		require.EqualValues(t, i, r.Offset)
		require.Equal(t, strconv.Itoa(i), string(r.Value))
		require.Equal(t, "k"+strconv.Itoa(i), string(r.Key))
		require.Len(t, r.Headers, 2)
		require.Equal(t, strconv.Itoa(i), string(r.Headers[0].Value))
		require.Equal(t, at.UnixMilli(), r.Timestamp.UnixMilli())
	}
}

func conformPartition(t *testing.T, target Target) {
	ctx := caseContext(t)
	client := newClient(t, target, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	topic := newTopic(ctx, t, client, 6)
	for p := range int32(6) {
		r, err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: p, Value: []byte("x")}).First()
		require.NoError(t, err)
		require.Equal(t, p, r.Partition)
		require.Zero(t, r.Offset)
	}
}

func conformRebalance(t *testing.T, target Target) {
	ctx := caseContext(t)
	producer := newClient(t, target)
	topic := newTopic(ctx, t, producer, 4)
	group := "conformance." + ids.New()
	const n = 400
	produced := make(chan error, 1)
	seen := map[string]bool{}
	join := func() *kgo.Client {
		return newClient(t, target, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(200*time.Millisecond))
	}
	first := join()
	go func() {
		for i := range n {
			if err := producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(i)), Value: []byte(strconv.Itoa(i))}).FirstErr(); err != nil {
				produced <- err
				return
			}
		}
		produced <- nil
	}()
	var second *kgo.Client
	secondGot := 0
	poll := func(c *kgo.Client) int {
		pollCtx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		records := c.PollFetches(pollCtx).Records()
		for _, r := range records {
			seen[string(r.Value)] = true
		}
		if len(records) > 0 {
			// A commit that a rebalance overtakes only means that records come twice.
			_ = c.CommitRecords(ctx, records...)
		}
		return len(records)
	}
	for len(seen) < n || secondGot == 0 {
		require.NoError(t, ctx.Err(), "%d of %d records came, %d at the second member", len(seen), n, secondGot)
		poll(first)
		switch {
		case second == nil && len(seen) > n/10:
			second = join()
		case second != nil:
			secondGot += poll(second)
			if len(seen) == n { // all came before the second member had its part: give it something to do
				require.NoError(t, producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("0")}).FirstErr())
			}
		}
	}
	require.NoError(t, <-produced)
}

func conformCommitMetadata(t *testing.T, target Target) {
	ctx := caseContext(t)
	client := newClient(t, target)
	topic := newTopic(ctx, t, client, 2)
	group := "conformance." + ids.New()
	for range 5 {
		require.NoError(t, client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("x"), Key: []byte("same")}).FirstErr())
	}
	member := newClient(t, target, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	records := read(ctx, t, member, 5)
	last := records[4]
	var commitErr error
	commitCtx := kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		metadata := "watermark=77"
		req.Topics[0].Partitions[0].Metadata = &metadata
		return nil
	})
	member.CommitOffsetsSync(commitCtx, map[string]map[int32]kgo.EpochOffset{topic: {last.Partition: {Epoch: -1, Offset: last.Offset + 1}}},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if commitErr = err; err == nil {
				commitErr = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
			}
		})
	require.NoError(t, commitErr)
	offsets, err := kadm.NewClient(client).FetchOffsets(ctx, group)
	require.NoError(t, err)
	got, ok := offsets.Lookup(topic, last.Partition)
	require.True(t, ok)
	require.Equal(t, "watermark=77", got.Metadata)
	require.Equal(t, last.Offset+1, got.At)
}

func conformDeleteRecords(t *testing.T, target Target) {
	ctx := caseContext(t)
	client := newClient(t, target, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	topic := newTopic(ctx, t, client, 1)
	for range 10 {
		require.NoError(t, client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr())
	}
	admin := kadm.NewClient(client)
	_, err := admin.DeleteRecords(ctx, kadm.Offsets{topic: {0: {Topic: topic, Partition: 0, At: 9}}})
	require.NoError(t, err)
	starts, err := admin.ListStartOffsets(ctx, topic)
	require.NoError(t, err)
	require.EqualValues(t, 9, starts[topic][0].Offset)
	r, err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("y")}).First()
	require.NoError(t, err)
	require.EqualValues(t, 10, r.Offset)
	consumer := newClient(t, target, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.EqualValues(t, 9, read(ctx, t, consumer, 1)[0].Offset)
}

func conformOutOfRange(t *testing.T, target Target) {
	ctx := caseContext(t)
	client := newClient(t, target, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	topic := newTopic(ctx, t, client, 1)
	require.NoError(t, client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr())
	consumer := newClient(t, target, kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(1_000)}}))
	for {
		fetches := consumer.PollFetches(ctx)
		require.Empty(t, fetches.Records())
		if err := fetches.Err(); err != nil {
			require.True(t, errors.Is(err, kerr.OffsetOutOfRange), "%v", err)
			return
		}
	}
}

func conformRestart(t *testing.T, target Target) {
	if target.Restart == nil {
		t.Log("this target cannot be restarted by the test")
		return
	}
	ctx := caseContext(t)
	client := newClient(t, target, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	topic := newTopic(ctx, t, client, 1)
	acked := map[string]bool{}
	produce := func(from, to int) {
		for i := from; i < to; i++ {
			v := fmt.Sprintf("v%04d", i)
			require.NoError(t, client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr())
			acked[v] = true
		}
	}
	produce(0, 50)
	target.Restart(t)
	produce(50, 100)
	consumer := newClient(t, target, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	last := ""
	for len(acked) > 0 {
		for _, r := range read(ctx, t, consumer, 1) {
			require.GreaterOrEqual(t, string(r.Value), last, "records came out of order")
			last = string(r.Value)
			delete(acked, last)
		}
	}
}
