package identity

import (
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/identity/dedupe"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// consumer turns accepted events into resolved ones: decode, drop duplicates, find the person, publish, and only then
// let the offset be committed.
//
// It may die between any two steps. After the dedupe put: the event comes again and finds its own offset stored, so it is
// no duplicate and goes out. After publishing: the event comes again, goes out again with the same src_offset, and who
// reads it drops it.
type consumer struct {
	dedupe    *dedupe.Store
	rebuild   *rebuilder
	service   *Service
	publisher Publisher
	metrics   *metrics
}

// Assigned implements kafka.Handler: before an event of a partition is judged, everything before it is known.
func (c *consumer) Assigned(ctx context.Context, assigned []*kafka.Assignment) error {
	for _, a := range assigned {
		if err := c.rebuild.fill(ctx, a.Partition, a.Start); err != nil {
			return patient(err)
		}
		if err := c.service.Take(ctx, a.Partition, a.Start); err != nil {
			return patient(err)
		}
	}
	return nil
}

// Revoked implements kafka.Handler.
func (c *consumer) Revoked(_ context.Context, partitions []kafka.TopicPartition) {
	for _, p := range partitions {
		c.service.Release(p.Partition)
	}
}

// Handle implements kafka.Handler.
func (c *consumer) Handle(ctx context.Context, batches []*kafka.Batch) error {
	for _, b := range batches {
		if err := c.handle(ctx, b); err != nil {
			return patient(err)
		}
	}
	return nil
}

func (c *consumer) handle(ctx context.Context, b *kafka.Batch) error {
	events, records := decodeBatch(b)
	entries := make([]dedupe.Entry, len(events))
	for i := range events {
		entries[i] = dedupe.Entry{Hash: events[i].Hash, Offset: events[i].Offset}
	}
	last := b.Records[len(b.Records)-1]
	duplicate, err := c.dedupe.Apply(ctx, b.Partition, entries, last.Offset, last.Timestamp)
	if err != nil {
		return err
	}
	consumed := len(events)
	fresh := 0
	for i := range events {
		if !duplicate[i] {
			events[fresh], records[fresh] = events[i], records[i]
			fresh++
		}
	}
	events, records = events[:fresh], records[:fresh]
	profiles, err := c.service.Resolve(ctx, b.Partition, events)
	if err != nil {
		return err
	}
	if _, err := c.publisher.Publish(ctx, resolvedRecords(ctx, b.Partition, events, profiles, records)...); err != nil {
		return err
	}
	c.metrics.consumed(ctx, fresh, consumed-fresh, len(b.Records)-consumed)
	return nil
}

// decodeBatch returns the events of b with their records; what is no event becomes a dead letter.
func decodeBatch(b *kafka.Batch) ([]Event, []*kgo.Record) {
	events, records := make([]Event, 0, len(b.Records)), make([]*kgo.Record, 0, len(b.Records))
	for _, rec := range b.Records {
		e, err := decodeEvent(rec)
		if err != nil {
			b.Reject(rec, err)
			continue
		}
		events, records = append(events, e), append(records, rec)
	}
	return events, records
}

func decodeEvent(rec *kgo.Record) (Event, error) {
	f, err := decodeFields(rec.Value)
	if err != nil {
		return Event{}, err
	}
	return newEvent(f, rec.Offset)
}

// headersPerRecord is how many headers a resolved event has besides those of its trace.
const headersPerRecord = 6

// resolvedRecords makes the output: same key and partition as the input, the event's bytes untouched.
func resolvedRecords(ctx context.Context, partition int32, events []Event, profiles []Profile, inputs []*kgo.Record) []*kgo.Record {
	size := 0
	for i := range events {
		size += resolvedSize(inputs[i].Value, &events[i])
	}
	// One piece of memory each for all values, records and headers of the batch.
	buf := make([]byte, 0, size)
	out := make([]*kgo.Record, len(events))
	records := make([]kgo.Record, len(events))
	headers := make([]kgo.RecordHeader, 0, len(events)*(headersPerRecord+2))
	for i := range events {
		e, in, p := &events[i], inputs[i], profiles[i]
		from := len(buf)
		buf = appendResolved(buf, in.Value, e, p, partition)
		first := len(headers)
		headers = append(headers,
			kgo.RecordHeader{Key: kafka.HeaderWorkspace, Value: []byte(e.WorkspaceID)},
			kgo.RecordHeader{Key: kafka.HeaderMessageType, Value: []byte(resolvedEventMessage)},
			kgo.RecordHeader{Key: kafka.HeaderSchemaVersion, Value: []byte(schemaVersion)},
			kgo.RecordHeader{Key: kafka.HeaderSrcOffset, Value: strconv.AppendInt(nil, e.Offset, 10)},
			kgo.RecordHeader{Key: kafka.HeaderProfileID, Value: []byte(p.ID)},
			kgo.RecordHeader{Key: kafka.HeaderProfileVersion, Value: strconv.AppendInt(nil, p.Version, 10)})
		for _, h := range in.Headers {
			// Without a tracer here the trace still goes on; with one, these are replaced.
			if h.Key == kafka.HeaderTraceparent || h.Key == headerTracestate {
				headers = append(headers, h)
			}
		}
		rec := &records[i]
		*rec = kgo.Record{
			Topic: stream.ResolvedEvents, Key: in.Key, Value: buf[from:len(buf):len(buf)],
			Headers: headers[first:len(headers):len(headers)], Context: in.Context,
		}
		kafka.PinPartition(ctx, rec, partition)
		out[i] = rec
	}
	return out
}

const headerTracestate = "tracestate"

// patient keeps faults of ours from becoming dead letters: once an event was decoded, only its own content (Invalid) can
// be at fault, and everything else is waited for.
func patient(err error) error {
	switch errs.KindOf(err) {
	case errs.Invalid, errs.Unavailable, errs.RateLimited:
		return err
	default:
		return errs.Wrap(err, errs.Unavailable, errs.CodeOf(err), "Events cannot be resolved for now: "+errs.MessageOf(err))
	}
}
