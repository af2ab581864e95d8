package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// recordSlack is what framing and the trace headers may add to a record.
const recordSlack = 1 << 10

// maxRoundCalls bounds how many waiting calls one round takes together.
const maxRoundCalls = 1024

// Publisher writes records and waits until all replicas have them. Its calls may run concurrently: those that wait
// while a round is under way go out together in the next one.
//
// A round buffers all of its records before the first is sent (the client flushes by hand), and the client fails
// everything behind a failed record of a partition. Together that is the guarantee that nothing overtakes a failure.
type Publisher struct {
	cfg         Config
	client      *kgo.Client
	partitioner *partitioner
	metrics     publisherMetrics

	calls  chan *call
	closed chan struct{}
	once   sync.Once
	ctx    context.Context // ends with Close: flushes stop waiting for a broker that is gone
	cancel context.CancelFunc
	done   chan struct{}

	known map[string]bool // topics whose first record was acknowledged; touched by the loop alone
}

// NewPublisher returns a Publisher with a client of its own; Close it when done. ctx carries values only: the
// publisher lives until Close.
func NewPublisher(ctx context.Context, cfg Config, opts ...kgo.Opt) (*Publisher, error) {
	metrics, err := newPublisherMetrics()
	if err != nil {
		return nil, err
	}
	part := newPartitioner()
	opts = append(opts,
		kgo.RecordPartitioner(part),
		kgo.ManualFlushing(),
		// The round bounds memory; the client must never refuse a record of it for room.
		kgo.MaxBufferedRecords(cfg.MaxBufferedRecords+maxRoundCalls),
		kgo.MaxBufferedBytes(0),
	)
	client, err := NewClient(cfg, opts...)
	if err != nil {
		return nil, err
	}
	p := &Publisher{
		cfg: cfg, client: client, partitioner: part, metrics: metrics,
		calls: make(chan *call), closed: make(chan struct{}), done: make(chan struct{}),
		known: map[string]bool{},
	}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go p.loop()
	return p, nil
}

// Client returns the publisher's client, for administration; records must not be produced through it.
func (p *Publisher) Client() *kgo.Client { return p.client }

// Result says which records of one call were acknowledged.
type Result struct {
	acked  []bool
	prefix int
}

// Prefix returns how many leading records of the call were acknowledged: up to there the caller may forget them.
func (r Result) Prefix() int { return r.prefix }

// Acked reports whether the record at index i of the call was acknowledged.
func (r Result) Acked(i int) bool { return i >= 0 && i < len(r.acked) && r.acked[i] }

// Publish writes records in order and returns when all are acknowledged, when the first fails, or when ctx (at most
// Config.PublishTimeout) is over. Offset, Partition and Timestamp of acknowledged records are filled in. Records pinned
// by PinPartition go to that partition, others by their key.
//
// It returns Invalid "record_too_large", "record_without_topic" or "partition_unknown" before anything is sent,
// Invalid "record_refused" when the broker refuses one, and Unavailable for everything that time or an operator heals.
func (p *Publisher) Publish(ctx context.Context, records ...*kgo.Record) (Result, error) {
	if len(records) == 0 {
		return Result{}, nil
	}
	if err := p.check(records); err != nil {
		return Result{acked: make([]bool, len(records))}, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.PublishTimeout)
	defer cancel()
	c := newCall(ctx, records)
	started := p.metrics.start()
	select {
	case p.calls <- c:
	case <-p.closed:
		return Result{acked: c.acked}, errPublisherClosed()
	case <-ctx.Done():
		p.metrics.finish(ctx, started, 0, errPublishLate(ctx.Err()))
		return Result{acked: c.acked}, errPublishLate(ctx.Err())
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		c.abandon(errPublishLate(ctx.Err()))
	}
	res, err := c.result(records)
	p.metrics.finish(ctx, started, res.prefix, err)
	return res, err
}

// Close stops taking records, waits for those under way until ctx is done, then closes the client.
func (p *Publisher) Close(ctx context.Context) error {
	p.once.Do(func() { close(p.closed) })
	var err error
	select {
	case <-p.done:
	case <-ctx.Done():
		err = errs.Wrap(ctx.Err(), errs.Unavailable, "publisher_not_drained", "Records were still waiting for Kafka when the publisher was closed")
	}
	p.cancel()
	p.client.Close()
	<-p.done
	return err
}

func (p *Publisher) check(records []*kgo.Record) error {
	for i, rec := range records {
		if rec.Topic == "" {
			return errs.New(errs.Invalid, "record_without_topic", fmt.Sprintf("Record %d names no topic", i))
		}
		if size := recordSize(rec); size > p.cfg.MaxRecordBytes {
			return errs.New(errs.Invalid, "record_too_large",
				fmt.Sprintf("Record %d has %d bytes; kafka.max_record_bytes allows %d", i, size, p.cfg.MaxRecordBytes))
		}
		if n := p.partitioner.count(rec.Topic); isPinned(rec) && (rec.Partition < 0 || n > 0 && rec.Partition >= n) {
			return errs.New(errs.Invalid, "partition_unknown",
				fmt.Sprintf("Record %d is for partition %d of %s, which has %d partitions", i, rec.Partition, rec.Topic, n))
		}
	}
	return nil
}

