package activation

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
)

// OutcomeLog takes what became of attempts. It returns once they are durable.
type OutcomeLog interface {
	Record(ctx context.Context, destinationID, workspaceID string, attempts []attempt) error
}

// forwarder is the kafka.Handler: it sends each batch and parks what cannot be sent.
type forwarder struct {
	cfg      Config
	log      *slog.Logger
	clock    clock.Clock
	registry *registry
	sender   *sender
	parked   ParkedStore
	outcomes OutcomeLog
	metrics  *metrics

	mu     sync.Mutex
	queues map[int32]*queue
	// wake tells the retrier that something is due at once.
	wake chan struct{}
}

// holdTime bounds how long one destination may hold a batch of the log; what is left is parked and sent from there.
const holdTime = 3 * time.Second

// Assigned implements kafka.Handler: it learns which devices are parked before anything of them is sent.
func (f *forwarder) Assigned(ctx context.Context, partitions []*kafka.Assignment) error {
	numbers := make([]int32, len(partitions))
	for i, p := range partitions {
		numbers[i] = p.Partition
	}
	devices, err := f.parked.Devices(ctx, numbers)
	if err != nil {
		return err
	}
	byPartition := map[int32][]dueDevice{}
	for _, d := range devices {
		byPartition[d.Partition] = append(byPartition[d.Partition], d)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range numbers {
		f.queues[n] = newQueue(context.WithoutCancel(ctx), n, byPartition[n])
	}
	f.wakeRetrier()
	return nil
}

// Revoked implements kafka.Handler.
func (f *forwarder) Revoked(_ context.Context, partitions []kafka.TopicPartition) {
	for _, p := range partitions {
		f.mu.Lock()
		q := f.queues[p.Partition]
		delete(f.queues, p.Partition)
		f.mu.Unlock()
		if q != nil {
			q.stop()
		}
	}
}

func (f *forwarder) queue(partition int32) *queue {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.queues[partition]
}

func (f *forwarder) owned() []*queue {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]*queue, 0, len(f.queues))
	for _, q := range f.queues {
		list = append(list, q)
	}
	return list
}

func (f *forwarder) wakeRetrier() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Handle implements kafka.Handler.
func (f *forwarder) Handle(ctx context.Context, batches []*kafka.Batch) error {
	for _, batch := range batches {
		if err := f.forward(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

func (f *forwarder) forward(ctx context.Context, batch *kafka.Batch) error {
	q := f.queue(batch.Partition)
	if q == nil {
		return errs.New(errs.Unavailable, "partition_not_owned", "The partition was taken away.")
	}
	messages, newest := f.decode(batch)
	if err := f.registry.ensure(ctx, newest); err != nil {
		return err
	}
	byTarget := map[*target][]*item{}
	for _, m := range messages {
		for _, t := range f.registry.of(m.resolved.GetEvent().GetWorkspaceId()) {
			ok, err := t.filter.matches(m)
			if err != nil {
				f.metrics.filterFailed(ctx)
			}
			if ok {
				byTarget[t] = append(byTarget[t], &item{message: m, messageID: m.id(t.ID)})
			}
		}
	}
	return f.sendAll(ctx, q, byTarget)
}

func (f *forwarder) decode(batch *kafka.Batch) (messages []*message, newest time.Time) {
	for _, rec := range batch.Records {
		m, err := decodeMessage(rec.Value)
		if err != nil {
			batch.Reject(rec, err)
			continue
		}
		messages = append(messages, m)
		if at := m.resolved.GetEvent().GetReceivedAt().AsTime(); at.After(newest) {
			newest = at
		}
	}
	return messages, newest
}

// sendAll sends to all destinations at once, so that none waits for another.
func (f *forwarder) sendAll(ctx context.Context, q *queue, byTarget map[*target][]*item) error {
	errors := make(chan error, len(byTarget))
	for t, items := range byTarget {
		go func() { errors <- f.sendOne(ctx, q, t, items) }()
	}
	var first error
	for range byTarget {
		if err := <-errors; err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (f *forwarder) sendOne(ctx context.Context, q *queue, t *target, items []*item) error {
	now := f.clock.Now()
	var free []*item
	if !t.health.divert(now) {
		for _, it := range items {
			if !q.isBlocked(device{t.ID, it.device}) {
				free = append(free, it)
			}
		}
	}
	d := &dispatch{target: t, sender: f.sender, now: f.clock.Now, until: now.Add(holdTime)}
	d.run(ctx, free, f.cfg.Concurrency)
	if err := f.outcomes.Record(ctx, t.ID, t.WorkspaceID, d.attempts); err != nil {
		return err
	}
	f.metrics.attempted(ctx, d.attempts)
	return f.park(ctx, q, t, items)
}

// park puts aside what was not sent, in order.
func (f *forwarder) park(ctx context.Context, q *queue, t *target, items []*item) error {
	now := f.clock.Now()
	var parkings []parking
	var dead []parkedDead
	for _, it := range items {
		switch it.state {
		case sent:
		case rejected:
			dead = append(dead, parkedDead{
				WorkspaceID: t.WorkspaceID, DestinationID: t.ID, MessageID: it.messageID, Value: it.value,
				Reason: it.result.reason, Code: it.result.code,
			})
		case failed:
			parkings = append(parkings, f.parking(q, t, it, 1, now.Add(max(backoff(f.cfg, 1), it.result.retryAfter))))
		case waiting:
			parkings = append(parkings, f.parking(q, t, it, 0, now.Add(t.health.openFor(now))))
		}
	}
	if len(parkings) == 0 && len(dead) == 0 {
		return nil
	}
	q.change.Lock()
	defer q.change.Unlock()
	if err := f.parked.Park(ctx, parkings, dead); err != nil {
		return err
	}
	for _, p := range parkings {
		q.block(device{t.ID, p.Device}, p.NextAttemptAt)
	}
	f.metrics.parkedNow(ctx, len(parkings), len(dead))
	f.wakeRetrier()
	return nil
}

func (f *forwarder) parking(q *queue, t *target, it *item, attempts int, next time.Time) parking {
	return parking{
		WorkspaceID: t.WorkspaceID, DestinationID: t.ID, Device: it.device, Partition: q.partition,
		MessageID: it.messageID, Value: it.value, Attempts: attempts, NextAttemptAt: next,
	}
}

func newForwarder(
	cfg Config, log *slog.Logger, clk clock.Clock, definitions DestinationReader, parked ParkedStore, outcomes OutcomeLog,
) (*forwarder, error) {
	f := &forwarder{
		cfg: cfg, log: log, clock: clk, registry: newRegistry(cfg, definitions, log, clk.Now), sender: newSender(cfg, clk.Now),
		parked: parked, outcomes: outcomes, queues: map[int32]*queue{}, wake: make(chan struct{}, 1),
	}
	var err error
	f.metrics, err = newMetrics(f.blockedDevices)
	return f, err
}

func (f *forwarder) blockedDevices() int64 {
	var total int
	for _, q := range f.owned() {
		total += q.size()
	}
	return int64(total)
}
