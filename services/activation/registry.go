package activation

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"time"
)

// target is a destination ready to be sent to.
type target struct {
	Destination
	filter *filter
	health *health
}

// registry is this instance's copy of the definitions. It is read again before a batch that is newer than it.
type registry struct {
	cfg   Config
	store DestinationReader
	log   *slog.Logger
	now   func() time.Time
	// changed hears of destinations that may be well again because someone changed them.
	changed func(id string)

	mu          sync.RWMutex
	fingerprint Fingerprint
	loadedAt    time.Time
	byWorkspace map[string][]*target
	byID        map[string]*target

	refresh sync.Mutex
}

func newRegistry(cfg Config, store DestinationReader, log *slog.Logger, now func() time.Time, changed func(id string)) *registry {
	return &registry{
		cfg: cfg, store: store, log: log, now: now, changed: changed, byWorkspace: map[string][]*target{}, byID: map[string]*target{},
	}
}

// ensure makes sure that the copy is not older than at.
func (r *registry) ensure(ctx context.Context, at time.Time) error {
	if r.freshAt(at) {
		return nil
	}
	r.refresh.Lock()
	defer r.refresh.Unlock()
	if r.freshAt(at) {
		return nil
	}
	begin := r.now()
	current, err := r.store.Fingerprint(ctx)
	if err != nil {
		return err
	}
	r.mu.RLock()
	same := current == r.fingerprint && !r.loadedAt.IsZero()
	r.mu.RUnlock()
	if same {
		r.mu.Lock()
		r.loadedAt = begin
		r.mu.Unlock()
		return nil
	}
	all, fingerprint, err := r.store.AllDestinations(ctx)
	if err != nil {
		return err
	}
	r.replace(ctx, all, fingerprint, begin)
	return nil
}

func (r *registry) freshAt(at time.Time) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.loadedAt.After(at)
}

func (r *registry) replace(ctx context.Context, all []Destination, fingerprint Fingerprint, loadedAt time.Time) {
	byWorkspace, byID := map[string][]*target{}, map[string]*target{}
	r.mu.RLock()
	before := r.byID
	r.mu.RUnlock()
	var changed []string
	for _, d := range all {
		old := before[d.ID]
		t := &target{Destination: d, health: &health{cfg: r.cfg}}
		if old != nil && reflect.DeepEqual(old.Webhook, d.Webhook) {
			t.health = old.health
		}
		if old != nil && old.Revision != d.Revision {
			changed = append(changed, d.ID)
		}
		t.filter = r.filter(ctx, old, d)
		byID[d.ID] = t
		if d.Enabled && t.filter != nil {
			byWorkspace[d.WorkspaceID] = append(byWorkspace[d.WorkspaceID], t)
		}
	}
	r.mu.Lock()
	r.byWorkspace, r.byID, r.fingerprint, r.loadedAt = byWorkspace, byID, fingerprint, loadedAt
	r.mu.Unlock()
	for _, id := range changed {
		r.changed(id)
	}
}

// filter returns nil when the saved one cannot be compiled: it was checked when it was saved, but a newer CEL may be
// stricter. Sending nothing new beats sending everything; what is parked has passed the filter already.
func (r *registry) filter(ctx context.Context, old *target, d Destination) *filter {
	if old != nil && old.Filter == d.Filter {
		return old.filter
	}
	compiled, err := compileFilter(d.Filter)
	if err != nil {
		r.log.ErrorContext(ctx, "a saved filter cannot be compiled; the destination gets nothing new", "destination_id", d.ID)
		return nil
	}
	return compiled
}

// enabled returns the enabled destinations by workspace; it must not be changed.
func (r *registry) enabled() map[string][]*target {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byWorkspace
}

// get returns a destination, enabled or not; nil when there is none.
func (r *registry) get(id string) *target {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byID[id]
}
