package admin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// MemoryStore is a Store that keeps nothing after the process: the twin of PostgresStore for tests of the rules.
type MemoryStore struct {
	mu    sync.Mutex
	state memoryState
}

type memoryState struct {
	organisations map[string]Organisation
	workspaces    map[string]Workspace
	sources       map[string]Source
	keys          map[string]WriteKey
	tokens        map[string]APIToken
	audit         map[string]AuditEntry
	outbox        []outboxMessage
}

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{state: memoryState{
		organisations: map[string]Organisation{}, workspaces: map[string]Workspace{}, sources: map[string]Source{},
		keys: map[string]WriteKey{}, tokens: map[string]APIToken{}, audit: map[string]AuditEntry{},
	}}
}

func (s memoryState) clone() memoryState {
	return memoryState{
		organisations: maps.Clone(s.organisations), workspaces: maps.Clone(s.workspaces), sources: maps.Clone(s.sources),
		keys: maps.Clone(s.keys), tokens: maps.Clone(s.tokens), audit: maps.Clone(s.audit), outbox: slices.Clone(s.outbox),
	}
}

// View implements Store.
func (m *MemoryStore) View(ctx context.Context, access Access, fn TxFunc) error {
	m.mu.Lock()
	state := m.state.clone()
	m.mu.Unlock()
	return fn(ctx, state.tx(access))
}

// Change implements Store.
func (m *MemoryStore) Change(ctx context.Context, access Access, fn TxFunc) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	state := m.state.clone()
	if err := fn(ctx, state.tx(access)); err != nil {
		return err
	}
	m.state = state
	return nil
}

// Append implements Store.
func (m *MemoryStore) Append(ctx context.Context, access Access, fn TxFunc) error {
	return m.Change(ctx, access, fn)
}

func (s *memoryState) tx(access Access) Tx {
	t := memoryTx{s, access}
	return Tx{
		Organisations: memoryOrganisations{t}, Workspaces: memoryWorkspaces{t}, Sources: memorySources{t},
		WriteKeys: memoryKeys{t}, Tokens: memoryTokens{t}, Audit: memoryAudit{t}, Snapshot: memorySnapshot{t},
		Outbox: memoryOutbox{t},
	}
}

type memoryTx struct {
	*memoryState
	access Access
}

func errRowForbidden() error {
	return errs.New(errs.Forbidden, "row_forbidden", "The row belongs to another workspace.")
}

func (t memoryTx) seesWorkspace(w Workspace) bool {
	return t.access.toWorkspace(w.ID) || t.access.toOrganisation(w.OrganisationID)
}

func (t memoryTx) sees(organisationID, workspaceID string) bool {
	return t.access.toOrganisation(organisationID) || t.access.toWorkspace(workspaceID)
}

type memoryOrganisations struct{ memoryTx }

func (t memoryOrganisations) Insert(_ context.Context, o Organisation) error {
	if !t.access.toOrganisation(o.ID) {
		return errRowForbidden()
	}
	t.organisations[o.ID] = o
	return nil
}

func (t memoryOrganisations) Get(_ context.Context, id string) (Organisation, error) {
	o, ok := t.organisations[id]
	if !ok || !t.access.toOrganisation(id) {
		return Organisation{}, errOrganisationNotFound()
	}
	return o, nil
}

func (t memoryOrganisations) List(_ context.Context, limit int) ([]Organisation, error) {
	return pick(t.organisations, limit,
		func(o Organisation) bool { return t.access.toOrganisation(o.ID) },
		func(a, b Organisation) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) }), nil
}

type memoryWorkspaces struct{ memoryTx }

func (t memoryWorkspaces) Insert(_ context.Context, w Workspace) error {
	if !t.seesWorkspace(w) {
		return errRowForbidden()
	}
	for _, other := range t.workspaces {
		if other.Slug == w.Slug {
			return errSlugTaken()
		}
	}
	t.workspaces[w.ID] = w
	return nil
}

func (t memoryWorkspaces) Update(ctx context.Context, w Workspace) error {
	if _, err := t.Get(ctx, w.ID); err != nil {
		return err
	}
	t.workspaces[w.ID] = w
	return nil
}

func (t memoryWorkspaces) Get(_ context.Context, id string) (Workspace, error) {
	w, ok := t.workspaces[id]
	if !ok || !t.seesWorkspace(w) {
		return Workspace{}, errWorkspaceNotFound()
	}
	return w, nil
}

func (t memoryWorkspaces) GetBySlug(_ context.Context, slug string) (Workspace, error) {
	for _, w := range t.workspaces {
		if w.Slug == slug && t.seesWorkspace(w) {
			return w, nil
		}
	}
	return Workspace{}, errWorkspaceNotFound()
}

