package collector

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

func TestKeyRingKeepsTheNewestState(t *testing.T) {
	t.Parallel()
	r := newKeyRing()
	source := Source{WorkspaceID: workspaceID, ID: sourceID, Enabled: true}
	find := func() error { _, _, err := r.find("k", noon()); return err }
	r.change(func(d *draft) { d.writeKey("k", 5, writeKey{sourceID: sourceID, workspaceID: workspaceID}) })
	_, known, _ := r.find("k", noon())
	require.False(t, known, "a key without its source is not known yet")
	r.change(func(d *draft) { d.source(source, 5) })
	require.NoError(t, find())

	disabled := source
	disabled.Enabled = false
	r.change(func(d *draft) { d.source(disabled, 5); d.source(disabled, 4) })
	require.NoError(t, find(), "stale revisions change nothing")
	r.change(func(d *draft) { d.source(disabled, 6) })
	require.ErrorIs(t, find(), errSourceDisabled)
	r.change(func(d *draft) { d.source(source, 7) })
	require.NoError(t, find())

	r.change(func(d *draft) {
		d.writeKey("k", 6, writeKey{sourceID: sourceID, workspaceID: workspaceID, expiresAt: noon().Add(time.Second)})
	})
	require.NoError(t, find())
	_, known, err := r.find("k", noon().Add(time.Second))
	require.True(t, known)
	require.ErrorIs(t, err, errKeyUnknown)

	r.change(func(d *draft) { d.workspace(workspaceID, 1, true) })
	require.ErrorIs(t, find(), errKeyUnknown)
	r.change(func(d *draft) { d.workspace(workspaceID, 2, false) })
	require.NoError(t, find())
	r.change(func(d *draft) {
		d.writeKey("k", 7, writeKey{sourceID: sourceID, workspaceID: workspaceID, revoked: true})
	})
	require.ErrorIs(t, find(), errKeyUnknown)
}

func TestUnknownKeyCostsOneLookup(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, 401, b.post("/v1/page", page, "X-Write-Key", "wk_new").code)
	require.Equal(t, 401, b.post("/v1/page", page, "X-Write-Key", "wk_new").code)
	require.Equal(t, 1, b.admin.asked(), "the refusal is remembered")

	b.admin.answers = map[string]*adminv1.ResolveWriteKeyResponse{"wk_new": {
		WriteKey:         &adminv1.WriteKeyState{WorkspaceId: workspaceID, SourceId: "s2", WriteKey: "wk_new", ExpiresAt: timestamppb.New(noon().Add(time.Hour))},
		Source:           &adminv1.SourceState{WorkspaceId: workspaceID, SourceId: "s2", Type: "server", Enabled: true},
		WriteKeyRevision: 1, SourceRevision: 1,
	}}
	b.clock.Advance(refusalAge)
	require.Equal(t, 200, b.post("/v1/page", page, "X-Write-Key", "wk_new").code)
	require.Equal(t, 200, b.post("/v1/page", page, "X-Write-Key", "wk_new").code)
	require.Equal(t, 2, b.admin.asked(), "what was found is remembered too")
	require.Equal(t, "s2", b.log.events(t)[0].GetSourceId())
	b.clock.Advance(time.Hour)
	require.Equal(t, 401, b.post("/v1/page", page, "X-Write-Key", "wk_new").code)
}

func TestImplausibleKeysCostNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, key := range []string{"a b", "ключ", string(make([]byte, 200))} {
		_, err := b.door.keys.find(t.Context(), key)
		require.ErrorIs(t, err, errKeyUnknown)
	}
	require.Zero(t, b.admin.asked())
}

func TestAdminAwayIsNoRefusal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.admin.err = grpcstatus.Error(codes.Unavailable, "away")
	got := b.post("/v1/page", page, "X-Write-Key", "wk_new")
	require.Equal(t, 503, got.code)
	require.Equal(t, "key_lookup_failed", got.errorCode(t))
	require.NotEmpty(t, got.header.Get("Retry-After"))
	b.door.keys.loaded = func() bool { return false }
	require.Equal(t, "keys_not_loaded", b.post("/v1/page", page, "X-Write-Key", "wk_new").errorCode(t))
	require.Equal(t, 200, b.post("/v1/page", page).code, "known keys work without admin")
}

func TestGuessesAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var err error
	for i := range 2 * lookupsPerSecond {
		if _, err = b.door.keys.find(t.Context(), "guess"+string(rune('A'+i%26))+string(rune('a'+i/26))); errs.KindOf(err) == errs.RateLimited {
			break
		}
	}
	require.Equal(t, "too_many_unknown_keys", errs.CodeOf(err))
	require.LessOrEqual(t, b.admin.asked(), lookupsPerSecond)
}

// slowAdmin holds every call until it is told to answer.
type slowAdmin struct {
	fakeAdmin
	arrived chan struct{}
	release chan struct{}
}

func (a *slowAdmin) ResolveWriteKey(ctx context.Context, in *adminv1.ResolveWriteKeyRequest, opts ...grpc.CallOption) (*adminv1.ResolveWriteKeyResponse, error) {
	a.arrived <- struct{}{}
	<-a.release
	return a.fakeAdmin.ResolveWriteKey(ctx, in, opts...)
}

func TestConcurrentLookupsOfOneKeyAreOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	slow := &slowAdmin{arrived: make(chan struct{}, 100), release: make(chan struct{})}
	b.door.keys.admin = slow
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			_, err := b.door.keys.find(context.WithoutCancel(t.Context()), "wk_new")
			require.ErrorIs(t, err, errKeyUnknown)
		})
	}
	<-slow.arrived
	close(slow.release)
	wg.Wait()
	require.LessOrEqual(t, slow.asked(), 2, "those that came later find the remembered refusal")
}
