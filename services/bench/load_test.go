package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTemplate(t *testing.T) {
	t.Parallel()
	src := newSource()
	src.run = 7
	for _, events := range []int{1, 3} {
		r := newTemplate("127.0.0.1:1", "key", events).copy(src)
		require.Len(t, r.slots, events)
		r.fill(41, time.Date(2026, 11, 23, 1, 2, 3, 4_000_000, time.UTC))
		r.name(sampleName)
		body := r.request[r.body:]
		first := body
		if events > 1 {
			var batch struct{ Batch []json.RawMessage }
			require.NoError(t, json.Unmarshal(body, &batch))
			require.Len(t, batch.Batch, events)
			first = batch.Batch[0]
			record, err := decodeBatch(body)
			require.NoError(t, err)
			require.Equal(t, "dev-000517", string(record[2].Key)) // 43 × 7919 mod 20,000
		}
		require.Len(t, first, eventBytes)
		var e event
		require.NoError(t, json.Unmarshal(first, &e))
		require.Equal(t, eventID(7, 41), e.MessageID)
		require.NotContains(t, string(body), paddingMark)
		require.Equal(t, sampleName, e.Event)
		require.Equal(t, "2026-11-23T01:02:03.004Z", e.Timestamp.Format(timeLayout))
		require.Contains(t, string(r.request[:r.body]), "POST /v1/")
	}
	require.NotEqual(t, eventID(7, 41), eventID(7, 42))
	require.NotEqual(t, eventID(8, 41), eventID(7, 41))
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	var h histogram
	require.Zero(t, h.quantile(0.5))
	for us := range 100_000 {
		h.record(time.Duration(us) * time.Microsecond)
	}
	for _, q := range []float64{0.001, 0.5, 0.9, 0.99, 0.999} {
		want := q * 100_000
		require.InEpsilon(t, want, float64(h.quantile(q).Microseconds()), 0.017)
	}
	require.Equal(t, 99_999*time.Microsecond, h.quantile(1))
	var sum histogram
	sum.add(&h)
	sum.record(time.Hour)
	require.Equal(t, time.Hour, sum.max)
	require.EqualValues(t, 100_001, sum.total)
}

// receiver counts ids and refuses every tenth request.
type receiver struct {
	mu       sync.Mutex
	ids      map[string]int
	requests int
}

func (s *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests++; s.requests%10 == 0 {
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	if key, _, _ := r.BasicAuth(); key != demoKey {
		http.Error(w, "key", http.StatusUnauthorized)
		return
	}
	events := []json.RawMessage{body}
	if strings.HasSuffix(r.URL.Path, "batch") {
		var batch struct{ Batch []json.RawMessage }
		_ = json.Unmarshal(body, &batch)
		events = batch.Batch
	}
	for _, raw := range events {
		var e event
		_ = json.Unmarshal(raw, &e)
		s.ids[e.MessageID]++
	}
	_, _ = io.WriteString(w, "{}")
}

func TestLoadsCountWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	sampled := map[string]time.Time{}
	var mu sync.Mutex
	for name, load := range map[string]func(ctx context.Context, address string, src *source) (*outcome, error){
		"closed": func(ctx context.Context, address string, src *source) (*outcome, error) {
			return closedLoop(ctx, address, newTemplate(address, demoKey, 1), src, 4, 200*time.Millisecond)
		},
		"open": func(ctx context.Context, address string, src *source) (*outcome, error) {
			return openLoop(ctx, address, newTemplate(address, demoKey, 5), src, offered{
				perSecond: 1000, length: 500 * time.Millisecond, conns: 4, sampleEvery: 10,
				sampled: func(id string, at time.Time) { mu.Lock(); sampled[id] = at; mu.Unlock() },
			})
		},
	} {
		s := &receiver{ids: map[string]int{}}
		server := httptest.NewServer(s)
		o, err := load(t.Context(), strings.TrimPrefix(server.URL, "http://"), newSource())
		server.Close()
		require.NoError(t, err, name)
		require.Equal(t, len(s.ids), o.events, name)
		require.Equal(t, s.requests/10, o.refused, name)
		require.Contains(t, o.firstRefusal, "503 busy")
		require.EqualValues(t, s.requests-o.refused, o.latency.total)
		for id, n := range s.ids {
			require.Equal(t, 1, n, id)
		}
		if name == "open" {
			require.Equal(t, 100, s.requests)
			require.GreaterOrEqual(t, o.elapsed, 490*time.Millisecond)
			require.InDelta(t, 9, len(sampled), 1)
			for id := range sampled {
				require.Contains(t, s.ids, id)
			}
		}
	}
}
