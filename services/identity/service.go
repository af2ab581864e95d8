package identity

import (
	"context"
	"sync"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// Store is where identifiers become people.
type Store interface {
	// Lookup returns the profiles of those identifiers of events that have one.
	Lookup(ctx context.Context, events []Event) (map[ids.Hash]Profile, error)
	// Assign decides about events of one partition, in their order, in one transaction: it attaches unknown identifiers,
	// founds profiles, and records changes, evidence and decisions. An event that was decided before keeps its decision.
	Assign(ctx context.Context, partition int32, events []Event) (Assigned, error)
	// Decisions returns the decisions about events of a partition from an offset on, by offset.
	Decisions(ctx context.Context, partition int32, from int64) (map[int64]Decision, error)
	// PruneDecisions forgets the decisions below an offset and returns how many it forgot.
	PruneDecisions(ctx context.Context, partition int32, below int64) (int64, error)
}

// Assigned is the outcome of Store.Assign.
type Assigned struct {
	// Decisions has one entry per event, by offset.
	Decisions map[int64]Decision
	// Known is the profile of every identifier of the events.
	Known map[ids.Hash]Profile
}

// Service says whose an event is.
type Service struct {
	store   Store
	cache   *profileCache
	metrics *metrics
	// batch bounds the events of one transaction.
	batch int

	mu sync.Mutex
	// decided are decisions about events that may come again, by partition and offset.
	decided map[int32]map[int64]Decision
}

// NewService returns a Service that remembers cacheSize identifiers and decides about at most batch events at a time.
func NewService(store Store, cacheSize, batch int, m *metrics) (*Service, error) {
	cache, err := newProfileCache(cacheSize)
	if err != nil {
		return nil, err
	}
	return &Service{store: store, cache: cache, metrics: m, batch: batch, decided: map[int32]map[int64]Decision{}}, nil
}

// Take loads what was decided about a partition from an offset on: its events from there come again.
func (s *Service) Take(ctx context.Context, partition int32, from int64) error {
	decided, err := s.store.Decisions(ctx, partition, from)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decided[partition] = decided
	return nil
}

// Release forgets what Take loaded.
func (s *Service) Release(partition int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.decided, partition)
}

// Resolve returns the profile of each event of one partition, in order. All identifiers cached: no database. All known:
// one read. Else one transaction for the events that bring something new.
func (s *Service) Resolve(ctx context.Context, partition int32, events []Event) ([]Profile, error) {
	out := make([]Profile, len(events))
	var misses []Event
	var at []int
	decided := s.repeats(partition, events)
	for i := range events {
		if d, ok := decided[events[i].Offset]; ok && d.EventHash == events[i].Hash {
			out[i] = d.Profile
			continue
		}
		p, ok := s.cache.resolve(events[i].Identifiers)
		if !ok {
			misses, at = append(misses, events[i]), append(at, i)
			continue
		}
		out[i] = p
	}
	s.metrics.resolved(ctx, pathCache, len(events)-len(misses))
	if len(misses) == 0 {
		return out, nil
	}
	known, err := s.store.Lookup(ctx, misses)
	if err != nil {
		return nil, err
	}
	s.cache.remember(known)
	var claims []Event
	var claimedAt []int
	for i, e := range misses {
		if p, ok := strongest(known, e); ok {
			out[at[i]] = p
			continue
		}
		claims, claimedAt = append(claims, e), append(claimedAt, at[i])
	}
	s.metrics.resolved(ctx, pathRead, len(misses)-len(claims))
	return out, s.claim(ctx, partition, claims, claimedAt, out)
}

// claim decides about events that bring something new and puts their profiles into out.
func (s *Service) claim(ctx context.Context, partition int32, claims []Event, at []int, out []Profile) error {
	for len(claims) > 0 {
		n := min(len(claims), s.batch)
		done := s.metrics.transaction(ctx, n)
		assigned, err := s.store.Assign(ctx, partition, claims[:n])
		done(err)
		if err != nil {
			return err
		}
		s.cache.remember(assigned.Known)
		for i, e := range claims[:n] {
			out[at[i]] = assigned.Decisions[e.Offset].Profile
		}
		s.record(partition, assigned.Decisions)
		claims, at = claims[n:], at[n:]
	}
	return nil
}

// repeats returns the decisions about events that come again, and forgets those about events that cannot: before the
// first of a batch everything is acknowledged. The caller is the only one that works on the partition.
func (s *Service) repeats(partition int32, events []Event) map[int64]Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	decided := s.decided[partition]
	if len(decided) == 0 || len(events) == 0 {
		return nil
	}
	for offset := range decided {
		if offset < events[0].Offset {
			delete(decided, offset)
		}
	}
	return decided
}

func (s *Service) record(partition int32, decisions map[int64]Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	decided := s.decided[partition]
	if decided == nil {
		decided = map[int64]Decision{}
		s.decided[partition] = decided
	}
	for offset, d := range decisions {
		decided[offset] = d
	}
}

// strongest returns the profile of the strongest identifier when all of them are known.
func strongest(known map[ids.Hash]Profile, e Event) (Profile, bool) {
	for _, id := range e.Identifiers {
		if _, ok := known[id.Hash]; !ok {
			return Profile{}, false
		}
	}
	return known[e.Identifiers[0].Hash], true
}
