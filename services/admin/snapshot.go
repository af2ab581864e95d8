package admin

import (
	"context"
	"time"
)

// PublishSnapshot publishes the newest state of everything again, ended by a SnapshotCompleted. It is a change like any
// other: none runs beside it, and its records take their turn in the outbox, so that no record of it can come to the log
// after a newer one of the same thing, and compaction keeps the right one.
//
// It returns when the snapshot was taken, by which SnapshotRelayed knows it.
func (s *Service) PublishSnapshot(ctx context.Context) (time.Time, error) {
	type snapshot struct {
		completed time.Time
		records   int
	}
	done, err := change(ctx, s, Access{System: true}, func(ctx context.Context, tx Tx) (snapshot, error) {
		now := s.now()
		if err := tx.Snapshot.Purge(ctx, now.Add(-s.cfg.DeletedRetention), []string{DemoWriteKey}); err != nil {
			return snapshot{}, err
		}
		changes, err := tx.Snapshot.Read(ctx)
		if err != nil {
			return snapshot{}, err
		}
		changes = append(changes, Change{SnapshotCompleted: now})
		return snapshot{now, len(changes)}, tx.Outbox.Changed(ctx, changes...)
	})
	if err == nil {
		s.metrics.snapshotPublished(ctx, done.records)
	}
	return done.completed, err
}

// SnapshotRelayed reports whether the log has all of the snapshot taken at completed.
func (s *Service) SnapshotRelayed(ctx context.Context, completed time.Time) (bool, error) {
	return view(ctx, s, Access{System: true}, func(ctx context.Context, tx Tx) (bool, error) {
		waiting, err := tx.Outbox.Waiting(ctx, Change{SnapshotCompleted: completed})
		return !waiting, err
	})
}
