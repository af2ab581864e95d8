package kafka

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// round is one turn of a Publisher: all records buffered, then all sent.
type round struct {
	pending atomic.Int64
	sent    chan struct{}
}

func (r *round) settle() {
	if r.pending.Add(-1) == 0 {
		close(r.sent)
	}
}

// call is one Publish under way. It works on copies of the records: the client may hold on to them after the caller
// gave up.
type call struct {
	ctx     context.Context
	records []kgo.Record
	next    int    // first record that was not given to the client; the publisher's loop alone
	probe   string // the topic whose first record this round carries; the publisher's loop alone

	mu        sync.Mutex
	buffering bool
	idle      *sync.Cond
	acked     []bool
	err       error // the first failure
	over      bool
	done      chan struct{}
}

func newCall(ctx context.Context, records []*kgo.Record) *call {
	c := &call{ctx: ctx, records: make([]kgo.Record, len(records)), acked: make([]bool, len(records)), done: make(chan struct{})}
	c.idle = sync.NewCond(&c.mu)
	n := 0
	for _, rec := range records {
		n += len(rec.Headers) + traceHeaders
	}
	headers := make([]kgo.RecordHeader, 0, n)
	for i, rec := range records {
		c.records[i] = *rec
		c.records[i].Context = ctx
		if rec.Context != nil {
			c.records[i].Context = context.WithoutCancel(rec.Context) // its values matter: trace and pinned partition
		}
		// The tracer writes into the slice, so it must not be the caller's.
		from := len(headers)
		headers = append(headers, rec.Headers...)
		to := len(headers)
		headers = headers[:to+traceHeaders]
		c.records[i].Headers = headers[from : to : to+traceHeaders]
	}
	return c
}

// traceHeaders is how many headers the tracer adds: traceparent, tracestate, baggage.
const traceHeaders = 3

// begin reports whether c still wants to be sent, and keeps the caller from leaving until buffered is called.
func (c *call) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.err != nil || c.ctx.Err() != nil {
		return false
	}
	c.buffering = true
	return true
}

func (c *call) buffered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buffering = false
	c.idle.Broadcast()
}

// settle notes the answer for record i.
func (c *call) settle(i int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.acked[i] = true
	} else if c.err == nil {
		c.err = classify(err)
	}
}

// answered reports whether record i was acknowledged.
func (c *call) answered(i int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked[i]
}

// sentAll reports whether nothing of c is left to send: all was answered, it failed, or its caller left.
func (c *call) sentAll() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over || c.err != nil || c.next == len(c.records) || c.ctx.Err() != nil
}

func (c *call) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(nil)
}

// abandon ends the call with err unless it has ended.
func (c *call) abandon(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.buffering {
		c.idle.Wait()
	}
	c.end(err)
}

func (c *call) end(err error) {
	if c.over {
		return
	}
	c.over = true
	if c.err == nil {
		c.err = err
	}
	if c.err == nil && c.ctx.Err() != nil && !allTrue(c.acked) {
		c.err = errPublishLate(c.ctx.Err())
	}
	close(c.done)
}

// result copies what was acknowledged to the caller's records.
func (c *call) result(records []*kgo.Record) (Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	res := Result{acked: append([]bool(nil), c.acked...)}
	for i, ok := range res.acked {
		if !ok {
			continue
		}
		records[i].Partition, records[i].Offset, records[i].Timestamp = c.records[i].Partition, c.records[i].Offset, c.records[i].Timestamp
		if res.prefix == i {
			res.prefix = i + 1
		}
	}
	if res.prefix == len(records) {
		return res, nil
	}
	return res, c.err
}

func allTrue(bs []bool) bool {
	for _, b := range bs {
		if !b {
			return false
		}
	}
	return true
}
