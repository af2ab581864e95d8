package activation

import (
	"context"
	"sync"
	"time"
)

// queue is what this instance knows of the parked messages of one partition that it owns.
type queue struct {
	partition int32
	// ctx ends when the partition is taken away.
	ctx    context.Context //nolint:containedctx // the life of an owned partition, handed to its retries
	cancel context.CancelFunc
	work   sync.WaitGroup

	// change is held while rows are parked or settled, so that what is in memory and in the table agree.
	change sync.Mutex

	mu      sync.Mutex
	blocked map[device]bool
	// pending counts the blocked devices of a destination.
	pending map[string]int
	// due is when a destination's devices should next be looked at.
	due map[string]time.Time
	// busy are destinations of which a retry is under way.
	busy map[string]bool
}

func newQueue(ctx context.Context, partition int32, parked []dueDevice) *queue {
	ctx, cancel := context.WithCancel(ctx)
	q := &queue{
		partition: partition, ctx: ctx, cancel: cancel,
		blocked: map[device]bool{}, pending: map[string]int{}, due: map[string]time.Time{}, busy: map[string]bool{},
	}
	for _, d := range parked {
		q.block(device{d.DestinationID, d.Device}, time.Time{})
	}
	return q
}

// isBlocked reports whether a device's messages must queue up.
func (q *queue) isBlocked(d device) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.blocked[d]
}

// block notes a parked device that may be tried at a time.
func (q *queue) block(d device, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.blocked[d] {
		q.blocked[d] = true
		q.pending[d.destinationID]++
	}
	q.sooner(d.destinationID, at)
}

func (q *queue) sooner(destinationID string, at time.Time) {
	if known, ok := q.due[destinationID]; !ok || at.Before(known) {
		q.due[destinationID] = at
	}
}

// free notes devices that have nothing parked any more.
func (q *queue) free(destinationID string, devices []deviceHash) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, hash := range devices {
		d := device{destinationID, hash}
		if q.blocked[d] {
			delete(q.blocked, d)
			q.pending[destinationID]--
		}
	}
	if q.pending[destinationID] <= 0 {
		delete(q.pending, destinationID)
		delete(q.due, destinationID)
	}
}

// claim returns the destinations whose time has come and marks them busy.
func (q *queue) claim(now time.Time) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var ready []string
	for id, at := range q.due {
		if !q.busy[id] && !at.After(now) {
			q.busy[id] = true
			// What is parked during the retry sets it again.
			delete(q.due, id)
			ready = append(ready, id)
		}
	}
	return ready
}

// release ends a claim; next is when to look again, zero for never unless something is parked meanwhile.
func (q *queue) release(destinationID string, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, destinationID)
	if q.pending[destinationID] == 0 {
		delete(q.due, destinationID)
		return
	}
	if !next.IsZero() {
		q.sooner(destinationID, next)
	}
}

// hasten makes a destination due now.
func (q *queue) hasten(destinationID string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pending[destinationID] > 0 {
		q.due[destinationID] = time.Time{}
	}
}

// size is how many devices are blocked.
func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.blocked)
}

// stop ends the retries of the partition and waits for them.
func (q *queue) stop() {
	q.cancel()
	q.work.Wait()
}
