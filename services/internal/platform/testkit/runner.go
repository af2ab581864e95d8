package testkit

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

const (
	stressRounds = 10
	stressLimit  = 30 * time.Second
)

// StressStartStop checks the contract of a Runner, each time with a new one from build: it starts, it ends without an
// error when its context ends after, while or before it starts, and it calls started at most once.
func StressStartStop(t *testing.T, build func(t *testing.T) runtime.Runner) {
	t.Helper()
	for _, round := range []struct {
		name string
		// stop is told when the runner has started, and ends it.
		stop func(cancel context.CancelFunc, started <-chan struct{})
	}{
		{"stopped after it has started", func(cancel context.CancelFunc, started <-chan struct{}) { <-started; cancel() }},
		{"stopped while it starts", func(cancel context.CancelFunc, _ <-chan struct{}) { cancel() }},
	} {
		t.Run(round.name, func(t *testing.T) {
			for range stressRounds {
				runOnce(t, build(t), round.stop)
			}
		})
	}
	t.Run("stopped before it starts", func(t *testing.T) {
		runOnce(t, build(t), nil)
	})
}

func runOnce(t *testing.T, r runtime.Runner, stop func(context.CancelFunc, <-chan struct{})) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if stop == nil {
		cancel()
	}
	started, ended := make(chan struct{}), make(chan error, 1)
	calls := 0
	go func() {
		ended <- r.Run(ctx, func() {
			calls++
			if calls == 1 {
				close(started)
			}
		})
	}()
	if stop != nil {
		go stop(cancel, started)
	}
	limit := time.NewTimer(stressLimit)
	defer limit.Stop()
	select {
	case err := <-ended:
		require.NoError(t, err, r.Name)
		require.LessOrEqual(t, calls, 1, "%s called started more than once", r.Name)
	case <-limit.C:
		require.Failf(t, "runner has not ended", "%s within %s", r.Name, stressLimit)
	}
}
