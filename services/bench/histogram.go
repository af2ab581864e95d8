package main

import (
	"math/bits"
	"slices"
	"time"
)

// histogram counts durations in log-linear buckets of microseconds: any quantile is within 1.6 % of the truth.
type histogram struct {
	counts [64 * 40]uint64
	total  uint64
	max    time.Duration
}

const linear = 128 // below this many microseconds every value has its own bucket

func bucketOf(us uint64) int {
	if us < linear {
		return int(us)
	}
	shift := bits.Len64(us) - 7
	return shift*64 + int(us>>shift)
}

func middleOf(bucket int) uint64 {
	if bucket < linear {
		return uint64(bucket)
	}
	shift := bucket/64 - 1
	return uint64(bucket%64+64)<<shift + uint64(1)<<shift/2
}

func (h *histogram) record(d time.Duration) {
	bucket := bucketOf(uint64(max(d, 0).Microseconds()))
	h.counts[min(bucket, len(h.counts)-1)]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) add(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// quantile returns the duration below which the share q of all records lies; 0 without records.
func (h *histogram) quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	if q >= 1 {
		return h.max
	}
	rank := uint64(q * float64(h.total-1))
	var seen uint64
	for i, n := range h.counts {
		if seen += n; seen > rank {
			return min(time.Duration(middleOf(i))*time.Microsecond, h.max)
		}
	}
	return h.max
}

func median[T int | float64 | time.Duration](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
