package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func TestMemoryStore(t *testing.T) {
	t.Parallel()
	testStore(t, func(*testing.T) Store { return NewMemoryStore() })
}

func TestPostgresStore(t *testing.T) {
	t.Parallel()
	testStore(t, func(t *testing.T) Store { return NewPostgresStore(testkit.PostgresDB(t, Migrations())) })
}

// start is when the tests begin.
var start = time.Date(2026, 3, 1, 8, 0, 0, 123456000, time.UTC)

// house is a store with two organisations: the first has workspaces a and b, the second c.
type house struct {
	Store
	mine, other Organisation
	a, b, c     Workspace
}

func system() Access { return Access{System: true} }

func newHouse(t *testing.T, store Store) house {
	t.Helper()
	h := house{
		Store: store,
		mine:  Organisation{ID: ids.New(), Name: "Mine", CreatedAt: start},
		other: Organisation{ID: ids.New(), Name: "Other", CreatedAt: start.Add(time.Second)},
	}
	workspace := func(o Organisation, slug string) Workspace {
		return Workspace{
			ID: ids.New(), OrganisationID: o.ID, Slug: slug, Name: "Shop " + slug, TimeZone: "Asia/Ho_Chi_Minh", Currency: "VND",
			Revision: 1, CreatedAt: start,
		}
	}
	h.a, h.b, h.c = workspace(h.mine, "a"), workspace(h.mine, "b"), workspace(h.other, "c")
	h.change(t, system(), func(ctx context.Context, tx Tx) error {
		for _, o := range []Organisation{h.mine, h.other} {
			if err := tx.Organisations.Insert(ctx, o); err != nil {
				return err
			}
		}
		for _, w := range []Workspace{h.a, h.b, h.c} {
			if err := tx.Workspaces.Insert(ctx, w); err != nil {
				return err
			}
		}
		return nil
	})
	return h
}

func (h house) change(t *testing.T, access Access, fn TxFunc) {
	t.Helper()
	require.NoError(t, h.Change(t.Context(), access, fn))
}

func (h house) view(t *testing.T, access Access, fn TxFunc) {
	t.Helper()
	require.NoError(t, h.View(t.Context(), access, fn))
}

func (h house) source(t *testing.T, w Workspace, name string) Source {
	t.Helper()
	s := Source{
		WorkspaceID: w.ID, ID: ids.New(), Name: name, Type: SourceWeb, Enabled: true,
		Origins: []string{"https://shop.example"}, Revision: 7, CreatedAt: start,
	}
	h.change(t, in(w), func(ctx context.Context, tx Tx) error { return tx.Sources.Insert(ctx, s) })
	return s
}

func (h house) key(t *testing.T, s Source, name string, expires time.Time) WriteKey {
	t.Helper()
	k := WriteKey{WorkspaceID: s.WorkspaceID, SourceID: s.ID, Key: name, Revision: 3, CreatedAt: start, ExpiresAt: expires}
	h.change(t, Access{WorkspaceIDs: []string{s.WorkspaceID}}, func(ctx context.Context, tx Tx) error {
		return tx.WriteKeys.Insert(ctx, k)
	})
	return k
}

func (h house) token(t *testing.T, o Organisation, workspaceID, name string) APIToken {
	t.Helper()
	token := APIToken{
		ID: ids.New(), OrganisationID: o.ID, WorkspaceID: workspaceID, Name: name, Scopes: []string{scopeAuditRead},
		SecretHash: hashSecret(name), CreatedAt: start, ExpiresAt: start.Add(time.Hour),
	}
	h.change(t, system(), func(ctx context.Context, tx Tx) error { return tx.Tokens.Insert(ctx, token) })
	return token
}

func in(workspaces ...Workspace) Access {
	var a Access
	for _, w := range workspaces {
		a.WorkspaceIDs = append(a.WorkspaceIDs, w.ID)
	}
	return a
}

func of(o Organisation) Access { return Access{OrganisationID: o.ID} }

