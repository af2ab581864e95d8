package dedupe_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/identity/dedupe"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// filled returns a store with n events spread over 12 partitions.
func filled(b *testing.B, n int) *dedupe.Store {
	b.Helper()
	s := fresh(b, dedupe.DefaultOptions())
	es := make([]dedupe.Entry, 10_000)
	for from := 0; from < n; from += len(es) {
		for i := range es {
			es[i] = dedupe.Entry{Hash: hash(from + i), Offset: int64(from + i)}
		}
		apply(b, s, int32(from/len(es)%12), es, start())
	}
	return s
}

func BenchmarkApplyNew(b *testing.B) {
	for _, size := range []int{0, 3_000_000} {
		b.Run(fmt.Sprintf("stored=%d", size), func(b *testing.B) {
			s := filled(b, size)
			es := make([]dedupe.Entry, 500)
			next := size
			for b.Loop() {
				for i := range es {
					es[i] = dedupe.Entry{Hash: hash(next), Offset: int64(next)}
					next++
				}
				apply(b, s, 0, es, start())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(es)), "ns/event")
		})
	}
}

// BenchmarkSeen looks up 300 events, half of them known, as the door does within 20 ms.
func BenchmarkSeen(b *testing.B) {
	const size = 3_000_000
	s := filled(b, size)
	hashes := make([]ids.Hash, 300)
	n := 0
	for b.Loop() {
		for i := range hashes {
			hashes[i] = hash((n*7919 + i*9973) % (2 * size))
		}
		n++
		_, err := s.Seen(b.Context(), hashes)
		require.NoError(b, err)
	}
}
