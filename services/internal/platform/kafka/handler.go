package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Handler is what a context does with the records of its topics.
//
// With Together off, each partition has a lane of its own: Handle runs concurrently for different partitions, always
// with one batch, never twice at a time for the same partition. With Together on there is one lane and Handle gets the
// batches of all partitions, at most one for each.
type Handler interface {
	// Assigned is called before the first record of newly assigned partitions. It may change Start and Watermark, which
	// come from the offset commit; a handler that keeps them elsewhere sets its own. It may be called while Handle runs
	// for other partitions. An error of kind Unavailable is retried, any other stops the consumer.
	Assigned(ctx context.Context, partitions []*Assignment) error
	// Handle does the work for all records of batches, or returns an error; what it did before an error will be asked
	// for again. A record that can never be handled is given to Batch.Reject, the others go on. After a return of nil
	// the offsets are committed.
	Handle(ctx context.Context, batches []*Batch) error
	// Revoked is called when partitions are taken away or the consumer stops: nothing of them is in work any more and
	// what was done is committed.
	Revoked(ctx context.Context, partitions []TopicPartition)
}

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Assignment is a partition that the consumer now owns.
type Assignment struct {
	TopicPartition
	// Committed is the offset in the group's commit, -1 when there is none.
	Committed int64
	// Start is the offset of the first record to handle: Committed, or the start of the log.
	Start int64
	// End is the end of the log at this moment.
	End int64
	// Watermark is the highest src_offset handled according to the commit, -1 when unknown.
	Watermark int64
}

// Batch is a run of records of one partition, in order.
type Batch struct {
	Topic     string
	Partition int32
	Records   []*kgo.Record

	rejected []rejection
	// queuedAt is when the oldest of the records came.
	queuedAt time.Time
}

type rejection struct {
	record *kgo.Record
	err    error
}

// Reject sends rec to the dead-letter topic with the code of err instead of handling it; the records around it are not
// affected. It is for records that no retry can help: one that cannot be decoded.
func (b *Batch) Reject(rec *kgo.Record, err error) {
	b.rejected = append(b.rejected, rejection{record: rec, err: err})
}

// late marks a NotFound that time may heal.
type late struct{ error }

func (l late) Unwrap() error { return l.error }

// Late marks err, typically a NotFound, as worth a bounded retry: what is missing may still arrive.
func Late(err error) error {
	if err == nil {
		return nil
	}
	return late{err}
}

func isLate(err error) bool {
	var l late
	return errors.As(err, &l)
}
