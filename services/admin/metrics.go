package admin

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type metrics struct {
	tokenChecks   metric.Int64Counter
	touchFailures metric.Int64Counter
	snapshots     metric.Int64Counter
	snapshotSize  metric.Int64Gauge
}

func newMetrics() (*metrics, error) {
	meter := otel.Meter("mekong/admin")
	m := &metrics{}
	var err error
	if m.tokenChecks, err = meter.Int64Counter("mekong.admin.token.checks",
		metric.WithDescription("API tokens looked up, by outcome")); err != nil {
		return nil, err
	}
	if m.touchFailures, err = meter.Int64Counter("mekong.admin.token.touch_failures",
		metric.WithDescription("Times that last_used_at could not be written")); err != nil {
		return nil, err
	}
	if m.snapshots, err = meter.Int64Counter("mekong.admin.snapshots",
		metric.WithDescription("Full publications of the read model")); err != nil {
		return nil, err
	}
	if m.snapshotSize, err = meter.Int64Gauge("mekong.admin.snapshot.records",
		metric.WithDescription("Records of the last full publication")); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *metrics) tokenChecked(ctx context.Context, accepted bool) {
	m.tokenChecks.Add(ctx, 1, metric.WithAttributes(attribute.Bool("accepted", accepted)))
}

func (m *metrics) touchFailed(ctx context.Context) { m.touchFailures.Add(ctx, 1) }

func (m *metrics) snapshotPublished(ctx context.Context, records int) {
	m.snapshots.Add(ctx, 1)
	m.snapshotSize.Record(ctx, int64(records))
}
