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
	// until ends the dispatch early; what is left stays waiting. Zero means no end.
	until time.Time

	mu       sync.Mutex
	attempts []attempt
	closed   bool // an attempt closed the circuit
}

// run tries items and leaves each in its state.
func (d *dispatch) run(ctx context.Context, items []*item, concurrency int) {
	shards := make([][]*item, concurrency)
	for _, it := range items {
		n := binary.BigEndian.Uint64(it.device[:8]) % uint64(concurrency) //nolint:gosec // concurrency is small and positive
		shards[n] = append(shards[n], it)
	}
	var wg sync.WaitGroup
	for _, shard := range shards {
		if len(shard) > 0 {
			wg.Go(func() { d.shard(ctx, shard) })
		}
	}
	wg.Wait()
}

// shard sends one request after the other. A device that fails takes its later messages out of the shard.
func (d *dispatch) shard(ctx context.Context, items []*item) {
	broken := map[deviceHash]bool{}
	for len(items) > 0 {
		var request []*item
		request, items = take(items, broken, d.target.Webhook.BatchSize)
		if len(request) == 0 {
			return
		}
		if ctx.Err() != nil || d.target.health.openFor(d.now()) > 0 || !d.until.IsZero() && !d.now().Before(d.until) {
			return
		}
		d.request(ctx, request, broken)
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

func (d *dispatch) request(ctx context.Context, items []*item, broken map[deviceHash]bool) {
	messages := make([]*message, len(items))
	for i, it := range items {
		messages[i] = it.message
	}
	result := d.sender.send(ctx, &d.target.Destination, messages)
	if ctx.Err() != nil && result.verdict == retry {
		// Our own stop is not the receiver's failure.
		return
	}
	if result.verdict == refused && len(items) > 1 {
		// Somewhere in here is the message at fault: the others must not die with it.
		half := len(items) / 2
		d.note(nil, result)
		d.request(ctx, items[:half], broken)
		var second []*item
		for rest := items[half:]; len(rest) > 0; {
			second, rest = take(rest, broken, len(rest))
			if len(second) > 0 {
				d.request(ctx, second, broken)
			}
		}
		return
	}
	d.note(items, result)
	for _, it := range items {
		it.result = result
		switch result.verdict {
		case delivered:
			it.state = sent
		case refused:
			it.state = rejected
		case retry:
			it.state = failed
			broken[it.device] = true
		}
	}
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
