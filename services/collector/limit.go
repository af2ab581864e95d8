package collector

import (
	"hash/maphash"
	"math"
	"sync"
	"time"
)

const (
	limitShards = 32
	limitWays   = 8
	limitSets   = 256
)

// limiter holds a rate for each of many names in a fixed table (GCRA: one time per name says all). When a set of the
// table is full the name that is idle for longest gives way, so a flood of names costs no memory.
type limiter struct {
	// every is how long one unit takes, burst how far ahead of now a name may be.
	every time.Duration
	burst time.Duration
	seed  maphash.Seed

	shards [limitShards]limitShard
}

type limitShard struct {
	mu   sync.Mutex
	sets [limitSets][limitWays]allowance
}

type allowance struct {
	name uint64
	// until is when everything taken so far is paid back, in nanoseconds.
	until int64
}

// newLimiter returns nil, which allows everything, for a rate of 0.
func newLimiter(perSecond, burst int) *limiter {
	if perSecond <= 0 {
		return nil
	}
	every := time.Second / time.Duration(perSecond)
	return &limiter{every: every, burst: every * time.Duration(max(burst, 1)), seed: maphash.MakeSeed()}
}

// take asks for n units of name's rate; wait is how long to wait when there are none. A request that is larger than the
// burst passes when nothing is owed, so that no size is refused for ever.
func (l *limiter) take(name string, n int, now time.Time) (wait time.Duration, ok bool) {
	if l == nil {
		return 0, true
	}
	h := maphash.String(l.seed, name)
	shard := &l.shards[h%limitShards]
	set := &shard.sets[h/limitShards%limitSets]
	at := now.UnixNano()
	shard.mu.Lock()
	defer shard.mu.Unlock()
	slot := &set[0]
	for i := range set {
		if set[i].name == h {
			slot = &set[i]
			break
		}
		if set[i].until < slot.until {
			slot = &set[i]
		}
	}
	until := at
	if slot.name == h {
		until = max(until, slot.until)
	}
	cost := time.Duration(math.MaxInt64)
	if int64(n) < math.MaxInt64/int64(max(l.every, 1)) {
		cost = l.every * time.Duration(n)
	}
	owed := time.Duration(until - at)
	if owed > 0 && owed+cost > l.burst {
		return min(owed+cost-l.burst, owed), false
	}
	slot.name, slot.until = h, until+int64(cost)
	return 0, true
}
