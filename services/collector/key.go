package collector

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Source is what a write key stands for.
type Source struct {
	WorkspaceID string
	ID          string
	// Type is "web", "app", "server" or "webhook".
	Type    string
	Enabled bool
	Deleted bool
	// Origins that browsers may send from; empty allows all.
	Origins []string
}

// allows tells whether a browser on a page of origin may send; a request without an origin is from no browser.
func (s *Source) allows(origin string) bool {
	return origin == "" || len(s.Origins) == 0 || slices.Contains(s.Origins, origin)
}

type writeKey struct {
	workspaceID string
	sourceID    string
	expiresAt   time.Time
	revoked     bool
}

var (
	errKeyMissing = errs.New(errs.Unauthenticated, "write_key_missing",
		"Send the source's write key: Authorization: Basic base64(key:), Authorization: Bearer key, X-Write-Key, or writeKey in the body or the query.")
	errKeyUnknown     = errs.New(errs.Unauthenticated, "write_key_unknown", "No source has this write key; copy it from the source's page.")
	errSourceDisabled = errs.New(errs.NotFound, "source_disabled", "The source of this write key is disabled; enable it to send events.")
	errOrigin         = errs.New(errs.Forbidden, "origin_not_allowed", "The source does not accept events from pages of this origin; add it to the source's origins.")
	errKeysNotLoaded  = errs.New(errs.Unavailable, "keys_not_loaded", "The write keys are still being loaded; try again.").WithRetryAfter(time.Second)
)

// keyRing is the read model of keys and sources: readers take one immutable copy without a lock, each change makes the
// next one.
type keyRing struct {
	mu      sync.Mutex
	current atomic.Pointer[keys]
}

type keys struct {
	keys       map[string]versioned[writeKey]
	sources    map[string]versioned[Source]
	workspaces map[string]versioned[bool]
}

type versioned[T any] struct {
	revision int64
	value    T
}

func newKeyRing() *keyRing {
	r := &keyRing{}
	r.current.Store(&keys{})
	return r
}

// find returns the source of a key: known is false when nothing was ever heard of the key.
func (r *keyRing) find(key string, now time.Time) (source Source, known bool, err error) {
	k := r.current.Load()
	w, ok := k.keys[key]
	if !ok {
		return Source{}, false, errKeyUnknown
	}
	s, ok := k.sources[w.value.sourceID]
	switch {
	case !ok:
		// Its source is announced before it; in between an answer would be a guess.
		return Source{}, false, errKeyUnknown
	case w.value.revoked, s.value.Deleted, k.workspaces[w.value.workspaceID].value,
		!w.value.expiresAt.IsZero() && !now.Before(w.value.expiresAt):
		return Source{}, true, errKeyUnknown
	case !s.value.Enabled:
		return Source{}, true, errSourceDisabled
	}
	return s.value, true, nil
}

// change applies several changes at once. What is not above the revision at hand is old news and ignored.
func (r *keyRing) change(apply func(*draft)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.current.Load()
	d := &draft{next: keys{keys: maps.Clone(old.keys), sources: maps.Clone(old.sources), workspaces: maps.Clone(old.workspaces)}}
	apply(d)
	if d.changed {
		r.current.Store(&d.next)
	}
}

// draft is a copy under change.
type draft struct {
	next    keys
	changed bool
}

func (d *draft) writeKey(key string, revision int64, w writeKey) {
	d.changed = put(&d.next.keys, key, revision, w) || d.changed
}

func (d *draft) source(s Source, revision int64) {
	d.changed = put(&d.next.sources, s.ID, revision, s) || d.changed
}

func (d *draft) workspace(id string, revision int64, deleted bool) {
	d.changed = put(&d.next.workspaces, id, revision, deleted) || d.changed
}

func put[T any](m *map[string]versioned[T], id string, revision int64, value T) bool {
	if have, ok := (*m)[id]; ok && revision <= have.revision {
		return false
	}
	if *m == nil {
		*m = map[string]versioned[T]{}
	}
	(*m)[id] = versioned[T]{revision: revision, value: value}
	return true
}
