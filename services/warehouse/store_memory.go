package warehouse

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// MemoryLedger is a Ledger and Graveyard in memory.
type MemoryLedger struct {
	clock clock.Clock

	mu      sync.Mutex
	marks   map[int32]Watermark
	batches map[uuid.UUID]*ledgerEntry
}

type ledgerEntry struct {
	batch     Batch
	settledAt time.Time
}

// NewMemoryLedger returns an empty ledger.
func NewMemoryLedger(clk clock.Clock) *MemoryLedger {
	return &MemoryLedger{clock: clk, marks: map[int32]Watermark{}, batches: map[uuid.UUID]*ledgerEntry{}}
}

// Watermarks implements Ledger.
func (l *MemoryLedger) Watermarks(context.Context) (map[int32]Watermark, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[int32]Watermark, len(l.marks))
	for p, mark := range l.marks {
		out[p] = mark
	}
	return out, nil
}

// Announce implements Ledger.
func (l *MemoryLedger) Announce(_ context.Context, batch Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.batches[batch.ID]; ok {
		return errWatermarkMoved()
	}
	for _, span := range batch.Spans {
		mark, ok := l.marks[span.Partition]
		if !ok {
			mark = Watermark{Offset: noOffset}
		}
		if mark.Offset != span.From || mark.Pending != uuid.Nil {
			return errWatermarkMoved()
		}
	}
	batch.State = Pending
	l.batches[batch.ID] = &ledgerEntry{batch: batch}
	for _, span := range batch.Spans {
		l.marks[span.Partition] = Watermark{Offset: span.From, Pending: batch.ID}
	}
	return nil
}

// Commit implements Ledger.
func (l *MemoryLedger) Commit(_ context.Context, id uuid.UUID) error {
	return l.move(id, Pending, Committed, func(span Span) Watermark { return Watermark{Offset: span.To} })
}

// Condemn implements Ledger.
func (l *MemoryLedger) Condemn(_ context.Context, id uuid.UUID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	entry, ok := l.batches[id]
	switch {
	case !ok:
		return errBatchMissing()
	case entry.batch.State == Committed:
		return errBatchSettled()
	case entry.batch.State == Pending:
		entry.batch.State = Condemned
	}
	return nil
}

// Release implements Ledger.
func (l *MemoryLedger) Release(_ context.Context, id uuid.UUID) error {
	return l.move(id, Condemned, Aborted, func(span Span) Watermark { return Watermark{Offset: span.From} })
}

func (l *MemoryLedger) move(id uuid.UUID, from, to State, mark func(Span) Watermark) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	entry, ok := l.batches[id]
	switch {
	case !ok:
		return errBatchMissing()
	case entry.batch.State == to:
		return nil
	case entry.batch.State != from:
		return errBatchSettled()
	}
	entry.batch.State, entry.settledAt = to, l.clock.Now()
	for _, span := range entry.batch.Spans {
		l.marks[span.Partition] = mark(span)
	}
	return nil
}

// Load implements Ledger.
func (l *MemoryLedger) Load(_ context.Context, id uuid.UUID) (Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if entry, ok := l.batches[id]; ok {
		return entry.batch, nil
	}
	return Batch{}, errBatchMissing()
}

// Aborted implements Graveyard.
func (l *MemoryLedger) Aborted(_ context.Context, window time.Duration) ([]Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Batch
	for _, entry := range l.batches {
		if entry.batch.State == Aborted && l.clock.Now().Sub(entry.settledAt) <= window {
			out = append(out, entry.batch)
		}
	}
	return out, nil
}

// Forget implements Graveyard.
func (l *MemoryLedger) Forget(_ context.Context, age time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, entry := range l.batches {
		if (entry.batch.State == Committed || entry.batch.State == Aborted) && l.clock.Now().Sub(entry.settledAt) > age {
			delete(l.batches, id)
		}
	}
	return nil
}

func errWatermarkMoved() error {
	return errs.New(errs.Conflict, "watermark_moved", "another instance has announced or stored events of these partitions")
}

func errBatchSettled() error {
	return errs.New(errs.Conflict, "batch_settled", "another instance has settled this batch in another way")
}

func errBatchMissing() error {
	return errs.New(errs.NotFound, "batch_not_found", "there is no such batch")
}

// MemoryTables are Tables in memory.
type MemoryTables struct {
	mu   sync.Mutex
	rows map[string]map[uuid.UUID][]*Row
}

// NewMemoryTables returns empty tables.
func NewMemoryTables() *MemoryTables {
	return &MemoryTables{rows: map[string]map[uuid.UUID][]*Row{tableEvents: {}, tableByPerson: {}}}
}

// Insert implements Tables.
func (t *MemoryTables) Insert(_ context.Context, batch Batch, rows []*Row) error {
	t.insertInto(tableEvents, batch, rows)
	t.insertInto(tableByPerson, batch, rows)
	return nil
}

func (t *MemoryTables) insertInto(table string, batch Batch, rows []*Row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows[table][batch.ID] = append(t.rows[table][batch.ID], rows...)
}

// Count implements Tables.
func (t *MemoryTables) Count(_ context.Context, batch Batch) (Counts, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := Counts{}
	for table, batches := range t.rows {
		counts[table] = len(batches[batch.ID])
	}
	return counts, nil
}

// Kill implements Tables.
func (t *MemoryTables) Kill(context.Context, Batch) error { return nil }

// Delete implements Tables.
func (t *MemoryTables) Delete(_ context.Context, batch Batch) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, batches := range t.rows {
		delete(batches, batch.ID)
	}
	return nil
}

// Refused implements Tables: memory takes everything.
func (t *MemoryTables) Refused(context.Context, []*Row) ([]*Row, error) { return nil, nil }

// Copies returns how often each (partition, offset) is in the table.
func (t *MemoryTables) Copies(table string) map[[2]int64]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[[2]int64]int{}
	for _, rows := range t.rows[table] {
		for _, row := range rows {
			out[[2]int64{int64(row.Partition), row.Offset}]++
		}
	}
	return out
}
