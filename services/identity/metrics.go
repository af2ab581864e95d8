package identity

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mekong-cdp/mekong/services/identity/dedupe"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Ways in which an event finds its profile.
const (
	pathCache       = "cache"
	pathRead        = "read"
	pathTransaction = "transaction"
)

type metrics struct {
	meter        metric.Meter
	events       metric.Int64Counter
	paths        metric.Int64Counter
	batches      metric.Int64Histogram
	transactions metric.Float64Histogram
	claims       metric.Int64Histogram
	lookups      metric.Int64Counter
	restored     metric.Int64Counter
	expired      metric.Int64Counter
}

func newMetrics() (*metrics, error) {
	m := &metrics{meter: otel.Meter("mekong/identity")}
	var err [8]error
	m.events, err[0] = m.meter.Int64Counter("mekong.identity.events",
		metric.WithDescription("Events consumed, by outcome: resolved, duplicate, rejected"))
	m.paths, err[1] = m.meter.Int64Counter("mekong.identity.resolutions",
		metric.WithDescription("Events resolved, by path: cache, read, transaction"))
	m.batches, err[2] = m.meter.Int64Histogram("mekong.identity.batch.size",
		metric.WithDescription("Events of one batch of a partition"))
	m.transactions, err[3] = m.meter.Float64Histogram("mekong.identity.transaction.duration", metric.WithUnit("s"),
		metric.WithDescription("Time of one transaction that decides about new identifiers, by kind of error"))
	m.claims, err[4] = m.meter.Int64Histogram("mekong.identity.transaction.size",
		metric.WithDescription("Events of one transaction that decides about new identifiers"))
	m.lookups, err[5] = m.meter.Int64Counter("mekong.identity.lookups",
		metric.WithDescription("Events that the door asked about, by whether they were seen"))
	m.restored, err[6] = m.meter.Int64Counter("mekong.identity.dedupe.restored",
		metric.WithDescription("Events given back to the dedupe window, by source: log, resolved, archive"))
	m.expired, err[7] = m.meter.Int64Counter("mekong.identity.dedupe.expired",
		metric.WithDescription("Events that left the dedupe window"))
	return m, errors.Join(err[:]...)
}

// observeDedupe reports size and reach of the dedupe window until stop is called.
func (m *metrics) observeDedupe(store *dedupe.Store, clk clock.Clock) (stop func() error, err error) {
	window, err1 := m.meter.Float64ObservableGauge("mekong.identity.dedupe.window", metric.WithUnit("s"),
		metric.WithDescription("How far back every partition recognises duplicates"))
	keys, err2 := m.meter.Int64ObservableGauge("mekong.identity.dedupe.keys", metric.WithDescription("Events that are remembered"))
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	reg, err := m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(keys, store.Keys())
		if w, ok := store.Window(clk.Now()); ok {
			o.ObserveFloat64(window, w.Seconds())
		}
		return nil
	}, window, keys)
	if err != nil {
		return nil, err
	}
	return reg.Unregister, nil
}

func (m *metrics) consumed(ctx context.Context, resolved, duplicates, rejected int) {
	m.batches.Record(ctx, int64(resolved+duplicates+rejected))
	for outcome, n := range map[string]int{"resolved": resolved, "duplicate": duplicates, "rejected": rejected} {
		if n > 0 {
			m.events.Add(ctx, int64(n), metric.WithAttributes(attribute.String("outcome", outcome)))
		}
	}
}

func (m *metrics) resolved(ctx context.Context, path string, n int) {
	if n > 0 {
		m.paths.Add(ctx, int64(n), metric.WithAttributes(attribute.String("path", path)))
	}
}

// transaction measures one transaction about n events until the returned function is called.
func (m *metrics) transaction(ctx context.Context, n int) func(error) {
	started := time.Now()
	return func(err error) {
		outcome := "ok"
		if err != nil {
			outcome = errs.KindOf(err).String()
		} else {
			m.resolved(ctx, pathTransaction, n)
		}
		m.claims.Record(ctx, int64(n))
		m.transactions.Record(ctx, time.Since(started).Seconds(), metric.WithAttributes(attribute.String("outcome", outcome)))
	}
}

func (m *metrics) lookedUp(ctx context.Context, seen []bool) {
	n := int64(0)
	for _, s := range seen {
		if s {
			n++
		}
	}
	m.lookups.Add(ctx, n, metric.WithAttributes(attribute.Bool("seen", true)))
	m.lookups.Add(ctx, int64(len(seen))-n, metric.WithAttributes(attribute.Bool("seen", false)))
}

func (m *metrics) restoredFrom(ctx context.Context, source string, n int) {
	m.restored.Add(ctx, int64(n), metric.WithAttributes(attribute.String("source", source)))
}
