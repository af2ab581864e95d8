package collector

import (
	"bytes"
	"context"
	"time"

	"github.com/mekong-cdp/mekong/services/collector/spool"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// kafkaLog is the door without a volume: an event is durable once Kafka has acknowledged it.
type kafkaLog struct{ publisher publisher }

const kafkaRetryAfter = 2 * time.Second

// Append implements Log. A request of which only a part was acknowledged fails as a whole; what is sent again then is
// dropped by identity as a duplicate.
func (l kafkaLog) Append(ctx context.Context, records []spool.Record) error {
	if len(records) == 0 {
		return nil
	}
	own := make([]spool.Record, len(records))
	for i, r := range records {
		// A call that runs out of time leaves its records with the client, while the caller reuses its memory.
		own[i] = spool.Record{Topic: r.Topic, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value), Headers: r.Headers}
	}
	_, err := l.publisher.Publish(ctx, kafkaRecords(own)...)
	if err == nil {
		return nil
	}
	if errs.KindOf(err) != errs.Unavailable {
		return err
	}
	return errs.Wrap(err, errs.Unavailable, "kafka_away", "Events cannot be stored right now; send them again.").
		WithRetryAfter(max(errs.RetryAfterOf(err), kafkaRetryAfter))
}
