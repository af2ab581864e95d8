package activation

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// memoryStore is postgresStore without a database, for tests and for trying things out.
type memoryStore struct {
	mu           sync.Mutex
	destinations map[string]memoryDestination
	changes      int64
	epochs       map[int32]int64
	seq          int64
	devices      map[string]map[deviceHash]*memoryDevice
	messages     map[string]map[string]*parkedMessage
	dead         map[string]map[string]deadMessage
}

type memoryDestination struct {
	Destination
	changeNo int64
}

type memoryDevice struct {
	partition int32
	attempts  int
	next      time.Time
}

// newMemoryStore returns an empty store.
func newMemoryStore() *memoryStore {
	return &memoryStore{
		destinations: map[string]memoryDestination{}, epochs: map[int32]int64{}, devices: map[string]map[deviceHash]*memoryDevice{},
		messages: map[string]map[string]*parkedMessage{}, dead: map[string]map[string]deadMessage{},
	}
}

// Insert implements DestinationStore.
func (s *memoryStore) Insert(_ context.Context, d Destination) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := checkWorkspace(d.WorkspaceID); err != nil {
		return err
	}
	return s.put(d)
}

func checkWorkspace(id string) error {
	if !ids.Valid(id) {
		return errs.New(errs.Invalid, "workspace_id_invalid", "a workspace id must be a UUID")
	}
	return nil
}

func (s *memoryStore) put(d Destination) error {
	for _, other := range s.destinations {
		if other.WorkspaceID == d.WorkspaceID && other.Name == d.Name && other.ID != d.ID {
			return errNameTaken()
		}
	}
	s.changes++
	d.Webhook.Headers = maps.Clone(d.Webhook.Headers)
	s.destinations[d.ID] = memoryDestination{Destination: d, changeNo: s.changes}
	return nil
}

// Get implements DestinationStore.
func (s *memoryStore) Get(_ context.Context, workspaceID, id string) (Destination, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.destinations[id]
	if !ok || d.WorkspaceID != workspaceID {
		return Destination{}, errDestinationNotFound()
	}
	return d.Destination, nil
}

// List implements DestinationStore.
func (s *memoryStore) List(_ context.Context, workspaceID string, limit int) ([]Destination, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := checkWorkspace(workspaceID); err != nil {
		return nil, err
	}
	var list []Destination
	for _, d := range s.destinations {
		if d.WorkspaceID == workspaceID {
			list = append(list, d.Destination)
		}
	}
	slices.SortFunc(list, func(a, b Destination) int { return cmp.Compare(a.Name, b.Name) })
	return list[:min(len(list), limit)], nil
}

// Update implements DestinationStore.
func (s *memoryStore) Update(_ context.Context, d Destination) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.destinations[d.ID]
	if !ok || old.WorkspaceID != d.WorkspaceID || old.Revision != d.Revision-1 {
		return errRevision()
	}
	d.SigningSecret, d.CreatedAt = old.SigningSecret, old.CreatedAt
	return s.put(d)
}

// Delete implements DestinationStore.
func (s *memoryStore) Delete(_ context.Context, workspaceID, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.destinations[id]; !ok || d.WorkspaceID != workspaceID {
		return errDestinationNotFound()
	}
	delete(s.destinations, id)
	s.remove(id)
	return nil
}

func (s *memoryStore) remove(destinationID string) {
	delete(s.devices, destinationID)
	delete(s.messages, destinationID)
	delete(s.dead, destinationID)
}

// Queue implements DestinationStore.
func (s *memoryStore) Queue(_ context.Context, workspaceID, id string) (Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.destinations[id]; !ok || d.WorkspaceID != workspaceID {
		return Queue{}, nil
	}
	q := Queue{Parked: int64(len(s.messages[id])), Dead: int64(len(s.dead[id]))}
	for _, m := range s.messages[id] {
		if q.OldestParkedAt.IsZero() || m.ParkedAt.Before(q.OldestParkedAt) {
			q.OldestParkedAt = m.ParkedAt
		}
	}
	return q, nil
}

// Fingerprint implements DestinationReader.
func (s *memoryStore) Fingerprint(context.Context) (Fingerprint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fingerprint(), nil
}

func (s *memoryStore) fingerprint() Fingerprint {
	f := Fingerprint{Count: int64(len(s.destinations))}
	for _, d := range s.destinations {
		f.Sum += d.changeNo
	}
	return f
}

// AllDestinations implements DestinationReader.
func (s *memoryStore) AllDestinations(context.Context) ([]Destination, Fingerprint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Destination
	for _, d := range s.destinations {
		all = append(all, d.Destination)
	}
	return all, s.fingerprint(), nil
}

// Take implements ParkedStore.
func (s *memoryStore) Take(_ context.Context, partitions []int32) ([]takenPartition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var taken []takenPartition
	for _, p := range partitions {
		s.epochs[p]++
		t := takenPartition{claim: claim{Partition: p, Epoch: s.epochs[p]}, Blocked: map[string][]deviceHash{}}
		for id, devices := range s.devices {
			for hash, d := range devices {
				if d.partition == p {
					t.Blocked[id] = append(t.Blocked[id], hash)
				}
			}
		}
		taken = append(taken, t)
	}
	return taken, nil
}

