package identity

import (
	"context"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/identity/dedupe"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// cleaner removes what nobody can ask for any more: events that left the dedupe window, decisions about events that
// cannot be replayed. It also ends the process when the dedupe store turns out to be damaged.
type cleaner struct {
	dedupe   *dedupe.Store
	store    Store
	client   *kgo.Client
	clock    clock.Clock
	log      *slog.Logger
	metrics  *metrics
	interval time.Duration
	margin   int64
}

func (c *cleaner) runner() runtime.Runner {
	return runtime.Runner{Name: "identity.cleaner", Run: c.run}
}

func (c *cleaner) run(ctx context.Context, started func()) error {
	started()
	for {
		timer := c.clock.NewTimer(c.interval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-c.dedupe.Broken():
			timer.Stop()
			return errs.New(errs.Unavailable, "dedupe_damaged", "The dedupe store is damaged; start again, and it is rebuilt from the log")
		case <-timer.C():
		}
		expired, err := c.dedupe.Sweep(ctx, c.clock)
		c.metrics.expired.Add(ctx, expired)
		if err == nil {
			err = c.prune(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.log.Warn("cleaning up failed; trying again later", "code", errs.CodeOf(err), "error", err)
		}
	}
}

// prune forgets decisions well below the offsets that the group has committed: no consumer starts before those.
func (c *cleaner) prune(ctx context.Context) error {
	commits, err := kadm.NewClient(c.client).FetchOffsets(ctx, stream.GroupIdentity)
	if err != nil {
		return errLogAway(err)
	}
	for partition, commit := range commits[stream.CollectorEvents] {
		if commit.Err != nil || commit.At <= c.margin {
			continue
		}
		if _, err := c.store.PruneDecisions(ctx, partition, commit.At-c.margin); err != nil {
			return err
		}
	}
	return nil
}
