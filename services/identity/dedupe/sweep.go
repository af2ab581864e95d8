package dedupe

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
)

// sweepChunk is how many keys are looked at in one go; between chunks a sweep waits and holds nothing.
const sweepChunk = 4096

// Sweep deletes what has left the window, or exceeds the number of keys, at most SweepRate keys a second. It returns how
// many it deleted; nothing is read when nothing can have expired since the last sweep.
func (s *Store) Sweep(ctx context.Context, clk clock.Clock) (int64, error) {
	floors := s.floors(clk.Now())
	if len(floors) == 0 {
		return 0, nil
	}
	pause := time.Duration(float64(time.Second) * sweepChunk / float64(max(1, s.options.SweepRate)))
	deleted, next := int64(0), []byte{}
	for next != nil {
		var n int64
		var err error
		if n, next, err = s.sweepFrom(next, floors); err != nil {
			return deleted, err
		}
		deleted += n
		if next == nil {
			break
		}
		timer := clk.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return deleted, ctx.Err()
		case <-timer.C():
		}
	}
	return deleted, s.forget(floors)
}

// floors returns for each partition that has something to give up the offset below which it goes.
func (s *Store) floors(now time.Time) map[int32]floor {
	excess, total := int64(0), s.Keys()
	if total > s.options.MaxKeys {
		// A little more than the excess, so that the next sweep is not due at once.
		excess = total - s.options.MaxKeys + s.options.MaxKeys/100
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	floors := map[int32]floor{}
	for n, p := range s.partitions {
		keys := p.keys.Load()
		share := int64(0)
		if total > 0 {
			share = int64(float64(excess) * float64(keys) / float64(total))
		}
		f, due := p.expired(now.Add(-s.options.Window))
		if crowded := p.floorFor(share, keys); crowded > f.offset {
			f, due = floor{offset: crowded}, true
		}
		if due {
			floors[n] = f
		}
	}
	return floors
}

// sweepFrom looks at the next chunk of keys; next is nil when none is left.
func (s *Store) sweepFrom(from []byte, floors map[int32]floor) (deleted int64, next []byte, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from})
	if err != nil {
		return 0, nil, s.failed(err)
	}
	defer it.Close() //nolint:errcheck // its errors are those of it.Error
	batch := s.db.NewBatch()
	defer batch.Close() //nolint:errcheck // only frees memory
	counts := map[int32]int64{}
	looked := 0
	ok := it.First()
	for ; ok && looked < sweepChunk; ok = it.Next() {
		looked++
		k, v := it.Key(), it.Value()
		if len(k) != keySize || len(v) != 8 {
			continue
		}
		number := int32(binary.BigEndian.Uint16(k[hashSize:]))
		f, due := floors[number]
		// Nobody else deletes, and a stored offset only sinks: what is below the floor now stays below it.
		if !due || int64(binary.BigEndian.Uint64(v)) >= f.offset { //nolint:gosec // as written
			continue
		}
		if err := batch.Delete(k, nil); err != nil {
			return 0, nil, s.failed(err)
		}
		counts[number]++
	}
	if err := it.Error(); err != nil {
		return 0, nil, s.failed(err)
	}
	if ok {
		next = append([]byte{}, it.Key()...)
	}
	if len(counts) == 0 {
		return 0, next, nil
	}
	if err := batch.Commit(pebble.NoSync); err != nil {
		return 0, nil, s.failed(err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for number, n := range counts {
		s.partitions[number].keys.Add(-n)
		deleted += n
	}
	return deleted, next, nil
}

// forget lets the window of the swept partitions begin at their floors.
func (s *Store) forget(floors map[int32]floor) error {
	for number, f := range floors {
		p, err := s.partition(number)
		if err != nil {
			return err
		}
		p.writing.Lock()
		p.forget(f)
		batch := s.db.NewBatch()
		err = batch.Set(partitionKey(marksPrefix, number), p.encodeMarks(), nil)
		if err == nil {
			err = batch.Set(partitionKey(metaPrefix, number), p.encodeMeta(p.appliedOffset()), nil)
		}
		if err == nil {
			err = batch.Commit(pebble.NoSync)
		}
		p.writing.Unlock()
		if err != nil {
			return s.failed(err)
		}
	}
	return nil
}
