package warehouse

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

// Span is the part of a batch that lies in one partition: offsets above From, up to To.
type Span struct {
	Partition int32
	From, To  int64
}

// State is where a batch stands.
type State string

// The states. Rows are deleted only of batches that are condemned or aborted, and those can never be committed: so one
// instance cannot delete what another commits.
const (
	// Pending: announced; its partitions wait for it.
	Pending State = "pending"
	// Committed: stored; the watermarks are at its ends.
	Committed State = "committed"
	// Condemned: its rows are being removed; its partitions still wait for it.
	Condemned State = "condemned"
	// Aborted: its rows were removed and its partitions are free; rows that come later are swept.
	Aborted State = "aborted"
)

// Batch is one announced insert.
type Batch struct {
	ID    uuid.UUID
	State State
	// Owner is the instance that announced it.
	Owner string
	// CreatedAt is written into every row, in milliseconds, so that the rows of a batch are found without a full scan.
	CreatedAt time.Time
	Rows      int
	Spans     []Span
}

// Watermark is how far a partition is stored, and the batch that is on its way.
type Watermark struct {
	Offset  int64
	Pending uuid.UUID
}

// noOffset is the watermark of a partition of which nothing is stored.
const noOffset = int64(-1)

// Tables that a batch is written to.
const (
	tableEvents   = "events"
	tableByPerson = "events_by_person"
)

// Counts is how many rows of a batch each table holds.
type Counts map[string]int

// Outcome is what was found of a batch whose insert has an unknown end.
type Outcome string

// The outcomes.
const (
	// Stored: every table holds all rows; only the commit is missing.
	Stored Outcome = "stored"
	// Absent: no table holds any row.
	Absent Outcome = "absent"
	// Partial: anything between, and more rows than announced too.
	Partial Outcome = "partial"
)

// judge compares what a batch announced with what the tables hold.
func judge(rows int, counts Counts) Outcome {
	all, none := true, true
	for _, table := range []string{tableEvents, tableByPerson} {
		n := counts[table]
		all = all && n == rows
		none = none && n == 0
	}
	switch {
	case all:
		return Stored
	case none:
		return Absent
	default:
		return Partial
	}
}

// fresh drops rows that are not above the watermark of their partition, repeats within rows too, and returns the rest
// in order with the spans that they make. Rows of one partition must come in the order of their offsets, give or take
// repeats.
func fresh(rows []*Row, marks map[int32]Watermark) ([]*Row, []Span) {
	kept := make([]*Row, 0, len(rows))
	spans := map[int32]*Span{}
	for _, row := range rows {
		span := spans[row.Partition]
		if span == nil {
			from := noOffset
			if mark, ok := marks[row.Partition]; ok {
				from = mark.Offset
			}
			span = &Span{Partition: row.Partition, From: from, To: from}
			spans[row.Partition] = span
		}
		if row.Offset <= span.To {
			continue
		}
		span.To = row.Offset
		kept = append(kept, row)
	}
	out := make([]Span, 0, len(spans))
	for _, span := range spans {
		if span.To > span.From {
			out = append(out, *span)
		}
	}
	slices.SortFunc(out, func(a, b Span) int { return int(a.Partition - b.Partition) })
	return kept, out
}

// split cuts rows into runs of at most maxRows rows and about maxBytes bytes.
func split(rows []*Row, maxRows, maxBytes int) [][]*Row {
	var out [][]*Row
	start, size := 0, 0
	for i, row := range rows {
		if n := i - start; n > 0 && (n >= maxRows || size+row.size() > maxBytes) {
			out = append(out, rows[start:i])
			start, size = i, 0
		}
		size += row.size()
	}
	if start < len(rows) {
		out = append(out, rows[start:])
	}
	return out
}
