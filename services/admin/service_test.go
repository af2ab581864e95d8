package admin

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

func newService(t *testing.T, store Store) *Service {
	t.Helper()
	metrics, err := newMetrics()
	require.NoError(t, err)
	return &Service{
		store: store, clock: clock.NewFake(start), cfg: DefaultConfig(), metrics: metrics,
		requestID: func(context.Context) string { return "req-1" },
	}
}

// desk is a service with the house's organisations, and its callers.
type desk struct {
	*Service
	house
	memory *MemoryStore
	time   *clock.Fake
	// owner holds everything of the first organisation, single everything of workspace a.
	owner, single, stranger, service context.Context
}

func newDesk(t *testing.T) desk {
	t.Helper()
	memory := NewMemoryStore()
	s := newService(t, memory)
	h := newHouse(t, memory)
	as := func(p tenant.Principal) context.Context { return tenant.With(t.Context(), p) }
	return desk{
		Service: s, house: h, memory: memory, time: s.clock.(*clock.Fake),
		owner: as(tenant.Principal{
			TokenID: "owner", OrganisationID: h.mine.ID, WorkspaceIDs: []string{h.a.ID, h.b.ID}, Scopes: []string{ScopeAll},
			WholeOrganisation: true,
		}),
		single: as(tenant.Principal{
			TokenID: "single", OrganisationID: h.mine.ID, WorkspaceIDs: []string{h.a.ID}, Scopes: []string{ScopeAll},
		}),
		stranger: as(tenant.Principal{
			TokenID: "stranger", OrganisationID: h.other.ID, WorkspaceIDs: []string{h.c.ID}, Scopes: []string{ScopeAll},
			WholeOrganisation: true,
		}),
		service: as(tenant.Principal{Service: true}),
	}
}

func (d desk) scoped(ctx context.Context, scopes ...string) context.Context {
	p, _ := tenant.From(ctx)
	p.Scopes = scopes
	return tenant.With(ctx, p)
}

// published returns what the outbox holds since the last call.
func (d desk) published(t *testing.T) (changes []*adminv1.ConfigChange, audit []*adminv1.AuditRecorded) {
	t.Helper()
	d.memory.mu.Lock()
	defer d.memory.mu.Unlock()
	for _, m := range d.memory.state.outbox {
		switch m.topic {
		case stream.ConfigChanges:
			c := &adminv1.ConfigChange{}
			require.NoError(t, proto.Unmarshal(m.value, c))
			changes = append(changes, c)
		case stream.Audit:
			a := &adminv1.AuditRecorded{}
			require.NoError(t, proto.Unmarshal(m.value, a))
			audit = append(audit, a)
		default:
			t.Fatal("no topic of admin: " + m.topic)
		}
	}
	d.memory.state.outbox = nil
	return changes, audit
}

func (d desk) newSource(t *testing.T) SourceWithKeys {
	t.Helper()
	source, err := d.CreateSource(d.owner, CreateSourceInput{WorkspaceID: d.a.ID, Name: "web", Type: SourceWeb})
	require.NoError(t, err)
	return source
}

// everyUseCase calls all that workspace a offers to API tokens; each must name its scope and keep strangers out.
func (d desk) everyUseCase(source SourceWithKeys, tokenID string) map[string]func(context.Context) error {
	name := "renamed"
	return map[string]func(context.Context) error{
		scopeWorkspacesRead + " get": func(ctx context.Context) error { _, err := d.GetWorkspace(ctx, d.a.ID); return err },
		scopeWorkspacesWrite + " update": func(ctx context.Context) error {
			_, err := d.UpdateWorkspaceSettings(ctx, UpdateWorkspaceSettingsInput{WorkspaceID: d.a.ID, Name: &name})
			return err
		},
		scopeSourcesRead + " list": func(ctx context.Context) error { _, err := d.ListSources(ctx, d.a.ID); return err },
		scopeSourcesRead + " get":  func(ctx context.Context) error { _, err := d.GetSource(ctx, d.a.ID, source.ID); return err },
		scopeSourcesWrite + " create": func(ctx context.Context) error {
			_, err := d.CreateSource(ctx, CreateSourceInput{WorkspaceID: d.a.ID, Name: ids.New(), Type: SourceApp})
			return err
		},
		scopeSourcesWrite + " update": func(ctx context.Context) error {
			_, err := d.UpdateSource(ctx, UpdateSourceInput{WorkspaceID: d.a.ID, SourceID: source.ID, Name: &name})
			return err
		},
		scopeSourcesWrite + " key": func(ctx context.Context) error {
			_, err := d.CreateWriteKey(ctx, CreateWriteKeyInput{WorkspaceID: d.a.ID, SourceID: source.ID})
			return err
		},
		scopeSourcesWrite + " revoke": func(ctx context.Context) error {
			return d.RevokeWriteKey(ctx, d.a.ID, source.ID, source.WriteKeys[0].Key)
		},
		scopeSourcesWrite + " delete": func(ctx context.Context) error { return d.DeleteSource(ctx, d.a.ID, source.ID) },
		scopeTokensWrite + " create": func(ctx context.Context) error {
			_, _, err := d.CreateAPIToken(ctx, CreateAPITokenInput{Name: "n", Scopes: []string{scopeTokensWrite}, WorkspaceID: d.a.ID})
			return err
		},
		scopeTokensWrite + " revoke": func(ctx context.Context) error { return d.RevokeAPIToken(ctx, tokenID) },
		scopeAuditRead + " list": func(ctx context.Context) error {
			_, _, err := d.ListAuditEntries(ctx, ListAuditEntriesInput{WorkspaceID: d.a.ID})
			return err
		},
	}
}