func testStore(t *testing.T, open func(*testing.T) Store) {
	for name, test := range map[string]func(*testing.T, house){
		"a failed transaction leaves nothing": testRollback,
		"changes run one at a time":           testChangesExclude,
		"workspaces":                          testWorkspaces,
		"sources":                             testSources,
		"write keys":                          testWriteKeys,
		"tokens":                              testTokens,
		"audit log":                           testAudit,
		"snapshot and purge":                  testSnapshot,
		"outbox":                              testOutbox,
		"a transaction sees what its access opens, no more": testAccessReads,
		"a transaction writes where its access opens":       testAccessWrites,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newHouse(t, open(t)))
		})
	}
}

func testRollback(t *testing.T, h house) {
	boom := errors.New("boom")
	source := Source{WorkspaceID: h.a.ID, ID: ids.New(), Name: "x", Type: SourceApp, Origins: []string{}, CreatedAt: start}
	entry := AuditEntry{ID: ids.New(), OrganisationID: h.mine.ID, WorkspaceID: h.a.ID, Actor: "system", Action: "a.b", Target: "c:d", At: start}
	for _, run := range []func(context.Context, Access, TxFunc) error{h.Change, h.Append} {
		err := run(t.Context(), in(h.a), func(ctx context.Context, tx Tx) error {
			require.NoError(t, tx.Sources.Insert(ctx, source))
			_, err := tx.Audit.Insert(ctx, entry)
			require.NoError(t, err)
			require.NoError(t, tx.Outbox.Changed(ctx, Change{Source: &source}))
			return boom
		})
		require.ErrorIs(t, err, boom)
	}
	h.view(t, system(), func(ctx context.Context, tx Tx) error {
		_, err := tx.Sources.Get(ctx, h.a.ID, source.ID)
		require.Equal(t, "source_not_found", errs.CodeOf(err))
		waiting, err := tx.Outbox.Waiting(ctx, Change{Source: &source})
		require.NoError(t, err)
		require.False(t, waiting)
		entries, err := tx.Audit.OfOrganisation(ctx, h.mine.ID, AuditCursor{}, 10)
		require.Empty(t, entries)
		return err
	})
}

func testChangesExclude(t *testing.T, h house) {
	const writers = 8
	var wg sync.WaitGroup
	errors := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			errors[i] = h.Change(t.Context(), of(h.mine), func(ctx context.Context, tx Tx) error {
				w, err := tx.Workspaces.Get(ctx, h.a.ID)
				if err != nil {
					return err
				}
				w.Revision++
				return tx.Workspaces.Update(ctx, w)
			})
		})
	}
	wg.Wait()
	for _, err := range errors {
		require.NoError(t, err)
	}
	h.view(t, in(h.a), func(ctx context.Context, tx Tx) error {
		w, err := tx.Workspaces.Get(ctx, h.a.ID)
		require.Equal(t, h.a.Revision+writers, w.Revision)
		return err
	})
}

func testWorkspaces(t *testing.T, h house) {
	err := h.Change(t.Context(), of(h.mine), func(ctx context.Context, tx Tx) error {
		w := h.a
		w.ID, w.Slug = ids.New(), h.c.Slug
		return tx.Workspaces.Insert(ctx, w)
	})
	require.Equal(t, "slug_taken", errs.CodeOf(err), "another organisation's slug")

	changed := h.a
	changed.Name, changed.TimeZone, changed.Currency, changed.Revision = "Renamed", "UTC", "EUR", 9
	h.change(t, in(h.a), func(ctx context.Context, tx Tx) error { return tx.Workspaces.Update(ctx, changed) })
	h.view(t, of(h.mine), func(ctx context.Context, tx Tx) error {
		got, err := tx.Workspaces.GetBySlug(ctx, "a")
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(changed, got))
		all, err := tx.Workspaces.List(ctx, 10)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff([]Workspace{changed, h.b}, all))
		all, err = tx.Workspaces.List(ctx, 1)
		require.Len(t, all, 1)
		return err
	})
	h.view(t, system(), func(ctx context.Context, tx Tx) error {
		organisations, err := tx.Organisations.List(ctx, 10)
		require.Empty(t, cmp.Diff([]Organisation{h.mine, h.other}, organisations))
		return err
	})
}

