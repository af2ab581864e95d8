package activation

import (
	"math/rand/v2"
	"sync"
	"time"
)

// health is what this instance has seen of one destination: whether its circuit is open, and how slow it is.
type health struct {
	cfg Config

	mu       sync.Mutex
	failures int
	// brokenAt is when the circuit opened, openUntil when it may be probed.
	brokenAt, openUntil time.Time
	opened              int // how often in a row: the length of the break grows with it
	latency             time.Duration
}

// smoothing is the weight of the newest latency in the mean.
const smoothing = 8

// divert reports whether messages should be parked without a try from the log: the circuit is not known to be well, or
// the destination so slow that it would hold up its neighbours. The retrier finds out when that is over.
func (h *health) divert() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.opened > 0 || h.latency > h.cfg.SlowAfter
}

// openFor returns how long the circuit stays open; 0 when attempts are allowed.
func (h *health) openFor(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(h.openUntil.Sub(now), 0)
}

// probing reports whether the circuit was open and has not yet been proved to be well again: then one device goes first.
func (h *health) probing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.opened > 0
}

// slow reports whether the destination takes long to answer.
func (h *health) slow() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.latency > h.cfg.SlowAfter
}

// record notes an attempt and reports whether it closed an open circuit.
func (h *health) record(result attemptResult, now time.Time) (closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.latency += (result.latency - h.latency) / smoothing
	if result.cut {
		// It is slow, but it has not failed.
		h.latency = max(h.latency, result.latency)
		return false
	}
	if h.opened > 0 && now.Add(-result.latency).Before(h.brokenAt) {
		// What began before the break says nothing about now.
		return false
	}
	if result.verdict != retry {
		closed = h.opened > 0
		h.failures, h.opened, h.openUntil = 0, 0, time.Time{}
		return closed
	}
	h.failures++
	if h.failures >= h.cfg.BreakAfter || h.opened > 0 || result.retryAfter > 0 {
		h.opened++
		h.brokenAt, h.openUntil = now, now.Add(max(backoff(h.cfg, h.opened), result.retryAfter))
	}
	return false
}

// backoff is the wait before attempt n+1: exponential with jitter on its upper half, so that devices that failed
// together do not come back together.
func backoff(cfg Config, n int) time.Duration {
	wait := cfg.BackoffMax
	if doublings := max(n-1, 0); doublings < 40 && cfg.BackoffMin <= cfg.BackoffMax>>doublings {
		wait = cfg.BackoffMin << doublings
	}
	half := int64(wait / 2)
	return time.Duration(half + rand.Int64N(half+1)) //nolint:gosec // jitter is no secret
}
