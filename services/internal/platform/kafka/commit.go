package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const commitTimeout = 10 * time.Second

// commitLoop commits finished work every CommitInterval until ctx is done.
func (c *Consumer) commitLoop(ctx context.Context) {
	for c.sleep(ctx, nil, c.cfg.CommitInterval) {
		c.commit(ctx, c.owned())
	}
}

type commitPoint struct{ position, watermark int64 }

// commit writes positions and watermarks of the partitions that moved, both in one request. A failed commit is not an
// error: the next one carries the newer state, and a crash before it repeats work.
func (c *Consumer) commit(ctx context.Context, tps []TopicPartition) {
	c.commitMu.Lock()
	defer c.commitMu.Unlock()
	points := map[TopicPartition]commitPoint{}
	offsets := map[string]map[int32]kgo.EpochOffset{}
	c.mu.Lock()
	client := c.client
	for _, tp := range tps {
		p := c.parts[tp]
		// A partition at its start without a commit has nothing to say yet.
		if p == nil || p.position == p.committed || p.position <= 0 {
			continue
		}
		points[tp] = commitPoint{position: p.position, watermark: p.watermark}
		if offsets[tp.Topic] == nil {
			offsets[tp.Topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[tp.Topic][tp.Partition] = kgo.EpochOffset{Epoch: -1, Offset: p.position}
	}
	c.mu.Unlock()
	if len(points) == 0 || client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				part := &req.Topics[i].Partitions[j]
				if point, ok := points[TopicPartition{Topic: req.Topics[i].Topic, Partition: part.Partition}]; ok {
					metadata := encodeWatermark(point.watermark)
					part.Metadata = &metadata
				}
			}
		}
		return nil
	})
	client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		c.committed(points, resp, err)
	})
}

func (c *Consumer) committed(points map[TopicPartition]commitPoint, resp *kmsg.OffsetCommitResponse, err error) {
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			c.log.Warn("committing offsets failed, the next commit includes them", "error", err)
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range resp.Topics {
		for _, part := range t.Partitions {
			if err := kerr.ErrorForCode(part.ErrorCode); err != nil {
				c.log.Warn("committing an offset failed, the next commit includes it", "topic", t.Topic, "partition", part.Partition, "error", err)
				continue
			}
			tp := TopicPartition{Topic: t.Topic, Partition: part.Partition}
			if p := c.parts[tp]; p != nil {
				p.committed = points[tp].position
			}
		}
	}
}
