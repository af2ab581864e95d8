package spool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/mekong-cdp/mekong/services/collector/spool"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func record(n, size int) spool.Record {
	return spool.Record{
		Topic: "events", Key: fmt.Appendf(nil, "key-%d", n), Value: fmt.Appendf(nil, "%d:%s", n, strings.Repeat("v", size)),
		Headers: []spool.Header{{Name: "traceparent", Value: fmt.Sprintf("00-%d-01", n)}, {Name: "empty"}},
	}
}

func open(t testing.TB, dir string, opt spool.Options) (*spool.Spool, spool.Recovery) {
	t.Helper()
	s, found, err := spool.Open(dir, opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, found
}

func appendN(t testing.TB, s *spool.Spool, from, n, size int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		require.NoError(t, s.Append(t.Context(), []spool.Record{record(i, size)}))
	}
}

// drain reads n records and returns where they end.
func drain(t testing.TB, s *spool.Spool, n int) (records []spool.Record, end spool.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(records) < n {
		b, err := s.Next(ctx, 1<<20)
		require.NoError(t, err)
		records, end = append(records, b.Records...), b.End
	}
	require.Len(t, records, n)
	return records, end
}

func requireRecords(t testing.TB, got []spool.Record, from, size int) {
	t.Helper()
	for i, r := range got {
		require.Equal(t, record(from+i, size), r)
	}
}

func TestAppendThenNextInOrder(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]spool.Options{
		"from memory": {},
		"from files":  {MaxFreshBytes: 1, MaxBytes: 64 << 10, SegmentBytes: 1 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := open(t, t.TempDir(), opt)
			appendN(t, s, 0, 50, 100)
			require.Equal(t, 50, s.Stats().Records)
			got, end := drain(t, s, 50)
			requireRecords(t, got, 0, 100)
			require.False(t, s.Stats().Oldest.IsZero())
			require.NoError(t, s.Trim(end))
			require.Zero(t, s.Stats().Records)
			require.Zero(t, s.Stats().Bytes)
		})
	}
}

func TestReopenRepeatsOnlyWhatWasNotTrimmed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _, err := spool.Open(dir, spool.Options{})
	require.NoError(t, err)
	appendN(t, s, 0, 10, 10)
	b, err := s.Next(t.Context(), 1)
	require.NoError(t, err)
	require.NoError(t, s.Trim(b.End))
	_, _ = drain(t, s, 10-len(b.Records))
	require.NoError(t, s.Close())

	s, found := open(t, dir, spool.Options{})
	require.Equal(t, 10-len(b.Records), found.Records)
	appendN(t, s, 10, 5, 10)
	got, _ := drain(t, s, 15-len(b.Records))
	requireRecords(t, got, len(b.Records), 10)
}

func TestTrimDeletesSegments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := open(t, dir, spool.Options{MaxBytes: 64 << 10, SegmentBytes: 1 << 10})
	appendN(t, s, 0, 40, 200)
	require.Greater(t, len(segments(t, dir)), 3)
	_, end := drain(t, s, 40)
	require.NoError(t, s.Trim(end))
	require.Len(t, segments(t, dir), 1)
	require.Less(t, s.Stats().DiskBytes, int64(3<<10))
	require.Equal(t, "trim_invalid", errs.CodeOf(s.Trim(end+1)))
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	require.NoError(t, err)
	return paths
}

func TestFullSpoolRefusesUntilTrimmed(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir(), spool.Options{MaxBytes: 8 << 10, SegmentBytes: 1 << 10})
	n := 0
	var err error
	for ; err == nil; n++ {
		err = s.Append(t.Context(), []spool.Record{record(n, 500)})
	}
	require.Equal(t, "spool_full", errs.CodeOf(err))
	require.Equal(t, errs.Unavailable, errs.KindOf(err))
	require.Positive(t, errs.RetryAfterOf(err))
	_, end := drain(t, s, n-1)
	require.NoError(t, s.Trim(end))
	appendN(t, s, n, 1, 500)
}

