package collector

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

func TestTheSameBatchFiveTimesIsStoredOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var events []string
	for i := range 20 {
		events = append(events, fmt.Sprintf(`{"event_id":"e%d","event_type":"view","anonymous_id":"a"}`, i))
	}
	body := "[" + strings.Join(events, ",") + "]"
	for try := range 5 {
		want := "ok"
		if try > 0 {
			want = "duplicate"
		}
		for _, r := range b.post("/v1/events", body).results(t) {
			require.Equal(t, want, r.Status)
		}
	}
	require.Len(t, b.log.events(t), 20)
	require.Equal(t, 200, b.post("/v1/page", `{"userId":"u","messageId":"e1"}`).code, "plain paths answer success for a duplicate")
	require.Len(t, b.log.events(t), 20)
}

func TestRepetitionWithinARequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.post("/v1/batch?results=1", `{"batch":[{"type":"page","userId":"u","messageId":"m"},{"type":"page","messageId":"m"},{"type":"page","userId":"v","messageId":"m"}]}`)
	require.Equal(t, []eventResult{{"m", "ok", ""}, {"m", "rejected", "missing_id"}, {"m", "duplicate", ""}}, got.results(t))
	require.Len(t, b.log.events(t), 1)
}

func TestWorkspacesDoNotShareEventIDs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.putSource(1, Source{WorkspaceID: "other", ID: "s9", Enabled: true}, "wk_other")
	require.Equal(t, 200, b.post("/v1/page", page).code)
	require.Equal(t, 200, b.post("/v1/page", page, "X-Write-Key", "wk_other").code)
	require.Len(t, b.log.events(t), 2)
}

func TestSeenIndexIsBoundedAndForgetsTheOldest(t *testing.T) {
	t.Parallel()
	x := newSeenIndex(1 << 12)
	for i := range 1 << 14 {
		h := ids.Hash128("w", fmt.Sprint(i))
		require.False(t, x.has(h))
		x.add(h)
		x.add(h)
		require.True(t, x.has(h))
	}
	kept := 0
	for i := range 1 << 14 {
		if x.has(ids.Hash128("w", fmt.Sprint(i))) {
			kept++
		}
	}
	require.InDelta(t, 1<<12, kept, 200)
	require.True(t, x.has(ids.Hash128("w", fmt.Sprint(1<<14-1))))
}

// fakeIdentity knows some events and may hang.
type fakeIdentity struct {
	mu    sync.Mutex
	known map[ids.Hash]bool
	calls int
	sizes []int
	err   error
	hold  chan struct{}
}

func (f *fakeIdentity) LookupEvents(ctx context.Context, in *identityv1.LookupEventsRequest, _ ...grpc.CallOption) (*identityv1.LookupEventsResponse, error) {
	f.mu.Lock()
	f.calls++
	f.sizes = append(f.sizes, len(in.GetEventHashes()))
	hold, err := f.hold, f.err
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, grpcstatus.FromContextError(ctx.Err()).Err()
		}
	}
	if err != nil {
		return nil, err
	}
	out := &identityv1.LookupEventsResponse{}
	for _, h := range in.GetEventHashes() {
		out.Seen = append(out.Seen, f.known[ids.Hash(h)])
	}
	return out, nil
}

func (f *fakeIdentity) called() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (b *bundle) askIdentity(deadline time.Duration, peers ...identityEvents) {
	b.door.service.remote = newRemoteSeen(peers, deadline, b.clock)
}

const twoEvents = `[{"event_id":"old","event_type":"view","anonymous_id":"a"},{"event_id":"new","event_type":"view","anonymous_id":"a"}]`

func TestIdentityProvesDuplicates(t *testing.T) {
	t.Parallel()
	b := setup(t)
	knows := &fakeIdentity{known: map[ids.Hash]bool{ids.Hash128(workspaceID, "old"): true}}
	b.askIdentity(10*time.Second, &fakeIdentity{}, knows)
	require.Equal(t, []eventResult{{"old", "duplicate", ""}, {"new", "ok", ""}}, b.post("/v1/events", twoEvents).results(t))
	require.Len(t, b.log.events(t), 1)
	require.Equal(t, 200, b.post("/v1/batch", `{"batch":[{"type":"page","userId":"u"}]}`).code)
	require.Equal(t, 1, knows.called(), "paths without results ask nobody")
}

func TestIdentityAwayOrSlowIsNoProof(t *testing.T) {
	t.Parallel()
	b := setup(t)
	away := &fakeIdentity{err: grpcstatus.Error(codes.Unavailable, "away")}
	b.askIdentity(10*time.Second, away)
	for i := range 10 {
		event := fmt.Sprintf(`{"event_id":"x%d","event_type":"view","anonymous_id":"a"}`, i)
		require.Equal(t, "ok", b.post("/v1/events", event).results(t)[0].Status)
	}
	require.Equal(t, restAfter, away.called(), "a peer that fails is left alone")
	b.clock.Advance(rest)
	b.post("/v1/events", `{"event_id":"y","event_type":"view","anonymous_id":"a"}`)
	require.Equal(t, restAfter+1, away.called())

	hangs := &fakeIdentity{hold: make(chan struct{})}
	b.askIdentity(5*time.Millisecond, hangs)
	require.Equal(t, "ok", b.post("/v1/events", twoEvents).results(t)[0].Status)
	close(hangs.hold)
}

func TestQuestionsGoOutTogether(t *testing.T) {
	t.Parallel()
	peer := &fakeIdentity{hold: make(chan struct{}), known: map[ids.Hash]bool{}}
	for i := range 10 {
		peer.known[ids.Hash128("w", fmt.Sprint(i))] = i%2 == 0
	}
	b := setup(t)
	r := newRemoteSeen([]identityEvents{peer}, time.Minute, b.clock)
	var wg sync.WaitGroup
	ask := func(i int) {
		wg.Go(func() {
			seen := make([]bool, 1)
			r.lookup(context.WithoutCancel(t.Context()), []ids.Hash{ids.Hash128("w", fmt.Sprint(i))}, seen)
			require.Equal(t, i%2 == 0, seen[0])
		})
	}
	ask(0)
	require.Eventually(t, func() bool { return peer.called() == 1 }, 10*time.Second, time.Millisecond)
	for i := 1; i < 10; i++ {
		ask(i)
	}
	require.Eventually(t, func() bool {
		r.peers[0].mu.Lock()
		defer r.peers[0].mu.Unlock()
		return len(r.peers[0].waiting) == 9
	}, 10*time.Second, time.Millisecond)
	close(peer.hold)
	wg.Wait()
	require.Equal(t, []int{1, 9}, peer.sizes)
}