func TestEveryUseCaseAsksForItsScopeAndWorkspace(t *testing.T) {
	t.Parallel()
	names := newDesk(t).everyUseCase(SourceWithKeys{WriteKeys: make([]WriteKey, 1)}, "")
	for name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			call := d.everyUseCase(d.newSource(t), d.token(t, d.mine, d.a.ID, "t").ID)[name]
			scope, _, _ := strings.Cut(name, " ")
			require.Equal(t, "unauthenticated", errs.CodeOf(call(t.Context())))
			for _, other := range Scopes() {
				if noun, _ := strings.CutSuffix(scope, ":read"); other.Name != ScopeAll && other.Name != scope && other.Name != noun+":write" {
					require.Equal(t, "missing_scope", errs.CodeOf(call(d.scoped(d.single, other.Name))), other.Name)
				}
			}
			require.Equal(t, errs.NotFound, errs.KindOf(call(d.stranger)))
			require.NoError(t, call(d.scoped(d.single, scope)))
		})
	}
}

func TestATokenOfTheOrganisationEntersAWorkspaceYoungerThanItsPrincipal(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	w, err := d.CreateWorkspace(d.owner, CreateWorkspaceInput{Slug: "new", Name: "New"})
	require.NoError(t, err)
	_, err = d.CreateSource(d.owner, CreateSourceInput{WorkspaceID: w.ID, Name: "web", Type: SourceWeb})
	require.NoError(t, err)
	_, err = d.ListSources(d.stranger, w.ID)
	require.Equal(t, "workspace_not_found", errs.CodeOf(err))
	_, err = d.ListSources(d.single, w.ID)
	require.Equal(t, "workspace_not_found", errs.CodeOf(err))
	_, err = d.ListSources(d.service, w.ID)
	require.NoError(t, err)
	_, err = d.ListSources(d.service, ids.New())
	require.Equal(t, "workspace_not_found", errs.CodeOf(err))
}