func testSources(t *testing.T, h house) {
	web := h.source(t, h.a, "web")
	h.source(t, h.b, "web")
	app := h.source(t, h.a, "App")
	err := h.Change(t.Context(), in(h.a), func(ctx context.Context, tx Tx) error {
		twin := web
		twin.ID = ids.New()
		return tx.Sources.Insert(ctx, twin)
	})
	require.Equal(t, "source_name_taken", errs.CodeOf(err))
	err = h.Change(t.Context(), in(h.a), func(ctx context.Context, tx Tx) error {
		renamed := app
		renamed.Name = "web"
		return tx.Sources.Update(ctx, renamed)
	})
	require.Equal(t, "source_name_taken", errs.CodeOf(err))

	h.view(t, in(h.a), func(ctx context.Context, tx Tx) error {
		found, err := tx.Sources.List(ctx, h.a.ID, 10)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff([]Source{app, web}, found), "upper case sorts first on every store")
		_, err = tx.Sources.Get(ctx, h.a.ID, "no-id")
		require.Equal(t, errs.NotFound, errs.KindOf(err))
		return nil
	})

	gone := web
	gone.DeletedAt, gone.Origins, gone.Enabled, gone.Revision = start.Add(time.Hour), []string{}, false, 8
	h.change(t, in(h.a), func(ctx context.Context, tx Tx) error { return tx.Sources.Update(ctx, gone) })
	h.view(t, in(h.a), func(ctx context.Context, tx Tx) error {
		_, err := tx.Sources.Get(ctx, h.a.ID, web.ID)
		require.Equal(t, "source_not_found", errs.CodeOf(err))
		return nil
	})
	h.source(t, h.a, "web") // the name is free again
}

func testWriteKeys(t *testing.T, h house) {
	web, app := h.source(t, h.a, "web"), h.source(t, h.a, "app")
	forever := h.key(t, web, "wk_1", time.Time{})
	ending := h.key(t, web, "wk_2", start.Add(time.Hour))
	others := h.key(t, app, "wk_3", time.Time{})
	err := h.Change(t.Context(), in(h.a), func(ctx context.Context, tx Tx) error { return tx.WriteKeys.Insert(ctx, forever) })
	require.Equal(t, errs.Conflict, errs.KindOf(err))

	listed := func(sourceID string, now time.Time) (found []WriteKey) {
		h.view(t, in(h.a), func(ctx context.Context, tx Tx) (err error) {
			found, err = tx.WriteKeys.List(ctx, h.a.ID, sourceID, now)
			return err
		})
		return found
	}
	require.Empty(t, cmp.Diff([]WriteKey{forever, ending, others}, listed("", start)))
	require.Empty(t, cmp.Diff([]WriteKey{forever, ending}, listed(web.ID, start)))
	require.Empty(t, cmp.Diff([]WriteKey{forever}, listed(web.ID, ending.ExpiresAt)), "a key ends at its instant")

	revoked := forever
	revoked.RevokedAt, revoked.Revision = start.Add(time.Minute), 4
	h.change(t, in(h.a), func(ctx context.Context, tx Tx) error { return tx.WriteKeys.Update(ctx, revoked) })
	require.Empty(t, cmp.Diff([]WriteKey{ending}, listed(web.ID, start)))
	h.view(t, system(), func(ctx context.Context, tx Tx) error {
		k, s, err := tx.WriteKeys.Resolve(ctx, "wk_1")
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(revoked, k))
		require.Empty(t, cmp.Diff(web, s))
		_, _, err = tx.WriteKeys.Resolve(ctx, "wk_none")
		require.Equal(t, "write_key_not_found", errs.CodeOf(err))
		return nil
	})
}

