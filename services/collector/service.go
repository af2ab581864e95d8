package collector

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/mekong-cdp/mekong/services/collector/spool"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// Log is where events become durable.
type Log interface {
	// Append returns nil once all records are durable, all or none; records may be reused afterwards. Its errors are
	// Unavailable when it is worth trying again, with a hint when.
	Append(ctx context.Context, records []spool.Record) error
}

// status is the answer for one event.
type status uint8

const (
	statusOK status = iota
	statusDuplicate
	statusRejected
	statusRetry
	statusCount
)

func (s status) String() string {
	return [statusCount]string{"ok", "duplicate", "rejected", "retry"}[s]
}

// result is what became of one event of a request.
type result struct {
	eventID string
	status  status
	reason  string
}

// service is what the door does with a request that was read: it accepts or refuses each event, once, durably.
type service struct {
	decoder *decoder
	log     Log
	seen    *seenIndex
	remote  *remoteSeen
	clock   clock.Clock
	metrics *metrics
	drafts  sync.Pool
}

// draftRecords is the memory in which one request's records are written.
type draftRecords struct {
	buf     []byte
	ends    []int
	topics  []string
	records []spool.Record
	hashes  []ids.Hash
}

// maxKeptBuffer keeps one huge request from holding memory for ever.
const maxKeptBuffer = 1 << 20

// collect makes the events of req durable and returns one result for each, in order. On an error none is: all of them
// may be sent again.
func (s *service) collect(ctx context.Context, req *request, r *receipt, ask bool) ([]result, error) {
	results := make([]result, len(req.items))
	d, _ := s.drafts.Get().(*draftRecords)
	if d == nil {
		d = &draftRecords{}
	}
	defer s.putBack(d)
	s.judge(ctx, req, r, results, ask, d)
	for i := range req.items {
		it := &req.items[i]
		switch results[i].status {
		case statusOK:
			d.event(&it.Event, r)
		case statusRejected:
			d.rejected(it, r, s.decoder.limits.EventBytes)
		default:
		}
	}
	err := s.log.Append(ctx, d.finish(r, traceparent(ctx)))
	if err != nil {
		for i := range results {
			results[i].status, results[i].reason = statusRetry, ""
		}
	} else {
		for _, h := range d.hashes {
			s.seen.add(h)
		}
	}
	s.metrics.events(ctx, r.wire, results)
	return results, err
}

// judge decides each event: rejected by its content, duplicate by proof, else to be appended (ok). The hashes of the
// latter are left in d.
func (s *service) judge(ctx context.Context, req *request, r *receipt, results []result, ask bool, d *draftRecords) {
	here := map[ids.Hash]struct{}{}
	var positions []int
	for i := range req.items {
		it := &req.items[i]
		s.decoder.finish(it, req, r.source.ID, r.receivedAt)
		results[i].eventID = it.ID
		if it.refused() {
			results[i].status, results[i].reason = statusRejected, it.Rejected.Reason
			continue
		}
		h := ids.Hash128(r.source.WorkspaceID, it.ID)
		_, repeated := here[h]
		if repeated || s.seen.has(h) {
			results[i].status = statusDuplicate
			continue
		}
		if len(req.items) > 1 {
			here[h] = struct{}{}
		}
		d.hashes = append(d.hashes, h)
		positions = append(positions, i)
	}
	if !ask || s.remote == nil || len(d.hashes) == 0 {
		return
	}
	// The question may outlive this request, so it gets hashes of its own.
	known := make([]bool, len(d.hashes))
	s.remote.lookup(ctx, append([]ids.Hash(nil), d.hashes...), known)
	kept := d.hashes[:0]
	for j, h := range d.hashes {
		if known[j] {
			results[positions[j]].status = statusDuplicate
			continue
		}
		kept = append(kept, h)
	}
	d.hashes = kept
}

func (s *service) putBack(d *draftRecords) {
	if cap(d.buf) > maxKeptBuffer {
		return
	}
	clear(d.records)
	d.buf, d.ends, d.topics, d.records, d.hashes = d.buf[:0], d.ends[:0], d.topics[:0], d.records[:0], d.hashes[:0]
	s.drafts.Put(d)
}

func (d *draftRecords) event(e *Event, r *receipt) {
	// The key orders what one device, or one person without a device, does.
	d.buf = append(append(append(d.buf, r.source.WorkspaceID...), ':'), e.DistinctID()...)
	key := len(d.buf)
	d.buf = appendEvent(d.buf, e, r)
	d.end(key, stream.CollectorEvents)
}

func (d *draftRecords) rejected(it *item, r *receipt, limit int) {
	d.buf = append(append(append(d.buf, r.source.WorkspaceID...), ':'), r.source.ID...)
	key := len(d.buf)
	d.buf = appendRejected(d.buf, it, r, limit)
	d.end(key, stream.CollectorRejected)
}

func (d *draftRecords) end(key int, topic string) {
	d.ends = append(d.ends, key, len(d.buf))
	d.topics = append(d.topics, topic)
}

// finish cuts the buffer, which has stopped moving, into records.
func (d *draftRecords) finish(r *receipt, traceparent string) []spool.Record {
	events := headers(r.source.WorkspaceID, eventMessage, traceparent)
	rejected := headers(r.source.WorkspaceID, rejectedMessage, traceparent)
	start := 0
	for i, topic := range d.topics {
		key, end := d.ends[2*i], d.ends[2*i+1]
		rec := spool.Record{Topic: topic, Key: d.buf[start:key], Value: d.buf[key:end], Headers: events}
		if topic == stream.CollectorRejected {
			rec.Headers = rejected
		}
		d.records = append(d.records, rec)
		start = end
	}
	return d.records
}

func headers(workspaceID, message, traceparent string) []spool.Header {
	h := []spool.Header{
		{Name: kafka.HeaderWorkspace, Value: workspaceID},
		{Name: kafka.HeaderMessageType, Value: message},
		{Name: kafka.HeaderSchemaVersion, Value: schemaVersion},
	}
	if traceparent != "" {
		h = append(h, spool.Header{Name: kafka.HeaderTraceparent, Value: traceparent})
	}
	return h
}

// traceparent is the request's trace as Kafka headers carry it.
func traceparent(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ""
	}
	traceID, spanID := sc.TraceID(), sc.SpanID()
	return "00-" + traceID.String() + "-" + spanID.String() + "-" + (sc.TraceFlags() & trace.FlagsSampled).String()
}

// now is the time of receipt, in the precision that is stored.
func (s *service) now() time.Time { return s.clock.Now().UTC().Truncate(time.Microsecond) }