func TestWorkspaceIsCreatedPublishedAndAudited(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	_, err := d.CreateWorkspace(d.single, CreateWorkspaceInput{Slug: "new", Name: "New"})
	require.Equal(t, "organisation_token_required", errs.CodeOf(err))
	_, err = d.CreateWorkspace(d.owner, CreateWorkspaceInput{Slug: "c", Name: "New"})
	require.Equal(t, "slug_taken", errs.CodeOf(err))
	changes, audit := d.published(t)
	require.Empty(t, changes)
	require.Empty(t, audit)

	w, err := d.CreateWorkspace(d.owner, CreateWorkspaceInput{Slug: "new", Name: " New "})
	require.NoError(t, err)
	want := Workspace{
		ID: w.ID, OrganisationID: d.mine.ID, Slug: "new", Name: "New", TimeZone: DefaultTimeZone, Currency: DefaultCurrency,
		Revision: start.UnixMicro(), CreatedAt: start,
	}
	require.Empty(t, cmp.Diff(want, w))
	changes, audit = d.published(t)
	require.Len(t, changes, 1)
	require.Equal(t, w.ID, changes[0].GetWorkspace().GetWorkspaceId())
	require.Equal(t, w.Revision, changes[0].GetRevision())
	require.Len(t, audit, 1)
	require.Equal(t, []string{"workspace.create", "workspace:" + w.ID, "token:owner", "req-1", d.mine.ID},
		[]string{audit[0].GetAction(), audit[0].GetTarget(), audit[0].GetActor(), audit[0].GetRequestId(), audit[0].GetOrganisationId()})

	found, err := d.GetWorkspace(d.owner, "new")
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(w, found))
	_, err = d.GetWorkspace(d.single, "new")
	require.Equal(t, "workspace_not_found", errs.CodeOf(err))

	zone := "Europe/Paris"
	changed, err := d.UpdateWorkspaceSettings(d.owner, UpdateWorkspaceSettingsInput{WorkspaceID: w.ID, TimeZone: &zone})
	require.NoError(t, err)
	require.Equal(t, w.Revision+1, changed.Revision, "it grows though the clock stands still")
	require.Equal(t, "New", changed.Name)
	d.published(t)
	_, err = d.UpdateWorkspaceSettings(d.owner, UpdateWorkspaceSettingsInput{WorkspaceID: w.ID, TimeZone: &zone})
	require.NoError(t, err)
	changes, audit = d.published(t)
	require.Empty(t, changes, "nothing changed")
	require.Empty(t, audit)
	empty := ""
	_, err = d.UpdateWorkspaceSettings(d.owner, UpdateWorkspaceSettingsInput{WorkspaceID: w.ID, TimeZone: &empty, Name: &empty})
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	require.Contains(t, errs.MessageOf(err), "name:")
	require.Contains(t, errs.MessageOf(err), "time_zone:")
}

func TestListsShowWhatTheCallerMaySee(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for _, tc := range []struct {
		ctx  context.Context //nolint:containedctx // who calls is the case
		want []string
	}{{d.owner, []string{"a", "b"}}, {d.single, []string{"a"}}, {d.stranger, []string{"c"}}} {
		found, err := d.ListWorkspaces(tc.ctx)
		require.NoError(t, err)
		var slugs []string
		for _, w := range found {
			slugs = append(slugs, w.Slug)
		}
		require.Equal(t, tc.want, slugs)
	}
	_, err := d.ListWorkspaces(d.service)
	require.Equal(t, "organisation_ambiguous", errs.CodeOf(err))
	o, err := d.GetOrganisation(d.single)
	require.NoError(t, err)
	require.Equal(t, d.mine, o)
}

func TestSourceLife(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	source, err := d.CreateSource(d.owner, CreateSourceInput{
		WorkspaceID: d.a.ID, Name: "web", Type: SourceWeb, Origins: []string{"HTTPS://Shop.example:443", "https://shop.example"},
	})
	require.NoError(t, err)
	require.Equal(t, []string{"https://shop.example"}, source.Origins)
	require.True(t, source.Enabled)
	require.Len(t, source.WriteKeys, 1)
	changes, audit := d.published(t)
	require.Len(t, changes, 2)
	require.Equal(t, source.ID, changes[0].GetSource().GetSourceId())
	require.Equal(t, source.WriteKeys[0].Key, changes[1].GetWriteKey().GetWriteKey())
	require.Equal(t, "source.create", audit[0].GetAction())

	off, none := false, []string{}
	changed, err := d.UpdateSource(d.owner, UpdateSourceInput{WorkspaceID: d.a.ID, SourceID: source.ID, Enabled: &off, Origins: &none})
	require.NoError(t, err)
	require.Greater(t, changed.Revision, source.Revision)
	require.Equal(t, source.WriteKeys, changed.WriteKeys)
	changes, _ = d.published(t)
	require.Len(t, changes, 1)
	require.False(t, changes[0].GetSource().GetEnabled())
	require.Empty(t, changes[0].GetSource().GetOrigins())

	same, err := d.UpdateSource(d.owner, UpdateSourceInput{WorkspaceID: d.a.ID, SourceID: source.ID, Enabled: &off})
	require.NoError(t, err)
	require.Equal(t, changed.Revision, same.Revision)

	require.NoError(t, d.DeleteSource(d.owner, d.a.ID, source.ID))
	changes, audit = d.published(t)
	require.Len(t, changes, 2)
	require.True(t, changes[0].GetSource().GetDeleted())
	require.Greater(t, changes[0].GetRevision(), changed.Revision)
	require.True(t, changes[1].GetWriteKey().GetRevoked())
	require.Equal(t, "source.delete", audit[0].GetAction())
	require.Equal(t, "source_not_found", errs.CodeOf(d.DeleteSource(d.owner, d.a.ID, source.ID)))

	k, s, err := d.ResolveWriteKey(d.service, source.WriteKeys[0].Key)
	require.NoError(t, err)
	require.True(t, s.Deleted())
	require.False(t, k.Accepted(start))
}