func testTokens(t *testing.T, h house) {
	whole, single := h.token(t, h.mine, "", "whole"), h.token(t, h.mine, h.b.ID, "single")
	h.view(t, system(), func(ctx context.Context, tx Tx) error {
		got, workspaces, err := tx.Tokens.Authenticate(ctx, sha256.Sum256([]byte("whole")))
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(whole, got))
		require.ElementsMatch(t, []string{h.a.ID, h.b.ID}, workspaces)
		got, workspaces, err = tx.Tokens.Authenticate(ctx, sha256.Sum256([]byte("single")))
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(single, got))
		require.Equal(t, []string{h.b.ID}, workspaces)
		_, _, err = tx.Tokens.Authenticate(ctx, sha256.Sum256([]byte("none")))
		require.Equal(t, errs.NotFound, errs.KindOf(err))
		return nil
	})

	used := func(at time.Time) time.Time {
		require.NoError(t, h.Append(t.Context(), system(), func(ctx context.Context, tx Tx) error {
			return tx.Tokens.Touch(ctx, whole.ID, at)
		}))
		var token APIToken
		h.view(t, of(h.mine), func(ctx context.Context, tx Tx) (err error) {
			token, err = tx.Tokens.Get(ctx, whole.ID)
			return err
		})
		return token.LastUsedAt
	}
	require.Equal(t, start, used(start))
	require.Equal(t, start, used(start.Add(59*time.Second)))
	require.Equal(t, start.Add(time.Minute), used(start.Add(time.Minute)))

	h.change(t, in(h.b), func(ctx context.Context, tx Tx) error { return tx.Tokens.SetRevoked(ctx, single.ID, start) })
	list := func() (names []string) {
		h.view(t, of(h.mine), func(ctx context.Context, tx Tx) error {
			found, err := tx.Tokens.List(ctx, 10)
			for _, token := range found {
				names = append(names, token.Name)
			}
			return err
		})
		return names
	}
	require.Equal(t, []string{"whole"}, list())
	h.change(t, in(h.b), func(ctx context.Context, tx Tx) error { return tx.Tokens.SetRevoked(ctx, single.ID, time.Time{}) })
	require.Equal(t, []string{"whole", "single"}, list())
}

func testAudit(t *testing.T, h house) {
	entry := func(workspaceID string, at time.Time) AuditEntry {
		return AuditEntry{
			ID: ids.New(), OrganisationID: h.mine.ID, WorkspaceID: workspaceID, Actor: "token:" + h.a.ID, Action: "source.create",
			Target: "source:x", At: at, RequestID: "req-1",
		}
	}
	// Two of the same instant: the id decides.
	entries := []AuditEntry{entry(h.a.ID, start), entry("", start), entry(h.b.ID, start.Add(time.Second)), entry(h.a.ID, start.Add(2*time.Second))}
	h.change(t, of(h.mine), func(ctx context.Context, tx Tx) error {
		for _, a := range entries {
			added, err := tx.Audit.Insert(ctx, a)
			require.NoError(t, err)
			require.True(t, added)
		}
		again := entries[0]
		again.Action = "source.delete"
		added, err := tx.Audit.Insert(ctx, again)
		require.False(t, added)
		return err
	})
	list := func(access Access, workspaceID string, after AuditCursor, limit int) (found []AuditEntry) {
		h.view(t, access, func(ctx context.Context, tx Tx) (err error) {
			if workspaceID == "" {
				found, err = tx.Audit.OfOrganisation(ctx, h.mine.ID, after, limit)
			} else {
				found, err = tx.Audit.OfWorkspace(ctx, workspaceID, after, limit)
			}
			return err
		})
		return found
	}
	newestFirst := []AuditEntry{entries[3], entries[2], entries[1], entries[0]}
	require.Empty(t, cmp.Diff(newestFirst, list(of(h.mine), "", AuditCursor{}, 10)))
	require.Empty(t, cmp.Diff([]AuditEntry{entries[3], entries[0]}, list(of(h.mine), h.a.ID, AuditCursor{}, 10)))
	require.Empty(t, cmp.Diff([]AuditEntry{entries[2]}, list(in(h.b), "", AuditCursor{}, 10)))
	require.Empty(t, list(of(h.other), "", AuditCursor{}, 10))
	require.Empty(t, list(of(h.other), h.a.ID, AuditCursor{}, 10))
	require.Empty(t, list(in(h.b), h.a.ID, AuditCursor{}, 10))

	var paged []AuditEntry
	var after AuditCursor
	for range entries {
		page := list(of(h.mine), "", after, 1)
		require.Len(t, page, 1)
		after = AuditCursor{At: page[0].At, ID: page[0].ID}
		paged = append(paged, page...)
	}
	require.Empty(t, cmp.Diff(newestFirst, paged))
	require.Empty(t, list(of(h.mine), "", after, 1))
}

