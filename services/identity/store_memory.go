package identity

import (
	"context"
	"slices"
	"sync"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

type position struct {
	partition int32
	offset    int64
}

// MemoryStore is a Store for tests and trials: as strict as the real one, and gone with the process.
type MemoryStore struct {
	clock clock.Clock

	mu        sync.Mutex
	owner     map[ids.Hash]*person
	decisions map[position]Decision
	changes   []Change
	edges     []Edge
	lastNo    int64
}

// NewMemoryStore returns an empty store.
func NewMemoryStore(clk clock.Clock) *MemoryStore {
	return &MemoryStore{clock: clk, owner: map[ids.Hash]*person{}, decisions: map[position]Decision{}}
}

// Lookup implements Store.
func (s *MemoryStore) Lookup(_ context.Context, events []Event) (map[ids.Hash]Profile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := map[ids.Hash]Profile{}
	for _, e := range events {
		for _, id := range e.Identifiers {
			if p := s.owner[id.Hash]; p != nil {
				known[id.Hash] = p.Profile
			}
		}
	}
	return known, nil
}

// Assign implements Store.
func (s *MemoryStore) Assign(_ context.Context, partition int32, events []Event) (Assigned, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &assignment{newID: ids.New, owner: s.owner}
	earlier := map[int64]Decision{}
	for i := range events {
		if d, ok := s.decisions[position{partition, events[i].Offset}]; ok && d.EventHash == events[i].Hash {
			earlier[events[i].Offset] = d
			continue
		}
		a.add(&events[i])
	}
	for _, p := range a.created {
		s.lastNo++
		p.No = s.lastNo
	}
	for _, e := range a.edges {
		s.edges = append(s.edges, Edge{
			WorkspaceID: e.person.workspaceID, ProfileID: e.person.ID, A: e.a, B: e.b, Partition: partition, Offset: e.offset,
		})
	}
	s.changes = append(s.changes, a.changesAt(s.clock.Now())...)
	out := Assigned{Decisions: a.decisions(), Known: map[ids.Hash]Profile{}}
	for offset, d := range out.Decisions {
		s.decisions[position{partition, offset}] = d
	}
	for offset, d := range earlier {
		out.Decisions[offset] = d
	}
	for _, e := range events {
		for _, id := range e.Identifiers {
			if p := s.owner[id.Hash]; p != nil {
				out.Known[id.Hash] = p.Profile
			}
		}
	}
	return out, nil
}

// Decisions implements Store.
func (s *MemoryStore) Decisions(_ context.Context, partition int32, from int64) (map[int64]Decision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[int64]Decision{}
	for at, d := range s.decisions {
		if at.partition == partition && at.offset >= from {
			out[at.offset] = d
		}
	}
	return out, nil
}

// PruneDecisions implements Store.
func (s *MemoryStore) PruneDecisions(_ context.Context, partition int32, below int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(0)
	for at := range s.decisions {
		if at.partition == partition && at.offset < below {
			delete(s.decisions, at)
			n++
		}
	}
	return n, nil
}

// Changes returns all changes so far, in order.
func (s *MemoryStore) Changes() []Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.changes)
}

// Edges returns all edges so far.
func (s *MemoryStore) Edges() []Edge {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.edges)
}
