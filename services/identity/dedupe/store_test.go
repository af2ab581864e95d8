package dedupe_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mekong-cdp/mekong/services/identity/dedupe"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

func start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func hash(n int) ids.Hash { return ids.Hash128("ws", fmt.Sprint("event-", n)) }

func entries(from int64, events ...int) []dedupe.Entry {
	out := make([]dedupe.Entry, len(events))
	for i, n := range events {
		out[i] = dedupe.Entry{Hash: hash(n), Offset: from + int64(i)}
	}
	return out
}

func open(t testing.TB, dir string, options dedupe.Options) *dedupe.Store {
	t.Helper()
	s, err := dedupe.Open(slog.New(slog.DiscardHandler), dir, options)
	require.NoError(t, err)
	return s
}

func fresh(t testing.TB, options dedupe.Options) *dedupe.Store {
	t.Helper()
	s := open(t, t.TempDir(), options)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func apply(t testing.TB, s *dedupe.Store, partition int32, es []dedupe.Entry, at time.Time) []bool {
	t.Helper()
	dup, err := s.Apply(t.Context(), partition, es, es[len(es)-1].Offset, at)
	require.NoError(t, err)
	return dup
}

func TestFirstOffsetWins(t *testing.T) {
	t.Parallel()
	s := fresh(t, dedupe.DefaultOptions())
	require.Equal(t, []bool{false, false, true, false}, apply(t, s, 0, entries(10, 1, 2, 1, 3), start()))
	require.Equal(t, []bool{true, false}, apply(t, s, 0, entries(14, 2, 4), start()))
	require.EqualValues(t, 15, s.Applied(0))
	require.EqualValues(t, 4, s.Keys())

	// The same stretch again gives the same answers, and the applied offset does not go back.
	require.Equal(t, []bool{false, false, true, false}, apply(t, s, 0, entries(10, 1, 2, 1, 3), start()))
	require.EqualValues(t, 15, s.Applied(0))
	require.EqualValues(t, 4, s.Keys())

	// Another partition is another log.
	require.Equal(t, []bool{false}, apply(t, s, 7, entries(3, 1), start()))
	require.EqualValues(t, -1, s.Applied(3))
}

// TestFunctionOfTheLog replays stretches of a random log from random points, with the store closed, lost in part or
// filled in any order in between, and compares with the definition.
func TestFunctionOfTheLog(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		dir := filepath.Join(root, fmt.Sprint(run))
		log := rapid.SliceOfN(rapid.IntRange(0, 15), 1, 60).Draw(rt, "log")
		want := make([]bool, len(log))
		first := map[int]int{}
		for i, n := range log {
			if _, ok := first[n]; !ok {
				first[n] = i
			}
			want[i] = first[n] < i
		}
		s := open(t, dir, dedupe.DefaultOptions())
		defer func() { require.NoError(rt, s.Close()) }()
		for next := 0; next < len(log); {
			switch rapid.IntRange(0, 5).Draw(rt, "do") {
			case 0: // the process starts again and consumes again what it had not committed
				require.NoError(rt, s.Close())
				s = open(t, dir, dedupe.DefaultOptions())
				next = rapid.IntRange(0, next).Draw(rt, "replay from")
			case 1: // the store is lost and filled from the log, backwards
				require.NoError(rt, s.Close())
				require.NoError(rt, os.RemoveAll(dir))
				s = open(t, dir, dedupe.DefaultOptions())
				for i := next - 1; i >= 0; i-- {
					require.NoError(rt, s.Fill(t.Context(), 0, entries(int64(i), log[i])))
				}
				require.NoError(rt, s.Advance(0, 0, int64(next)-1))
			default:
				to := rapid.IntRange(next+1, len(log)).Draw(rt, "to")
				got, err := s.Apply(t.Context(), 0, entries(int64(next), log[next:to]...), int64(to-1), start())
				require.NoError(rt, err)
				require.Equal(rt, want[next:to], got)
				next = to
			}
		}
		require.EqualValues(rt, len(log)-1, s.Applied(0))
		require.EqualValues(rt, len(first), s.Keys())
	})
}

