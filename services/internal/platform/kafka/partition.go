package kafka

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

type pinnedKey struct{}

// PinPartition makes Publish send rec to partition instead of choosing one by its key.
func PinPartition(ctx context.Context, rec *kgo.Record, partition int32) {
	if rec.Context != nil {
		ctx = rec.Context
	}
	rec.Partition = partition
	rec.Context = context.WithValue(ctx, pinnedKey{}, struct{}{})
}

func isPinned(rec *kgo.Record) bool {
	return rec.Context != nil && rec.Context.Value(pinnedKey{}) != nil
}

// PartitionFor returns the partition that Publish chooses for key in a topic of n partitions. It is Kafka's own default
// (murmur2), so that every client agrees.
func PartitionFor(key []byte, n int32) int32 {
	if n <= 0 {
		return 0
	}
	return int32(murmur2(key)&0x7fffffff) % n //nolint:gosec // 31 bits fit
}

// partitioner sends pinned records where they say, keyed ones by key, others to a sticky partition. It remembers how
// many partitions it saw, so that Publish can refuse a pinned partition that does not exist before anything is sent.
type partitioner struct {
	sticky kgo.Partitioner

	mu     sync.Mutex
	counts map[string]int32
}

func newPartitioner() *partitioner {
	return &partitioner{sticky: kgo.StickyKeyPartitioner(nil), counts: map[string]int32{}}
}

// ForTopic implements kgo.Partitioner.
func (p *partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return &topicPartitioner{owner: p, topic: topic, sticky: p.sticky.ForTopic(topic)}
}

func (p *partitioner) saw(topic string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[topic] = int32(n) //nolint:gosec // partition counts are int32 on the wire
}

// count returns how many partitions topic has, 0 when no record of it was sent yet.
func (p *partitioner) count(topic string) int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[topic]
}

type topicPartitioner struct {
	owner  *partitioner
	topic  string
	seen   int
	sticky kgo.TopicPartitioner
}

// RequiresConsistency implements kgo.TopicPartitioner: a record with a place of its own waits for that partition.
func (t *topicPartitioner) RequiresConsistency(rec *kgo.Record) bool {
	return isPinned(rec) || t.sticky.RequiresConsistency(rec)
}

// Partition implements kgo.TopicPartitioner.
func (t *topicPartitioner) Partition(rec *kgo.Record, n int) int {
	if isPinned(rec) {
		t.note(n)
		return int(rec.Partition)
	}
	if t.sticky.RequiresConsistency(rec) {
		t.note(n)
	}
	return t.sticky.Partition(rec, n)
}

// note runs under the client's lock of the topic; only consistent choices see all partitions.
func (t *topicPartitioner) note(n int) {
	if t.seen != n {
		t.seen = n
		t.owner.saw(t.topic, n)
	}
}

// OnNewBatch implements kgo.TopicPartitionerOnNewBatch for records without a key.
func (t *topicPartitioner) OnNewBatch() {
	if s, ok := t.sticky.(kgo.TopicPartitionerOnNewBatch); ok {
		s.OnNewBatch()
	}
}

// murmur2 is the hash of Kafka's default partitioner.
func murmur2(b []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := uint32(seed) ^ uint32(len(b)) //nolint:gosec // the original hashes the 32-bit length
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		k = (k ^ k>>r) * m
		h = h*m ^ k
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
