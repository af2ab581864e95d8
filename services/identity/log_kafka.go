package identity

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
)

// kafkaLog reads stretches of single partitions, outside any consumer group.
type kafkaLog struct{ cfg kafka.Config }

// Bounds implements Log.
func (l kafkaLog) Bounds(ctx context.Context, topic string, partition int32) (start, end int64, err error) {
	client, err := kafka.NewClient(l.cfg)
	if err != nil {
		return 0, 0, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	starts, err1 := admin.ListStartOffsets(ctx, topic)
	ends, err2 := admin.ListEndOffsets(ctx, topic)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, errLogAway(err)
	}
	first, ok1 := starts.Lookup(topic, partition)
	last, ok2 := ends.Lookup(topic, partition)
	if err := errors.Join(first.Err, last.Err); err != nil || !ok1 || !ok2 {
		return 0, 0, errLogAway(err)
	}
	return first.Offset, last.Offset, nil
}

// Read implements Log.
func (l kafkaLog) Read(ctx context.Context, topic string, partition int32, from, to int64, each func([]*kgo.Record) (more bool, err error)) error {
	if from >= to {
		return nil
	}
	client, err := kafka.NewClient(l.cfg,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(from)}}),
		// What was deleted meanwhile must be an error: it has to be read elsewhere.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// Control records take offsets too; without them a stretch that ends with one would never end.
		kgo.KeepControlRecords(),
		kgo.KeepRetryableFetchErrors())
	if err != nil {
		return err
	}
	defer client.Close()
	for next := from; next < to; {
		fetches := client.PollRecords(ctx, 10_000)
		if err := fetches.Err(); err != nil {
			return errLogAway(err)
		}
		records := fetches.Records()
		if len(records) == 0 {
			continue
		}
		next = records[len(records)-1].Offset + 1
		more, err := each(within(records, to))
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// within returns the data records below the offset to.
func within(records []*kgo.Record, to int64) []*kgo.Record {
	kept := records[:0]
	for _, r := range records {
		if r.Offset < to && !r.Attrs.IsControl() {
			kept = append(kept, r)
		}
	}
	return kept
}

func errLogAway(err error) error {
	return errs.Wrap(err, errs.Unavailable, "log_unreadable", "A stretch of the log cannot be read; check that Kafka runs")
}
