package dedupe

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

const (
	hashSize = len(ids.Hash{})
	keySize  = hashSize + 2

	metaPrefix  = 'm'
	marksPrefix = 't'
)

func eventKey(dst []byte, hash ids.Hash, partition int32) []byte {
	dst = append(dst[:0], hash[:]...)
	return binary.BigEndian.AppendUint16(dst, uint16(partition)) //nolint:gosec // partitions are checked on entry
}

func partitionKey(prefix byte, partition int32) []byte {
	return binary.BigEndian.AppendUint16([]byte{prefix}, uint16(partition)) //nolint:gosec // partitions are checked on entry
}

// comparer orders bytewise, as Pebble's own does; it differs in telling the filters that a key's first 16 bytes are
// what is looked up. Its name is on disk: another order needs another name.
func comparer() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "mekong.dedupe.v1"
	c.Split = func(key []byte) int { return min(len(key), hashSize) }
	c.ImmediateSuccessor = func(dst, prefix []byte) []byte {
		if len(prefix) < hashSize {
			return append(append(dst, prefix...), 0)
		}
		dst = append(dst, prefix...)
		for i := len(dst) - 1; i >= len(dst)-hashSize; i-- {
			dst[i]++
			if dst[i] != 0 {
				break
			}
		}
		return dst
	}
	return &c
}

// Entry is one event of the log.
type Entry struct {
	Hash   ids.Hash
	Offset int64
}

// sortedIndexes returns the positions of entries ordered by hash, then offset.
func sortedIndexes(entries []Entry) []int32 {
	order := make([]int32, len(entries))
	for i := range order {
		order[i] = int32(i) //nolint:gosec // a batch has far fewer entries
	}
	slices.SortFunc(order, func(a, b int32) int {
		x, y := &entries[a], &entries[b]
		if c := bytes.Compare(x.Hash[:], y.Hash[:]); c != 0 {
			return c
		}
		switch {
		case x.Offset < y.Offset:
			return -1
		case x.Offset > y.Offset:
			return 1
		default:
			return 0
		}
	})
	return order
}
