package activation

import (
	"context"
	"log/slog"
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

	mu          sync.RWMutex
	fingerprint Fingerprint
	loadedAt    time.Time
	byWorkspace map[string][]*target
	byID        map[string]*target

	refresh sync.Mutex
}

func newRegistry(cfg Config, store DestinationReader, log *slog.Logger, now func() time.Time) *registry {
	return &registry{cfg: cfg, store: store, log: log, now: now, byWorkspace: map[string][]*target{}, byID: map[string]*target{}}
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
	for _, d := range all {
		t := &target{Destination: d, health: &health{cfg: r.cfg}}
		if old := before[d.ID]; old != nil {
			t.health, t.filter = old.health, old.filter
			if old.Webhook.URL != d.Webhook.URL {
				t.health = &health{cfg: r.cfg}
			}
		}
		if old := before[d.ID]; old == nil || old.Filter != d.Filter {
			compiled, err := compileFilter(d.Filter)
			if err != nil {
				// It was checked when it was saved; a newer CEL may be stricter. Sending nothing beats sending everything.
				r.log.ErrorContext(ctx, "a saved filter cannot be compiled; the destination gets nothing", "destination_id", d.ID)
				continue
			}
			t.filter = compiled
		}
		byID[d.ID] = t
		if d.Enabled {
			byWorkspace[d.WorkspaceID] = append(byWorkspace[d.WorkspaceID], t)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byWorkspace, r.byID, r.fingerprint, r.loadedAt = byWorkspace, byID, fingerprint, loadedAt
}

// of returns the enabled destinations of a workspace.
func (r *registry) of(workspaceID string) []*target {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byWorkspace[workspaceID]
}

// get returns a destination, enabled or not; nil when there is none.
func (r *registry) get(id string) *target {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byID[id]
}
