package kafka

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// verdict is what to do about an error.
type verdict uint8

const (
	waitAndRetry verdict = iota // for as long as it takes
	retryBounded
	giveUp
)

func judge(err error) verdict {
	if isLate(err) {
		return retryBounded
	}
	switch errs.KindOf(err) {
	case errs.Unavailable, errs.RateLimited:
		return waitAndRetry
	case errs.Conflict, errs.Internal:
		return retryBounded
	default:
		return giveUp
	}
}

// process handles batches to the end and reports false when the lane had to stop before that.
func (c *Consumer) process(run *laneRun, batches []*Batch) bool {
	var todo []*Batch
	for _, b := range batches {
		records, dropped := c.fresh(b)
		c.metrics.dropped(run.ctx, dropped)
		if len(records) > 0 {
			todo = append(todo, &Batch{Topic: b.Topic, Partition: b.Partition, Records: records})
		}
	}
	if len(todo) > 0 && !c.handle(run, todo, c.cfg.MaxAttempts) {
		return false
	}
	// Records dropped at the end of a batch count as done too.
	for _, b := range batches {
		c.advance(b)
	}
	return true
}

// handle calls the handler until batches are done. When it gives up on more than one record, it halves them until the
// one at fault is alone, which becomes a dead letter.
func (c *Consumer) handle(run *laneRun, batches []*Batch, attempts int) bool {
	for attempt := 1; ; attempt++ {
		err := c.call(run.ctx, batches)
		if err == nil {
			return c.bury(run, batches) && c.done(run.ctx, batches)
		}
		kind := errs.KindOf(err)
		c.metrics.failed(run.ctx, kind)
		v := judge(err)
		if run.ctx.Err() != nil {
			return false
		}
		if v == giveUp || v == retryBounded && attempt >= attempts {
			if count(batches) > 1 {
				return c.halve(run, batches)
			}
			c.log.Error("a record cannot be handled, it becomes a dead letter", "topic", batches[0].Topic,
				"partition", batches[0].Partition, "offset", batches[0].Records[0].Offset, "code", errs.CodeOf(err), "error", err)
			batches[0].rejected = []rejection{{record: batches[0].Records[0], err: err}}
			return c.bury(run, batches) && c.done(run.ctx, batches)
		}
		wait := max(c.backoff(attempt-1), errs.RetryAfterOf(err))
		c.log.Warn("handling records failed, trying again", "topic", batches[0].Topic, "partition", batches[0].Partition,
			"offset", batches[0].Records[0].Offset, "records", count(batches), "attempt", attempt, "wait", wait, "code", errs.CodeOf(err), "error", err)
		c.metrics.retried(run.ctx, kind)
		if !c.sleep(run.ctx, run.stop, wait) {
			return false
		}
	}
}

func (c *Consumer) call(ctx context.Context, batches []*Batch) (err error) {
	for _, b := range batches {
		b.rejected = nil
	}
	ctx, end := c.metrics.span(ctx, batches)
	defer func() { end(err) }()
	return c.handler.Handle(ctx, batches)
}

// halve splits batches in two, keeps the order within partitions, and handles one half after the other. Halves of more
// than one record get one try: only the record at fault is worth the waiting.
func (c *Consumer) halve(run *laneRun, batches []*Batch) bool {
	var first, second []*Batch
	if len(batches) > 1 {
		first, second = batches[:len(batches)/2], batches[len(batches)/2:]
	} else {
		b := batches[0]
		mid := len(b.Records) / 2
		first = []*Batch{{Topic: b.Topic, Partition: b.Partition, Records: b.Records[:mid]}}
		second = []*Batch{{Topic: b.Topic, Partition: b.Partition, Records: b.Records[mid:]}}
	}
	for _, half := range [][]*Batch{first, second} {
		attempts := 1
		if count(half) == 1 {
			attempts = c.cfg.MaxAttempts
		}
		select {
		case <-run.stop:
			return false
		default:
		}
		if !c.handle(run, half, attempts) {
			return false
		}
	}
	return true
}