func testSnapshot(t *testing.T, h house) {
	old, kept := start.Add(-time.Hour), start.Add(time.Hour)
	gone, lives := h.source(t, h.a, "gone"), h.source(t, h.c, "lives")
	gone.DeletedAt = old
	ended := h.key(t, gone, "wk_ended", old)
	recent := h.key(t, lives, "wk_recent", kept)
	demo := h.key(t, lives, "wk_demo", old)
	h.change(t, system(), func(ctx context.Context, tx Tx) error { return tx.Sources.Update(ctx, gone) })
	read := func() (workspaces []Workspace, sources []Source, keys []WriteKey) {
		h.view(t, system(), func(ctx context.Context, tx Tx) error {
			changes, err := tx.Snapshot.Read(ctx)
			for _, c := range changes {
				switch {
				case c.Workspace != nil:
					workspaces = append(workspaces, *c.Workspace)
				case c.Source != nil:
					sources = append(sources, *c.Source)
				case c.WriteKey != nil:
					keys = append(keys, *c.WriteKey)
				}
			}
			return err
		})
		return workspaces, sources, keys
	}
	workspaces, sources, keys := read()
	require.ElementsMatch(t, []Workspace{h.a, h.b, h.c}, workspaces)
	require.ElementsMatch(t, []Source{gone, lives}, sources, "deleted ones are published as such")
	require.ElementsMatch(t, []WriteKey{ended, recent, demo}, keys)

	h.change(t, system(), func(ctx context.Context, tx Tx) error { return tx.Snapshot.Purge(ctx, start, []string{"wk_demo"}) })
	_, sources, keys = read()
	require.Equal(t, []Source{lives}, sources)
	require.ElementsMatch(t, []WriteKey{recent, demo}, keys)
}

func testOutbox(t *testing.T, h house) {
	change := Change{Workspace: &h.a}
	h.change(t, in(h.a), func(ctx context.Context, tx Tx) error { return tx.Outbox.Changed(ctx, change) })
	h.view(t, system(), func(ctx context.Context, tx Tx) error {
		waiting, err := tx.Outbox.Waiting(ctx, change)
		require.True(t, waiting)
		return err
	})
	err := h.Change(t.Context(), in(h.b), func(ctx context.Context, tx Tx) error { return tx.Outbox.Changed(ctx, change) })
	require.Equal(t, errs.Forbidden, errs.KindOf(err))
	err = h.Change(t.Context(), in(h.a), func(ctx context.Context, tx Tx) error { return tx.Outbox.Changed(ctx, Change{}) })
	require.Equal(t, "empty_change", errs.CodeOf(err))
}

