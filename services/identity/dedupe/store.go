package dedupe

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// maxPartition bounds the search for known partitions when a store is opened.
const maxPartition = 1<<12 - 1

// Store is the dedupe window of the partitions that this process has owned. Its methods may run concurrently.
type Store struct {
	log     *slog.Logger
	options Options
	dir     string
	db      *pebble.DB
	cache   *pebble.Cache
	unlock  func() error

	mu         sync.RWMutex
	partitions map[int32]*partition

	brokenOnce sync.Once
	broken     chan struct{}
}

// Apply answers for the entries of one stretch of a partition's log, in the order of entries, whether each event was
// seen at a lower offset, and remembers those that are new. The stretch ends with the offset through (which may be a
// record without an event) and was written about at.
func (s *Store) Apply(ctx context.Context, number int32, entries []Entry, through int64, at time.Time) ([]bool, error) {
	duplicates := make([]bool, len(entries))
	p, err := s.partition(number)
	if err != nil {
		return nil, err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	batch := s.db.NewBatch()
	defer batch.Close() //nolint:errcheck // only frees memory
	added, err := s.merge(ctx, batch, number, entries, duplicates)
	if err != nil {
		return nil, err
	}
	first := through
	if len(entries) > 0 {
		first = entries[0].Offset
	}
	return duplicates, s.commit(batch, p, number, added, through, at, first)
}

// Fill remembers events of a stretch of the log that is being read again, in any order; the applied offset stays.
func (s *Store) Fill(ctx context.Context, number int32, entries []Entry) error {
	p, err := s.partition(number)
	if err != nil {
		return err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	batch := s.db.NewBatch()
	defer batch.Close() //nolint:errcheck // only frees memory
	added, err := s.merge(ctx, batch, number, entries, make([]bool, len(entries)))
	if err != nil {
		return err
	}
	return s.commit(batch, p, number, added, p.appliedOffset(), time.Time{}, 0)
}

// Advance says that the stretch of the log that begins with the offset from and ends with through was given to Fill.
func (s *Store) Advance(number int32, from, through int64) error {
	p, err := s.partition(number)
	if err != nil {
		return err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	batch := s.db.NewBatch()
	defer batch.Close() //nolint:errcheck // only frees memory
	// Its age is unknown: it expires with the oldest hour that is known.
	return s.commit(batch, p, number, 0, through, time.Unix(0, 0), from)
}

// Applied returns the offset up to which the partition's log has been remembered, -1 when nothing was.
func (s *Store) Applied(number int32) int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p := s.partitions[number]; p != nil {
		return p.appliedOffset()
	}
	return -1
}

// Seen tells for each hash whether any partition remembers it.
func (s *Store) Seen(ctx context.Context, hashes []ids.Hash) ([]bool, error) {
	seen := make([]bool, len(hashes))
	entries := make([]Entry, len(hashes))
	for i, h := range hashes {
		entries[i].Hash = h
	}
	it, err := s.iterator()
	if err != nil {
		return nil, err
	}
	defer it.Close() //nolint:errcheck // its errors are those of it.Error
	for n, i := range sortedIndexes(entries) {
		if n%64 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		seen[i] = it.SeekPrefixGE(hashes[i][:])
	}
	return seen, s.failed(it.Error())
}

// Keys returns how many events are remembered.
func (s *Store) Keys() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	total := int64(0)
	for _, p := range s.partitions {
		total += p.keys.Load()
	}
	return total
}

// Window returns how far back every partition remembers; false before anything is remembered.
func (s *Store) Window(now time.Time) (time.Duration, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	window, known := time.Duration(0), false
	for _, p := range s.partitions {
		oldest, ok := p.oldestHour()
		if !ok {
			continue
		}
		if age := max(0, now.Sub(oldest)); !known || age < window {
			window, known = age, true
		}
	}
	return window, known
}

// Broken is closed when the store turns out to be damaged: the process must start again, which rebuilds it.
func (s *Store) Broken() <-chan struct{} { return s.broken }

// merge puts the new of entries into batch and marks the duplicates; it returns how many keys are new.
func (s *Store) merge(ctx context.Context, batch *pebble.Batch, number int32, entries []Entry, duplicates []bool) (int64, error) {
	if len(entries) == 0 {
		return 0, nil
	}
	it, err := s.iterator()
	if err != nil {
		return 0, err
	}
	defer it.Close() //nolint:errcheck // its errors are those of it.Error
	var key [keySize]byte
	var value [8]byte
	order, added := sortedIndexes(entries), int64(0)
	for from := 0; from < len(order); {
		if from%256 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		lowest := entries[order[from]]
		to := from + 1
		for to < len(order) && entries[order[to]].Hash == lowest.Hash {
			to++
		}
		first, k := lowest.Offset, eventKey(key[:], lowest.Hash, number)
		stored, known, err := s.find(it, k)
		if err != nil {
			return 0, err
		}
		if known {
			first = min(first, stored)
		} else {
			added++
		}
		if !known || lowest.Offset < stored {
			binary.BigEndian.PutUint64(value[:], uint64(lowest.Offset)) //nolint:gosec // offsets are not negative
			if err := batch.Set(k, value[:], nil); err != nil {
				return 0, s.failed(err)
			}
		}
		for ; from < to; from++ {
			duplicates[order[from]] = first < entries[order[from]].Offset
		}
	}
	return added, nil
}

// find returns the offset stored under key. The iterator walks the keys of one hash: as a rule one.
func (s *Store) find(it *pebble.Iterator, key []byte) (offset int64, known bool, err error) {
	if !it.SeekPrefixGE(key) {
		return 0, false, s.failed(it.Error())
	}
	if string(it.Key()) != string(key) {
		return 0, false, nil
	}
	v := it.Value()
	if len(v) != 8 {
		return 0, false, s.failed(pebble.ErrCorruption)
	}
	return int64(binary.BigEndian.Uint64(v)), true, nil //nolint:gosec // as written
}

func (s *Store) iterator() (*pebble.Iterator, error) {
	// Nearly every event is new, so the filters of the last level, which iterators skip by default, save the most.
	it, err := s.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	return it, s.failed(err)
}

func (s *Store) commit(batch *pebble.Batch, p *partition, number int32, added, through int64, at time.Time, first int64) error {
	through = max(through, p.appliedOffset())
	marked := !at.IsZero() && p.markHour(at, first)
	p.keys.Add(added)
	err := batch.Set(partitionKey(metaPrefix, number), p.encodeMeta(through), nil)
	if err == nil && marked {
		err = batch.Set(partitionKey(marksPrefix, number), p.encodeMarks(), nil)
	}
	if err == nil {
		err = batch.Commit(pebble.NoSync)
	}
	if err != nil {
		p.keys.Add(-added)
		return s.failed(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied = through
	return nil
}

func (s *Store) partition(number int32) (*partition, error) {
	if number < 0 || number > maxPartition {
		return nil, errs.New(errs.Invalid, "partition_out_of_range", fmt.Sprintf("A partition number must be between 0 and %d", maxPartition))
	}
	s.mu.RLock()
	p := s.partitions[number]
	s.mu.RUnlock()
	if p != nil {
		return p, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p = s.partitions[number]; p == nil {
		p = newPartition()
		s.partitions[number] = p
	}
	return p, nil
}
