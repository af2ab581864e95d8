package activation

import (
	"context"
	"encoding/binary"
	"sync"
	"time"
)

// state is where an item of a dispatch has got to.
type state uint8

const (
	// waiting was not tried: something of its device failed before it, or time or circuit did not allow.
	waiting state = iota
	// sent was taken by the receiver.
	sent
	// failed was tried and may succeed later.
	failed
	// rejected will never be taken.
	rejected
)

// item is one message on its way to one destination.
type item struct {
	*message
	messageID string
	// parked is the row that it comes from; nil when it comes from the log.
	parked *parkedMessage
	state  state
	result attemptResult
	// next is when a failed or waiting item may be tried again.
	next time.Time
}

// attempt is one try of one item, for the outcome log.
type attempt struct {
	item   *item
	number int
	result attemptResult
	at     time.Time
}

// dispatch sends items to one destination: devices side by side, the messages of a device in order.
type dispatch struct {
	target *target
	sender *sender
	now    func() time.Time
	// until ends the dispatch early: no request begins after it, and what is left stays waiting.
	until time.Time
	// cut also breaks off the requests that are under way then: whoever waits for the dispatch can wait no longer.
	cut bool

	mu       sync.Mutex
	attempts []attempt
	closed   bool // an attempt closed the circuit
}

// requestGrace is how long requests under way may go on when the process or the partition goes: one that is broken off
// has to be repeated.
const requestGrace = 3 * time.Second

// run tries items and leaves each in its state. When ctx ends no other request begins.
func (d *dispatch) run(ctx context.Context, items []*item, concurrency int) {
	// Batches should be full, and one device must stay in one shard.
	concurrency = min(concurrency, (len(items)+d.target.Webhook.BatchSize-1)/d.target.Webhook.BatchSize)
	if concurrency == 0 {
		return
	}
	requests, cancel := lingering(ctx, requestGrace)
	defer cancel()
	if d.cut {
		requests, cancel = context.WithTimeout(requests, d.until.Sub(d.now()))
		defer cancel()
	}
	shards := make([][]*item, concurrency)
	for _, it := range items {
		n := binary.BigEndian.Uint64(it.device[:8]) % uint64(concurrency) //nolint:gosec // concurrency is small and positive
		shards[n] = append(shards[n], it)
	}
	var wg sync.WaitGroup
	for _, shard := range shards {
		if len(shard) > 0 {
			wg.Go(func() {
				(&shardRun{dispatch: d, stop: ctx, requests: requests, broken: map[deviceHash]bool{}}).run(shard)
			})
		}
	}
	wg.Wait()
}

// lingering returns a context that ends a while after ctx does.
func lingering(ctx context.Context, while time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		end := time.AfterFunc(while, cancel)
		context.AfterFunc(out, func() { end.Stop() })
	})
	return out, func() {
		unhook()
		cancel()
	}
}

// shardRun sends one request after the other. A device that fails takes its later messages out of the shard.
type shardRun struct {
	*dispatch
	stop, requests context.Context //nolint:containedctx // the two ends of one dispatch
	broken         map[deviceHash]bool
}

func (s *shardRun) run(items []*item) {
	for len(items) > 0 {
		var request []*item
		request, items = take(items, s.broken, s.target.Webhook.BatchSize)
		if len(request) > 0 && !s.request(request) {
			return
		}
	}
}

// take splits off the next request: up to n items of devices that are not broken.
func take(items []*item, broken map[deviceHash]bool, n int) (request, rest []*item) {
	for i, it := range items {
		if broken[it.device] {
			continue
		}
		if request = append(request, it); len(request) == n {
			return request, items[i+1:]
		}
	}
	return request, nil
}

// over reports whether no request may begin any more.
func (s *shardRun) over() bool {
	now := s.now()
	return s.stop.Err() != nil || !now.Before(s.until) || s.target.health.openFor(now) > 0
}

// request sends items at once, and reports false when the shard must end: then items may have been left waiting.
func (s *shardRun) request(items []*item) bool {
	if s.over() {
		return false
	}
	messages := make([]*message, len(items))
	for i, it := range items {
		messages[i] = it.message
	}
	result := s.sender.send(s.requests, &s.target.Destination, messages)
	if result.verdict == retry && s.requests.Err() != nil {
		if s.stop.Err() != nil {
			// Our own stop is not the receiver's failure.
			return false
		}
		result.cut, result.reason = true, "slow"
	}
	if result.verdict == refused && len(items) > 1 {
		// Somewhere in here is the message at fault: the others must not die with it.
		s.note(nil, result)
		return s.halve(items)
	}
	for _, it := range items {
		it.result = result
		switch result.verdict {
		case delivered:
			it.state = sent
		case refused:
			it.state = rejected
		case retry:
			it.state = failed
			s.broken[it.device] = true
		}
	}
	s.note(items, result)
	return true
}

func (s *shardRun) halve(items []*item) bool {
	half := len(items) / 2
	if !s.request(items[:half]) {
		return false
	}
	// A device that failed in the first half waits with what it has in the second.
	second, _ := take(items[half:], s.broken, len(items))
	return len(second) == 0 || s.request(second)
}

func (d *dispatch) note(items []*item, result attemptResult) {
	at := d.now()
	closed := d.target.health.record(result, at)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = d.closed || closed
	for _, it := range items {
		number := 1
		if it.parked != nil {
			number = it.parked.Attempts + 1
		}
		d.attempts = append(d.attempts, attempt{item: it, number: number, result: result, at: at})
	}
}
