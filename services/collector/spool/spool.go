package spool

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Spool is an open directory.
type Spool struct {
	dir     string
	opt     Options
	unlock  func() error
	wake    chan struct{}
	stop    chan struct{}
	stopped chan struct{}
	failed  chan struct{}
	// active is the file of the last segment; only the committer touches it while it runs.
	active File
	reader diskReader
	trimMu sync.Mutex
	bufs   sync.Pool

	mu       sync.Mutex
	closed   bool
	err      error
	waiting  []*appending
	waitSize int64
	segments []segment
	// disk is the size of all files, end the durable end.
	disk int64
	end  Position
	// fresh are the newest blocks that were not read yet, without a gap up to end.
	fresh     []block
	freshSize int64
	read      Position
	trimmed   Position
	handed    []handed
	pending   int
	oldest    time.Time
	persisted time.Time
	// more is closed and replaced when something is appended, progress when something is trimmed.
	more      chan struct{}
	progress  chan struct{}
	trimmedAt time.Time
}

// appending is one call of Append that waits for the disk.
type appending struct {
	buf   []byte
	count int
	done  chan error
}

// handed is a batch that Next returned and Trim has not passed.
type handed struct {
	end   Position
	count int
	at    time.Time
}

// Open takes dir, checks everything in it that was not forwarded, and begins a new segment.
// Errors: Precondition "data_dir_in_use", "spool_version_unknown", "spool_damaged"; Unavailable when the disk fails.
func Open(dir string, opt Options) (*Spool, Recovery, error) {
	opt = opt.withDefaults()
	if err := opt.validate(); err != nil {
		return nil, Recovery{}, err
	}
	unlock, err := durable.LockDir(dir)
	if err != nil {
		return nil, Recovery{}, err
	}
	s, found, err := open(dir, opt)
	if err != nil {
		return nil, Recovery{}, errors.Join(err, unlock())
	}
	s.unlock = unlock
	go s.commitLoop()
	return s, found, nil
}

func open(dir string, opt Options) (*Spool, Recovery, error) {
	if err := prepareDir(dir); err != nil {
		return nil, Recovery{}, err
	}
	r, err := scan(dir)
	if err != nil {
		return nil, Recovery{}, err
	}
	s := &Spool{
		dir: dir, opt: opt,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
		failed: make(chan struct{}), more: make(chan struct{}), progress: make(chan struct{}),
		segments: r.segments, end: r.cursor.end, read: r.cursor.trimmed, trimmed: r.cursor.trimmed,
		pending: r.Records, oldest: r.oldest, persisted: opt.Clock.Now(),
	}
	s.reader.dir = dir
	for _, seg := range r.segments {
		s.disk += seg.fileSize()
	}
	if err := s.roll(); err != nil {
		return nil, Recovery{}, err
	}
	return s, r.Recovery, nil
}

// Append returns nil once all records are on the disk, all or none. The records may be reused afterwards. When ctx ends
// first the outcome is unknown, as after a lost answer.
// Errors: Invalid "record_too_large", "append_too_large"; Unavailable "spool_full", "spool_busy", "disk_full" (each with
// a hint when to retry), "spool_failed" (for good), "spool_closed".
func (s *Spool) Append(ctx context.Context, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	size := 0
	for i := range records {
		n := records[i].size()
		if n > s.opt.MaxRecordBytes {
			return errs.New(errs.Invalid, "record_too_large", "One record is larger than the spool accepts")
		}
		size += n
	}
	if size > s.opt.maxAppendBytes() {
		return errs.New(errs.Invalid, "append_too_large", "The records of this request are together larger than the spool accepts; send fewer at once")
	}
	a := &appending{buf: s.buffer(size), count: len(records), done: make(chan error, 1)}
	for i := range records {
		a.buf = appendRecord(a.buf, &records[i])
	}
	if err := s.enqueue(a); err != nil {
		return err
	}
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
		return errs.Wrap(ctx.Err(), errs.Unavailable, "append_cancelled", "The request ended before its events were on the disk; send them again")
	}
}

