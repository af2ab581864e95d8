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

const (
	// holdTime bounds how long one destination may hold a batch of the log; what is left is parked and sent from there.
	holdTime = 3 * time.Second
	// clockSkew is how far the clock of the door that stamped an event may lag behind ours.
	clockSkew = 5 * time.Second
	// noteGrace is how long results may take to be noted when the process or the partition goes: what is not noted is
	// sent again.
	noteGrace = 5 * time.Second
)

// Assigned implements kafka.Handler: it learns which devices are parked before anything of them is sent.
func (f *forwarder) Assigned(ctx context.Context, partitions []*kafka.Assignment) error {
	numbers := make([]int32, len(partitions))
	for i, p := range partitions {
		numbers[i] = p.Partition
	}
	taken, err := f.parked.Take(ctx, numbers)
	if err != nil {
		return err
	}
	var replaced []*queue
	f.mu.Lock()
	for _, t := range taken {
		if old := f.queues[t.Partition]; old != nil {
			replaced = append(replaced, old)
		}
		f.queues[t.Partition] = newQueue(context.WithoutCancel(ctx), t)
	}
	f.mu.Unlock()
	stopQueues(replaced)
	f.wakeRetrier()
	return nil
}

// Revoked implements kafka.Handler.
func (f *forwarder) Revoked(_ context.Context, partitions []kafka.TopicPartition) {
	var gone []*queue
	f.mu.Lock()
	for _, p := range partitions {
		if q := f.queues[p.Partition]; q != nil {
			gone = append(gone, q)
			delete(f.queues, p.Partition)
		}
	}
	f.mu.Unlock()
	stopQueues(gone)
}