func recordSize(rec *kgo.Record) int {
	n := len(rec.Key) + len(rec.Value)
	for i := range rec.Headers {
		n += len(rec.Headers[i].Key) + len(rec.Headers[i].Value) + 10
	}
	return n
}

// loop runs rounds until Close; calls that do not fit into a round go on in the next.
func (p *Publisher) loop() {
	defer close(p.done)
	var waiting []*call
	for {
		if len(waiting) == 0 {
			select {
			case c := <-p.calls:
				waiting = append(waiting, c)
			case <-p.closed:
				return
			}
		}
		waiting = p.gather(waiting)
		waiting = p.round(waiting)
		if p.ctx.Err() != nil {
			for _, c := range waiting {
				c.abandon(errPublisherClosed())
			}
			return
		}
	}
}

func (p *Publisher) gather(waiting []*call) []*call {
	for len(waiting) < maxRoundCalls {
		select {
		case c := <-p.calls:
			waiting = append(waiting, c)
		default:
			return waiting
		}
	}
	return waiting
}

// round sends what fits of the waiting calls and returns those with records left.
func (p *Publisher) round(waiting []*call) (left []*call) {
	r := &round{sent: make(chan struct{})}
	r.pending.Store(1) // held until everything is buffered
	records, bytes := p.cfg.MaxBufferedRecords, p.cfg.MaxBufferedBytes
	for _, c := range waiting {
		if records > 0 && bytes > 0 && c.begin() {
			n, size := p.buffer(r, c, records, bytes)
			records, bytes = records-n, bytes-size
			c.buffered()
		}
	}
	r.settle()
	flushed := make(chan struct{})
	flushCtx, stop := context.WithCancel(p.ctx)
	go func() {
		defer close(flushed)
		_ = p.client.Flush(flushCtx) // the promises carry the errors; this only starts sending
	}()
	<-r.sent
	stop()
	<-flushed
	for _, c := range waiting {
		if c.probe != "" && c.answered(c.next-1) {
			p.known[c.probe] = true
		}
		c.probe = ""
		if c.sentAll() {
			c.finish()
			continue
		}
		left = append(left, c)
	}
	return left
}

// buffer hands records of c to the client, nothing is sent yet. The first record of a topic goes alone: until the
// client knows the partitions it cannot buffer the others as one piece.
func (p *Publisher) buffer(r *round, c *call, records, bytes int) (n, size int) {
	for i := c.next; i < len(c.records) && n < records && (size < bytes || n == 0); i++ {
		rec := &c.records[i]
		fresh := !p.known[rec.Topic]
		if fresh && n > 0 {
			break
		}
		r.pending.Add(1)
		p.client.TryProduce(c.ctx, rec, func(_ *kgo.Record, err error) {
			c.settle(i, err)
			r.settle()
		})
		n++
		size += recordSize(rec)
		c.next = i + 1
		if fresh {
			c.probe = rec.Topic
			break
		}
	}
	return n, size
}

// classify gives the client's error a kind: only what is wrong with the record itself is Invalid, since consumers that
// publish must not lose their input to a missing topic or a wrong password.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return errPublishLate(err)
	case errors.Is(err, kgo.ErrClientClosed):
		return errPublisherClosed()
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.InvalidTimestamp),
		errors.Is(err, kerr.RecordListTooLarge):
		return errs.Wrap(err, errs.Invalid, "record_refused", "Kafka refused a record; compare its size with the topic's max.message.bytes")
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return errs.Wrap(err, errs.Unavailable, "topic_missing", "A topic does not exist in Kafka; create it with `mekong topics apply`")
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed), errors.Is(err, kerr.SaslAuthenticationFailed):
		return errs.Wrap(err, errs.Unavailable, "kafka_forbidden", "Kafka refuses this user; check kafka.sasl_user and its rights")
	case errors.Is(err, kerr.PolicyViolation), errors.Is(err, kerr.KafkaStorageError), errors.Is(err, kerr.ThrottlingQuotaExceeded):
		return errs.Wrap(err, errs.Unavailable, "kafka_full", "Kafka takes no records for now; its log is full or its disk failed")
	default:
		return errs.Wrap(err, errs.Unavailable, "publish_failed", "Kafka did not take a record; try again")
	}
}

func errPublishLate(cause error) error {
	return errs.Wrap(cause, errs.Unavailable, "publish_late", "Kafka did not acknowledge in time; try again")
}

func errPublisherClosed() error {
	return errs.New(errs.Unavailable, "publisher_closed", "The publisher is closed; the process is stopping")
}
