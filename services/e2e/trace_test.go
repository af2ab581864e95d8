package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// traceTravels sends an event within a trace of its sender and finds the same trace in the headers of Kafka, on both
// sides of identity.
func traceTravels(t *testing.T, s *system) {
	ws := newWorkspace(t, api{s.api, s.token}, "trace")
	s.waitKey(t, ws)
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	body := `{"messageId":"traced","event":"E","anonymousId":"d"}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.door+"/v1/track", strings.NewReader(body))
	require.NoError(t, err)
	req.SetBasicAuth(ws.key, "")
	req.Header.Set("Traceparent", "00-"+traceID+"-00f067aa0ba902b7-01")
	resp, err := httpClient().Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)

	topics := []string{"mekong.collector.events.v1", "mekong.identity.resolved-events.v1"}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.kafka), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), arriveLimit)
	defer cancel()
	found := map[string]bool{}
	for len(found) < len(topics) {
		fetches := client.PollFetches(ctx)
		require.NoError(t, ctx.Err(), "found the trace in %v only", found)
		fetches.EachRecord(func(rec *kgo.Record) {
			for _, h := range rec.Headers {
				if h.Key == "traceparent" && strings.Contains(string(h.Value), traceID) {
					found[rec.Topic] = true
				}
			}
		})
	}
}
