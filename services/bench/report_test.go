package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseBenchmark(t *testing.T) {
	t.Parallel()
	const out = `goos: linux
BenchmarkSink-2  	{"level":"INFO","msg":"a log line in between"}
       5	 123456789 ns/op	     45678 rows/s	  1024 B/op
BenchmarkSinkhole-2  	       7	 1 ns/op	     1 rows/s
PASS
`
	got := parseBenchmark([]byte(out), "BenchmarkSink")
	require.InDelta(t, 123456789, got["ns/op"], 0)
	got = parseBenchmark([]byte("BenchmarkWarm \t 1\t 2 ns/op\t 25000.5 events/s\n"), "BenchmarkWarm")
	require.InDelta(t, 25000.5, got["events/s"], 0)
	require.Empty(t, parseBenchmark([]byte("PASS\n"), "BenchmarkWarm"))
}

func TestQuietest(t *testing.T) {
	t.Parallel()
	id := func(v float64) float64 { return v }
	require.Equal(t, []float64{3, 1, 2}, quietestBy([]float64{3, 9, 1, 2}, 3, id))
	require.Equal(t, []float64{5}, quietestBy([]float64{5}, 3, id))
	require.Equal(t, []float64{4, 4}, quietestBy([]float64{4, 4, 4}, 2, id))
}

func TestRatioIsTheMedianOfTheRoundsRatios(t *testing.T) {
	t.Parallel()
	round := func(a, b int) []turn {
		return []turn{{outcome: &outcome{events: a, elapsed: time.Second}}, {outcome: &outcome{events: b, elapsed: time.Second}}}
	}
	// A slow round of the whole machine leaves the ratio alone.
	turns := [][]turn{round(200, 100), round(20, 10), round(330, 110)}
	require.InDelta(t, 2, ratio(turns, 0, 1), 1e-9)
	require.InDelta(t, 200, medians(turns, 0).perSecond, 1e-9)
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := report{machine: "2 cores"}
	r.add(line{what: "door", value: "1/s", bar: "≥ 1", verdict: atLeast(0.9, 1), noise: 0.05})
	r.table("Door", "side|events/s", [][]string{{"door", whole(1234567)}})
	var out bytes.Buffer
	require.NoError(t, r.print(&out))
	require.Contains(t, out.String(), "MISSED")
	dir := t.TempDir()
	require.NoError(t, r.write(dir, time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)))
	data, err := os.ReadFile(filepath.Join(dir, "2026-11-23.md"))
	require.NoError(t, err)
	require.Contains(t, string(data), "| door | 1/s | ≥ 1 | MISSED | 5 % |")
	require.Contains(t, string(data), "| side | events/s |\n|---|---|\n| door | 1,234,567 |")
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	p, err := start(t.Context(), t.TempDir(), "sleeper", "/bin/sh", []string{"-c", "sleep 60 & wait"}, nil)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(tree(p.pid())) == 2 }, 5*time.Second, 10*time.Millisecond)
	total, _ := pss(p.pid())
	require.Positive(t, total)
	for _, child := range tree(p.pid()) {
		if child != p.pid() {
			parent, _, _, err := stat(child)
			require.NoError(t, err)
			require.Equal(t, p.pid(), parent)
			process, err := os.FindProcess(child)
			require.NoError(t, err)
			require.NoError(t, process.Kill())
		}
	}
	<-p.done
	_, err = p.await(t.Context(), func(context.Context) error { return os.ErrClosed })
	require.ErrorContains(t, err, "ended while starting")
}
