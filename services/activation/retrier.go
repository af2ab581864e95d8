package activation

import (
	"context"
	"sync"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

const (
	// idlePause is how long a destination rests that is disabled, or when the store itself fails; and how often
	// definitions are read again while something is parked.
	idlePause = 2 * time.Second
	// drainTime bounds the sending of one load: a crash repeats what was sent since the last settlement.
	drainTime = 2 * time.Second
	// A load takes this much of a partition's backlog to memory.
	loadMessages, loadBytes = 1_000, 4 << 20
	// Destinations that take long to answer, or are only probed, load little and need no turn: they would keep the others
	// waiting for it.
	narrowDevices, narrowMessages, narrowBytes = 32, 64, 256 << 10
	// turns bounds how many full loads are in memory.
	turns = 32
)

// retrier sends parked messages of the owned partitions when they are due.
type retrier struct {
	*forwarder
	turns chan struct{}
}

func newRetrier(f *forwarder) *retrier {
	return &retrier{forwarder: f, turns: make(chan struct{}, turns)}
}

func (r *retrier) runner() runtime.Runner {
	return runtime.Runner{Name: "activation.retrier", Run: r.run}
}

func (r *retrier) run(ctx context.Context, started func()) error {
	started()
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { r.refresh(ctx) })
	for {
		tick := r.clock.NewTimer(r.cfg.RetryInterval)
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-r.wake:
			tick.Stop()
		case <-tick.C():
		}
		now := r.clock.Now()
		for _, q := range r.owned() {
			for _, id := range q.claimDue(now) {
				work.Add(1)
				if !q.start(func() { defer work.Done(); r.retry(ctx, q, id) }) {
					work.Done()
				}
			}
		}
	}
}

// refresh keeps the definitions young while something is parked, so that a correction by a person is noticed even when
// no event arrives.
func (r *retrier) refresh(ctx context.Context) {
	for {
		pause := r.clock.NewTimer(idlePause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C():
		}
		if r.blockedDevices() == 0 {
			continue
		}
		if err := r.registry.ensure(ctx, r.clock.Now().Add(-idlePause)); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "destinations could not be read; trying again", "kind", errs.KindOf(err).String(), "error", err)
		}
	}
}

// retry works through what is due of one destination in one partition.
func (r *retrier) retry(ctx context.Context, q *queue, destinationID string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.ctx, cancel)()
	next, err := r.drain(ctx, q, destinationID)
	if err != nil {
		r.dropped(q, err)
		if ctx.Err() == nil {
			r.log.WarnContext(ctx, "parked messages could not be worked on; trying again",
				"destination_id", destinationID, "kind", errs.KindOf(err).String(), "error", err)
		}
		next = r.clock.Now().Add(idlePause)
	}
	q.release(destinationID, next)
}

// drain sends until nothing is due, and returns when to look again.
func (r *retrier) drain(ctx context.Context, q *queue, destinationID string) (next time.Time, err error) {
	for ctx.Err() == nil {
		now := r.clock.Now()
		if err := r.registry.ensure(ctx, now.Add(-r.cfg.RetryInterval)); err != nil {
			return time.Time{}, err
		}
		t := r.registry.get(destinationID)
		if t == nil {
			return time.Time{}, r.purge(ctx, q, destinationID)
		}
		if !t.Enabled {
			return now.Add(idlePause), nil
		}
		if open := t.health.openFor(now); open > 0 {
			return now.Add(open), nil
		}
		if q.hurried(destinationID) {
			if err := r.parked.Hasten(ctx, q.claim, destinationID, now); err != nil {
				q.hurry(destinationID)
				return time.Time{}, err
			}
		}
		more, next, err := r.sendLoad(ctx, q, t)
		if err != nil || !more {
			return next, err
		}
	}
	return time.Time{}, nil
}

// purge removes what was parked while the destination was deleted.
func (r *retrier) purge(ctx context.Context, q *queue, destinationID string) error {
	defer q.changing(destinationID)()
	if err := r.parked.Purge(ctx, destinationID); err != nil {
		return err
	}
	q.forget(destinationID)
	return nil
}

func (r *retrier) limit(t *target) (limit loadLimit, full bool) {
	switch {
	case t.health.probing():
		return loadLimit{Devices: 1, Messages: narrowMessages, Bytes: narrowBytes}, false
	case t.health.slow():
		return loadLimit{Devices: min(narrowDevices, r.cfg.RetryDevices), Messages: narrowMessages, Bytes: narrowBytes}, false
	default:
		return loadLimit{Devices: r.cfg.RetryDevices, Messages: loadMessages, Bytes: loadBytes}, true
	}
}

