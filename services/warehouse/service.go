package warehouse

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Ledger announces batches before they are inserted and knows how far each partition is stored.
type Ledger interface {
	// Watermarks returns every partition that was ever announced.
	Watermarks(ctx context.Context) (map[int32]Watermark, error)
	// Announce makes the batch the pending one of its partitions. It is a Conflict, and nothing changes, when any of
	// them has another watermark than the span's From, or has a batch that is not settled.
	Announce(ctx context.Context, batch Batch) error
	// Commit moves the watermarks to the ends of a pending batch. A committed one stays so; a Conflict when it was
	// condemned or aborted.
	Commit(ctx context.Context, id uuid.UUID) error
	// Condemn keeps a pending batch from ever being committed. A condemned or aborted one stays so; a Conflict when it
	// was committed.
	Condemn(ctx context.Context, id uuid.UUID) error
	// Release aborts a condemned batch and gives its partitions free. An aborted one stays so; a Conflict for others.
	Release(ctx context.Context, id uuid.UUID) error
	// Load returns a batch; NotFound when there is none.
	Load(ctx context.Context, id uuid.UUID) (Batch, error)
}

// Graveyard remembers settled batches for the sweeper.
type Graveyard interface {
	// Aborted returns the batches that were aborted within the last window.
	Aborted(ctx context.Context, window time.Duration) ([]Batch, error)
	// Forget removes batches that were settled longer ago than age.
	Forget(ctx context.Context, age time.Duration) error
}

// Tables is where rows are kept.
type Tables interface {
	// Insert writes the rows to every table. After an error any part of them may be there, or come later.
	Insert(ctx context.Context, batch Batch, rows []*Row) error
	// Count returns how many rows of the batch each table holds.
	Count(ctx context.Context, batch Batch) (Counts, error)
	// Kill ends inserts of the batch that are under way and returns when they have ended.
	Kill(ctx context.Context, batch Batch) error
	// Delete removes the rows of the batch and returns when they are gone.
	Delete(ctx context.Context, batch Batch) error
	// Refused tells which of rows the tables cannot take, after Insert failed with Invalid.
	Refused(ctx context.Context, rows []*Row) ([]*Row, error)
}

// Service stores rows once each.
type Service struct {
	ledger  Ledger
	tables  Tables
	clock   clock.Clock
	log     *slog.Logger
	metrics *metrics
	cfg     Config
	// owner names this instance in announced batches.
	owner string
	// marks is what was last known of the watermarks; the ledger's compare-and-swap tells when it is old.
	marks map[int32]Watermark
}

// maxTurns bounds how often one call begins anew after it lost a race or met a batch to settle.
const maxTurns = 8

func newService(cfg Config, ledger Ledger, tables Tables, clk clock.Clock, log *slog.Logger, m *metrics, owner string) *Service {
	return &Service{cfg: cfg, ledger: ledger, tables: tables, clock: clk, log: log, metrics: m, owner: owner}
}

