package postgres_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func TestSpansHaveConstantNamesAndNoValues(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, shop())
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	work := func(ctx context.Context) error {
		return db.InWorkspace(ctx, ids.New(), func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{"shop", "rates"}, []string{"currency", "rate"}, pgx.CopyFromRows([][]any{{"VND", 1}})); err != nil {
				return err
			}
			batch := &pgx.Batch{}
			batch.Queue("SELECT 'ann@example.com'")
			if err := tx.SendBatch(ctx, batch).Close(); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "SELECT 'ann@example.com'::uuid")
			return err
		})
	}
	require.Error(t, work(t.Context()))
	require.Empty(t, recorder.Ended(), "without a trace there are no spans")

	ctx, parent := provider.Tracer("test").Start(t.Context(), "request")
	require.Error(t, work(ctx))
	parent.End()
	names := map[string]int{}
	for _, span := range recorder.Ended() {
		names[span.Name()]++
		require.NotContains(t, fmt.Sprint(span.Attributes(), span.Status(), span.Events()), "ann@")
		if span.Name() != "request" {
			require.Equal(t, parent.SpanContext().TraceID(), span.SpanContext().TraceID())
		}
	}
	require.Positive(t, names["postgres.query"])
	require.Equal(t, 1, names["postgres.batch"])
	require.Equal(t, 1, names["postgres.copy"])
	require.Len(t, names, 4, "%v", names)
}