// stopQueues ends the retries of partitions and waits for them.
func stopQueues(queues []*queue) {
	for _, q := range queues {
		q.halt()
	}
	for _, q := range queues {
		q.work.Wait()
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
	// Kafka's time is not before that of the door, so definitions as new as it know all that was asked for before.
	var newest time.Time
	for _, rec := range batch.Records {
		if rec.Timestamp.After(newest) {
			newest = rec.Timestamp
		}
	}
	if err := f.registry.ensure(ctx, newest.Add(clockSkew)); err != nil {
		return err
	}
	enabled := f.registry.enabled()
	if err := f.sendAll(ctx, q, f.match(ctx, enabled, decode(batch, enabled))); err != nil {
		return err
	}
	q.handled()
	return nil
}

// decode leaves out events of workspaces that have nowhere to send them to: most of a catching-up log, often.
func decode(batch *kafka.Batch, enabled map[string][]*target) (messages []*message) {
	for _, rec := range batch.Records {
		if workspace := kafka.Header(rec, kafka.HeaderWorkspace); workspace != "" && len(enabled[workspace]) == 0 {
			continue
		}
		m, err := decodeMessage(rec.Value)
		if err != nil {
			batch.Reject(rec, err)
			continue
		}
		messages = append(messages, m)
	}
	return messages
}

// match returns which destination gets what. All messages see the same definitions: if they changed in between, two
// versions of a destination would be sent to side by side, and no device would keep its order.
func (f *forwarder) match(ctx context.Context, enabled map[string][]*target, messages []*message) map[*target][]*item {
	byTarget := map[*target][]*item{}
	for _, m := range messages {
		for _, t := range enabled[m.resolved.GetEvent().GetWorkspaceId()] {
			ok, err := t.filter.matches(m)
			if err != nil {
				f.metrics.filterFailed(ctx)
			}
			if ok {
				byTarget[t] = append(byTarget[t], &item{message: m, messageID: m.id(t.ID)})
			}
		}
	}
	return byTarget
}

// sendAll sends to all destinations at once, so that none waits for another.
func (f *forwarder) sendAll(ctx context.Context, q *queue, byTarget map[*target][]*item) error {
	failures := make(chan error, len(byTarget))
	for t, items := range byTarget {
		go func() { failures <- f.sendOne(ctx, q, t, items) }()
	}
	var first error
	for range byTarget {
		if err := <-failures; err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (f *forwarder) sendOne(ctx context.Context, q *queue, t *target, items []*item) error {
	q.recall(t.ID, items)
	d := &dispatch{target: t, sender: f.sender, now: f.clock.Now, until: f.clock.Now().Add(holdTime), cut: true}
	if !t.health.divert() {
		d.run(ctx, untried(q.unblocked(t.ID, items)), f.cfg.Concurrency)
	}
	now := f.clock.Now()
	for _, it := range items {
		switch it.state {
		case failed:
			it.next = now.Add(max(backoff(f.cfg, 1), it.result.retryAfter, t.health.openFor(now)))
		case waiting:
			it.next = now.Add(t.health.openFor(now))
		case sent, rejected:
		}
	}
	q.remember(t.ID, items)
	ctx, cancel := lingering(ctx, noteGrace)
	defer cancel()
	if err := f.noteAttempts(ctx, t, d.attempts); err != nil {
		return err
	}
	if d.closed {
		f.hurry(t.ID)
	}
	return f.park(ctx, q, t, items)
}

func untried(items []*item) []*item {
	var todo []*item
	for _, it := range items {
		if it.state == waiting {
			todo = append(todo, it)
		}
	}
	return todo
}

func (f *forwarder) noteAttempts(ctx context.Context, t *target, attempts []attempt) error {
	if len(attempts) == 0 {
		return nil
	}
	if err := f.outcomes.Record(ctx, t.ID, t.WorkspaceID, attempts); err != nil {
		return err
	}
	f.metrics.attempted(ctx, attempts)
	return nil
}

// park puts aside what was not sent, in order.
func (f *forwarder) park(ctx context.Context, q *queue, t *target, items []*item) error {
	p := parking{WorkspaceID: t.WorkspaceID, DestinationID: t.ID, At: f.clock.Now()}
	for _, it := range items {
		switch it.state {
		case sent:
		case rejected:
			p.Dead = append(p.Dead, deadMessage{
				MessageID: it.messageID, Value: it.value, Attempts: 1, Reason: it.result.reason, Code: it.result.code,
			})
		case failed, waiting:
			attempts := 0
			if it.state == failed {
				attempts = 1
			}
			p.Messages = append(p.Messages, parkingMessage{
				MessageID: it.messageID, Device: it.device, Value: it.value, Attempts: attempts, NextAttemptAt: it.next,
			})
		}
	}
	if len(p.Messages) == 0 && len(p.Dead) == 0 {
		return nil
	}
	defer q.changing(t.ID)()
	if err := f.parked.Park(ctx, q.claim, p); err != nil {
		f.dropped(q, err)
		return err
	}
	if q.block(t.ID, p.Messages) {
		f.wakeRetrier()
	}
	f.metrics.parkedNow(ctx, len(p.Messages), len(p.Dead))
	return nil
}

// dropped ends the retries of a partition that turns out to belong to another instance.
func (f *forwarder) dropped(q *queue, err error) {
	if errs.CodeOf(err) == codePartitionTaken {
		q.halt()
	}
}

// hurry makes everything due that is parked here for a destination that has come back or was changed.
func (f *forwarder) hurry(destinationID string) {
	for _, q := range f.owned() {
		q.hurry(destinationID)
	}
	f.wakeRetrier()
}

func newForwarder(
	cfg Config, log *slog.Logger, clk clock.Clock, definitions DestinationReader, parked ParkedStore, outcomes OutcomeLog,
) (*forwarder, error) {
	f := &forwarder{
		cfg: cfg, log: log, clock: clk, sender: newSender(cfg, clk.Now),
		parked: parked, outcomes: outcomes, queues: map[int32]*queue{}, wake: make(chan struct{}, 1),
	}
	f.registry = newRegistry(cfg, definitions, log, clk.Now, f.hurry)
	var err error
	if f.metrics, err = newMetrics(f.blockedDevices); err != nil {
		return nil, err
	}
	return f, nil
}

// close lets go of what outlives the runners.
func (f *forwarder) close() error {
	f.sender.client.CloseIdleConnections()
	return f.metrics.close()
}

func (f *forwarder) blockedDevices() int64 {
	var total int
	for _, q := range f.owned() {
		total += q.size()
	}
	return int64(total)
}
