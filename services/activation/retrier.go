package activation

import (
	"context"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

const (
	// perDevice bounds how many messages of a device are taken at a time.
	perDevice = 100
	// storePause is how long a destination rests when the store itself fails.
	storePause = 2 * time.Second
)

// retrier sends parked messages of the owned partitions when they are due.
type retrier struct{ *forwarder }

func (r *retrier) runner() runtime.Runner {
	return runtime.Runner{Name: "activation.retrier", Run: r.run}
}

func (r *retrier) run(ctx context.Context, started func()) error {
	started()
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
			for _, id := range q.claim(now) {
				q.work.Go(func() { r.retry(ctx, q, id) })
			}
		}
	}
}

// retry works through what is due of one destination in one partition.
func (r *retrier) retry(ctx context.Context, q *queue, destinationID string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.ctx, cancel)()
	next, err := r.drain(ctx, q, destinationID)
	if err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "parked messages could not be worked on; trying again",
			"destination_id", destinationID, "kind", errs.KindOf(err).String(), "error", err)
		next = r.clock.Now().Add(storePause)
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
		if t != nil && !t.Enabled {
			return now.Add(storePause), nil
		}
		limit := r.cfg.RetryDevices
		if t != nil {
			if open := t.health.openFor(now); open > 0 {
				return now.Add(open), nil
			}
			if t.health.probing() {
				limit = 1
			}
		}
		devices, later, err := r.parked.Due(ctx, destinationID, q.partition, now, limit)
		if err != nil || len(devices) == 0 {
			return later, err
		}
		if err := r.tryDevices(ctx, q, t, destinationID, devices); err != nil {
			return time.Time{}, err
		}
	}
	return time.Time{}, nil
}

func (r *retrier) tryDevices(ctx context.Context, q *queue, t *target, destinationID string, devices []dueDevice) error {
	set := settlement{DestinationID: destinationID}
	attempts := map[deviceHash]int{}
	for _, d := range devices {
		set.Tried = append(set.Tried, d.Device)
		attempts[d.Device] = d.Attempts
	}
	rows, err := r.parked.Messages(ctx, destinationID, set.Tried, perDevice)
	if err != nil {
		return err
	}
	if t == nil {
		// The destination was deleted while these were being parked.
		set.Delivered = rows
		return r.settle(ctx, q, set)
	}
	items := r.items(&set, rows)
	d := &dispatch{target: t, sender: r.sender, now: r.clock.Now}
	d.run(ctx, items, r.cfg.Concurrency)
	if err := r.outcomes.Record(ctx, t.ID, t.WorkspaceID, d.attempts); err != nil {
		return err
	}
	r.metrics.attempted(ctx, d.attempts)
	r.judge(&set, t, items, attempts)
	if err := r.settle(ctx, q, set); err != nil {
		return err
	}
	if d.closed {
		return r.hasten(ctx, destinationID)
	}
	return nil
}

// items turns rows into items; what is too old or unreadable is dead without a try.
func (r *retrier) items(set *settlement, rows []parkedMessage) []*item {
	now := r.clock.Now()
	var items []*item
	for _, row := range rows {
		if row.Attempts > 0 && now.Sub(row.ParkedAt) > r.cfg.MaxAge {
			set.Dead = append(set.Dead, deadMessage{parkedMessage: row, Reason: "too_old"})
			continue
		}
		m, err := decodeMessage(row.Value)
		if err != nil {
			set.Dead = append(set.Dead, deadMessage{parkedMessage: row, Reason: errs.CodeOf(err)})
			continue
		}
		items = append(items, &item{message: m, messageID: row.MessageID, parked: &row})
	}
	return items
}

// judge sorts the items of a dispatch into the settlement.
func (r *retrier) judge(set *settlement, t *target, items []*item, attempts map[deviceHash]int) {
	now := r.clock.Now()
	held := map[deviceHash]bool{}
	for _, it := range items {
		switch it.state {
		case sent:
			set.Delivered = append(set.Delivered, *it.parked)
		case rejected:
			row := *it.parked
			row.Attempts++
			set.Dead = append(set.Dead, deadMessage{parkedMessage: row, Reason: it.result.reason, Code: it.result.code})
		case failed:
			if !held[it.device] {
				held[it.device] = true
				wait := max(backoff(r.cfg, attempts[it.device]+1), it.result.retryAfter)
				set.Failed = append(set.Failed, failedDevice{Device: it.device, NextAttemptAt: now.Add(wait), Seq: it.parked.Seq})
			}
		case waiting:
			if !held[it.device] {
				held[it.device] = true
				set.Failed = append(set.Failed, failedDevice{Device: it.device, NextAttemptAt: now.Add(t.health.openFor(now))})
			}
		}
	}
}

func (r *retrier) settle(ctx context.Context, q *queue, set settlement) error {
	q.change.Lock()
	defer q.change.Unlock()
	// What was sent must be noted even when the partition has just been taken away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storePause)
	defer cancel()
	free, err := r.parked.Settle(ctx, set, r.clock.Now())
	if err != nil {
		return err
	}
	q.free(set.DestinationID, free)
	r.metrics.settled(ctx, len(set.Delivered), len(set.Dead))
	return nil
}

// hasten makes everything parked for a destination that has come back due now.
func (r *retrier) hasten(ctx context.Context, destinationID string) error {
	if err := r.parked.Hasten(ctx, destinationID, r.clock.Now()); err != nil {
		return err
	}
	for _, q := range r.owned() {
		q.hasten(destinationID)
	}
	r.wakeRetrier()
	return nil
}
