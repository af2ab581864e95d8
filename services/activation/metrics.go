package activation

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics never name a destination or workspace: their number is not bounded.
type metrics struct {
	attempts     metric.Int64Counter
	latency      metric.Float64Histogram
	parked       metric.Int64Counter
	dead         metric.Int64Counter
	unparked     metric.Int64Counter
	filterErrors metric.Int64Counter
	observing    metric.Registration
}

func newMetrics(blockedDevices func() int64) (*metrics, error) {
	meter := otel.Meter("mekong/activation")
	m := &metrics{}
	for _, counter := range []struct {
		into              *metric.Int64Counter
		name, description string
	}{
		{&m.attempts, "mekong.activation.attempts", "Messages tried, by what the receiver said"},
		{&m.parked, "mekong.activation.parked", "Messages parked"},
		{&m.unparked, "mekong.activation.unparked", "Parked messages delivered"},
		{&m.dead, "mekong.activation.dead", "Messages given up"},
		{&m.filterErrors, "mekong.activation.filter.errors", "Filters that failed on an event, which then does not match"},
	} {
		var err error
		if *counter.into, err = meter.Int64Counter(counter.name, metric.WithDescription(counter.description)); err != nil {
			return nil, err
		}
	}
	var err error
	if m.latency, err = meter.Float64Histogram("mekong.activation.latency", metric.WithUnit("s"),
		metric.WithDescription("Time until a receiver answered")); err != nil {
		return nil, err
	}
	blocked, err := meter.Int64ObservableGauge("mekong.activation.blocked_devices",
		metric.WithDescription("Devices of this instance's partitions that have parked messages, over all destinations"))
	if err != nil {
		return nil, err
	}
	m.observing, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(blocked, blockedDevices())
		return nil
	}, blocked)
	return m, err
}

func (m *metrics) close() error { return m.observing.Unregister() }

func (m *metrics) attempted(ctx context.Context, attempts []attempt) {
	counts := [...]int64{delivered: 0, retry: 0, refused: 0}
	for _, a := range attempts {
		counts[a.result.verdict]++
		m.latency.Record(ctx, a.result.latency.Seconds())
	}
	for v, name := range [...]string{delivered: "delivered", retry: "retry", refused: "refused"} {
		if counts[v] > 0 {
			m.attempts.Add(ctx, counts[v], metric.WithAttributes(attribute.String("result", name)))
		}
	}
}

func (m *metrics) parkedNow(ctx context.Context, parked, dead int) {
	m.parked.Add(ctx, int64(parked))
	m.dead.Add(ctx, int64(dead))
}

func (m *metrics) settled(ctx context.Context, delivered, dead int) {
	m.unparked.Add(ctx, int64(delivered))
	m.dead.Add(ctx, int64(dead))
}

func (m *metrics) filterFailed(ctx context.Context) { m.filterErrors.Add(ctx, 1) }