func (s *memoryStore) check(c claim) error {
	if s.epochs[c.Partition] != c.Epoch {
		return errPartitionTaken()
	}
	return nil
}

// Park implements ParkedStore.
func (s *memoryStore) Park(_ context.Context, c claim, p parking) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(c); err != nil {
		return err
	}
	id := p.DestinationID
	if s.devices[id] == nil {
		s.devices[id], s.messages[id] = map[deviceHash]*memoryDevice{}, map[string]*parkedMessage{}
	}
	for _, m := range p.Messages {
		_, isParked := s.messages[id][m.MessageID]
		_, isDead := s.dead[id][m.MessageID]
		if !isParked && !isDead {
			s.seq++
			s.messages[id][m.MessageID] = &parkedMessage{
				Seq: s.seq, MessageID: m.MessageID, Device: m.Device, Value: bytes.Clone(m.Value), Attempts: m.Attempts, ParkedAt: p.At,
			}
		}
		if s.devices[id][m.Device] == nil {
			s.devices[id][m.Device] = &memoryDevice{partition: c.Partition, attempts: m.Attempts, next: m.NextAttemptAt}
		}
	}
	s.bury(id, p.Dead)
	return nil
}

func (s *memoryStore) bury(destinationID string, dead []deadMessage) {
	if _, exists := s.destinations[destinationID]; !exists || len(dead) == 0 {
		return
	}
	if s.dead[destinationID] == nil {
		s.dead[destinationID] = map[string]deadMessage{}
	}
	for _, m := range dead {
		if _, known := s.dead[destinationID][m.MessageID]; !known {
			s.dead[destinationID][m.MessageID] = m
		}
	}
}

// Load implements ParkedStore.
func (s *memoryStore) Load(_ context.Context, c claim, destinationID string, now time.Time, limit loadLimit) (load, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due load
	devices := s.devices[destinationID]
	for hash, d := range devices {
		switch {
		case d.partition != c.Partition:
		case !d.next.After(now):
			due.Devices = append(due.Devices, dueDevice{Device: hash, Attempts: d.attempts})
		case due.Next.IsZero() || d.next.Before(due.Next):
			due.Next = d.next
		}
	}
	slices.SortFunc(due.Devices, func(a, b dueDevice) int { return devices[a.Device].next.Compare(devices[b.Device].next) })
	due.Devices = due.Devices[:min(len(due.Devices), limit.Devices)]
	due.Messages = s.oldest(destinationID, due.Devices, limit)
	return due, nil
}

func (s *memoryStore) oldest(destinationID string, devices []dueDevice, limit loadLimit) []parkedMessage {
	room := map[deviceHash]int{}
	for _, d := range devices {
		room[d.Device] = limit.perDevice(len(devices))
	}
	var list []parkedMessage
	size := 0
	for _, m := range s.sorted(destinationID) {
		if room[m.Device] == 0 {
			continue
		}
		room[m.Device]--
		if size += len(m.Value); len(list) > 0 && (len(list) >= limit.Messages || size > limit.Bytes) {
			break
		}
		list = append(list, *m)
	}
	return list
}

func (s *memoryStore) sorted(destinationID string) []*parkedMessage {
	return slices.SortedFunc(maps.Values(s.messages[destinationID]), func(a, b *parkedMessage) int { return cmp.Compare(a.Seq, b.Seq) })
}

// Settle implements ParkedStore.
func (s *memoryStore) Settle(_ context.Context, c claim, set settlement) (free []deviceHash, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(c); err != nil {
		return nil, err
	}
	messages, devices := s.messages[set.DestinationID], s.devices[set.DestinationID]
	s.bury(set.DestinationID, set.Dead)
	for _, m := range set.Dead {
		delete(messages, m.MessageID)
	}
	for _, id := range set.Delivered {
		delete(messages, id)
	}
	for _, id := range set.Failed {
		if m := messages[id]; m != nil {
			m.Attempts++
		}
	}
	left := map[deviceHash]bool{}
	for _, m := range messages {
		left[m.Device] = true
	}
	for _, d := range set.Taken {
		if devices[d] != nil && !left[d] {
			delete(devices, d)
			free = append(free, d)
		}
	}
	for _, d := range set.Again {
		if known := devices[d.Device]; known != nil {
			known.attempts, known.next = d.Attempts, d.NextAttemptAt
		}
	}
	return free, nil
}

// Hasten implements ParkedStore.
func (s *memoryStore) Hasten(_ context.Context, c claim, destinationID string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(c); err != nil {
		return err
	}
	for _, d := range s.devices[destinationID] {
		if d.partition == c.Partition && d.next.After(now) {
			d.next = now
		}
	}
	return nil
}

// Purge implements ParkedStore.
func (s *memoryStore) Purge(_ context.Context, destinationID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, exists := s.destinations[destinationID]; !exists {
		s.remove(destinationID)
	}
	return nil
}