// sendLoad sends some of what is due; more says whether anything was.
func (r *retrier) sendLoad(ctx context.Context, q *queue, t *target) (more bool, next time.Time, err error) {
	limit, full := r.limit(t)
	if full {
		select {
		case r.turns <- struct{}{}:
			defer func() { <-r.turns }()
		case <-ctx.Done():
			return false, time.Time{}, nil
		}
	}
	now := r.clock.Now()
	due, err := r.parked.Load(ctx, q.claim, t.ID, now, limit)
	if err != nil {
		return false, time.Time{}, err
	}
	if len(due.Devices) > 0 {
		return true, time.Time{}, r.tryDevices(ctx, q, t, due)
	}
	if due.Next.IsZero() {
		return false, time.Time{}, r.confirmEmpty(ctx, q, t.ID)
	}
	return false, due.Next, nil
}

// confirmEmpty forgets the devices of a destination when the table really has none: somebody else removed them.
func (r *retrier) confirmEmpty(ctx context.Context, q *queue, destinationID string) error {
	defer q.changing(destinationID)()
	due, err := r.parked.Load(ctx, q.claim, destinationID, r.clock.Now(), loadLimit{Devices: 1, Messages: 1})
	if err == nil && len(due.Devices) == 0 && due.Next.IsZero() {
		q.forget(destinationID)
	}
	return err
}

func (r *retrier) tryDevices(ctx context.Context, q *queue, t *target, due load) error {
	set := settlement{WorkspaceID: t.WorkspaceID, DestinationID: t.ID}
	before := map[deviceHash]int{}
	for _, d := range due.Devices {
		set.Taken = append(set.Taken, d.Device)
		before[d.Device] = d.Attempts
	}
	d := &dispatch{target: t, sender: r.sender, now: r.clock.Now, until: r.clock.Now().Add(drainTime)}
	items := r.items(&set, d, due.Messages)
	d.run(ctx, items, r.cfg.Concurrency)
	r.judge(&set, t, items, before)
	// What was sent must be noted even when the partition has just been taken away.
	ctx, cancel := lingering(ctx, noteGrace)
	defer cancel()
	if err := r.noteAttempts(ctx, t, d.attempts); err != nil {
		return err
	}
	if err := r.settle(ctx, q, set); err != nil {
		return err
	}
	if d.closed {
		r.hurry(t.ID)
	}
	return nil
}

// items turns rows into items; what is too old or unreadable is dead without a try.
func (r *retrier) items(set *settlement, d *dispatch, rows []parkedMessage) []*item {
	now := r.clock.Now()
	var items []*item
	for _, row := range rows {
		dead := deadMessage{MessageID: row.MessageID, Value: row.Value, Attempts: row.Attempts}
		m, err := decodeMessage(row.Value)
		if err != nil {
			dead.Reason = errs.CodeOf(err)
			set.Dead = append(set.Dead, dead)
			continue
		}
		it := &item{message: m, messageID: row.MessageID, parked: &row}
		if row.Attempts > 0 && now.Sub(row.ParkedAt) > r.cfg.MaxAge {
			dead.Reason = "too_old"
			set.Dead = append(set.Dead, dead)
			d.attempts = append(d.attempts, attempt{item: it, number: row.Attempts, result: attemptResult{verdict: refused, reason: dead.Reason}, at: now})
			continue
		}
		items = append(items, it)
	}
	return items
}

// judge sorts the items of a dispatch into the settlement. failures is how often each device has failed in a row.
func (r *retrier) judge(set *settlement, t *target, items []*item, failures map[deviceHash]int) {
	now := r.clock.Now()
	set.At = now
	var order []deviceHash
	again := map[deviceHash]*againDevice{}
	device := func(it *item) *againDevice {
		if again[it.device] == nil {
			again[it.device] = &againDevice{Device: it.device, NextAttemptAt: now, Attempts: failures[it.device]}
			order = append(order, it.device)
		}
		return again[it.device]
	}
	for _, it := range items {
		switch d := device(it); it.state {
		case sent:
			set.Delivered = append(set.Delivered, it.messageID)
			d.Attempts = 0
		case rejected:
			set.Dead = append(set.Dead, deadMessage{
				MessageID: it.messageID, Value: it.value, Attempts: it.parked.Attempts + 1, Reason: it.result.reason, Code: it.result.code,
			})
			d.Attempts = 0
		case failed:
			set.Failed = append(set.Failed, it.messageID)
			// One request may hold several messages of a device; that is one failure.
			if !d.NextAttemptAt.After(now) {
				d.Attempts++
				d.NextAttemptAt = now.Add(max(backoff(r.cfg, d.Attempts), it.result.retryAfter, t.health.openFor(now)))
			}
			it.next = d.NextAttemptAt
		case waiting:
			if !d.NextAttemptAt.After(now) {
				d.NextAttemptAt = now.Add(t.health.openFor(now))
			}
		}
	}
	for _, hash := range order {
		set.Again = append(set.Again, *again[hash])
	}
}

func (r *retrier) settle(ctx context.Context, q *queue, set settlement) error {
	defer q.changing(set.DestinationID)()
	free, err := r.parked.Settle(ctx, q.claim, set)
	if err != nil {
		return err
	}
	q.free(set.DestinationID, free)
	r.metrics.settled(ctx, len(set.Delivered), len(set.Dead))
	return nil
}
