package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// verdict says whether a number is where it must be.
type verdict string

const (
	noBar  verdict = ""
	met    verdict = "met"
	missed verdict = "MISSED"
)

func atLeast(value, bar float64) verdict {
	if value >= bar {
		return met
	}
	return missed
}

func atMost(value, bar float64) verdict {
	if value <= bar {
		return met
	}
	return missed
}

// line is one row of the short table.
type line struct {
	what, value, bar string
	verdict          verdict
	noise            float64
}

// report collects the short table and the tables behind it.
type report struct {
	machine string
	took    time.Duration
	lines   []line
	details strings.Builder
	failed  []string
}

func (r *report) add(l line) { r.lines = append(r.lines, l) }

func (r *report) fail(name string, err error) {
	r.failed = append(r.failed, name)
	r.add(line{what: name, value: "not measured: " + firstLine(err.Error()), verdict: missed})
}

func firstLine(s string) string {
	first, _, _ := strings.Cut(s, "\n")
	return first
}

// table adds a titled table to the details.
func (r *report) table(title, header string, rows [][]string) {
	fmt.Fprintf(&r.details, "\n## %s\n\n", title)
	columns := strings.Split(header, "|")
	fmt.Fprintf(&r.details, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, row := range rows {
		fmt.Fprintf(&r.details, "| %s |\n", strings.Join(row, " | "))
	}
}

func (r *report) note(format string, args ...any) { fmt.Fprintf(&r.details, "\n"+format+"\n", args...) }

func (r *report) print(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; took %s\n\nWHAT\tMEASURED\tBAR\t\tOTHERS\n", r.machine, r.took.Round(time.Second))
	for _, l := range r.lines {
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\t%s\n", l.what, l.value, l.bar, l.verdict, percent(l.noise))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return w.Flush()
}

// write makes <folder>/<date>.md.
func (r *report) write(folder string, day time.Time) error {
	var b strings.Builder
	date := day.Format(time.DateOnly)
	fmt.Fprintf(&b, "# Benchmarks, %s\n\n%s. What each number means: [README](../README.md). \"Others\" is the share of the machine that other programs took meanwhile, at worst.\n\n", date, r.machine)
	b.WriteString("| what | measured | bar | | others |\n|---|---|---|---|---|\n")
	for _, l := range r.lines {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", l.what, l.value, l.bar, l.verdict, percent(l.noise))
	}
	b.WriteString(r.details.String())
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	path := filepath.Join(folder, date+".md")
	if err := os.WriteFile(path+".tmp", []byte(b.String()), 0o644); err != nil { //nolint:gosec // a report for everyone to read
		return err
	}
	return os.Rename(path+".tmp", path)
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// ms prints a duration in milliseconds with two digits that mean something.
func ms(d time.Duration) string {
	v := float64(d) / float64(time.Millisecond)
	if v < 10 {
		return fmt.Sprintf("%.2f ms", v)
	}
	return fmt.Sprintf("%.0f ms", v)
}

// whole prints a number with thousands separated.
func whole(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