// Store writes those of rows that are above their partition's watermark, each once, and returns when they are stored.
// It is not safe for concurrent use; other instances may work on other partitions, or believe that they still own these.
// After an error the same rows must be given again, by any instance.
func (s *Service) Store(ctx context.Context, rows []*Row) error {
	for _, run := range split(rows, s.cfg.MaxRows, s.cfg.MaxBytes) {
		if err := s.storeRun(ctx, run); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) storeRun(ctx context.Context, rows []*Row) error {
	var last error
	for range maxTurns {
		if s.marks == nil {
			if err := s.Reload(ctx, nil); err != nil {
				return err
			}
		}
		todo, spans := fresh(rows, s.marks)
		s.metrics.dropped(ctx, len(rows)-len(todo))
		if len(todo) == 0 {
			return nil
		}
		batch := Batch{
			ID: uuid.Must(uuid.NewV7()), Owner: s.owner, Rows: len(todo), Spans: spans,
			CreatedAt: s.clock.Now().UTC().Truncate(time.Millisecond),
		}
		err := s.ledger.Announce(ctx, batch)
		if errs.KindOf(err) == errs.Conflict {
			// Another instance stored or announced something of these partitions, or an earlier call of ours did not end.
			last = err
			if err := s.Reload(ctx, partitionsOf(spans)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if last = s.insert(ctx, batch, todo); last == nil {
			return nil
		}
		s.log.WarnContext(ctx, "a batch did not go through and is settled", "batch", batch.ID, "rows", batch.Rows,
			"code", errs.CodeOf(last), "error", last)
		if err := s.Settle(ctx, batch.ID); err != nil {
			return err
		}
		if err := s.heal(ctx, last, todo); err != nil {
			return err
		}
		if err := s.Reload(ctx, partitionsOf(spans)); err != nil {
			return err
		}
		if errs.KindOf(last) == errs.Unavailable && s.behind(rows) {
			return last // the caller waits before it tries again
		}
	}
	return errs.Wrap(last, errs.Unavailable, "batch_unsettled", "a batch could not be stored after several attempts; it is tried again")
}

// insert writes an announced batch, looks at what arrived, and commits it.
func (s *Service) insert(ctx context.Context, batch Batch, rows []*Row) error {
	start := s.clock.Now()
	insertCtx, cancel := context.WithTimeout(ctx, s.cfg.InsertTimeout)
	defer cancel()
	s.metrics.announced(rows)
	if err := s.tables.Insert(insertCtx, batch, rows); err != nil {
		return err
	}
	counts, err := s.tables.Count(insertCtx, batch)
	if err != nil {
		return err
	}
	if outcome := judge(batch.Rows, counts); outcome != Stored {
		return errs.New(errs.Internal, "rows_missing", "ClickHouse acknowledged a batch but does not hold all of its rows; it is written again")
	}
	if err := s.ledger.Commit(ctx, batch.ID); err != nil {
		return err
	}
	for _, span := range batch.Spans {
		s.marks[span.Partition] = Watermark{Offset: span.To}
	}
	s.metrics.stored(ctx, s.clock.Now(), s.clock.Now().Sub(start), rows)
	return nil
}

// heal makes rows acceptable that the tables refused.
func (s *Service) heal(ctx context.Context, cause error, rows []*Row) error {
	if errs.KindOf(cause) != errs.Invalid {
		return nil
	}
	refused, err := s.tables.Refused(ctx, rows)
	if err != nil {
		return err
	}
	if len(refused) == 0 {
		return errs.Wrap(cause, errs.Unavailable, "batch_refused", "ClickHouse refuses a batch without any row at fault; look at its log")
	}
	for _, row := range refused {
		row.refuseDocuments()
	}
	s.metrics.refused(ctx, len(refused))
	s.log.ErrorContext(ctx, "documents that ClickHouse refuses were stored as text only", "rows", len(refused))
	return nil
}

// behind tells whether any of rows is still to be stored.
func (s *Service) behind(rows []*Row) bool {
	todo, _ := fresh(rows, s.marks)
	return len(todo) > 0
}

// Reload reads the watermarks and settles the batches that are pending in partitions (nil: none): their inserts have an
// unknown end, and nothing else may be announced before. It is how an instance takes partitions over.
func (s *Service) Reload(ctx context.Context, partitions []int32) error {
	marks, err := s.ledger.Watermarks(ctx)
	if err != nil {
		return err
	}
	settled := map[uuid.UUID]struct{}{}
	for _, p := range partitions {
		id := marks[p].Pending
		if _, done := settled[id]; done || id == uuid.Nil {
			continue
		}
		if err := s.Settle(ctx, id); err != nil {
			return err
		}
		settled[id] = struct{}{}
	}
	if len(settled) > 0 {
		if marks, err = s.ledger.Watermarks(ctx); err != nil {
			return err
		}
	}
	s.marks = marks
	return nil
}

// Settle brings a batch to its end, whoever announced it: what is stored in full is committed; anything else is
// condemned, removed and aborted, so that its rows can be announced again under another id.
func (s *Service) Settle(ctx context.Context, id uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.SettleTimeout)
	defer cancel()
	batch, err := s.ledger.Load(ctx, id)
	if err != nil || batch.State == Committed {
		return err
	}
	if err := s.tables.Kill(ctx, batch); err != nil {
		return err
	}
	counts, err := s.tables.Count(ctx, batch)
	if err != nil {
		return err
	}
	outcome := judge(batch.Rows, counts)
	if batch.State == Pending {
		if outcome == Stored {
			err = s.ledger.Commit(ctx, id)
		} else {
			err = s.ledger.Condemn(ctx, id)
		}
		conflict := errs.KindOf(err) == errs.Conflict
		switch {
		case err != nil && !conflict:
			return err
		case conflict != (outcome == Stored):
			// Committed, by us or by another instance that saw all rows.
			s.settled(ctx, batch, Stored)
			return nil
		}
	}
	if outcome != Absent {
		if err := s.tables.Delete(ctx, batch); err != nil {
			return err
		}
	}
	if err := s.ledger.Release(ctx, id); err != nil {
		return err
	}
	s.settled(ctx, batch, outcome)
	return nil
}

func (s *Service) settled(ctx context.Context, batch Batch, outcome Outcome) {
	s.metrics.settled(ctx, outcome)
	s.log.InfoContext(ctx, "a batch with an unknown end was settled", "batch", batch.ID, "outcome", outcome,
		"rows", batch.Rows, "own", batch.Owner == s.owner)
}

func partitionsOf(spans []Span) []int32 {
	out := make([]int32, len(spans))
	for i, span := range spans {
		out[i] = span.Partition
	}
	return out
}
