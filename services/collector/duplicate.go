package collector

import (
	"encoding/binary"
	"sync"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

const (
	seenWays   = 8
	seenShards = 64
)

// seenIndex remembers the newest events that this door has put on the disk, by their 128-bit hashes: a hit proves an
// earlier append. It is a fixed table without pointers; in each set the oldest gives way.
type seenIndex struct {
	shards [seenShards]seenShard
	sets   uint64
}

type seenShard struct {
	mu   sync.Mutex
	sets []seenSet
}

type seenSet struct {
	hashes [seenWays]ids.Hash
	next   uint8
}

// newSeenIndex returns an index for about entries events (16 bytes each).
func newSeenIndex(entries int) *seenIndex {
	perShard := max(1, entries/seenWays/seenShards)
	x := &seenIndex{sets: uint64(perShard)}
	for i := range x.shards {
		x.shards[i].sets = make([]seenSet, perShard)
	}
	return x
}

func (x *seenIndex) set(h *ids.Hash) (*seenShard, *seenSet) {
	shard := &x.shards[h[15]%seenShards]
	return shard, &shard.sets[binary.BigEndian.Uint64(h[:8])%x.sets]
}

func (x *seenIndex) has(h ids.Hash) bool {
	shard, set := x.set(&h)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for i := range set.hashes {
		if set.hashes[i] == h {
			return true
		}
	}
	return false
}

// add may be called only once the event is durable: a hit makes the door drop the next one.
func (x *seenIndex) add(h ids.Hash) {
	shard, set := x.set(&h)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for i := range set.hashes {
		if set.hashes[i] == h {
			return
		}
	}
	set.hashes[set.next] = h
	set.next = (set.next + 1) % seenWays
}