func TestTooLargeIsInvalid(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir(), spool.Options{MaxBytes: 8 << 10, SegmentBytes: 1 << 10, MaxRecordBytes: 1 << 10})
	require.Equal(t, "record_too_large", errs.CodeOf(s.Append(t.Context(), []spool.Record{record(0, 2000)})))
	require.Equal(t, "append_too_large", errs.CodeOf(s.Append(t.Context(), []spool.Record{record(0, 900), record(1, 900), record(2, 900)})))
	require.NoError(t, s.Append(t.Context(), nil))
}

// faultyFile lets tests fail single operations of a segment.
type faultyFile struct {
	spool.File
	disk *faultyDisk
}

type faultyDisk struct {
	mu    sync.Mutex
	syncs int
	// onWrite and onSync run before the real operation; onWrite returns how much of p is still written.
	onWrite func(p []byte) (int, error)
	onSync  func() error
}

func (d *faultyDisk) create(path string) (spool.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: f, disk: d}, nil
}

func (d *faultyDisk) set(onWrite func([]byte) (int, error), onSync func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onWrite, d.onSync = onWrite, onSync
}

func (f *faultyFile) Write(p []byte) (int, error) {
	f.disk.mu.Lock()
	hook := f.disk.onWrite
	f.disk.mu.Unlock()
	if hook == nil {
		return f.File.Write(p)
	}
	n, err := hook(p)
	if _, writeErr := f.File.Write(p[:n]); writeErr != nil {
		return 0, writeErr
	}
	return n, err
}

func (f *faultyFile) Sync() error {
	f.disk.mu.Lock()
	hook := f.disk.onSync
	f.disk.syncs++
	f.disk.mu.Unlock()
	if hook != nil {
		if err := hook(); err != nil {
			return err
		}
	}
	return f.File.Sync()
}

func TestFailedSyncClosesForGood(t *testing.T) {
	t.Parallel()
	disk := &faultyDisk{}
	s, _ := open(t, t.TempDir(), spool.Options{Create: disk.create})
	appendN(t, s, 0, 1, 10)
	disk.set(nil, func() error { return syscall.EIO })
	require.Equal(t, "spool_failed", errs.CodeOf(s.Append(t.Context(), []spool.Record{record(1, 10)})))
	disk.set(nil, nil)
	<-s.Failed()
	require.ErrorIs(t, s.Err(), syscall.EIO)
	require.Equal(t, "spool_failed", errs.CodeOf(s.Append(t.Context(), []spool.Record{record(2, 10)})))
	require.Equal(t, 1, s.Stats().Records, "what was not synced is not forwarded")
}

func TestFailedWriteClosesForGood(t *testing.T) {
	t.Parallel()
	for name, hook := range map[string]func(p []byte) (int, error){
		"error":             func([]byte) (int, error) { return 0, syscall.EIO },
		"short, no message": func(p []byte) (int, error) { return len(p) / 2, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := &faultyDisk{}
			s, _ := open(t, t.TempDir(), spool.Options{Create: disk.create})
			disk.set(hook, nil)
			require.Equal(t, "spool_failed", errs.CodeOf(s.Append(t.Context(), []spool.Record{record(0, 10)})))
			<-s.Failed()
		})
	}
}

func TestFullDiskIsTruncatedBackAndRecovers(t *testing.T) {
	t.Parallel()
	disk, dir := &faultyDisk{}, t.TempDir()
	s, _, err := spool.Open(dir, spool.Options{Create: disk.create})
	require.NoError(t, err)
	appendN(t, s, 0, 3, 10)
	disk.set(func(p []byte) (int, error) { return len(p) - 1, syscall.ENOSPC }, nil)
	err = s.Append(t.Context(), []spool.Record{record(99, 10)})
	require.Equal(t, "disk_full", errs.CodeOf(err))
	require.Positive(t, errs.RetryAfterOf(err))
	disk.set(nil, nil)
	appendN(t, s, 3, 3, 10)
	require.NoError(t, s.Close())

	s, found := open(t, dir, spool.Options{})
	require.Equal(t, spool.Recovery{Records: 6, Bytes: found.Bytes}, found)
	got, _ := drain(t, s, 6)
	requireRecords(t, got, 0, 10)
}

