package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/telemetry"
)

// One test, because the providers are global.
func TestLogsCarryTheTraceAndMetricsAreServed(t *testing.T) {
	cfg := telemetry.DefaultConfig()
	cfg.SampleRatio = 1
	p, err := telemetry.Setup(t.Context(), cfg, "test", "v0")
	require.NoError(t, err)

	ctx, span := otel.Tracer("test").Start(t.Context(), "work")
	var out strings.Builder
	telemetry.NewLogger(&out, "info").With("a", 1).InfoContext(ctx, "hello")
	require.Contains(t, out.String(), span.SpanContext().TraceID().String())
	span.End()

	counter, err := otel.Meter("test").Int64Counter("mekong.test.events")
	require.NoError(t, err)
	counter.Add(ctx, 3)
	rec := httptest.NewRecorder()
	p.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil))
	require.Contains(t, rec.Body.String(), "mekong_test_events_total{")
	require.NoError(t, p.Shutdown(t.Context()))
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	cfg := telemetry.DefaultConfig()
	require.NoError(t, cfg.Validate())
	cfg.LogLevel = "loud"
	require.Equal(t, "bad_log_level", errs.CodeOf(cfg.Validate()))
	cfg = telemetry.DefaultConfig()
	cfg.SampleRatio = 2
	require.Equal(t, "bad_sample_ratio", errs.CodeOf(cfg.Validate()))
}
