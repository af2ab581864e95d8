package activation

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
)

// fragileStore cannot park for a while.
type fragileStore struct {
	*memoryStore
	failures atomic.Int32
}

func (s *fragileStore) Park(ctx context.Context, c claim, p parking) error {
	if s.failures.Add(-1) >= 0 {
		return errs.New(errs.Unavailable, "postgres_unavailable", "No.")
	}
	return s.memoryStore.Park(ctx, c, p)
}

// The log repeats a batch until it can be parked; a healthy destination must not get it again and again meanwhile.
func TestARepeatedBatchIsNotSentAgain(t *testing.T) {
	t.Parallel()
	store := &fragileStore{memoryStore: newMemoryStore()}
	store.failures.Store(3)
	well, ill, poisoned := newReceiver(t), newReceiver(t), newReceiver(t)
	ill.fails(http.StatusInternalServerError)
	poisoned.fails(http.StatusBadRequest)
	var ids []string
	for _, r := range []*receiver{well, ill, poisoned} {
		d := destination(testWorkspace, r.url)
		d.Filter, d.Webhook = "", Webhook{URL: r.url, BatchSize: 1, TimeoutS: 5}
		ids = append(ids, insert(t, store, d).ID)
	}
	cfg := quick()
	cfg.BreakAfter = 100
	f, err := newForwarder(cfg, slog.New(slog.DiscardHandler), clock.Real(), store, store, noOutcomes{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.close()) })
	require.NoError(t, f.Assigned(t.Context(), []*kafka.Assignment{{TopicPartition: kafka.TopicPartition{Partition: 4}}}))
	batch := &kafka.Batch{Partition: 4}
	for i := range 10 {
		value, err := proto.Marshal(eventOf(t, i, 0).resolved)
		require.NoError(t, err)
		batch.Records = append(batch.Records, &kgo.Record{Value: value})
	}
	tries := 0
	for ; ; tries++ {
		if err = f.Handle(t.Context(), []*kafka.Batch{batch}); err == nil {
			break
		}
		require.Equal(t, errs.Unavailable, errs.KindOf(err))
	}
	require.Positive(t, tries)
	require.Equal(t, 10, well.tries())
	require.Equal(t, 10, poisoned.tries())
	require.Len(t, store.dead[ids[2]], 10)
	require.Len(t, store.messages[ids[1]], 10)
	require.Empty(t, f.queue(4).reached, "nothing is kept of a batch that is done")

	f.Revoked(t.Context(), []kafka.TopicPartition{{Partition: 4}})
	require.Equal(t, "partition_not_owned", errs.CodeOf(f.Handle(t.Context(), []*kafka.Batch{batch})))
}

// An instance that lost a partition without knowing changes nothing of it.
func TestALostPartitionIsLeftAlone(t *testing.T) {
	t.Parallel()
	store := newMemoryStore()
	r := newReceiver(t)
	r.fails(http.StatusInternalServerError)
	d := destination(testWorkspace, "a")
	d.Filter, d.Webhook = "", Webhook{URL: r.url, BatchSize: 1, TimeoutS: 5}
	insert(t, store, d)
	f, err := newForwarder(quick(), slog.New(slog.DiscardHandler), clock.Real(), store, store, noOutcomes{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.close()) })
	require.NoError(t, f.Assigned(t.Context(), []*kafka.Assignment{{}}))
	newest := claimOf(t, store, 0)
	value, err := proto.Marshal(eventOf(t, 1, 0).resolved)
	require.NoError(t, err)
	q := f.queue(0)
	require.Equal(t, codePartitionTaken, errs.CodeOf(f.Handle(t.Context(), []*kafka.Batch{{Records: []*kgo.Record{{Value: value}}}})))
	require.Empty(t, loadAll(t, store, newest, d, time.Now().Add(time.Hour)).Devices)
	require.Error(t, q.ctx.Err(), "its retries have ended")
}

// Messages are tried for MaxAge; those that were never tried get at least one try.
func TestOldMessagesDie(t *testing.T) {
	t.Parallel()
	clk := clock.NewFake(start.Add(73 * time.Hour))
	f := &forwarder{cfg: DefaultConfig(), clock: clk}
	value, err := proto.Marshal(order())
	require.NoError(t, err)
	set, d := settlement{}, &dispatch{}
	items := newRetrier(f).items(&set, d, []parkedMessage{
		{MessageID: "tried", Value: value, Attempts: 4, ParkedAt: start},
		{MessageID: "untried", Value: value, ParkedAt: start},
		{MessageID: "young", Value: value, Attempts: 4, ParkedAt: start.Add(2 * time.Hour)},
		{MessageID: "broken", Value: []byte("\xff"), ParkedAt: start},
	})
	require.Len(t, items, 2)
	require.Equal(t, "untried", items[0].messageID)
	require.Equal(t, "young", items[1].messageID)
	require.Len(t, set.Dead, 2)
	require.Equal(t, "too_old", set.Dead[0].Reason)
	require.Equal(t, 4, set.Dead[0].Attempts)
	require.Equal(t, "not_a_resolved_event", set.Dead[1].Reason)
	require.Len(t, d.attempts, 1)
	require.Equal(t, refused, d.attempts[0].result.verdict, "the outcome log hears of it")
}
