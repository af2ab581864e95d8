package spool

import (
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Options bound a spool. The zero value of a field means its default.
type Options struct {
	// MaxBytes bounds the directory (1 GiB).
	MaxBytes int64
	// SegmentBytes is the size at which a new segment begins (32 MiB, at most a quarter of MaxBytes).
	SegmentBytes int64
	// MaxWaitingBytes bounds what waits for the disk in memory (64 MiB).
	MaxWaitingBytes int64
	// MaxFreshBytes bounds what is kept in memory for the reader (32 MiB); a reader that is further behind reads files.
	MaxFreshBytes int64
	// MaxRecordBytes bounds key, value and headers of one record (512 KiB).
	MaxRecordBytes int
	// CursorInterval is how often the trimmed position is made durable (1 s).
	CursorInterval time.Duration
	// Clock tells the time (the machine's).
	Clock clock.Clock
	// Create makes segment files (real ones).
	Create CreateFile
	// Synced, when set, is told about each group after its sync: how many records and bytes, and how long write and sync took.
	Synced func(records, bytes int, took time.Duration)
}

const (
	// groupBytes is where a group stops taking more appends; one append may be larger than that.
	groupBytes = 8 << 20
	retryFull  = 5 * time.Second
	retryBusy  = time.Second
	// paceLimit is the longest that a group is held back, paceWindow how long after its last trim a reader counts as at work.
	paceLimit  = 250 * time.Millisecond
	paceWindow = time.Second
)

func (o Options) withDefaults() Options {
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = min(32<<20, o.MaxBytes/4)
	}
	if o.MaxWaitingBytes == 0 {
		o.MaxWaitingBytes = 64 << 20
	}
	if o.MaxFreshBytes == 0 {
		o.MaxFreshBytes = 32 << 20
	}
	if o.MaxRecordBytes == 0 {
		o.MaxRecordBytes = 512 << 10
	}
	if o.CursorInterval == 0 {
		o.CursorInterval = time.Second
	}
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.Create == nil {
		o.Create = createOSFile
	}
	if o.Synced == nil {
		o.Synced = func(int, int, time.Duration) {}
	}
	return o
}

func (o Options) validate() error {
	switch {
	case o.MaxBytes <= 0 || o.SegmentBytes <= 0 || o.SegmentBytes > o.MaxBytes/4:
		return errs.New(errs.Invalid, "spool_limits_invalid", "The spool's segment size must be positive and at most a quarter of its maximum size")
	case o.SegmentBytes > maxBlockBytes:
		return errs.New(errs.Invalid, "spool_limits_invalid", "The spool's segment size must be at most 256 MiB")
	case o.MaxWaitingBytes <= 0 || o.MaxFreshBytes < 0 || o.MaxRecordBytes <= 0 || o.CursorInterval < 0:
		return errs.New(errs.Invalid, "spool_limits_invalid", "The spool's memory, record and cursor settings must be positive")
	}
	return nil
}

// maxAppendBytes keeps one append from filling more than the room that trimming can always make.
func (o Options) maxAppendBytes() int {
	return int(min(o.MaxBytes/4, o.MaxWaitingBytes, maxBlockBytes))
}
