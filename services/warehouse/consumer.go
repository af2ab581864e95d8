package warehouse

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// consumerConfig reads resolved events, those of all partitions together.
func consumerConfig(cfg Config) kafka.ConsumerConfig {
	c := kafka.DefaultConsumerConfig(stream.GroupWarehouse, stream.ResolvedEvents)
	c.Together, c.DropBelowWatermark = true, true
	c.MaxRecords, c.QueueRecords = cfg.MaxRows, cfg.MaxRows
	c.MaxWait = cfg.FlushInterval
	return c
}

// handler implements kafka.Handler: it turns records into rows and stores them.
type handler struct {
	log *slog.Logger

	mu      sync.Mutex // partitions may be assigned while others are handled
	service *Service
	builder *Builder
	event   identityv1.ResolvedEvent
}

// Assigned takes partitions over: what an earlier owner left unsettled is settled, and our own watermarks are set.
func (h *handler) Assigned(ctx context.Context, partitions []*kafka.Assignment) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	numbers := make([]int32, len(partitions))
	for i, p := range partitions {
		numbers[i] = p.Partition
	}
	slices.Sort(numbers)
	if err := h.service.Reload(ctx, numbers); err != nil {
		return retryable(err)
	}
	for _, p := range partitions {
		mark := noOffset
		if known, ok := h.service.marks[p.Partition]; ok {
			mark = known.Offset
		}
		if p.Watermark > mark && p.Start > 0 {
			// Kafka believes that more is stored than the ledger knows: the ledger was restored from a backup.
			h.log.WarnContext(ctx, "the ledger is behind the consumer group, the log is read from its start",
				"partition", p.Partition, "stored", mark, "committed", p.Watermark)
			p.Start = 0
		}
		p.Watermark = mark
	}
	return nil
}

// Handle stores the events of batches. Records that can never be a row are rejected; any other failure is worth waiting
// for, since losing events to the dead letters because of a missing table would be worse.
func (h *handler) Handle(ctx context.Context, batches []*kafka.Batch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, b := range batches {
		n += len(b.Records)
	}
	rows := make([]*Row, 0, n)
	for _, b := range batches {
		for _, record := range b.Records {
			row, err := h.row(record.Value, b.Partition)
			if err != nil {
				b.Reject(record, err)
				continue
			}
			rows = append(rows, row)
		}
	}
	return retryable(h.service.Store(ctx, rows))
}

// Revoked implements kafka.Handler: nothing is kept for a partition but its watermark, which the ledger checks.
func (h *handler) Revoked(context.Context, []kafka.TopicPartition) {}

func (h *handler) row(value []byte, partition int32) (*Row, error) {
	if err := proto.Unmarshal(value, &h.event); err != nil {
		return nil, errs.Wrap(err, errs.Invalid, "event_malformed", "the record is not a mekong.identity.v1.ResolvedEvent")
	}
	row, err := h.builder.Build(&h.event)
	if err != nil {
		return nil, err
	}
	if row.Partition != partition {
		return nil, invalid("partition_mismatch", "the event names another partition than the one it lies in")
	}
	return row, nil
}

// retryable makes the consumer wait and try again, whatever kind the error has.
func retryable(err error) error {
	if err == nil || errs.KindOf(err) == errs.Unavailable {
		return err
	}
	return errs.Wrap(err, errs.Unavailable, errs.CodeOf(err), errs.MessageOf(err))
}