func TestRotationLetsBothKeysWorkForAWhile(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	source := d.newSource(t)
	old := source.WriteKeys[0]
	d.time.Advance(time.Hour)
	d.published(t)
	overlap := 10 * time.Minute
	fresh, err := d.CreateWriteKey(d.owner, CreateWriteKeyInput{WorkspaceID: d.a.ID, SourceID: source.ID, RotateAfter: &overlap})
	require.NoError(t, err)
	changes, audit := d.published(t)
	require.Equal(t, "write_key.rotate", audit[0].GetAction())
	require.Len(t, changes, 2)
	require.Equal(t, start.Add(time.Hour+overlap), changes[1].GetWriteKey().GetExpiresAt().AsTime())
	require.Greater(t, changes[1].GetRevision(), old.Revision)

	now := func() (keys []string) {
		got, err := d.GetSource(d.owner, d.a.ID, source.ID)
		require.NoError(t, err)
		require.Equal(t, source.Revision, got.Revision, "keys have revisions of their own")
		for _, k := range got.WriteKeys {
			keys = append(keys, k.Key)
		}
		return keys
	}
	require.Equal(t, []string{old.Key, fresh.Key}, now())
	// A second, longer rotation does not prolong what is ending.
	longer := time.Hour
	third, err := d.CreateWriteKey(d.owner, CreateWriteKeyInput{WorkspaceID: d.a.ID, SourceID: source.ID, RotateAfter: &longer})
	require.NoError(t, err)
	d.time.Advance(overlap)
	require.ElementsMatch(t, []string{fresh.Key, third.Key}, now())
	d.time.Advance(time.Hour)
	require.Equal(t, []string{third.Key}, now())

	for _, wrong := range []time.Duration{-1, maxRotation + time.Second} {
		_, err = d.CreateWriteKey(d.owner, CreateWriteKeyInput{WorkspaceID: d.a.ID, SourceID: source.ID, RotateAfter: &wrong})
		require.Equal(t, "invalid_write_key", errs.CodeOf(err))
	}
}

func TestRevokeWriteKey(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	source := d.newSource(t)
	other, err := d.CreateSource(d.owner, CreateSourceInput{WorkspaceID: d.a.ID, Name: "app", Type: SourceApp})
	require.NoError(t, err)
	key := source.WriteKeys[0].Key
	require.Equal(t, "write_key_not_found", errs.CodeOf(d.RevokeWriteKey(d.owner, d.a.ID, other.ID, key)), "another source's key")
	require.Equal(t, "write_key_not_found", errs.CodeOf(d.RevokeWriteKey(d.owner, d.b.ID, source.ID, key)), "another workspace's key")
	require.NoError(t, d.RevokeWriteKey(d.owner, d.a.ID, source.ID, key))
	require.Equal(t, "write_key_not_found", errs.CodeOf(d.RevokeWriteKey(d.owner, d.a.ID, source.ID, key)))
	k, _, err := d.ResolveWriteKey(d.service, key)
	require.NoError(t, err)
	require.Equal(t, start, k.RevokedAt)
}

func TestInternalDoorsAreClosedToTokens(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for name, call := range map[string]func(context.Context) error{
		"resolve":      func(ctx context.Context) error { _, _, err := d.ResolveWriteKey(ctx, "k"); return err },
		"authenticate": func(ctx context.Context) error { _, _, err := d.AuthenticateToken(ctx, "t"); return err },
		"audit":        func(ctx context.Context) error { return d.RecordAudit(ctx, AuditEntry{}) },
	} {
		require.Equal(t, "internal_only", errs.CodeOf(call(d.owner)), name)
		require.Equal(t, "unauthenticated", errs.CodeOf(call(t.Context())), name)
	}
}

