package kafka

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// partition is what the consumer knows about a partition that it owns; guarded by Consumer.mu.
type partition struct {
	lane          *lane
	position      int64 // offset after the last handled record: what the next commit says
	watermark     int64
	committed     int64 // what the last commit said
	end           int64 // end of the log at assignment
	highWatermark int64
	caughtUp      bool
	queued        int
	queuedBytes   int
	paused        bool
}

// metadataPrefix marks the commit metadata as ours; the number behind it is the watermark.
const metadataPrefix = "mekong1 watermark="

func encodeWatermark(w int64) string { return metadataPrefix + strconv.FormatInt(w, 10) }

// decodeWatermark returns -1 for metadata that we did not write.
func decodeWatermark(s string) int64 {
	digits, ok := strings.CutPrefix(s, metadataPrefix)
	if !ok {
		return -1
	}
	w, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return -1
	}
	return w
}

// assign is called by the client with newly owned partitions, before it fetches from them. It runs until the handler
// has accepted them or the group takes them away again.
func (c *Consumer) assign(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	if len(offsets) == 0 {
		return offsets, nil
	}
	var assigned []*Assignment
	for attempt := 0; ; attempt++ {
		var err error
		assigned, err = c.loadAssignments(ctx, offsets)
		if err == nil {
			err = c.handler.Assigned(ctx, assigned)
		}
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if k := errs.KindOf(err); k != errs.Unavailable && k != errs.RateLimited {
			c.fail(err)
			return nil, err
		}
		c.log.Warn("partitions cannot be taken yet, trying again", "error", err)
		c.metrics.retried(ctx, errs.KindOf(err))
		if !c.sleep(ctx, nil, max(c.backoff(attempt), errs.RetryAfterOf(err))) {
			return nil, ctx.Err()
		}
	}
	out := map[string]map[int32]kgo.Offset{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range assigned {
		p := &partition{position: a.Start, watermark: a.Watermark, committed: a.Committed, end: a.End, highWatermark: a.End}
		p.caughtUp = a.End-p.position <= c.cfg.CaughtUpLag
		p.lane = c.together
		if !c.cfg.Together {
			p.lane = newLane(c)
		}
		c.parts[a.TopicPartition] = p
		p.lane.start(context.WithoutCancel(ctx))
		if out[a.Topic] == nil {
			out[a.Topic] = map[int32]kgo.Offset{}
		}
		out[a.Topic][a.Partition] = kgo.NewOffset().At(a.Start)
	}
	c.joined = true
	return out, nil
}

// loadAssignments reads commits with their metadata and the bounds of the logs.
func (c *Consumer) loadAssignments(ctx context.Context, offsets map[string]map[int32]kgo.Offset) ([]*Assignment, error) {
	c.mu.Lock()
	admin := kadm.NewClient(c.client)
	c.mu.Unlock()
	topics := make([]string, 0, len(offsets))
	for t := range offsets {
		topics = append(topics, t)
	}
	commits, err := admin.FetchOffsets(ctx, c.cfg.Group)
	if err != nil {
		return nil, errKafkaAway(err)
	}
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, errKafkaAway(err)
	}
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, errKafkaAway(err)
	}
	var out []*Assignment
	for t, ps := range offsets {
		for p := range ps {
			a := &Assignment{TopicPartition: TopicPartition{Topic: t, Partition: p}, Committed: -1, Watermark: -1}
			start, okS := starts.Lookup(t, p)
			end, okE := ends.Lookup(t, p)
			if !okS || !okE || start.Err != nil || end.Err != nil {
				return nil, errs.New(errs.Unavailable, "offsets_unknown", fmt.Sprintf("Kafka does not tell the bounds of partition %d of %s", p, t))
			}
			a.Start, a.End = start.Offset, end.Offset
			if commit, ok := commits.Lookup(t, p); ok {
				if commit.Err != nil {
					return nil, errKafkaAway(commit.Err)
				}
				if commit.At >= 0 {
					a.Committed, a.Watermark = commit.At, decodeWatermark(commit.Metadata)
				}
			}
			if err := c.checkBounds(a); err != nil {
				return nil, err
			}
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b *Assignment) int {
		if n := strings.Compare(a.Topic, b.Topic); n != 0 {
			return n
		}
		return int(a.Partition) - int(b.Partition)
	})
	return out, nil
}

// checkBounds sets Start from the commit and refuses a log that ends below it: that log was lost or recreated, and
// going on would skip whatever is written up to the old offset.
func (c *Consumer) checkBounds(a *Assignment) error {
	switch {
	case a.Committed > a.End:
		return errs.New(errs.Precondition, "log_lost", fmt.Sprintf(
			"Partition %d of %s ends at %d, but group %s has committed %d: the log was lost or recreated. Restore it, or delete the group's offsets to start over",
			a.Partition, a.Topic, a.End, c.cfg.Group, a.Committed))
	case a.Committed >= a.Start:
		a.Start = a.Committed
	case a.Committed >= 0:
		c.log.Error("records were deleted before they were consumed, going on behind them",
			"topic", a.Topic, "partition", a.Partition, "committed", a.Committed, "start", a.Start)
	}
	return nil
}

// release ends the work on partitions. With keep, a Handle under way may finish and what was done is committed; without,
// the partitions belong to somebody else already.
func (c *Consumer) release(ctx context.Context, tps []TopicPartition, keep bool) {
	c.releaseMu.Lock()
	defer c.releaseMu.Unlock()
	c.mu.Lock()
	lanes := map[*lane]struct{}{}
	var owned []TopicPartition
	for _, tp := range tps {
		if p := c.parts[tp]; p != nil {
			lanes[p.lane] = struct{}{}
			owned = append(owned, tp)
		}
	}
	c.mu.Unlock()
	if len(owned) == 0 {
		return
	}
	timeout := c.cfg.StopTimeout
	if !keep {
		timeout = 0
	}
	c.halt(ctx, lanes, timeout)
	if keep {
		c.commit(ctx, owned)
	}
	c.mu.Lock()
	for _, tp := range owned {
		p := c.parts[tp]
		delete(c.parts, tp)
		p.lane.forget(tp)
		if p.paused && c.client != nil {
			c.client.ResumeFetchPartitions(map[string][]int32{tp.Topic: {tp.Partition}})
		}
	}
	if c.cfg.Together && len(c.parts) > 0 {
		c.together.start(context.WithoutCancel(ctx))
	}
	c.mu.Unlock()
	c.handler.Revoked(ctx, owned)
}

func (c *Consumer) fail(err error) {
	select {
	case c.fatal <- err:
	default:
	}
}
