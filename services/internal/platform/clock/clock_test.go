package clock_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
)

func TestFakeFiresWhatIsDue(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := clock.NewFake(start)
	early, late := c.NewTimer(time.Second), c.NewTimer(time.Minute)
	stopped := c.NewTimer(time.Second)
	require.True(t, stopped.Stop())
	require.Equal(t, 2, c.Waiting())

	c.Advance(time.Second)
	require.Equal(t, start.Add(time.Second), <-early.C())
	require.Empty(t, late.C())
	require.Empty(t, stopped.C())
	require.False(t, early.Stop())
}