func TestTokensGrantNoMoreThanTheirCreatorHas(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	writer := []string{scopeTokensWrite, scopeSourcesWrite}
	for name, tc := range map[string]struct {
		ctx  context.Context //nolint:containedctx // who calls is the case
		in   CreateAPITokenInput
		code string
	}{
		"everything":              {d.scoped(d.owner, writer...), CreateAPITokenInput{Scopes: []string{ScopeAll}}, "scope_not_held"},
		"another scope":           {d.scoped(d.owner, writer...), CreateAPITokenInput{Scopes: []string{scopeSourcesWrite, scopeAuditRead}}, "scope_not_held"},
		"less":                    {d.scoped(d.owner, writer...), CreateAPITokenInput{Scopes: []string{scopeSourcesRead}}, ""},
		"the organisation":        {d.single, CreateAPITokenInput{Scopes: []string{scopeSourcesRead}}, "organisation_token_required"},
		"another workspace":       {d.single, CreateAPITokenInput{Scopes: []string{scopeSourcesRead}, WorkspaceID: d.b.ID}, "workspace_not_found"},
		"its workspace":           {d.single, CreateAPITokenInput{Scopes: []string{ScopeAll}, WorkspaceID: d.a.ID}, ""},
		"a foreign workspace":     {d.owner, CreateAPITokenInput{Scopes: []string{ScopeAll}, WorkspaceID: d.c.ID}, "workspace_not_found"},
		"an unknown scope":        {d.owner, CreateAPITokenInput{Scopes: []string{"sources:admin"}}, "invalid_api_token"},
		"no scope":                {d.owner, CreateAPITokenInput{}, "invalid_api_token"},
		"expired before it began": {d.owner, CreateAPITokenInput{Scopes: []string{ScopeAll}, ExpiresAt: start}, "invalid_api_token"},
	} {
		tc.in.Name = "n"
		_, secret, err := d.CreateAPIToken(tc.ctx, tc.in)
		if tc.code == "" {
			require.NoError(t, err, name)
			require.NotEmpty(t, secret, name)
			continue
		}
		require.Equal(t, tc.code, errs.CodeOf(err), name)
		require.Empty(t, secret, name)
	}
}

func TestTokenLife(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	token, secret, err := d.CreateAPIToken(d.owner, CreateAPITokenInput{
		Name: " ci ", Scopes: []string{scopeSourcesWrite, scopeAuditRead, scopeAuditRead}, ExpiresAt: start.Add(time.Hour),
	})
	require.NoError(t, err)
	require.Regexp(t, `^mk_[0-9A-Za-z]{43}$`, secret)
	changes, audit := d.published(t)
	require.Empty(t, changes)
	require.Equal(t, "api_token.create", audit[0].GetAction())
	require.NotContains(t, audit[0].String(), secret)

	got, workspaces, err := d.AuthenticateToken(d.service, secret)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(token, got))
	require.Equal(t, []string{scopeAuditRead, scopeSourcesWrite}, got.Scopes)
	require.ElementsMatch(t, []string{d.a.ID, d.b.ID}, workspaces)

	listed := func() APIToken {
		found, err := d.ListAPITokens(d.owner)
		require.NoError(t, err)
		i := slices.IndexFunc(found, func(f APIToken) bool { return f.ID == token.ID })
		require.GreaterOrEqual(t, i, 0)
		return found[i]
	}
	require.Equal(t, start, listed().LastUsedAt)
	d.time.Advance(59 * time.Second)
	_, _, err = d.AuthenticateToken(d.service, secret)
	require.NoError(t, err)
	require.Equal(t, start, listed().LastUsedAt)
	d.time.Advance(time.Second)
	_, _, err = d.AuthenticateToken(d.service, secret)
	require.NoError(t, err)
	require.Equal(t, start.Add(time.Minute), listed().LastUsedAt)

	for _, wrong := range []string{"", secret + "x", strings.Repeat("x", 5000)} {
		_, _, err = d.AuthenticateToken(d.service, wrong)
		require.Equal(t, errs.Unauthenticated, errs.KindOf(err))
	}
	d.time.Advance(59 * time.Minute)
	_, _, err = d.AuthenticateToken(d.service, secret)
	require.Equal(t, "invalid_token", errs.CodeOf(err), "expired")

	_, secret, err = d.CreateAPIToken(d.owner, CreateAPITokenInput{Name: "x", Scopes: []string{ScopeAll}, WorkspaceID: d.b.ID})
	require.NoError(t, err)
	got, workspaces, err = d.AuthenticateToken(d.service, secret)
	require.NoError(t, err)
	require.Equal(t, []string{d.b.ID}, workspaces)
	require.Equal(t, "api_token_not_found", errs.CodeOf(d.RevokeAPIToken(d.single, got.ID)), "a token of another workspace")
	require.Equal(t, "api_token_not_found", errs.CodeOf(d.RevokeAPIToken(d.owner, "no-id")))
	require.NoError(t, d.RevokeAPIToken(d.owner, got.ID))
	require.Equal(t, "api_token_not_found", errs.CodeOf(d.RevokeAPIToken(d.owner, got.ID)))
	_, _, err = d.AuthenticateToken(d.service, secret)
	require.Equal(t, "invalid_token", errs.CodeOf(err), "revoked")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.cfg.MaxWorkspaces, d.cfg.MaxSources, d.cfg.MaxTokens, d.cfg.MaxWriteKeys = 2, 1, 1, 1
	_, err := d.CreateWorkspace(d.owner, CreateWorkspaceInput{Slug: "new", Name: "New"})
	require.Equal(t, "limit_reached", errs.CodeOf(err))
	source := d.newSource(t)
	_, err = d.CreateSource(d.owner, CreateSourceInput{WorkspaceID: d.a.ID, Name: "app", Type: SourceApp})
	require.Equal(t, "limit_reached", errs.CodeOf(err))
	_, err = d.CreateWriteKey(d.owner, CreateWriteKeyInput{WorkspaceID: d.a.ID, SourceID: source.ID})
	require.Equal(t, "limit_reached", errs.CodeOf(err))
	_, _, err = d.CreateAPIToken(d.owner, CreateAPITokenInput{Name: "n", Scopes: []string{ScopeAll}})
	require.NoError(t, err)
	_, _, err = d.CreateAPIToken(d.owner, CreateAPITokenInput{Name: "n", Scopes: []string{ScopeAll}})
	require.Equal(t, "limit_reached", errs.CodeOf(err))
}