func TestFullDiskAtNewSegmentRecovers(t *testing.T) {
	t.Parallel()
	disk := &faultyDisk{}
	s, _ := open(t, t.TempDir(), spool.Options{Create: disk.create, MaxBytes: 8 << 10, SegmentBytes: 100})
	appendN(t, s, 0, 1, 200)
	disk.set(func([]byte) (int, error) { return 3, syscall.ENOSPC }, nil)
	require.Equal(t, "disk_full", errs.CodeOf(s.Append(t.Context(), []spool.Record{record(9, 10)})))
	disk.set(nil, nil)
	appendN(t, s, 1, 1, 200)
	got, _ := drain(t, s, 2)
	requireRecords(t, got, 0, 200)
}

func TestWaitingAppendsShareOneSync(t *testing.T) {
	t.Parallel()
	const waiters = 20
	disk := &faultyDisk{}
	s, _ := open(t, t.TempDir(), spool.Options{Create: disk.create, MaxWaitingBytes: 4 << 10})
	held, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	disk.set(nil, func() error { once.Do(func() { close(held) }); <-free; return nil })
	before := disk.syncs
	var wg sync.WaitGroup
	appendOne := func(i int) {
		wg.Go(func() {
			require.NoError(t, s.Append(context.WithoutCancel(t.Context()), []spool.Record{record(i, 10)}))
		})
	}
	appendOne(0)
	<-held
	for i := range waiters {
		appendOne(i + 1)
	}
	// Full memory is refused at once, while the disk hangs.
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return errs.CodeOf(s.Append(ctx, []spool.Record{record(99, 1000)})) == "spool_busy"
	}, 10*time.Second, time.Millisecond)
	close(free)
	wg.Wait()
	disk.mu.Lock()
	defer disk.mu.Unlock()
	require.LessOrEqual(t, disk.syncs-before, 3)
}

func TestAppendsWaitForAReaderThatIsFarBehind(t *testing.T) {
	t.Parallel()
	clk := clock.NewFake(time.Date(2026, 10, 18, 12, 0, 0, 0, time.UTC))
	s, _ := open(t, t.TempDir(), spool.Options{MaxBytes: 16 << 10, SegmentBytes: 1 << 10, Clock: clk})
	appendN(t, s, 0, 20, 300)
	require.Zero(t, clk.Waiting(), "a reader that is stuck holds nobody back")
	b, err := s.Next(t.Context(), 1)
	require.NoError(t, err)
	require.NoError(t, s.Trim(b.End))
	done := make(chan error, 1)
	appendOne := func(i int) {
		go func() { done <- s.Append(context.WithoutCancel(t.Context()), []spool.Record{record(i, 300)}) }()
	}
	appendOne(20)
	require.Eventually(t, func() bool { return clk.Waiting() == 1 }, 10*time.Second, time.Millisecond)
	require.Empty(t, done)
	b, err = s.Next(t.Context(), 1)
	require.NoError(t, err)
	require.NoError(t, s.Trim(b.End))
	require.NoError(t, <-done, "progress lets the next group through")
	require.Eventually(t, func() bool { return clk.Waiting() == 1 }, 10*time.Second, time.Millisecond)
	appendOne(22)
	require.Empty(t, done)
	clk.Advance(time.Second)
	require.NoError(t, <-done, "and not for long")
}

func TestClosedSpoolRefuses(t *testing.T) {
	t.Parallel()
	s, _, err := spool.Open(t.TempDir(), spool.Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.Equal(t, "spool_closed", errs.CodeOf(s.Append(t.Context(), []spool.Record{record(0, 1)})))
}

func TestNextEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s, _ := open(t, t.TempDir(), spool.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err := s.Next(ctx, 1)
	require.ErrorIs(t, err, context.Canceled)
}
