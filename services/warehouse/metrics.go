package warehouse

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
)

// metrics are the instruments of the context.
type metrics struct {
	rows        metric.Int64Counter
	drops       metric.Int64Counter
	refusals    metric.Int64Counter
	recoveries  metric.Int64Counter
	sweeps      metric.Int64Counter
	batchRows   metric.Int64Histogram
	batchTime   metric.Float64Histogram
	delay       metric.Float64Histogram
	unregister  func() error
	lastCommit  atomic.Int64 // milliseconds since 1970, 0 before the first
	oldestReady atomic.Int64 // receipt of the oldest event that is being written, 0 when none is
}

func newMetrics(clk clock.Clock) (*metrics, error) {
	meter := otel.Meter("mekong/warehouse")
	m := &metrics{}
	var err error
	counter := func(name, text string) metric.Int64Counter {
		c, e := meter.Int64Counter(name, metric.WithDescription(text))
		if err == nil {
			err = e
		}
		return c
	}
	m.rows = counter("mekong.warehouse.rows", "Events stored.")
	m.drops = counter("mekong.warehouse.dropped", "Events dropped because they are at or below the watermark: stored before.")
	m.refusals = counter("mekong.warehouse.refused", "Events of which ClickHouse took the documents as text only.")
	m.recoveries = counter("mekong.warehouse.recoveries", "Batches with an unknown end, by what was found of them.")
	m.sweeps = counter("mekong.warehouse.swept", "Aborted batches whose rows arrived late and were removed.")
	histogram := func(name, unit, text string, bounds ...float64) metric.Float64Histogram {
		h, e := meter.Float64Histogram(name, metric.WithUnit(unit), metric.WithDescription(text), metric.WithExplicitBucketBoundaries(bounds...))
		if err == nil {
			err = e
		}
		return h
	}
	m.batchTime = histogram("mekong.warehouse.batch.duration", "s", "Time from announcing a batch to its commit.", .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30)
	m.delay = histogram("mekong.warehouse.delay", "s", "Time from the receipt of the oldest event of a batch to its commit.", .1, .25, .5, 1, 1.5, 2.5, 5, 10, 30, 60, 300, 3600)
	batchRows, e := meter.Int64Histogram("mekong.warehouse.batch.rows", metric.WithDescription("Rows of a batch."),
		metric.WithExplicitBucketBoundaries(1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000))
	m.batchRows = batchRows
	freshness, e2 := meter.Float64ObservableGauge("mekong.warehouse.freshness", metric.WithUnit("s"),
		metric.WithDescription("Seconds since the newest commit of a batch."))
	pending, e3 := meter.Float64ObservableGauge("mekong.warehouse.pending.age", metric.WithUnit("s"),
		metric.WithDescription("Seconds since the receipt of the oldest event that is being written, 0 when none is."))
	for _, one := range []error{err, e, e2, e3} {
		if one != nil {
			return nil, one
		}
	}
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		now := clk.Now().UnixMilli()
		if at := m.lastCommit.Load(); at > 0 {
			o.ObserveFloat64(freshness, float64(now-at)/1000)
		}
		age := 0.0
		if at := m.oldestReady.Load(); at > 0 {
			age = float64(now-at) / 1000
		}
		o.ObserveFloat64(pending, age)
		return nil
	}, freshness, pending)
	if err != nil {
		return nil, err
	}
	m.unregister = registration.Unregister
	return m, nil
}

func (m *metrics) announced(rows []*Row) { m.oldestReady.Store(oldest(rows)) }

func (m *metrics) stored(ctx context.Context, now time.Time, took time.Duration, rows []*Row) {
	m.rows.Add(ctx, int64(len(rows)))
	m.batchRows.Record(ctx, int64(len(rows)))
	m.batchTime.Record(ctx, took.Seconds())
	m.delay.Record(ctx, float64(now.UnixMilli()-oldest(rows))/1000)
	m.lastCommit.Store(now.UnixMilli())
	m.oldestReady.Store(0)
}

func (m *metrics) dropped(ctx context.Context, n int) {
	if n > 0 {
		m.drops.Add(ctx, int64(n))
	}
}

func (m *metrics) refused(ctx context.Context, n int) { m.refusals.Add(ctx, int64(n)) }

func (m *metrics) settled(ctx context.Context, outcome Outcome) {
	m.recoveries.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", string(outcome))))
}

func (m *metrics) swept(ctx context.Context) { m.sweeps.Add(ctx, 1) }

func oldest(rows []*Row) int64 {
	at := rows[0].ReceivedAt
	for _, row := range rows {
		at = min(at, row.ReceivedAt)
	}
	return at
}
