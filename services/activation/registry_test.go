package activation

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
)

// countingReader counts how often definitions are read.
type countingReader struct {
	*memoryStore
	fingerprints, reads atomic.Int32
	away                atomic.Bool
}

func (r *countingReader) Fingerprint(ctx context.Context) (Fingerprint, error) {
	r.fingerprints.Add(1)
	if r.away.Load() {
		return Fingerprint{}, errors.New("away")
	}
	return r.memoryStore.Fingerprint(ctx)
}

func (r *countingReader) AllDestinations(ctx context.Context) ([]Destination, Fingerprint, error) {
	r.reads.Add(1)
	return r.memoryStore.AllDestinations(ctx)
}

func TestDefinitionsAreAsNewAsTheEvents(t *testing.T) {
	t.Parallel()
	store, clk := &countingReader{memoryStore: newMemoryStore()}, clock.NewFake(start)
	var changed []string
	r := newRegistry(DefaultConfig(), store, slog.New(slog.DiscardHandler), clk.Now, func(id string) { changed = append(changed, id) })
	require.NoError(t, r.ensure(t.Context(), start.Add(-time.Second)), "the first event reads them")
	require.EqualValues(t, 1, store.reads.Load())
	require.NoError(t, r.ensure(t.Context(), start.Add(-time.Second)))
	require.EqualValues(t, 1, store.fingerprints.Load(), "an older event needs no look")

	d := insert(t, store, destination(testWorkspace, "a"))
	clk.Advance(time.Second)
	require.Empty(t, r.enabled()[testWorkspace])
	require.NoError(t, r.ensure(t.Context(), start.Add(500*time.Millisecond)))
	require.Len(t, r.enabled()[testWorkspace], 1)
	require.EqualValues(t, 2, store.reads.Load())
	clk.Advance(time.Second)
	require.NoError(t, r.ensure(t.Context(), clk.Now()))
	require.EqualValues(t, 2, store.reads.Load(), "nothing changed")

	// What was seen of its health survives a change of its name, not of its address.
	old := r.get(d.ID)
	old.health.record(attemptResult{verdict: retry, retryAfter: time.Hour}, clk.Now())
	d.Name, d.Revision = "b", 2
	require.NoError(t, store.Update(t.Context(), d))
	require.NoError(t, r.ensure(t.Context(), clk.Now()))
	require.Same(t, old.health, r.get(d.ID).health)
	require.Same(t, old.filter, r.get(d.ID).filter)
	d.Webhook.URL, d.Filter, d.Revision = "http://elsewhere.example", "", 3
	require.NoError(t, store.Update(t.Context(), d))
	require.NoError(t, r.ensure(t.Context(), clk.Now()))
	require.False(t, r.get(d.ID).health.divert())
	require.NotSame(t, old.filter, r.get(d.ID).filter)
	require.Equal(t, []string{d.ID, d.ID}, changed)

	d.Enabled, d.Revision = false, 4
	require.NoError(t, store.Update(t.Context(), d))
	store.away.Store(true)
	require.Error(t, r.ensure(t.Context(), clk.Now()))
	require.Len(t, r.enabled()[testWorkspace], 1, "the copy stays")
	store.away.Store(false)
	require.NoError(t, r.ensure(t.Context(), clk.Now()))
	require.Empty(t, r.enabled()[testWorkspace])
	require.NotNil(t, r.get(d.ID))
	require.NoError(t, store.Delete(t.Context(), d.WorkspaceID, d.ID))
	require.NoError(t, r.ensure(t.Context(), clk.Now()))
	require.Nil(t, r.get(d.ID))
}

func TestASavedFilterThatNoLongerCompilesKeepsWhatIsParked(t *testing.T) {
	t.Parallel()
	store := newMemoryStore()
	d := destination(testWorkspace, "a")
	d.Filter = "of an older time ("
	insert(t, store, d)
	r := newRegistry(DefaultConfig(), store, slog.New(slog.DiscardHandler), time.Now, func(string) {})
	require.NoError(t, r.ensure(t.Context(), time.Now()))
	require.Empty(t, r.enabled()[testWorkspace])
	require.NotNil(t, r.get(d.ID), "it exists: nothing of it may be purged")
}