func testAccessReads(t *testing.T, h house) {
	for _, w := range []Workspace{h.a, h.b, h.c} {
		s := h.source(t, w, "web")
		h.key(t, s, "wk_"+w.Slug, time.Time{})
	}
	h.token(t, h.mine, "", "mine")
	h.token(t, h.mine, h.a.ID, "a")
	h.token(t, h.other, "", "other")
	type seen struct{ organisations, workspaces, tokens, sourcesOfA, keysOfA, records int }
	for name, tc := range map[string]struct {
		access Access
		want   seen
	}{
		"nothing":                    {Access{}, seen{}},
		"a workspace that is not":    {Access{WorkspaceIDs: []string{ids.New()}}, seen{}},
		"workspace a":                {in(h.a), seen{workspaces: 1, tokens: 1, sourcesOfA: 1, keysOfA: 1, records: 3}},
		"workspace b":                {in(h.b), seen{workspaces: 1, records: 3}},
		"workspaces of both":         {in(h.a, h.c), seen{workspaces: 2, tokens: 1, sourcesOfA: 1, keysOfA: 1, records: 6}},
		"organisation, no workspace": {of(h.mine), seen{organisations: 1, workspaces: 2, tokens: 2, records: 2}},
		"the other organisation":     {of(h.other), seen{organisations: 1, workspaces: 1, tokens: 1, records: 1}},
		"system":                     {system(), seen{organisations: 2, workspaces: 3, tokens: 3, sourcesOfA: 1, keysOfA: 1, records: 9}},
	} {
		h.view(t, tc.access, func(ctx context.Context, tx Tx) error {
			var got seen
			organisations, err := tx.Organisations.List(ctx, 10)
			require.NoError(t, err)
			workspaces, err := tx.Workspaces.List(ctx, 10)
			require.NoError(t, err)
			tokens, err := tx.Tokens.List(ctx, 10)
			require.NoError(t, err)
			sources, err := tx.Sources.List(ctx, h.a.ID, 10)
			require.NoError(t, err)
			keys, err := tx.WriteKeys.List(ctx, h.a.ID, "", start)
			require.NoError(t, err)
			records, err := tx.Snapshot.Read(ctx)
			require.NoError(t, err)
			got = seen{len(organisations), len(workspaces), len(tokens), len(sources), len(keys), len(records)}
			require.Equal(t, tc.want, got, name)
			return nil
		})
	}
}

func testAccessWrites(t *testing.T, h house) {
	theirs := h.source(t, h.c, "theirs")
	key := h.key(t, theirs, "wk_theirs", time.Time{})
	token := h.token(t, h.other, h.c.ID, "theirs")
	access := Access{OrganisationID: h.mine.ID, WorkspaceIDs: []string{h.a.ID, h.b.ID}}
	for name, tc := range map[string]struct {
		kind errs.Kind
		fn   TxFunc
	}{
		"insert a source": {errs.Forbidden, func(ctx context.Context, tx Tx) error {
			return tx.Sources.Insert(ctx, Source{WorkspaceID: h.c.ID, ID: ids.New(), Name: "n", Type: SourceApp, Origins: []string{}, CreatedAt: start})
		}},
		"update a source": {errs.NotFound, func(ctx context.Context, tx Tx) error { return tx.Sources.Update(ctx, theirs) }},
		"insert a key": {errs.Forbidden, func(ctx context.Context, tx Tx) error {
			return tx.WriteKeys.Insert(ctx, WriteKey{WorkspaceID: h.c.ID, SourceID: theirs.ID, Key: "wk_new", CreatedAt: start})
		}},
		"update a key":       {errs.NotFound, func(ctx context.Context, tx Tx) error { return tx.WriteKeys.Update(ctx, key) }},
		"update a workspace": {errs.NotFound, func(ctx context.Context, tx Tx) error { return tx.Workspaces.Update(ctx, h.c) }},
		"insert a workspace": {errs.Forbidden, func(ctx context.Context, tx Tx) error {
			w := h.c
			w.ID, w.Slug = ids.New(), "new"
			return tx.Workspaces.Insert(ctx, w)
		}},
		"insert an organisation": {errs.Forbidden, func(ctx context.Context, tx Tx) error {
			return tx.Organisations.Insert(ctx, Organisation{ID: ids.New(), Name: "n", CreatedAt: start})
		}},
		"insert a token": {errs.Forbidden, func(ctx context.Context, tx Tx) error {
			stolen := token
			stolen.ID, stolen.SecretHash = ids.New(), hashSecret("new")
			return tx.Tokens.Insert(ctx, stolen)
		}},
		"revoke a token": {errs.NotFound, func(ctx context.Context, tx Tx) error { return tx.Tokens.SetRevoked(ctx, token.ID, start) }},
		"insert an audit entry": {errs.Forbidden, func(ctx context.Context, tx Tx) error {
			_, err := tx.Audit.Insert(ctx, AuditEntry{ID: ids.New(), OrganisationID: h.other.ID, Actor: "system", Action: "a.b", Target: "c:d", At: start})
			return err
		}},
	} {
		for _, run := range []func(context.Context, Access, TxFunc) error{h.Change, h.Append} {
			require.Equal(t, tc.kind, errs.KindOf(run(t.Context(), access, tc.fn)), name)
		}
	}
}
