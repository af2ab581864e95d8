package activation

import (
	"context"
	"sync"
	"time"
)

// queue is what this instance knows of the parked messages of one partition that it owns.
type queue struct {
	claim
	// ctx ends when the partition is taken away.
	ctx    context.Context //nolint:containedctx // the life of an owned partition, handed to its retries
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	stopped  bool
	backlogs map[string]*backlog
	// reached is how far the items of a batch got whose Handle failed: its next try does not send them again.
	reached map[delivery]*item
}

// backlog is what is parked for one destination.
type backlog struct {
	// change is held while rows are parked or settled, so that what is in memory and in the table agree.
	change sync.Mutex

	// The rest is guarded by queue.mu.
	devices map[deviceHash]struct{}
	// due is when the devices should next be looked at, if waiting is set.
	due     time.Time
	waiting bool
	// busy is set while a retry is under way.
	busy bool
	// hurry asks that all devices be made due, whatever they wait for.
	hurry bool
}

// delivery is one message for one destination.
type delivery struct{ destinationID, messageID string }

func newQueue(ctx context.Context, taken takenPartition) *queue {
	ctx, cancel := context.WithCancel(ctx)
	q := &queue{claim: taken.claim, ctx: ctx, cancel: cancel, backlogs: map[string]*backlog{}, reached: map[delivery]*item{}}
	for id, devices := range taken.Blocked {
		b := q.backlog(id)
		b.devices = make(map[deviceHash]struct{}, len(devices))
		for _, d := range devices {
			b.devices[d] = struct{}{}
		}
		b.sooner(time.Time{})
	}
	return q
}

// backlog returns that of a destination; q.mu is held, or q is new.
func (q *queue) backlog(destinationID string) *backlog {
	b := q.backlogs[destinationID]
	if b == nil {
		b = &backlog{devices: map[deviceHash]struct{}{}}
		q.backlogs[destinationID] = b
	}
	return b
}

func (b *backlog) sooner(at time.Time) {
	if !b.waiting || at.Before(b.due) {
		b.waiting, b.due = true, at
	}
}

// changing takes the right to change the rows of a destination; the caller gives it back.
func (q *queue) changing(destinationID string) (done func()) {
	q.mu.Lock()
	b := q.backlog(destinationID)
	q.mu.Unlock()
	b.change.Lock()
	return b.change.Unlock
}

// unblocked returns the items whose devices have nothing parked.
func (q *queue) unblocked(destinationID string, items []*item) []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.backlogs[destinationID]
	if b == nil || len(b.devices) == 0 {
		return items
	}
	var free []*item
	for _, it := range items {
		if _, blocked := b.devices[it.device]; !blocked {
			free = append(free, it)
		}
	}
	return free
}

// block notes devices that are parked now and reports whether a retry should look at them. One that is blocked already
// keeps its time.
func (q *queue) block(destinationID string, messages []parkingMessage) (fresh bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.backlog(destinationID)
	for _, m := range messages {
		if _, blocked := b.devices[m.Device]; !blocked {
			b.devices[m.Device] = struct{}{}
			b.sooner(m.NextAttemptAt)
			fresh = true
		}
	}
	return fresh
}

// free notes devices that have nothing parked any more.
func (q *queue) free(destinationID string, devices []deviceHash) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.backlog(destinationID)
	for _, d := range devices {
		delete(b.devices, d)
	}
	if len(b.devices) == 0 {
		b.clear()
	}
}

// clear forgets all devices; queue.mu is held.
func (b *backlog) clear() {
	// A new map: an emptied one keeps the room of a million devices.
	b.devices, b.waiting, b.hurry = map[deviceHash]struct{}{}, false, false
}

// forget notes that nothing is parked for a destination.
func (q *queue) forget(destinationID string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.backlog(destinationID).clear()
}

// claimDue returns the destinations whose time has come and marks them busy.
func (q *queue) claimDue(now time.Time) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var ready []string
	for id, b := range q.backlogs {
		if b.waiting && !b.busy && !b.due.After(now) {
			// What is parked during the retry sets waiting again.
			b.busy, b.waiting = true, false
			ready = append(ready, id)
		}
	}
	return ready
}

// release ends a claim; next is when to look again, zero for never unless something is parked meanwhile.
func (q *queue) release(destinationID string, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.backlog(destinationID)
	b.busy = false
	if len(b.devices) == 0 {
		b.waiting = false
		return
	}
	if !next.IsZero() {
		b.sooner(next)
	}
}

// hurry asks a destination's devices to be made due now.
func (q *queue) hurry(destinationID string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if b := q.backlogs[destinationID]; b != nil && len(b.devices) > 0 {
		b.hurry = true
		b.sooner(time.Time{})
	}
}

// hurried reports whether hurry was called since it last did.
func (q *queue) hurried(destinationID string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.backlog(destinationID)
	was := b.hurry
	b.hurry = false
	return was
}

// size is how many devices are blocked, counted per destination.
func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, b := range q.backlogs {
		n += len(b.devices)
	}
	return n
}

// remember keeps the items that need no other try, in case the batch comes again.
func (q *queue) remember(destinationID string, items []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		if it.state == sent || it.state == rejected {
			q.reached[delivery{destinationID, it.messageID}] = it
		}
	}
}

// recall gives items the state that they reached in an earlier try of their batch.
func (q *queue) recall(destinationID string, items []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		if before := q.reached[delivery{destinationID, it.messageID}]; before != nil {
			it.state, it.result = before.state, before.result
		}
	}
}

// handled forgets what recall needs: the batch is done.
func (q *queue) handled() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.reached)
}

// start runs work of the partition unless it was taken away.
func (q *queue) start(work func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return false
	}
	q.work.Go(work)
	return true
}

// halt lets no new work begin and tells what is under way to end.
func (q *queue) halt() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
	q.cancel()
}
