package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// quietShare is how much of the machine others may take in a round that counts as quiet.
const quietShare = 0.10

// bench is one run: its settings and what it has found.
type bench struct {
	out, errOut io.Writer
	root        string
	binary      string
	dir         string // everything of this run, deleted at its end
	rounds      int
	extraRounds int
	length      time.Duration
	source      *source
	profiles    string // folder that gets CPU profiles; empty takes none
	report      report
}

func (b *bench) run(ctx context.Context, chosen []part, results string) (err error) {
	b.binary = filepath.Join(b.root, "bin", "mekong")
	if _, err := os.Stat(b.binary); err != nil {
		return fmt.Errorf("bin/mekong is missing, run `make build`: %w", err)
	}
	if b.dir, err = os.MkdirTemp("", "mekong-bench-"); err != nil {
		return err
	}
	if err := os.Chmod(b.dir, 0o755); err != nil { // see newSystem
		return err
	}
	begin := time.Now()
	b.report.machine = machine()
	var failed []error
	for _, p := range chosen {
		b.logf("%s (load %.1f)", p.name, loadAverage())
		if err := p.run(ctx, b); err != nil {
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), os.RemoveAll(b.dir))
			}
			b.report.fail(p.name, err)
			failed = append(failed, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	b.report.took = time.Since(begin)
	if err := b.report.print(b.out); err != nil {
		return err
	}
	if results != "" {
		if err := b.report.write(results, begin); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		b.logf("the logs of what ran are in %s", b.dir)
		return errors.Join(failed...)
	}
	return os.RemoveAll(b.dir)
}

// logf tells the person who waits what is going on.
func (b *bench) logf(format string, args ...any) { _, _ = fmt.Fprintf(b.errOut, format+"\n", args...) }

// warn reports what went wrong after the numbers were taken.
func (b *bench) warn(err error) {
	if err != nil {
		b.logf("warning: %v", err)
	}
}

func noisiest(round []turn) float64 {
	worst := 0.0
	for _, t := range round {
		worst = max(worst, t.noise)
	}
	return worst
}

// quietest returns n rounds, those in which others did least, in the order in which they were run.
func quietest(rounds [][]turn, n int) [][]turn { return quietestBy(rounds, n, noisiest) }

func quietestBy[T any](rounds []T, n int, noiseOf func(T) float64) []T {
	if len(rounds) <= n {
		return rounds
	}
	shares := make([]float64, len(rounds))
	for i, r := range rounds {
		shares[i] = noiseOf(r)
	}
	slices.Sort(shares)
	var kept []T
	for _, r := range rounds {
		if len(kept) < n && noiseOf(r) <= shares[n-1] {
			kept = append(kept, r)
		}
	}
	return kept
}
