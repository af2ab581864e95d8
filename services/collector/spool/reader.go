package spool

import (
	"context"
	"errors"
	"os"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Batch is the next piece of the spool, in order.
type Batch struct {
	// Records share memory that belongs to the batch.
	Records []Record
	// End is what Trim takes once all of them are forwarded.
	End Position
}

// Next waits until there is something after the last batch and returns about maxBytes of it, at least one group.
// One goroutine reads. Errors: those of ctx; Internal "spool_damaged" when a file no longer holds what was written.
func (s *Spool) Next(ctx context.Context, maxBytes int) (Batch, error) {
	var batch Batch
	var at handed
	for size := 0; size < maxBytes; {
		b, ok, err := s.nextBlock()
		if err != nil {
			return Batch{}, err
		}
		if !ok {
			if len(batch.Records) > 0 {
				break
			}
			if err := s.waitMore(ctx); err != nil {
				return Batch{}, err
			}
			continue
		}
		records, ok := b.decode(batch.Records)
		if !ok {
			return Batch{}, errs.New(errs.Internal, "spool_damaged", "A block of the spool has a right checksum and cannot be read")
		}
		if len(batch.Records) == 0 {
			at.at = b.at
		}
		batch.Records, batch.End = records, b.end()
		size += len(b.frame)
	}
	at.end, at.count = batch.End, len(batch.Records)
	s.mu.Lock()
	s.handed = append(s.handed, at)
	s.mu.Unlock()
	return batch, nil
}

func (s *Spool) waitMore(ctx context.Context) error {
	s.mu.Lock()
	more, empty := s.more, s.read == s.end
	s.mu.Unlock()
	if !empty {
		return nil
	}
	select {
	case <-more:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// nextBlock moves the reader by one block; false when it has all.
func (s *Spool) nextBlock() (block, bool, error) {
	s.mu.Lock()
	if s.read == s.end {
		s.mu.Unlock()
		return block{}, false, nil
	}
	if len(s.fresh) > 0 && s.fresh[0].pos == s.read {
		b := s.fresh[0]
		s.dropFresh()
		s.read, s.oldest = b.end(), b.at
		s.mu.Unlock()
		return b, true, nil
	}
	seg := s.segmentOf(s.read)
	pos := s.read
	s.mu.Unlock()

	b, err := s.reader.block(seg, pos)
	if err != nil {
		return block{}, false, err
	}
	s.mu.Lock()
	s.read, s.oldest = b.end(), b.at
	s.mu.Unlock()
	return b, true, nil
}

func (s *Spool) segmentOf(pos Position) segment {
	for _, seg := range s.segments {
		if pos < seg.end() {
			return seg
		}
	}
	return s.segments[len(s.segments)-1]
}

// Trim says that everything up to end, which a Batch named, is forwarded: its room may be used again.
// Errors: Invalid "trim_invalid" for a position that no batch ended at; those of the disk.
func (s *Spool) Trim(end Position) error {
	now := s.opt.Clock.Now()
	s.mu.Lock()
	n := 0
	for n < len(s.handed) && s.handed[n].end <= end {
		n++
	}
	if n == 0 || s.handed[n-1].end != end {
		s.mu.Unlock()
		return errs.New(errs.Invalid, "trim_invalid", "The spool can only be trimmed up to the end of a batch that it gave out")
	}
	for _, h := range s.handed[:n] {
		s.pending -= h.count
	}
	s.handed = append(s.handed[:0], s.handed[n:]...)
	s.trimmed, s.trimmedAt = end, now
	close(s.progress)
	s.progress = make(chan struct{})
	due := now.Sub(s.persisted) >= s.opt.CursorInterval || (len(s.segments) > 1 && s.segments[0].end() <= end)
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.persist()
}

// persist writes the cursor and then deletes the segments that it has passed.
func (s *Spool) persist() error {
	s.trimMu.Lock()
	defer s.trimMu.Unlock()
	s.mu.Lock()
	c := cursor{trimmed: s.trimmed, end: s.end}
	s.mu.Unlock()
	if err := c.write(s.dir); err != nil {
		return err
	}
	var passed []segment
	s.mu.Lock()
	s.persisted = s.opt.Clock.Now()
	for len(s.segments) > 1 && s.segments[0].end() <= c.trimmed {
		passed = append(passed, s.segments[0])
		s.segments = s.segments[1:]
	}
	s.mu.Unlock()
	for _, seg := range passed {
		if err := os.Remove(segmentPath(s.dir, seg.base)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return openError(err)
		}
		s.mu.Lock()
		s.disk -= seg.fileSize()
		s.mu.Unlock()
	}
	return nil
}

// diskReader reads blocks back, one segment open at a time.
type diskReader struct {
	dir  string
	file *os.File
	base Position
}

func (r *diskReader) block(seg segment, pos Position) (block, error) {
	if r.file == nil || r.base != seg.base {
		f, err := os.Open(segmentPath(r.dir, seg.base))
		if err != nil {
			return block{}, openError(err)
		}
		if err := r.close(); err != nil {
			return block{}, errors.Join(openError(err), f.Close())
		}
		r.file, r.base = f, seg.base
	}
	off := int64(pos-seg.base) + segmentHeaderLen
	var head [blockHeaderLen]byte
	if _, err := r.file.ReadAt(head[:], off); err != nil {
		return block{}, readError(err)
	}
	n, ok := blockLength(head[:], seg.mark)
	if !ok || int64(n) > int64(seg.end()-pos) {
		return block{}, readError(nil)
	}
	frame := make([]byte, n)
	if _, err := r.file.ReadAt(frame, off); err != nil {
		return block{}, readError(err)
	}
	b, ok := openBlock(frame, seg.mark, pos)
	if !ok {
		return block{}, readError(nil)
	}
	return b, nil
}

func (r *diskReader) close() error {
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file = nil
	return f.Close()
}

func readError(err error) error {
	return errs.Wrap(err, errs.Internal, "spool_damaged", "A file of the spool no longer holds what was written to it; check the disk")
}
