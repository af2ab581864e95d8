package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// lane works through the records of one partition, or of all with ConsumerConfig.Together. Its fields are guarded by
// Consumer.mu. It can be halted and started again; what was not handled stays queued.
type lane struct {
	c      *Consumer
	queue  []*Batch
	queued int
	wake   chan struct{} // holds a token when the queue grew
	run    *laneRun      // nil while halted
}

type laneRun struct {
	ctx    context.Context
	cancel context.CancelFunc
	stop   chan struct{} // closed: finish the Handle under way, begin no other
	done   chan struct{}
}

func newLane(c *Consumer) *lane { return &lane{c: c, wake: make(chan struct{}, 1)} }

// push appends records; Consumer.mu is held.
func (l *lane) push(b *Batch) {
	l.queue = append(l.queue, b)
	l.queued += len(b.Records)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// start begins to work unless the lane works already; Consumer.mu is held.
func (l *lane) start(ctx context.Context) {
	if l.run != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	l.run = &laneRun{ctx: ctx, cancel: cancel, stop: make(chan struct{}), done: make(chan struct{})}
	go l.work(l.run)
}

// forget drops what is queued of tp; Consumer.mu is held.
func (l *lane) forget(tp TopicPartition) {
	kept := l.queue[:0]
	l.queued = 0
	for _, b := range l.queue {
		if b.Topic != tp.Topic || b.Partition != tp.Partition {
			kept = append(kept, b)
			l.queued += len(b.Records)
		}
	}
	clear(l.queue[len(kept):])
	l.queue = kept
}

func (l *lane) work(run *laneRun) {
	defer close(run.done)
	defer run.cancel()
	for {
		batches := l.take(run)
		if batches == nil {
			return
		}
		if !l.c.process(run, batches) {
			l.putBack(batches)
			return
		}
	}
}

// take waits for records and returns at most MaxRecords of them, one batch per partition; nil when the lane must stop.
func (l *lane) take(run *laneRun) []*Batch {
	for l.length() == 0 {
		select {
		case <-l.wake:
		case <-run.stop:
			return nil
		}
	}
	if l.c.cfg.MaxWait > 0 {
		// Counted from the oldest record on: what came while the last batch was handled has waited already.
		timer := l.c.clock.NewTimer(l.c.cfg.MaxWait - l.waited())
		defer timer.Stop()
	gather:
		for l.length() < l.c.cfg.MaxRecords {
			select {
			case <-l.wake:
			case <-timer.C():
				break gather
			case <-run.stop:
				return nil
			}
		}
	}
	select {
	case <-run.stop:
		return nil
	default:
		return l.cut()
	}
}

// waited is how long the oldest queued record has been here.
func (l *lane) waited() time.Duration {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if len(l.queue) == 0 {
		return 0
	}
	return l.c.clock.Now().Sub(l.queue[0].queuedAt)
}

func (l *lane) length() int {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	return l.queued
}

// cut takes the oldest records out of the queue and resumes partitions that have room again.
func (l *lane) cut() []*Batch {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	byPart := map[TopicPartition]*Batch{}
	var out []*Batch
	resume := map[string][]int32{}
	for n := 0; len(l.queue) > 0 && n < c.cfg.MaxRecords; {
		head := l.queue[0]
		tp := TopicPartition{Topic: head.Topic, Partition: head.Partition}
		k := min(len(head.Records), c.cfg.MaxRecords-n)
		b := byPart[tp]
		if b == nil {
			b = &Batch{Topic: head.Topic, Partition: head.Partition, queuedAt: head.queuedAt}
			byPart[tp] = b
			out = append(out, b)
		}
		b.Records = append(b.Records, head.Records[:k]...)
		if head.Records = head.Records[k:]; len(head.Records) == 0 {
			l.queue[0] = nil
			l.queue = l.queue[1:]
		}
		n, l.queued = n+k, l.queued-k
		if p := c.parts[tp]; p != nil {
			p.queued -= k
			p.queuedBytes -= valueBytes(b.Records[len(b.Records)-k:])
			if p.paused && p.queued <= c.cfg.QueueRecords/2 && p.queuedBytes <= c.cfg.QueueBytes/2 {
				p.paused = false
				resume[tp.Topic] = append(resume[tp.Topic], tp.Partition)
			}
		}
	}
	if len(resume) > 0 && c.client != nil {
		c.client.ResumeFetchPartitions(resume)
	}
	return out
}

// putBack returns what was not finished to the front of the queue; process skips what was.
func (l *lane) putBack(batches []*Batch) {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range batches {
		b.rejected = nil
		l.queued += len(b.Records)
		if p := c.parts[TopicPartition{Topic: b.Topic, Partition: b.Partition}]; p != nil {
			p.queued += len(b.Records)
			p.queuedBytes += valueBytes(b.Records)
		}
	}
	l.queue = append(append([]*Batch(nil), batches...), l.queue...)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// halt stops lanes: a Handle under way gets timeout, then its context is cancelled, and halt waits until it returns.
func (c *Consumer) halt(ctx context.Context, lanes map[*lane]struct{}, timeout time.Duration) {
	var runs []*laneRun
	c.mu.Lock()
	for l := range lanes {
		if l.run != nil {
			close(l.run.stop)
			runs = append(runs, l.run)
			l.run = nil
		}
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, r := range runs {
		wg.Go(func() {
			select {
			case <-r.done:
			case <-ctx.Done():
				r.cancel()
				<-r.done
			}
		})
	}
	wg.Wait()
}

// fresh returns the records of b that were not handled before: neither below the position of the partition, after a
// batch was put back half done, nor, with DropBelowWatermark, at or below its watermark.
func (c *Consumer) fresh(b *Batch) (records []*kgo.Record, dropped int) {
	c.mu.Lock()
	p := c.parts[TopicPartition{Topic: b.Topic, Partition: b.Partition}]
	if p == nil {
		c.mu.Unlock()
		return nil, 0
	}
	position, watermark := p.position, p.watermark
	c.mu.Unlock()
	records = b.Records[:0:0]
	for _, r := range b.Records {
		if r.Offset < position {
			continue
		}
		if c.cfg.DropBelowWatermark {
			if src, ok := SrcOffset(r); ok {
				if src <= watermark {
					dropped++
					continue
				}
				watermark = src
			}
		}
		records = append(records, r)
	}
	return records, dropped
}
