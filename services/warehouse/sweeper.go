package warehouse

import (
	"context"
	"log/slog"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// sweeper removes rows that arrive after their batch was aborted: a process that was paused inside an insert may send it
// long after others have stored the same events.
type sweeper struct {
	graveyard Graveyard
	tables    Tables
	cfg       Config
	clock     clock.Clock
	log       *slog.Logger
	metrics   *metrics
}

// run sweeps every SweepInterval until ctx is done.
func (s *sweeper) run(ctx context.Context, started func()) error {
	started()
	for {
		timer := s.clock.NewTimer(s.cfg.SweepInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C():
		}
		if _, err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "sweeping aborted batches failed, it is tried again", "code", errs.CodeOf(err), "error", err)
		}
	}
}

// sweep looks once at all aborted batches of the window and returns how many had rows.
func (s *sweeper) sweep(ctx context.Context) (int, error) {
	batches, err := s.graveyard.Aborted(ctx, s.cfg.SweepWindow)
	if err != nil {
		return 0, err
	}
	found := 0
	for _, batch := range batches {
		counts, err := s.tables.Count(ctx, batch)
		if err != nil {
			return found, err
		}
		if judge(batch.Rows, counts) == Absent {
			continue
		}
		if err := s.tables.Kill(ctx, batch); err != nil {
			return found, err
		}
		if err := s.tables.Delete(ctx, batch); err != nil {
			return found, err
		}
		found++
		s.metrics.swept(ctx)
		s.log.WarnContext(ctx, "rows of an aborted batch arrived late and were removed", "batch", batch.ID)
	}
	return found, s.graveyard.Forget(ctx, max(keepBatches, s.cfg.SweepWindow))
}

// keepBatches is how long settled batches stay in the ledger for people to look at.
const keepBatches = 24 * time.Hour