func (s *Spool) enqueue(a *appending) error {
	n := int64(len(a.buf))
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.closed:
		return errs.New(errs.Unavailable, "spool_closed", "The collector is stopping; try again").WithRetryAfter(retryBusy)
	case s.disk+s.waitSize+n > s.opt.MaxBytes:
		return errs.New(errs.Unavailable, "spool_full", "Kafka has been away for so long that the spool is full; try again later").WithRetryAfter(retryFull)
	case s.waitSize+n > s.opt.MaxWaitingBytes:
		return errs.New(errs.Unavailable, "spool_busy", "More events arrive than the disk takes; try again").WithRetryAfter(retryBusy)
	}
	s.waiting = append(s.waiting, a)
	s.waitSize += n
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

func (s *Spool) buffer(size int) []byte {
	if b, ok := s.bufs.Get().(*[]byte); ok && cap(*b) >= size {
		return (*b)[:0]
	}
	return make([]byte, 0, size)
}

// release gives the memory of a written append back; large ones go to the collector.
func (s *Spool) release(b []byte) {
	if cap(b) <= 64<<10 {
		s.bufs.Put(&b)
	}
}

// Failed is closed when the spool has closed itself for good; Err then says why.
func (s *Spool) Failed() <-chan struct{} { return s.failed }

// Err returns why the spool has closed itself, nil while it works.
func (s *Spool) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Stats is a moment's view for metrics.
type Stats struct {
	// Records and Bytes are not trimmed yet; DiskBytes is the size of all files.
	Records   int
	Bytes     int64
	DiskBytes int64
	// Oldest is when the oldest of them was appended, about; zero when there is none.
	Oldest time.Time
}

// Stats returns how much waits.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Records: s.pending, Bytes: int64(s.end - s.trimmed), DiskBytes: s.disk}
	switch {
	case st.Records == 0:
	case len(s.handed) > 0:
		st.Oldest = s.handed[0].at
	case len(s.fresh) > 0 && s.fresh[0].pos <= s.read:
		st.Oldest = s.fresh[0].at
	default:
		st.Oldest = s.oldest
	}
	return st
}

// Close writes what waits, makes the cursor durable and releases the directory. Readers must have stopped.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	<-s.stopped
	var err error
	if s.Err() == nil {
		err = s.persist()
	}
	return errors.Join(err, s.active.Close(), s.reader.close(), s.unlock())
}

// roll begins a new segment at end. A full disk leaves everything as it was.
func (s *Spool) roll() error {
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return errs.Wrap(err, errs.Internal, "no_randomness", "The machine gives no random numbers")
	}
	seg := segment{base: s.end, mark: binary.LittleEndian.Uint32(random[:])}
	path := segmentPath(s.dir, seg.base)
	f, err := s.opt.Create(path)
	if err != nil {
		return diskFailure(err, "create_failed")
	}
	_, err = f.Write(segmentHeader(seg.base, seg.mark))
	if err != nil {
		return errors.Join(diskFailure(err, "write_failed"), f.Close(), os.Remove(path))
	}
	if err := f.Sync(); err != nil {
		return errors.Join(syncFailure(err), f.Close())
	}
	if err := durable.SyncDir(s.dir); err != nil {
		return errors.Join(syncFailure(err), f.Close())
	}
	if s.active != nil {
		// All of it is synced; there is nothing that a failing close could lose.
		_ = s.active.Close()
	}
	s.active = f
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = append(s.segments, seg)
	s.disk += seg.fileSize()
	return nil
}

func diskFailure(err error, what string) error {
	if isFull(err) {
		return errs.Wrap(err, errs.Unavailable, "disk_full", "The disk of the spool is full; make room").WithRetryAfter(retryFull)
	}
	return errs.Wrap(fmt.Errorf("%s: %w", what, err), errs.Unavailable, "spool_failed",
		"Writing the spool failed, so no event can be accepted; check the disk and restart")
}

func syncFailure(err error) error {
	return errs.Wrap(err, errs.Unavailable, "spool_failed",
		"The disk did not confirm a write of the spool, so no event can be accepted; check the disk and restart")
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
