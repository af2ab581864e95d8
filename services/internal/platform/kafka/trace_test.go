package kafka_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
)

// Not parallel: the propagator and the provider are global.
func TestARecordStaysInTheTraceThatItCarries(t *testing.T) {
	propagator, provider := otel.GetTextMapPropagator(), otel.GetTracerProvider()
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample()))))
	t.Cleanup(func() {
		otel.SetTextMapPropagator(propagator)
		otel.SetTracerProvider(provider)
	})
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "traced"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	cfg := kafka.DefaultConfig()
	cfg.Brokers = cluster.ListenAddrs()
	publisher, err := kafka.NewPublisher(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = publisher.Close(t.Context()) })

	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.ConsumeTopics("traced"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	for flag, spanKept := range map[string]bool{"00": true, "01": false} {
		before := "00-" + traceID + "-00f067aa0ba902b7-" + flag
		rec := &kgo.Record{Topic: "traced", Value: []byte("v")}
		kafka.SetHeader(rec, kafka.HeaderTraceparent, before)
		_, err := publisher.Publish(t.Context(), rec)
		require.NoError(t, err)
		stored := client.PollFetches(t.Context()).Records()
		require.Len(t, stored, 1)
		after := kafka.Header(stored[0], kafka.HeaderTraceparent)
		require.Contains(t, after, traceID)
		require.Equal(t, flag, after[len(after)-2:], "the sender's decision to sample goes on")
		require.Equal(t, spanKept, before == after, "a sampled record gets a span of its own")
	}
}