func TestAuditOfOtherServices(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	entry := AuditEntry{
		ID: ids.New(), OrganisationID: d.mine.ID, WorkspaceID: d.a.ID, Actor: "token:t", Action: "destination.create",
		Target: "destination:d", At: start, RequestID: "r",
	}
	require.NoError(t, d.RecordAudit(d.service, entry))
	require.NoError(t, d.RecordAudit(d.service, entry))
	_, audit := d.published(t)
	require.Len(t, audit, 1, "a repeat is harmless")
	for name, spoil := range map[string]func(*AuditEntry){
		"audit_id":        func(a *AuditEntry) { a.ID = "x" },
		"organisation_id": func(a *AuditEntry) { a.OrganisationID = ids.New() },
		"workspace_id":    func(a *AuditEntry) { a.WorkspaceID = d.c.ID },
		"actor":           func(a *AuditEntry) { a.Actor = "someone" },
		"action":          func(a *AuditEntry) { a.Action = "created" },
		"target":          func(a *AuditEntry) { a.Target = "" },
		"at":              func(a *AuditEntry) { a.At = start.Add(time.Hour) },
		"request_id":      func(a *AuditEntry) { a.RequestID = "a\nb" },
	} {
		bad := entry
		bad.ID = ids.New()
		spoil(&bad)
		err := d.RecordAudit(d.service, bad)
		require.Equal(t, errs.Invalid, errs.KindOf(err), name)
		require.Contains(t, errs.MessageOf(err), name+":")
	}

	found, next, err := d.ListAuditEntries(d.single, ListAuditEntriesInput{})
	require.NoError(t, err)
	require.Empty(t, next)
	require.Empty(t, cmp.Diff([]AuditEntry{entry}, found))
}

func TestAuditPages(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.newSource(t)
	for range 6 {
		_, err := d.CreateWorkspace(d.owner, CreateWorkspaceInput{Slug: "w" + strings.ToLower(randomBase62(8)), Name: "w"})
		require.NoError(t, err)
	}
	all, next, err := d.ListAuditEntries(d.owner, ListAuditEntriesInput{})
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, all, 7)
	for _, size := range []int{1, 3, 7} {
		var paged []AuditEntry
		token := ""
		for {
			page, next, err := d.ListAuditEntries(d.owner, ListAuditEntriesInput{PageSize: size, PageToken: token})
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), size)
			paged = append(paged, page...)
			if next == "" {
				break
			}
			token = next
		}
		require.Empty(t, cmp.Diff(all, paged, cmpopts.EquateEmpty()))
	}
	for _, in := range []ListAuditEntriesInput{{PageSize: -1}, {PageSize: maxAuditPage + 1}, {PageToken: "x"}, {PageToken: "MTIz"}} {
		_, _, err := d.ListAuditEntries(d.owner, in)
		require.Equal(t, errs.Invalid, errs.KindOf(err))
	}
}

func TestRequestIDsFromOutsideCannotBreakAChange(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.requestID = func(context.Context) string { return strings.Repeat("x", maxAuditText+1) }
	d.newSource(t)
	_, audit := d.published(t)
	require.Empty(t, audit[0].GetRequestId())
}
