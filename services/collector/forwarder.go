package collector

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/collector/spool"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
)

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second
	// fullPiece records are worth a round to Kafka of their own.
	fullPiece = 1000
)

// publisher is the part of platform/kafka that the door needs.
type publisher interface {
	Publish(ctx context.Context, records ...*kgo.Record) (kafka.Result, error)
}

// queue is the reading side of the spool.
type queue interface {
	Next(ctx context.Context, maxBytes int) (spool.Batch, error)
	Trim(end spool.Position) error
}

// forwarder takes the spool to Kafka, in order. While Kafka is away it waits, and the spool grows.
type forwarder struct {
	queue     queue
	publisher publisher
	bytes     int
	// linger is the least time between two pieces unless they are full: nobody waits for Kafka here, and a sync of the
	// broker for each handful of events would slow down the door's own.
	linger  time.Duration
	clock   clock.Clock
	log     *slog.Logger
	metrics *metrics
}

func (f *forwarder) run(ctx context.Context, started func()) error {
	started()
	for {
		batch, err := f.queue.Next(ctx, f.bytes)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // stopping is how this runner ends
		}
		if err != nil {
			return err
		}
		if !f.deliver(ctx, batch.Records) {
			return nil
		}
		if err := f.queue.Trim(batch.End); err != nil {
			// Nothing is lost: the next trim writes the position again, a crash before it forwards these records twice.
			f.log.WarnContext(ctx, "the spool's position cannot be written", "error", err)
		}
		if len(batch.Records) < fullPiece && !f.wait(ctx, f.linger) {
			return nil
		}
	}
}

// wait pauses; false when ctx ended first.
func (f *forwarder) wait(ctx context.Context, d time.Duration) bool {
	timer := f.clock.NewTimer(d)
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		timer.Stop()
		return false
	}
}

// deliver publishes records until all are acknowledged; false when ctx ended first.
func (f *forwarder) deliver(ctx context.Context, records []spool.Record) bool {
	pending := kafkaRecords(records)
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		done, err := f.publisher.Publish(ctx, pending...)
		if err == nil {
			f.metrics.forward(ctx, len(pending), true)
			return true
		}
		n := done.Prefix()
		f.metrics.forward(ctx, n, true)
		pending = pending[n:]
		f.metrics.forward(ctx, len(pending), false)
		if ctx.Err() != nil {
			return false
		}
		if n > 0 {
			backoff = minBackoff
		}
		f.log.WarnContext(ctx, "kafka takes no events; they wait in the spool", "waiting", len(pending), "retry_in", backoff, "error", err)
		// The client still holds the records of a call that ran out of time: it gets copies, never the same ones again.
		pending = copies(pending)
		if !f.wait(ctx, jitter(max(backoff, errs.RetryAfterOf(err)))) {
			return false
		}
	}
}

// jitter keeps several doors from coming back at the same moment.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

func kafkaRecords(records []spool.Record) []*kgo.Record {
	slab := make([]kgo.Record, len(records))
	out := make([]*kgo.Record, len(records))
	n := 0
	for i := range records {
		n += len(records[i].Headers)
	}
	headers := make([]kgo.RecordHeader, 0, n)
	for i := range records {
		first := len(headers)
		for _, h := range records[i].Headers {
			headers = append(headers, kgo.RecordHeader{Key: h.Name, Value: []byte(h.Value)})
		}
		slab[i] = kgo.Record{
			Topic: records[i].Topic, Key: records[i].Key, Value: records[i].Value,
			Headers: headers[first:len(headers):len(headers)],
		}
		out[i] = &slab[i]
	}
	return out
}

func copies(records []*kgo.Record) []*kgo.Record {
	slab := make([]kgo.Record, len(records))
	out := make([]*kgo.Record, len(records))
	for i, r := range records {
		slab[i] = kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers}
		out[i] = &slab[i]
	}
	return out
}