func count(batches []*Batch) int {
	n := 0
	for _, b := range batches {
		n += len(b.Records)
	}
	return n
}

// bury writes rejected records to their dead-letter topics, for as long as it takes.
func (c *Consumer) bury(run *laneRun, batches []*Batch) bool {
	var letters []*kgo.Record
	for _, b := range batches {
		for _, r := range b.rejected {
			letters = append(letters, c.deadLetter(r))
		}
	}
	for attempt := 0; len(letters) > 0; attempt++ {
		res, err := c.deadLetters.Publish(run.ctx, letters...)
		if err == nil {
			break
		}
		letters = letters[res.Prefix():]
		if errs.KindOf(err) == errs.Invalid {
			// Only size makes a letter invalid, and its headers say where the original lies.
			for _, l := range letters {
				if recordSize(l) > c.deadLetters.cfg.MaxRecordBytes {
					l.Value = nil
				}
			}
		}
		c.log.Error("dead letters cannot be written, trying again", "records", len(letters), "code", errs.CodeOf(err), "error", err)
		if !c.sleep(run.ctx, run.stop, c.backoff(attempt)) {
			return false
		}
	}
	for _, b := range batches {
		for _, r := range b.rejected {
			c.metrics.deadLetter(run.ctx, b.Topic, errs.CodeOf(r.err))
		}
	}
	return true
}

func (c *Consumer) deadLetter(r rejection) *kgo.Record {
	letter := &kgo.Record{
		Topic:   r.record.Topic + DeadLetterSuffix,
		Key:     r.record.Key,
		Value:   r.record.Value,
		Headers: append([]kgo.RecordHeader(nil), r.record.Headers...),
	}
	SetHeader(letter, HeaderDeadReason, errs.CodeOf(r.err))
	SetHeader(letter, HeaderDeadKind, errs.KindOf(r.err).String())
	SetHeader(letter, HeaderDeadTopic, r.record.Topic)
	SetHeader(letter, HeaderDeadPartition, strconv.Itoa(int(r.record.Partition)))
	SetHeader(letter, HeaderDeadOffset, strconv.FormatInt(r.record.Offset, 10))
	SetHeader(letter, HeaderDeadGroup, c.cfg.Group)
	SetHeader(letter, HeaderDeadAt, c.clock.Now().UTC().Format(time.RFC3339Nano))
	return letter
}

func (c *Consumer) done(ctx context.Context, batches []*Batch) bool {
	for _, b := range batches {
		c.advance(b)
		c.metrics.handled(ctx, b.Topic, len(b.Records)-len(b.rejected))
	}
	return true
}

// advance moves position and watermark of the partition behind the records of b.
func (c *Consumer) advance(b *Batch) {
	watermark := int64(-1)
	for _, r := range b.Records {
		if src, ok := SrcOffset(r); ok {
			watermark = max(watermark, src)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts[TopicPartition{Topic: b.Topic, Partition: b.Partition}]
	if p == nil {
		return
	}
	p.position = max(p.position, b.Records[len(b.Records)-1].Offset+1)
	p.watermark = max(p.watermark, watermark)
	p.caughtUp = p.caughtUp || p.end-p.position <= c.cfg.CaughtUpLag
}

// backoff doubles from BackoffMin to BackoffMax, with jitter so that consumers do not return in step.
func (c *Consumer) backoff(attempt int) time.Duration {
	d := c.cfg.BackoffMax
	if attempt < 16 {
		d = min(d, c.cfg.BackoffMin<<attempt)
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // jitter needs no secrecy
}

// sleep waits for d; false when ctx or stop ended it.
func (c *Consumer) sleep(ctx context.Context, stop <-chan struct{}, d time.Duration) bool {
	t := c.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-stop:
		return false
	case <-ctx.Done():
		return false
	}
}
