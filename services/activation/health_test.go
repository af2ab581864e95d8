package activation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	cfg := Config{BackoffMin: time.Second, BackoffMax: 10 * time.Minute}
	for n, want := range map[int]time.Duration{
		-1: time.Second, 0: time.Second, 1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 10: 512 * time.Second,
		11: 10 * time.Minute, 40: 10 * time.Minute, 1_000: 10 * time.Minute,
	} {
		for range 200 {
			got := backoff(cfg, n)
			require.GreaterOrEqual(t, got, want/2, n)
			require.LessOrEqual(t, got, want, n)
		}
	}
	require.LessOrEqual(t, backoff(Config{BackoffMin: time.Hour, BackoffMax: time.Hour}, 64), time.Hour)
}

func failure() attemptResult { return attemptResult{verdict: retry} }
func success() attemptResult { return attemptResult{verdict: delivered} }

func TestCircuit(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.BreakAfter = 3
	h := &health{cfg: cfg}
	now := start
	require.False(t, h.record(failure(), now))
	require.False(t, h.record(failure(), now))
	require.False(t, h.record(success(), now), "it was not open")
	for range 3 {
		require.False(t, h.divert())
		h.record(failure(), now)
	}
	require.True(t, h.divert())
	open := h.openFor(now)
	require.Greater(t, open, time.Duration(0))
	require.LessOrEqual(t, open, cfg.BackoffMin)

	// What began before the break neither closes nor prolongs it.
	require.False(t, h.record(attemptResult{verdict: delivered, latency: time.Second}, now.Add(time.Millisecond)))
	h.record(attemptResult{verdict: retry, latency: time.Second}, now.Add(time.Millisecond))
	require.Equal(t, open, h.openFor(now))

	// The break is over: only a probe goes, the log stays diverted.
	now = now.Add(open)
	require.Zero(t, h.openFor(now))
	require.True(t, h.probing())
	require.True(t, h.divert())
	h.record(failure(), now)
	require.Greater(t, h.openFor(now), cfg.BackoffMin/2, "one failure opens it again, for longer")
	now = now.Add(h.openFor(now))
	require.True(t, h.record(success(), now))
	require.False(t, h.probing())
	require.False(t, h.divert())
	require.Zero(t, h.openFor(now))
}

func TestARefusalProvesHealth(t *testing.T) {
	t.Parallel()
	h := &health{cfg: DefaultConfig()}
	for range 100 {
		h.record(attemptResult{verdict: refused}, start)
	}
	require.False(t, h.divert())
}

func TestRetryAfterHoldsTheWholeDestination(t *testing.T) {
	t.Parallel()
	h := &health{cfg: DefaultConfig()}
	h.record(attemptResult{verdict: retry, retryAfter: 30 * time.Second}, start)
	require.Equal(t, 30*time.Second, h.openFor(start))
	require.True(t, h.probing())
	require.True(t, h.record(success(), start.Add(30*time.Second)))
}

func TestSlowDestinationsAreDiverted(t *testing.T) {
	t.Parallel()
	h := &health{cfg: DefaultConfig()}
	slow := attemptResult{verdict: delivered, latency: 2 * time.Second}
	n := 0
	for ; !h.divert(); n++ {
		h.record(slow, start)
	}
	require.LessOrEqual(t, n, 8)
	require.Zero(t, h.openFor(start), "slow is not broken")
	for n = 0; h.divert(); n++ {
		h.record(success(), start)
	}
	require.LessOrEqual(t, n, 10)

	h.record(attemptResult{verdict: retry, latency: holdTime, cut: true}, start)
	require.True(t, h.divert(), "one that was broken off is proof enough")
	require.False(t, h.probing())
}