func TestSeenLooksInAllPartitions(t *testing.T) {
	t.Parallel()
	s := fresh(t, dedupe.DefaultOptions())
	apply(t, s, 0, entries(0, 1, 2), start())
	apply(t, s, 11, entries(0, 3, 1), start())
	got, err := s.Seen(t.Context(), []ids.Hash{hash(3), hash(9), hash(1), hash(3), hash(2)})
	require.NoError(t, err)
	require.Equal(t, []bool{true, false, true, true, true}, got)
}

func TestStateSurvivesAClose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, dedupe.DefaultOptions())
	apply(t, s, 0, entries(5, 1, 2), start())
	apply(t, s, 4095, entries(0, 9), start())
	require.NoError(t, s.Close())
	s = open(t, dir, dedupe.DefaultOptions())
	defer func() { require.NoError(t, s.Close()) }()
	require.EqualValues(t, 6, s.Applied(0))
	require.EqualValues(t, 0, s.Applied(4095))
	require.EqualValues(t, 3, s.Keys())
	window, ok := s.Window(start().Add(2 * time.Hour))
	require.True(t, ok)
	require.Equal(t, 2*time.Hour, window)
	_, err := s.Apply(t.Context(), 4096, entries(0, 1), 0, start())
	require.Equal(t, "partition_out_of_range", errs.CodeOf(err))
}

func TestSweepForgetsWhatLeftTheWindow(t *testing.T) {
	t.Parallel()
	options := dedupe.DefaultOptions()
	options.Window = 24 * time.Hour
	options.SweepRate = 1 << 30
	s := fresh(t, options)
	apply(t, s, 0, entries(0, 1, 2), start())
	apply(t, s, 0, entries(2, 3, 1), start().Add(20*time.Hour))
	apply(t, s, 1, entries(0, 1), start().Add(2*time.Hour))

	clk := clock.NewFake(start().Add(23 * time.Hour))
	n, err := s.Sweep(t.Context(), clk)
	require.NoError(t, err)
	require.Zero(t, n)

	clk.Advance(3 * time.Hour)
	// Event 1 at offset 3 is a duplicate of offset 0; neither is kept, as the first of them expires.
	apply(t, s, 0, entries(4, 5), start().Add(25*time.Hour))
	n, err = s.Sweep(t.Context(), clk)
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	require.EqualValues(t, 3, s.Keys())
	require.Equal(t, []bool{false, true}, apply(t, s, 0, entries(5, 1, 3), start().Add(26*time.Hour)))
	require.Equal(t, []bool{true}, apply(t, s, 1, entries(1, 1), start().Add(26*time.Hour)))

	n, err = s.Sweep(t.Context(), clk)
	require.NoError(t, err)
	require.Zero(t, n)
	window, ok := s.Window(clk.Now())
	require.True(t, ok)
	require.Equal(t, 24*time.Hour, window)
}

func TestSweepKeepsTheNumberOfKeysBounded(t *testing.T) {
	t.Parallel()
	options := dedupe.DefaultOptions()
	options.MaxKeys = 1000
	options.SweepRate = 1 << 30
	s := fresh(t, options)
	for i := range 100 {
		events := make([]int, 100)
		for j := range events {
			events[j] = i*100 + j
		}
		apply(t, s, int32(i%2), entries(int64(i/2*100), events...), start().Add(time.Duration(i)*time.Hour))
	}
	require.EqualValues(t, 10_000, s.Keys())
	clk := clock.NewFake(start().Add(100 * time.Hour))
	swept := make(chan error, 1)
	go func() {
		_, err := s.Sweep(t.Context(), clk)
		swept <- err
	}()
	require.Eventually(t, func() bool {
		if clk.Waiting() > 0 {
			clk.Advance(time.Minute)
		}
		return len(swept) == 1
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, <-swept)
	require.LessOrEqual(t, s.Keys(), int64(1000))
	require.Greater(t, s.Keys(), int64(900))
	// The newest are those that stayed.
	got, err := s.Seen(t.Context(), []ids.Hash{hash(9999), hash(0)})
	require.NoError(t, err)
	require.Equal(t, []bool{true, false}, got)
	window, ok := s.Window(clk.Now())
	require.True(t, ok)
	require.Less(t, window, 14*time.Hour)
}

func TestRestoredKeysOfUnknownAgeExpireWithTheOldestKnownHour(t *testing.T) {
	t.Parallel()
	options := dedupe.DefaultOptions()
	options.Window = time.Hour
	options.SweepRate = 1 << 30
	s := fresh(t, options)
	require.NoError(t, s.Fill(t.Context(), 0, entries(100, 1, 2)))
	require.NoError(t, s.Advance(0, 100, 199))
	_, known := s.Window(start())
	require.False(t, known)
	n, err := s.Sweep(t.Context(), clock.NewFake(start().Add(1000*time.Hour)))
	require.NoError(t, err)
	require.Zero(t, n)
	apply(t, s, 0, entries(200, 3), start())
	n, err = s.Sweep(t.Context(), clock.NewFake(start().Add(90*time.Minute)))
	require.NoError(t, err)
	require.Zero(t, n)
	apply(t, s, 0, entries(201, 4), start().Add(3*time.Hour))
	n, err = s.Sweep(t.Context(), clock.NewFake(start().Add(3*time.Hour)))
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
}

func TestOpenRefusesWhatItMust(t *testing.T) {
	t.Parallel()
	t.Run("a directory in use", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := open(t, dir, dedupe.DefaultOptions())
		_, err := dedupe.Open(slog.New(slog.DiscardHandler), dir, dedupe.DefaultOptions())
		require.Equal(t, "data_dir_in_use", errs.CodeOf(err))
		require.NoError(t, s.Close())
		require.NoError(t, open(t, dir, dedupe.DefaultOptions()).Close())
	})
	t.Run("a newer format", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "VERSION"), []byte("2\n"), 0o600))
		_, err := dedupe.Open(slog.New(slog.DiscardHandler), dir, dedupe.DefaultOptions())
		require.Equal(t, "dedupe_newer", errs.CodeOf(err))
		require.Equal(t, errs.Precondition, errs.KindOf(err))
	})
}

