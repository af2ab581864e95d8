package kafka

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const instrumentation = "github.com/mekong-cdp/mekong/services/internal/platform/kafka"

type publisherMetrics struct {
	latency metric.Float64Histogram
	records metric.Int64Counter
	errors  metric.Int64Counter
}

func newPublisherMetrics() (publisherMetrics, error) {
	meter := otel.Meter(instrumentation)
	latency, err1 := meter.Float64Histogram("mekong.kafka.publish.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from Publish to the acknowledgement of its last record"))
	records, err2 := meter.Int64Counter("mekong.kafka.publish.records", metric.WithDescription("Records acknowledged"))
	failures, err3 := meter.Int64Counter("mekong.kafka.publish.errors", metric.WithDescription("Publish calls that failed, by kind of error"))
	return publisherMetrics{latency: latency, records: records, errors: failures}, errors.Join(err1, err2, err3)
}

func (publisherMetrics) start() time.Time { return time.Now() }

// finish notes the end of one call.
func (m publisherMetrics) finish(ctx context.Context, started time.Time, acked int, err error) {
	m.latency.Record(ctx, time.Since(started).Seconds())
	m.records.Add(ctx, int64(acked))
	if err != nil {
		m.errors.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", errs.KindOf(err).String())))
	}
}
