package spool

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
)

const segmentSuffix = ".seg"

// segment is one file; its records are [base, base+size).
type segment struct {
	base Position
	size int64
	mark uint32
}

func (s segment) end() Position   { return s.base + Position(s.size) }
func (s segment) fileSize() int64 { return s.size + segmentHeaderLen }

func segmentPath(dir string, base Position) string {
	digits := strconv.FormatUint(uint64(base), 10)
	return filepath.Join(dir, strings.Repeat("0", max(0, 20-len(digits)))+digits+segmentSuffix)
}

// Recovery tells what Open found.
type Recovery struct {
	// Records and Bytes wait to be forwarded.
	Records int
	Bytes   int64
	// CutBytes were a torn write at the end, never acknowledged.
	CutBytes int64
}

// recovered is the state of a directory after its scan.
type recovered struct {
	Recovery
	cursor   cursor
	segments []segment
	oldest   time.Time
}

// scan reads the directory, cuts a torn tail, and removes what the cursor has passed.
func scan(dir string) (recovered, error) {
	var r recovered
	cur, found, err := readCursor(dir)
	if err != nil {
		return r, err
	}
	bases, err := segmentBases(dir)
	if err != nil {
		return r, err
	}
	r.cursor = cur
	if !found && len(bases) > 0 {
		r.cursor.trimmed = bases[0]
		r.cursor.end = bases[0]
	}
	for i, base := range bases {
		if err := r.segment(dir, base, i == len(bases)-1); err != nil {
			return r, err
		}
	}
	if err := r.check(dir); err != nil {
		return r, err
	}
	r.Bytes = int64(r.cursor.end - r.cursor.trimmed)
	return r, r.dropPassed(dir)
}

func segmentBases(dir string) ([]Position, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, openError(err)
	}
	var bases []Position
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if !ok {
			continue
		}
		base, err := strconv.ParseUint(name, 10, 64)
		if err != nil || filepath.Base(segmentPath(dir, Position(base))) != e.Name() {
			return nil, damaged(filepath.Join(dir, e.Name()), "has a name that the spool never gives")
		}
		bases = append(bases, Position(base))
	}
	slices.Sort(bases)
	return bases, nil
}

// segment checks one file. Blocks below the cursor are not read: they are forwarded.
func (r *recovered) segment(dir string, base Position, last bool) error {
	path := segmentPath(dir, base)
	if n := len(r.segments); n > 0 && r.segments[n-1].end() != base {
		return damaged(path, "does not begin where the one before it ends")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return openError(err)
	}
	mark, ok := openSegmentHeader(data, base)
	switch {
	case !ok && last && len(data) <= segmentHeaderLen:
		// The process ended while it made this file: nothing was in it.
		if err := os.Remove(path); err != nil {
			return openError(err)
		}
		return nil
	case !ok:
		return damaged(path, "has a damaged header")
	}
	data = data[segmentHeaderLen:]
	end := base + Position(len(data))
	if !last && end <= r.cursor.trimmed {
		r.segments = append(r.segments, segment{base: base, size: int64(len(data)), mark: mark})
		return nil
	}
	off := 0
	if r.cursor.trimmed > base && r.cursor.trimmed <= end {
		off = int(r.cursor.trimmed - base)
	}
	good, err := r.blocks(data, off, base, mark, path, last)
	if err != nil {
		return err
	}
	if last && base+Position(len(data)) > r.cursor.end {
		proven := 0
		if r.cursor.end > base {
			proven = int(r.cursor.end - base)
		}
		if err := settle(path, data[:good], min(proven, good)); err != nil {
			return err
		}
		r.CutBytes = int64(len(data) - good)
	}
	r.segments = append(r.segments, segment{base: base, size: int64(good), mark: mark})
	return nil
}

// blocks returns where the good blocks of a segment end.
func (r *recovered) blocks(data []byte, off int, base Position, mark uint32, path string, last bool) (int, error) {
	for off < len(data) {
		pos := base + Position(off)
		b, ok := openBlock(data[off:], mark, pos)
		if ok {
			if r.Records == 0 {
				r.oldest = b.at
			}
			r.Records += b.count
			off += len(b.frame)
			continue
		}
		switch {
		case !last, findBlock(data[off+1:], mark, pos+1):
			return off, damaged(path, "is damaged in its middle")
		case pos < r.cursor.end:
			return off, damaged(path, "has lost events that were acknowledged")
		}
		return off, nil
	}
	return off, nil
}

func (r *recovered) check(dir string) error {
	if len(r.segments) == 0 {
		if r.cursor.end > r.cursor.trimmed {
			return damaged(dir, "has lost its segments")
		}
		return nil
	}
	first, end := r.segments[0], r.segments[len(r.segments)-1].end()
	switch {
	case r.cursor.trimmed < first.base:
		return damaged(segmentPath(dir, r.cursor.trimmed), "is missing")
	case r.cursor.end > end:
		return damaged(segmentPath(dir, r.segments[len(r.segments)-1].base), "has lost events that were acknowledged")
	}
	r.cursor.end = end
	return nil
}

// dropPassed removes the files that hold nothing to forward; an empty last one too, so that a new one can take its name.
func (r *recovered) dropPassed(dir string) error {
	keep := slices.IndexFunc(r.segments, func(s segment) bool { return s.end() > r.cursor.trimmed })
	if keep < 0 {
		keep = len(r.segments)
	}
	if last := len(r.segments) - 1; last >= keep && r.segments[last].size == 0 {
		if err := os.Remove(segmentPath(dir, r.segments[last].base)); err != nil {
			return openError(err)
		}
		r.segments = r.segments[:last]
	}
	// The cursor must be durable before what it has passed is gone.
	if err := r.cursor.write(dir); err != nil {
		return err
	}
	for _, s := range r.segments[:keep] {
		if err := os.Remove(segmentPath(dir, s.base)); err != nil {
			return openError(err)
		}
	}
	r.segments = slices.Clone(r.segments[keep:])
	return nil
}

// settle makes what was read from the last segment true: it cuts a torn write off its end and writes the bytes behind
// proven once more. After a failed sync the kernel shows bytes that are not on the disk, and a sync alone would not write
// them again.
func settle(path string, good []byte, proven int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return openError(err)
	}
	err = f.Truncate(int64(len(good)) + segmentHeaderLen)
	if err == nil {
		_, err = f.WriteAt(good[proven:], int64(proven)+segmentHeaderLen)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return openError(err)
	}
	return durable.SyncDir(filepath.Dir(path))
}
