package spool_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mekong-cdp/mekong/services/collector/spool"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// crashed returns a copy of a spool's directory as a crash would leave it, while the spool is open.
func crashed(t testing.TB, dir, into string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(into, 0o700))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if e.Name() == "LOCK" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(into, e.Name()), data, 0o600))
	}
	return into
}

// oneSegment returns the directory of a spool that was killed with n groups in its only segment, and where they end.
func oneSegment(t testing.TB, n int) (dir string, data []byte, ends []int) {
	t.Helper()
	live := t.TempDir()
	s, _ := open(t, live, spool.Options{})
	for i := range n {
		appendN(t, s, i, 1, 20)
		data, err := os.ReadFile(segments(t, live)[0])
		require.NoError(t, err)
		ends = append(ends, len(data))
	}
	dir = crashed(t, live, filepath.Join(t.TempDir(), "copy"))
	data, err := os.ReadFile(segments(t, dir)[0])
	require.NoError(t, err)
	return dir, data, ends
}

func TestCrashAtEveryByteKeepsWholeGroups(t *testing.T) {
	t.Parallel()
	dir, data, ends := oneSegment(t, 3)
	for size := range len(data) + 1 {
		whole := 0
		for whole < len(ends) && ends[whole] <= size {
			whole++
		}
		into := crashed(t, dir, filepath.Join(t.TempDir(), "x"))
		require.NoError(t, os.Truncate(segments(t, into)[0], int64(size)))
		s, found, err := spool.Open(into, spool.Options{Create: unsynced})
		require.NoError(t, err, "cut at %d", size)
		require.Equal(t, whole, found.Records, "cut at %d", size)
		// What comes afterwards is readable behind it, now and after one more start.
		appendN(t, s, whole, 1, 20)
		got, _ := drain(t, s, whole+1)
		requireRecords(t, got, 0, 20)
		require.NoError(t, s.Close())
		s, found, err = spool.Open(into, spool.Options{})
		require.NoError(t, err)
		require.Equal(t, whole+1, found.Records)
		require.NoError(t, s.Close())
	}
}

func TestFlippedBitIsNeverSkipped(t *testing.T) {
	t.Parallel()
	dir, data, ends := oneSegment(t, 3)
	for at := range data {
		bad := bytes.Clone(data)
		bad[at] ^= 1 << (at % 8)
		into := crashed(t, dir, filepath.Join(t.TempDir(), "x"))
		require.NoError(t, os.WriteFile(segments(t, into)[0], bad, 0o600))
		s, found, err := spool.Open(into, spool.Options{})
		if at < ends[1] {
			require.Equal(t, "spool_damaged", errs.CodeOf(err), "flipped at %d", at)
			require.Equal(t, errs.Precondition, errs.KindOf(err))
			continue
		}
		require.NoError(t, err, "the last group cannot be told from a torn write")
		require.Equal(t, 2, found.Records)
		require.Positive(t, found.CutBytes)
		got, _ := drain(t, s, 2)
		requireRecords(t, got, 0, 20)
		require.NoError(t, s.Close())
	}
}

func TestAcknowledgedEndIsRemembered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _, err := spool.Open(dir, spool.Options{})
	require.NoError(t, err)
	appendN(t, s, 0, 3, 20)
	require.NoError(t, s.Close())
	path := segments(t, dir)[0]
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, info.Size()-1))
	_, _, err = spool.Open(dir, spool.Options{})
	require.Equal(t, "spool_damaged", errs.CodeOf(err))
	left, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, info.Size()-1, left.Size(), "a refusal leaves everything as it is")
	require.NoError(t, os.Remove(path))
	_, _, err = spool.Open(dir, spool.Options{})
	require.Equal(t, "spool_damaged", errs.CodeOf(err))
}

func TestDamagedDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]struct {
		do   func(t *testing.T, dir string)
		code string
	}{
		"newer version": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "VERSION"), []byte("2\n"), 0o600))
		}, "spool_version_unknown"},
		"cursor": {func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, "CURSOR"))
			require.NoError(t, err)
			b[9] ^= 1
			require.NoError(t, os.WriteFile(filepath.Join(dir, "CURSOR"), b, 0o600))
		}, "spool_damaged"},
		"missing first segment": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(segments(t, dir)[0]))
		}, "spool_damaged"},
		"missing middle segment": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(segments(t, dir)[1]))
		}, "spool_damaged"},
		"torn middle segment": {func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(segments(t, dir)[1], 40))
		}, "spool_damaged"},
		"strange segment": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "7.seg"), nil, 0o600))
		}, "spool_damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, _, err := spool.Open(dir, spool.Options{MaxBytes: 64 << 10, SegmentBytes: 256})
			require.NoError(t, err)
			appendN(t, s, 0, 10, 100)
			require.NoError(t, s.Close())
			harm.do(t, dir)
			_, _, err = spool.Open(dir, spool.Options{})
			require.Equal(t, harm.code, errs.CodeOf(err))
		})
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, _ = open(t, dir, spool.Options{})
	_, _, err := spool.Open(dir, spool.Options{})
	require.Equal(t, "data_dir_in_use", errs.CodeOf(err))
}