func (t memoryWorkspaces) List(_ context.Context, limit int) ([]Workspace, error) {
	return pick(t.workspaces, limit, t.seesWorkspace, func(a, b Workspace) int { return cmp.Compare(a.Slug, b.Slug) }), nil
}

type memorySources struct{ memoryTx }

func (t memorySources) Insert(_ context.Context, s Source) error { return t.put(s) }

func (t memorySources) Update(_ context.Context, s Source) error {
	if old, ok := t.sources[s.ID]; !ok || !t.access.toWorkspace(old.WorkspaceID) {
		return errSourceNotFound()
	}
	return t.put(s)
}

func (t memorySources) put(s Source) error {
	if !t.access.toWorkspace(s.WorkspaceID) {
		return errRowForbidden()
	}
	for _, other := range t.sources {
		if other.ID != s.ID && other.WorkspaceID == s.WorkspaceID && other.Name == s.Name && !other.Deleted() && !s.Deleted() {
			return errSourceNameTaken()
		}
	}
	s.Origins = slices.Clone(s.Origins)
	t.sources[s.ID] = s
	return nil
}

func (t memorySources) Get(_ context.Context, workspaceID, sourceID string) (Source, error) {
	s, ok := t.sources[sourceID]
	if !ok || s.Deleted() || s.WorkspaceID != workspaceID || !t.access.toWorkspace(workspaceID) {
		return Source{}, errSourceNotFound()
	}
	return s, nil
}

func (t memorySources) List(_ context.Context, workspaceID string, limit int) ([]Source, error) {
	return pick(t.sources, limit,
		func(s Source) bool {
			return s.WorkspaceID == workspaceID && !s.Deleted() && t.access.toWorkspace(workspaceID)
		},
		func(a, b Source) int { return cmp.Compare(a.Name, b.Name) }), nil
}

type memoryKeys struct{ memoryTx }

func (t memoryKeys) Insert(_ context.Context, k WriteKey) error {
	if !t.access.toWorkspace(k.WorkspaceID) {
		return errRowForbidden()
	}
	if _, taken := t.keys[k.Key]; taken {
		return errs.New(errs.Conflict, "already_exists", "This write key exists.")
	}
	t.keys[k.Key] = k
	return nil
}

func (t memoryKeys) Update(_ context.Context, k WriteKey) error {
	if old, ok := t.keys[k.Key]; !ok || !t.access.toWorkspace(old.WorkspaceID) {
		return errWriteKeyNotFound()
	}
	t.keys[k.Key] = k
	return nil
}

func (t memoryKeys) List(_ context.Context, workspaceID, sourceID string, now time.Time) ([]WriteKey, error) {
	return pick(t.keys, len(t.keys),
		func(k WriteKey) bool {
			return k.WorkspaceID == workspaceID && (sourceID == "" || k.SourceID == sourceID) && k.Accepted(now) &&
				t.access.toWorkspace(workspaceID)
		},
		func(a, b WriteKey) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Key, b.Key)) }), nil
}

func (t memoryKeys) Resolve(_ context.Context, key string) (WriteKey, Source, error) {
	k, ok := t.keys[key]
	if !ok || !t.access.toWorkspace(k.WorkspaceID) {
		return WriteKey{}, Source{}, errWriteKeyNotFound()
	}
	return k, t.sources[k.SourceID], nil
}

type memoryTokens struct{ memoryTx }

func (t memoryTokens) seesToken(token APIToken) bool {
	return t.sees(token.OrganisationID, token.WorkspaceID)
}

func (t memoryTokens) Insert(_ context.Context, token APIToken) error {
	if !t.seesToken(token) {
		return errRowForbidden()
	}
	t.tokens[token.ID] = token
	return nil
}

func (t memoryTokens) Get(_ context.Context, id string) (APIToken, error) {
	token, ok := t.tokens[id]
	if !ok || !t.seesToken(token) {
		return APIToken{}, errTokenNotFound()
	}
	return token, nil
}

func (t memoryTokens) Authenticate(_ context.Context, hash [sha256.Size]byte) (APIToken, []string, error) {
	for _, token := range t.tokens {
		if !token.matches(hash) || !t.seesToken(token) {
			continue
		}
		if token.WorkspaceID != "" {
			return token, []string{token.WorkspaceID}, nil
		}
		var workspaces []string
		for _, w := range t.workspaces {
			if w.OrganisationID == token.OrganisationID {
				workspaces = append(workspaces, w.ID)
			}
		}
		slices.Sort(workspaces)
		return token, workspaces, nil
	}
	return APIToken{}, nil, errTokenNotFound()
}

func (t memoryTokens) List(_ context.Context, limit int) ([]APIToken, error) {
	return pick(t.tokens, limit,
		func(token APIToken) bool { return token.RevokedAt.IsZero() && t.seesToken(token) },
		func(a, b APIToken) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) }), nil
}

