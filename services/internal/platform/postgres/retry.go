package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const retryPause = 5 * time.Millisecond

// Retry runs fn up to attempts times while it loses to another transaction (serialization failure or deadlock). fn must
// be a whole transaction and must not keep state from a run that failed.
func Retry(ctx context.Context, attempts int, fn func(ctx context.Context) error) error {
	var err error
	for attempt := range max(attempts, 1) {
		if attempt > 0 {
			// Random, so that two losers do not meet again.
			pause := time.Duration(rand.Int64N(int64(retryPause) << min(attempt, 6))) //nolint:gosec // spread, not secrecy
			timer := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return err
			case <-timer.C:
			}
		}
		if err = fn(ctx); !IsTransactionConflict(err) {
			return err
		}
	}
	return err
}

// IsTransactionConflict reports whether err is a serialization failure or a deadlock.
func IsTransactionConflict(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}
