package clickhouse

import (
	"net/http"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/mekong-cdp/mekong/services/internal/platform/clickhouse"

// tracing measures each request and makes a span of those inside a recorded trace. Neither carries the statement.
type tracing struct {
	next     http.RoundTripper
	tracer   trace.Tracer
	duration metric.Float64Histogram
}

func newTracing(next http.RoundTripper) *tracing {
	duration, err := otel.Meter(scope).Float64Histogram("mekong.clickhouse.request.duration",
		metric.WithUnit("s"), metric.WithDescription("Time until ClickHouse answered a request, by outcome."),
		metric.WithExplicitBucketBoundaries(.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30))
	if err != nil {
		otel.Handle(err)
	}
	return &tracing{next: next, tracer: otel.Tracer(scope), duration: duration}
}

// RoundTrip implements http.RoundTripper.
func (t *tracing) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	var span trace.Span
	if trace.SpanFromContext(ctx).IsRecording() {
		// Polling loops have no trace; their statements would be thousands of roots.
		ctx, span = t.tracer.Start(ctx, "clickhouse.request", trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(attribute.String("db.system.name", "clickhouse")))
		req = req.WithContext(ctx)
	}
	start := time.Now()
	res, err := t.next.RoundTrip(req)
	status := statusOf(res, err)
	t.duration.Record(ctx, time.Since(start).Seconds(), metric.WithAttributes(attribute.String("status", status)))
	if span != nil {
		if status != "ok" {
			span.SetAttributes(attribute.String("db.response.status_code", status))
			span.SetStatus(codes.Error, status)
		}
		span.End()
	}
	return res, err
}

// statusOf is "ok", ClickHouse's number of the error, or "connection".
func statusOf(res *http.Response, err error) string {
	switch {
	case err != nil:
		return "connection"
	case res.Header.Get("X-ClickHouse-Exception-Code") != "":
		return res.Header.Get("X-ClickHouse-Exception-Code")
	case res.StatusCode != http.StatusOK:
		return "http_error"
	default:
		return "ok"
	}
}
