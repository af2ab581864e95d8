package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kotel"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// maxLinks bounds how many record traces the span of one batch points to.
const maxLinks = 32

type consumerMetrics struct {
	group       attribute.KeyValue
	meter       metric.Meter
	tracer      trace.Tracer
	lag         metric.Int64ObservableGauge
	records     metric.Int64Counter
	droppedRecs metric.Int64Counter
	errors      metric.Int64Counter
	retries     metric.Int64Counter
	deadLetters metric.Int64Counter
}

func newConsumerMetrics(group string) (*consumerMetrics, error) {
	meter := otel.Meter(instrumentation)
	m := &consumerMetrics{group: attribute.String("group", group), meter: meter, tracer: otel.Tracer(instrumentation)}
	var err [6]error
	m.lag, err[0] = meter.Int64ObservableGauge("mekong.kafka.consumer.lag", metric.WithDescription("Records between the handled position and the end of the log"))
	m.records, err[1] = meter.Int64Counter("mekong.kafka.consumer.records", metric.WithDescription("Records handled"))
	m.droppedRecs, err[2] = meter.Int64Counter("mekong.kafka.consumer.dropped", metric.WithDescription("Records dropped because their src_offset was not above the watermark"))
	m.errors, err[3] = meter.Int64Counter("mekong.kafka.consumer.errors", metric.WithDescription("Failed tries, by kind of error"))
	m.retries, err[4] = meter.Int64Counter("mekong.kafka.consumer.retries", metric.WithDescription("Tries after a failure"))
	m.deadLetters, err[5] = meter.Int64Counter("mekong.kafka.consumer.dead_letters", metric.WithDescription("Records given to a dead-letter topic, by reason"))
	return m, errors.Join(err[:]...)
}

// observeLag reports the lag of owned partitions until the returned function is called.
func (m *consumerMetrics) observeLag(c *Consumer) (stop func(), err error) {
	reg, err := m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for tp, p := range c.parts {
			o.ObserveInt64(m.lag, max(p.highWatermark-p.position, 0), metric.WithAttributes(m.group,
				attribute.String("topic", tp.Topic), attribute.Int("partition", int(tp.Partition))))
		}
		return nil
	}, m.lag)
	if err != nil {
		return nil, err
	}
	return func() { _ = reg.Unregister() }, nil
}

func (m *consumerMetrics) handled(ctx context.Context, topic string, n int) {
	m.records.Add(ctx, int64(n), metric.WithAttributes(m.group, attribute.String("topic", topic)))
}

func (m *consumerMetrics) dropped(ctx context.Context, n int) {
	if n > 0 {
		m.droppedRecs.Add(ctx, int64(n), metric.WithAttributes(m.group))
	}
}

func (m *consumerMetrics) failed(ctx context.Context, kind errs.Kind) {
	m.errors.Add(ctx, 1, metric.WithAttributes(m.group, attribute.String("kind", kind.String())))
}

func (m *consumerMetrics) retried(ctx context.Context, kind errs.Kind) {
	m.retries.Add(ctx, 1, metric.WithAttributes(m.group, attribute.String("kind", kind.String())))
}

func (m *consumerMetrics) deadLetter(ctx context.Context, topic, reason string) {
	m.deadLetters.Add(ctx, 1, metric.WithAttributes(m.group, attribute.String("topic", topic), attribute.String("reason", reason)))
}

// span starts the span of one Handle, linked to the traces that the records carry.
func (m *consumerMetrics) span(ctx context.Context, batches []*Batch) (context.Context, func(error)) {
	ctx, span := m.tracer.Start(ctx, "kafka consume", trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(m.group, attribute.String("topic", batches[0].Topic), attribute.Int("records", count(batches))))
	if span.IsRecording() {
		links := 0
		for _, b := range batches {
			for _, r := range b.Records {
				if sc := trace.SpanContextFromContext(RecordContext(ctx, r)); sc.IsSampled() && sc.IsRemote() && links < maxLinks {
					span.AddLink(trace.Link{SpanContext: sc})
					links++
				}
			}
		}
	}
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, errs.CodeOf(err))
		}
		span.End()
	}
}

// RecordContext returns ctx with the trace that rec carries in its headers.
func RecordContext(ctx context.Context, rec *kgo.Record) context.Context {
	return otel.GetTextMapPropagator().Extract(ctx, kotel.NewRecordCarrier(rec))
}
