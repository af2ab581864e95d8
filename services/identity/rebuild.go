package identity

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	warehousev1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/warehouse/v1"
	"github.com/mekong-cdp/mekong/services/identity/dedupe"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// Log reads stretches of single partitions.
type Log interface {
	// Bounds returns the first offset that is still there and the one after the last.
	Bounds(ctx context.Context, topic string, partition int32) (start, end int64, err error)
	// Read gives the records with from <= offset < to to each, in order, until it wants no more.
	Read(ctx context.Context, topic string, partition int32, from, to int64, each func([]*kgo.Record) (more bool, err error)) error
}

// Archive remembers the events that the log has forgotten.
type Archive interface {
	warehousev1.WarehouseServiceClient
}

// rebuilder fills what a dedupe store lacks of a partition before its events are judged: after the partition came from
// another instance, or the store was lost or cut short.
type rebuilder struct {
	store   *dedupe.Store
	log     Log
	archive Archive
	metrics *metrics
	slog    *slog.Logger
	// reach is how many offsets below the first to judge are worth remembering.
	reach int64
}

// fill makes the store know the partition's log up to the offset next, exclusive.
func (r *rebuilder) fill(ctx context.Context, partition int32, next int64) error {
	applied := r.store.Applied(partition)
	if applied+1 >= next {
		return nil
	}
	from := max(applied+1, next-r.reach)
	r.slog.Info("dedupe store lacks a part of the log; filling it", "partition", partition, "from", from, "to", next)
	started := time.Now()
	start, _, err := r.log.Bounds(ctx, stream.CollectorEvents, partition)
	if err != nil {
		return err
	}
	if gone := min(start, next); from < gone {
		if err := r.fillForgotten(ctx, partition, from, gone); err != nil {
			return err
		}
		from = gone
	}
	if err := r.fillFromLog(ctx, partition, from, next); err != nil {
		return err
	}
	if err := r.store.Advance(partition, from, next-1); err != nil {
		return err
	}
	r.slog.Info("dedupe store is whole again", "partition", partition, "to", next, "took", time.Since(started))
	return nil
}

// fillForgotten fills a stretch that the input log has dropped. Its events are in the resolved log until the warehouse
// has stored them, then in the archive. The resolved log is read first: what is no longer in it was stored before.
func (r *rebuilder) fillForgotten(ctx context.Context, partition int32, from, to int64) error {
	start, end, err := r.log.Bounds(ctx, stream.ResolvedEvents, partition)
	if err != nil {
		return err
	}
	if err := r.log.Read(ctx, stream.ResolvedEvents, partition, start, end, func(records []*kgo.Record) (bool, error) {
		entries, more := resolvedEntries(records, from, to)
		r.metrics.restoredFrom(ctx, "resolved", len(entries))
		return more, r.store.Fill(ctx, partition, entries)
	}); err != nil {
		return err
	}
	if err := r.fillFromArchive(ctx, partition, from, to); err != nil {
		return err
	}
	return r.store.Advance(partition, from, to-1)
}

// resolvedEntries returns the events of [from, to); more is false when a record lies behind them.
func resolvedEntries(records []*kgo.Record, from, to int64) (entries []dedupe.Entry, more bool) {
	more = true
	for _, rec := range records {
		offset, hash, err := resolvedPlace(rec.Value)
		if err != nil {
			continue
		}
		if offset >= to {
			more = false
			continue
		}
		if offset >= from {
			entries = append(entries, dedupe.Entry{Hash: hash, Offset: offset})
		}
	}
	return entries, more
}

func (r *rebuilder) fillFromArchive(ctx context.Context, partition int32, from, to int64) error {
	scan, err := r.archive.ScanEventHashes(ctx, &warehousev1.ScanEventHashesRequest{
		SrcPartition: partition, FromOffset: from, ToOffset: to,
	})
	if err != nil {
		return errArchive(err)
	}
	for {
		block, err := scan.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errArchive(err)
		}
		hashes, offsets := block.GetEventHashes(), block.GetFirstOffsets()
		if len(hashes) != len(offsets)*len(ids.Hash{}) {
			return errs.New(errs.Unavailable, "archive_malformed", "The warehouse sent a block whose lists differ in length; both must be of one version")
		}
		entries := make([]dedupe.Entry, len(offsets))
		for i, offset := range offsets {
			entries[i] = dedupe.Entry{Hash: ids.Hash(hashes[i*len(ids.Hash{}):]), Offset: offset}
		}
		if err := r.store.Fill(ctx, partition, entries); err != nil {
			return err
		}
		r.metrics.restoredFrom(ctx, "archive", len(entries))
	}
}

// fillFromLog reads the input log again. What is not an event was a dead letter then and takes no part now.
func (r *rebuilder) fillFromLog(ctx context.Context, partition int32, from, to int64) error {
	return r.log.Read(ctx, stream.CollectorEvents, partition, from, to, func(records []*kgo.Record) (bool, error) {
		if len(records) == 0 {
			return true, nil
		}
		entries := make([]dedupe.Entry, 0, len(records))
		for _, rec := range records {
			if e, err := decodeEvent(rec); err == nil {
				entries = append(entries, dedupe.Entry{Hash: e.Hash, Offset: e.Offset})
			}
		}
		last := records[len(records)-1]
		_, err := r.store.Apply(ctx, partition, entries, last.Offset, last.Timestamp)
		r.metrics.restoredFrom(ctx, "log", len(entries))
		return true, err
	})
}

// errArchive waits for the warehouse, whatever its answer: without it duplicates would pass.
func errArchive(err error) error {
	if code := status.Code(err); code == codes.Canceled || code == codes.DeadlineExceeded {
		return errs.Wrap(err, errs.Unavailable, "archive_late", "The warehouse did not answer in time; trying again")
	}
	return errs.Wrap(err, errs.Unavailable, "archive_away", "The dedupe window cannot be rebuilt without the warehouse; check that it and ClickHouse run")
}