func TestDamageIsFoundWhileReading(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := open(t, dir, spool.Options{MaxFreshBytes: 1})
	appendN(t, s, 0, 2, 50)
	path := segments(t, dir)[0]
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	data[60] ^= 4
	require.NoError(t, os.WriteFile(path, data, 0o600))
	_, err = s.Next(t.Context(), 1)
	require.Equal(t, "spool_damaged", errs.CodeOf(err))
}

// unsynced makes real files whose Sync does nothing: a copy of the directory, which is our crash, sees them all the same.
func unsynced(path string) (spool.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	return unsyncedFile{f}, err
}

type unsyncedFile struct{ *os.File }

func (unsyncedFile) Sync() error { return nil }

// TestModel runs random operations, clean restarts and crashes among them, against a list in memory.
func TestModel(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		base := filepath.Join(root, strings.Repeat("r", 1+runs%50), time.Now().Format("150405.000000000"))
		opt := spool.Options{
			MaxBytes: 1 << 20, SegmentBytes: int64(rapid.IntRange(64, 2048).Draw(rt, "segment")),
			MaxFreshBytes:  int64(rapid.IntRange(1, 2048).Draw(rt, "fresh")),
			CursorInterval: time.Duration(rapid.SampledFrom([]int{1, int(time.Hour)}).Draw(rt, "cursor")),
			Create:         unsynced,
		}
		dir := base + "-0"
		s, _, err := spool.Open(dir, opt)
		require.NoError(rt, err)
		defer func() { require.NoError(rt, s.Close()) }()
		appended, read, trimmed, starts := 0, 0, 0, 0
		ends := map[int]spool.Position{}
		reopen := func(rt *rapid.T) {
			var found spool.Recovery
			s, found, err = spool.Open(dir, opt)
			require.NoError(rt, err)
			first := appended - found.Records
			require.LessOrEqual(rt, first, trimmed, "nothing that was not trimmed may be gone")
			require.Zero(rt, found.CutBytes)
			read, trimmed, ends = first, first, map[int]spool.Position{}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				n := rapid.IntRange(1, 4).Draw(rt, "n")
				var records []spool.Record
				for i := range n {
					records = append(records, record(appended+i, 5))
				}
				require.NoError(rt, s.Append(context.WithoutCancel(t.Context()), records))
				appended += n
			},
			"next": func(rt *rapid.T) {
				if read == appended {
					return
				}
				b, err := s.Next(context.WithoutCancel(t.Context()), rapid.IntRange(1, 500).Draw(rt, "bytes"))
				require.NoError(rt, err)
				for i, r := range b.Records {
					require.Equal(rt, record(read+i, 5), r)
				}
				read += len(b.Records)
				ends[read] = b.End
			},
			"trim": func(rt *rapid.T) {
				if end, ok := ends[read]; ok && read > trimmed {
					require.NoError(rt, s.Trim(end))
					trimmed = read
				}
			},
			"restart": func(rt *rapid.T) {
				require.NoError(rt, s.Close())
				before := trimmed
				reopen(rt)
				require.Equal(rt, before, trimmed, "a clean stop repeats nothing")
			},
			"crash": func(rt *rapid.T) {
				starts++
				next := base + "-" + strings.Repeat("c", starts)
				crashed(t, dir, next)
				require.NoError(rt, s.Close())
				dir = next
				reopen(rt)
			},
			"": func(rt *rapid.T) { require.Equal(rt, appended-trimmed, s.Stats().Records) },
		})
	})
}

func TestConcurrentAppendsAndForwarding(t *testing.T) {
	t.Parallel()
	const writers, each = 16, 100
	s, _ := open(t, t.TempDir(), spool.Options{MaxBytes: 8 << 20, SegmentBytes: 16 << 10, MaxFreshBytes: 8 << 10, CursorInterval: time.Millisecond})
	ctx := context.WithoutCancel(t.Context())
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				require.NoError(t, s.Append(ctx, []spool.Record{record(w*each+i, 30), record(w*each+i, 31)}))
			}
		})
	}
	next := make([]int, writers)
	for seen := 0; seen < writers*each*2; {
		b, err := s.Next(ctx, 4<<10)
		require.NoError(t, err)
		for i := 0; i < len(b.Records); i += 2 {
			w := 0
			for w < writers && !bytes.Equal(b.Records[i].Key, record(w*each+next[w], 0).Key) {
				w++
			}
			require.Less(t, w, writers, "each writer's records come in its order, appends stay whole")
			require.Equal(t, record(w*each+next[w], 31), b.Records[i+1])
			next[w]++
		}
		seen += len(b.Records)
		require.NoError(t, s.Trim(b.End))
	}
	wg.Wait()
	require.Zero(t, s.Stats().Records)
}