func (t memoryTokens) SetRevoked(ctx context.Context, id string, at time.Time) error {
	token, err := t.Get(ctx, id)
	if err != nil {
		return err
	}
	token.RevokedAt = at
	t.tokens[id] = token
	return nil
}

func (t memoryTokens) Touch(_ context.Context, id string, at time.Time) error {
	if token, ok := t.tokens[id]; ok && t.seesToken(token) && token.usedLongAgo(at) {
		token.LastUsedAt = at
		t.tokens[id] = token
	}
	return nil
}

type memoryAudit struct{ memoryTx }

func (t memoryAudit) Insert(_ context.Context, a AuditEntry) (bool, error) {
	if !t.sees(a.OrganisationID, a.WorkspaceID) {
		return false, errRowForbidden()
	}
	if _, known := t.audit[a.ID]; known {
		return false, nil
	}
	t.audit[a.ID] = a
	return true, nil
}

func (t memoryAudit) OfWorkspace(_ context.Context, workspaceID string, after AuditCursor, limit int) ([]AuditEntry, error) {
	return t.page(limit, func(a AuditEntry) bool { return a.WorkspaceID == workspaceID && after.precedes(a) }), nil
}

func (t memoryAudit) OfOrganisation(_ context.Context, organisationID string, after AuditCursor, limit int) ([]AuditEntry, error) {
	return t.page(limit, func(a AuditEntry) bool { return a.OrganisationID == organisationID && after.precedes(a) }), nil
}

func (t memoryAudit) page(limit int, keep func(AuditEntry) bool) []AuditEntry {
	return pick(t.audit, limit,
		func(a AuditEntry) bool { return t.sees(a.OrganisationID, a.WorkspaceID) && keep(a) },
		func(a, b AuditEntry) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.ID, a.ID)) })
}

type memorySnapshot struct{ memoryTx }

func (t memorySnapshot) Read(context.Context) ([]Change, error) {
	var out []Change
	for _, w := range pick(t.workspaces, len(t.workspaces), t.seesWorkspace, func(a, b Workspace) int { return cmp.Compare(a.ID, b.ID) }) {
		out = append(out, Change{Workspace: &w})
	}
	for _, s := range pick(t.sources, len(t.sources), func(s Source) bool { return t.access.toWorkspace(s.WorkspaceID) },
		func(a, b Source) int { return cmp.Compare(a.ID, b.ID) }) {
		out = append(out, Change{Source: &s})
	}
	for _, k := range pick(t.keys, len(t.keys), func(k WriteKey) bool { return t.access.toWorkspace(k.WorkspaceID) },
		func(a, b WriteKey) int { return cmp.Compare(a.Key, b.Key) }) {
		out = append(out, Change{WriteKey: &k})
	}
	return out, nil
}

func (t memorySnapshot) Purge(_ context.Context, before time.Time, keep []string) error {
	ended := func(at time.Time) bool { return !at.IsZero() && at.Before(before) }
	used := map[string]bool{}
	for key, k := range t.keys {
		switch {
		case !t.access.toWorkspace(k.WorkspaceID):
		case !slices.Contains(keep, key) && (ended(k.RevokedAt) || ended(k.ExpiresAt)):
			delete(t.keys, key)
		default:
			used[k.SourceID] = true
		}
	}
	for id, s := range t.sources {
		if ended(s.DeletedAt) && !used[id] && t.access.toWorkspace(s.WorkspaceID) {
			delete(t.sources, id)
		}
	}
	return nil
}

type memoryOutbox struct{ memoryTx }

func (t memoryOutbox) Changed(_ context.Context, changes ...Change) error {
	for _, c := range changes {
		m, err := changeMessage(c)
		if err != nil {
			return err
		}
		if err := t.put(m); err != nil {
			return err
		}
	}
	return nil
}

func (t memoryOutbox) Recorded(_ context.Context, a AuditEntry) error {
	m, err := auditMessage(a)
	if err != nil {
		return err
	}
	return t.put(m)
}

func (t memoryOutbox) Waiting(_ context.Context, c Change) (bool, error) {
	want, err := changeMessage(c)
	return slices.ContainsFunc(t.outbox, func(m outboxMessage) bool {
		return m.topic == want.topic && m.key == want.key && bytes.Equal(m.value, want.value)
	}), err
}

func (t memoryOutbox) put(m outboxMessage) error {
	if !t.access.toWorkspace(m.tenantID) && !t.access.toOrganisation(m.tenantID) {
		return errRowForbidden()
	}
	t.outbox = append(t.outbox, m)
	return nil
}

// pick returns up to limit values that pass keep, in order.
func pick[T any](from map[string]T, limit int, keep func(T) bool, order func(a, b T) int) []T {
	var out []T
	for _, value := range from {
		if keep(value) {
			out = append(out, value)
		}
	}
	slices.SortFunc(out, order)
	return out[:min(limit, len(out))]
}
