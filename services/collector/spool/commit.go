package spool

import (
	"io"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// commitLoop is the one writer: it takes all that waits, writes it as one block, syncs once, and answers everyone.
func (s *Spool) commitLoop() {
	defer close(s.stopped)
	for {
		s.pace()
		group := s.takeGroup()
		if group == nil {
			select {
			case <-s.wake:
				continue
			case <-s.stop:
				// Nothing is enqueued once closed is set, and it was set before stop: what takeGroup returns now is the rest.
				if group = s.takeGroup(); group == nil {
					return
				}
			}
		}
		err := s.commit(group)
		for _, a := range group {
			s.release(a.buf)
			a.buf = nil
			a.done <- err
		}
		if errs.CodeOf(err) == "spool_failed" {
			s.fail(err)
			return
		}
	}
}

// pace holds appends back while a reader that is at work has much to catch up with: they wait a moment now, instead of
// being refused by a full spool soon. While the reader is stuck nothing waits: that is what the spool is for.
func (s *Spool) pace() {
	s.mu.Lock()
	behind := int64(s.end-s.trimmed) > s.opt.MaxBytes/4 && s.opt.Clock.Now().Sub(s.trimmedAt) < paceWindow
	progress := s.progress
	s.mu.Unlock()
	if !behind {
		return
	}
	timer := s.opt.Clock.NewTimer(paceLimit)
	defer timer.Stop()
	select {
	case <-progress:
	case <-timer.C():
	case <-s.stop:
	}
}

// takeGroup returns the appends that go into the next block, nil when none waits.
func (s *Spool) takeGroup() []*appending {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, n := 0, 0
	for _, a := range s.waiting {
		if n > 0 && size+len(a.buf) > groupBytes {
			break
		}
		size += len(a.buf)
		n++
	}
	if n == 0 {
		return nil
	}
	group := s.waiting[:n:n]
	s.waiting = s.waiting[n:]
	if len(s.waiting) == 0 {
		s.waiting = nil
	}
	return group
}

func (s *Spool) commit(group []*appending) error {
	size := 0
	for _, a := range group {
		size += len(a.buf)
	}
	defer func() {
		s.mu.Lock()
		s.waitSize -= int64(size)
		s.mu.Unlock()
	}()
	if s.lastSegment().fileSize() >= s.opt.SegmentBytes {
		if err := s.roll(); err != nil {
			return err
		}
	}
	frame := make([]byte, blockHeaderLen, blockHeaderLen+size)
	count := 0
	for _, a := range group {
		frame = append(frame, a.buf...)
		count += a.count
	}
	seg := s.lastSegment()
	at := s.opt.Clock.Now()
	b := block{pos: seg.end(), count: count, at: at, frame: frame}
	seal(frame, seg.mark, b.pos, count, at)
	if err := s.writeSynced(frame, seg); err != nil {
		return err
	}
	s.opt.Synced(count, len(frame), s.opt.Clock.Now().Sub(at))
	s.publish(b)
	return nil
}

func (s *Spool) lastSegment() segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.segments[len(s.segments)-1]
}

// writeSynced puts frame behind everything in the active file. After a full disk the file is as before.
func (s *Spool) writeSynced(frame []byte, seg segment) error {
	n, err := s.active.Write(frame)
	if err == nil && n < len(frame) {
		err = io.ErrShortWrite
	}
	if err != nil {
		if isFull(err) {
			if cutErr := s.active.Truncate(seg.fileSize()); cutErr != nil {
				return diskFailure(cutErr, "truncate_failed")
			}
		}
		return diskFailure(err, "write_failed")
	}
	if err := s.active.Sync(); err != nil {
		return syncFailure(err)
	}
	return nil
}

// publish makes a durable block visible to the reader.
func (s *Spool) publish(b block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments[len(s.segments)-1].size += int64(len(b.frame))
	s.disk += int64(len(b.frame))
	s.end = b.end()
	s.pending += b.count
	s.fresh = append(s.fresh, b)
	s.freshSize += int64(len(b.frame))
	for s.freshSize > s.opt.MaxFreshBytes && len(s.fresh) > 0 {
		s.dropFresh()
	}
	close(s.more)
	s.more = make(chan struct{})
}

// dropFresh forgets the first fresh block: it was read, or will be from its file.
func (s *Spool) dropFresh() {
	s.freshSize -= int64(len(s.fresh[0].frame))
	s.fresh[0] = block{}
	s.fresh = s.fresh[1:]
}

// fail closes the spool for good.
func (s *Spool) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	for _, a := range s.waiting {
		a.done <- err
	}
	s.waiting = nil
	close(s.failed)
}
