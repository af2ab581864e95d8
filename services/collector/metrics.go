package collector

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mekong-cdp/mekong/services/collector/spool"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
)

// metrics are the instruments of the door. Attribute sets are made once: this is a hot path.
type metrics struct {
	requests  metric.Int64Counter
	results   metric.Int64Counter
	forwarded metric.Int64Counter
	syncTime  metric.Float64Histogram
	groupSize metric.Int64Histogram

	requestSets map[string][]metric.AddOption
	resultSets  map[string][]metric.AddOption
	forwards    [2]metric.AddOption
}

func newMetrics(wires []string) (*metrics, error) {
	meter := otel.Meter("mekong/collector")
	m := &metrics{
		requestSets: map[string][]metric.AddOption{}, resultSets: map[string][]metric.AddOption{},
		forwards: [2]metric.AddOption{set(attribute.Bool("ok", false)), set(attribute.Bool("ok", true))},
	}
	for _, w := range wires {
		path := attribute.String("wire", w)
		for class := range 6 {
			m.requestSets[w] = append(m.requestSets[w], set(path, attribute.String("status", strconv.Itoa(class)+"xx")))
		}
		for s := range statusCount {
			m.resultSets[w] = append(m.resultSets[w], set(path, attribute.String("result", s.String())))
		}
	}
	var err error
	if m.requests, err = meter.Int64Counter("mekong.collector.requests", metric.WithDescription("Requests by wire and class of answer")); err != nil {
		return nil, err
	}
	if m.results, err = meter.Int64Counter("mekong.collector.events", metric.WithDescription("Events by wire and result")); err != nil {
		return nil, err
	}
	if m.forwarded, err = meter.Int64Counter("mekong.collector.forwarded", metric.WithDescription("Records given to Kafka, by whether it took them")); err != nil {
		return nil, err
	}
	if m.syncTime, err = meter.Float64Histogram("mekong.collector.spool.sync", metric.WithUnit("s"),
		metric.WithDescription("Write and sync of one group of events"),
		metric.WithExplicitBucketBoundaries(.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1, 5)); err != nil {
		return nil, err
	}
	if m.groupSize, err = meter.Int64Histogram("mekong.collector.spool.group", metric.WithDescription("Records that share one sync"),
		metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)); err != nil {
		return nil, err
	}
	return m, nil
}

func set(attrs ...attribute.KeyValue) metric.AddOption {
	return metric.WithAttributeSet(attribute.NewSet(attrs...))
}

func (m *metrics) request(ctx context.Context, wire string, code int) {
	if sets := m.requestSets[wire]; code/100 < len(sets) {
		m.requests.Add(ctx, 1, sets[code/100])
	}
}

func (m *metrics) events(ctx context.Context, wire string, results []result) {
	var n [statusCount]int64
	for i := range results {
		n[results[i].status]++
	}
	for s, count := range n {
		if sets := m.resultSets[wire]; count > 0 && s < len(sets) {
			m.results.Add(ctx, count, sets[s])
		}
	}
}

func (m *metrics) forward(ctx context.Context, records int, ok bool) {
	which := 0
	if ok {
		which = 1
	}
	m.forwarded.Add(ctx, int64(records), m.forwards[which])
}

func (m *metrics) synced(ctx context.Context, records int, took time.Duration) {
	m.syncTime.Record(ctx, took.Seconds())
	m.groupSize.Record(ctx, int64(records))
}

// watch reports the spool whenever metrics are read.
func (m *metrics) watch(s *spool.Spool, clk clock.Clock) (metric.Registration, error) {
	meter := otel.Meter("mekong/collector")
	records, err := meter.Int64ObservableGauge("mekong.collector.spool.records", metric.WithDescription("Records that wait for Kafka"))
	if err != nil {
		return nil, err
	}
	bytes, err := meter.Int64ObservableGauge("mekong.collector.spool.bytes", metric.WithUnit("By"), metric.WithDescription("Bytes that wait for Kafka"))
	if err != nil {
		return nil, err
	}
	disk, err := meter.Int64ObservableGauge("mekong.collector.spool.disk", metric.WithUnit("By"), metric.WithDescription("Size of the spool's files"))
	if err != nil {
		return nil, err
	}
	age, err := meter.Float64ObservableGauge("mekong.collector.spool.oldest", metric.WithUnit("s"), metric.WithDescription("Age of the oldest record that waits for Kafka"))
	if err != nil {
		return nil, err
	}
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		st := s.Stats()
		o.ObserveInt64(records, int64(st.Records))
		o.ObserveInt64(bytes, st.Bytes)
		o.ObserveInt64(disk, st.DiskBytes)
		oldest := 0.0
		if !st.Oldest.IsZero() {
			oldest = max(0, clk.Now().Sub(st.Oldest).Seconds())
		}
		o.ObserveFloat64(age, oldest)
		return nil
	}, records, bytes, disk, age)
}