func TestDamagedStoreIsMovedAside(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, db string){
		"bits flipped in the manifest": func(t *testing.T, db string) {
			for _, f := range glob(t, db, "MANIFEST-*") {
				flip(t, f)
			}
		},
		"tables gone": func(t *testing.T, db string) {
			for _, f := range glob(t, db, "*.sst") {
				require.NoError(t, os.Remove(f))
			}
		},
		"tables cut": func(t *testing.T, db string) {
			for _, f := range glob(t, db, "*.sst") {
				require.NoError(t, os.Truncate(f, 10))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir, dedupe.DefaultOptions())
			apply(t, s, 0, entries(0, 1, 2, 3), start())
			require.NoError(t, s.Close())
			// A second run writes the log of the first into a table.
			s = open(t, dir, dedupe.DefaultOptions())
			apply(t, s, 0, entries(3, 4), start())
			require.NoError(t, s.Close())
			damage(t, filepath.Join(dir, "db"))

			s = open(t, dir, dedupe.DefaultOptions())
			require.EqualValues(t, -1, s.Applied(0), "rebuilt from nothing")
			require.DirExists(t, filepath.Join(dir, "db.damaged"))
			require.Equal(t, []bool{false}, apply(t, s, 0, entries(0, 1), start()))
			require.NoError(t, s.Close())
			s = open(t, dir, dedupe.DefaultOptions())
			require.EqualValues(t, 0, s.Applied(0))
			require.NoError(t, s.Close())
		})
	}
}

func TestDamageFoundLaterIsMarkedForTheNextStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, dedupe.DefaultOptions())
	events := make([]int, 50_000)
	for i := range events {
		events[i] = i
	}
	apply(t, s, 0, entries(0, events...), start())
	require.NoError(t, s.Close())
	s = open(t, dir, dedupe.DefaultOptions())
	require.NoError(t, s.Close())
	for _, f := range glob(t, filepath.Join(dir, "db"), "*.sst") {
		flip(t, f)
	}

	s = open(t, dir, dedupe.DefaultOptions())
	_, err := s.Apply(t.Context(), 0, entries(0, events...), 49_999, start())
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "an event must never be given up for it: %v", err)
	require.Equal(t, "dedupe_damaged", errs.CodeOf(err))
	<-s.Broken()
	require.NoError(t, s.Close())

	s = open(t, dir, dedupe.DefaultOptions())
	require.EqualValues(t, -1, s.Applied(0))
	require.NoError(t, s.Close())
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// flip turns bits over the first three quarters of a file; the end holds what says how to read it.
func flip(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	for i := 0; i < len(data)*3/4; i += 64 {
		data[i] ^= 0x55
	}
	require.NoError(t, os.WriteFile(file, data, 0o600))
}
