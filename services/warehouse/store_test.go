package warehouse

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

// fullLedger is both faces of a ledger.
type fullLedger interface {
	Ledger
	Graveyard
}

func TestMemoryLedger(t *testing.T) {
	t.Parallel()
	ledgerConformance(t, func(*testing.T) fullLedger { return NewMemoryLedger(clock.Real()) })
}

func TestPostgresLedger(t *testing.T) {
	t.Parallel()
	ledgerConformance(t, func(t *testing.T) fullLedger { return NewPostgresLedger(testkit.PostgresDB(t, Migrations())) })
}

func ledgerConformance(t *testing.T, open func(*testing.T) fullLedger) {
	for name, check := range map[string]func(*testing.T, fullLedger){
		"a commit moves the watermarks": func(t *testing.T, l fullLedger) {
			batch := newBatch(3, Span{1, -1, 4}, Span{2, -1, 9})
			require.NoError(t, l.Announce(t.Context(), batch))
			requireMarks(t, l, map[int32]Watermark{1: {-1, batch.ID}, 2: {-1, batch.ID}})
			require.NoError(t, l.Commit(t.Context(), batch.ID))
			require.NoError(t, l.Commit(t.Context(), batch.ID), "a repeat is harmless")
			requireMarks(t, l, map[int32]Watermark{1: {Offset: 4}, 2: {Offset: 9}})
			require.Equal(t, errs.Conflict, errs.KindOf(l.Condemn(t.Context(), batch.ID)))
			require.Equal(t, errs.Conflict, errs.KindOf(l.Release(t.Context(), batch.ID)))
		},
		"an abort leaves them": func(t *testing.T, l fullLedger) {
			first := newBatch(1, Span{1, -1, 4})
			require.NoError(t, l.Announce(t.Context(), first))
			require.NoError(t, l.Commit(t.Context(), first.ID))
			batch := newBatch(3, Span{1, 4, 8})
			require.NoError(t, l.Announce(t.Context(), batch))
			require.NoError(t, l.Condemn(t.Context(), batch.ID))
			require.NoError(t, l.Condemn(t.Context(), batch.ID), "a repeat is harmless")
			requireMarks(t, l, map[int32]Watermark{1: {4, batch.ID}})
			require.Equal(t, errs.Conflict, errs.KindOf(l.Commit(t.Context(), batch.ID)), "a condemned batch is never committed")
			require.NoError(t, l.Release(t.Context(), batch.ID))
			require.NoError(t, l.Release(t.Context(), batch.ID), "a repeat is harmless")
			requireMarks(t, l, map[int32]Watermark{1: {Offset: 4}})
			require.Equal(t, errs.Conflict, errs.KindOf(l.Commit(t.Context(), batch.ID)))
			require.NoError(t, l.Condemn(t.Context(), batch.ID))
		},
		"a pending batch is not released": func(t *testing.T, l fullLedger) {
			batch := newBatch(1, Span{1, -1, 4})
			require.NoError(t, l.Announce(t.Context(), batch))
			require.Equal(t, errs.Conflict, errs.KindOf(l.Release(t.Context(), batch.ID)))
		},
		"only the watermark can be built on": func(t *testing.T, l fullLedger) {
			first := newBatch(1, Span{1, -1, 4})
			require.NoError(t, l.Announce(t.Context(), first))
			requireConflict(t, l.Announce(t.Context(), newBatch(1, Span{1, -1, 5})), "pending")
			require.NoError(t, l.Commit(t.Context(), first.ID))
			requireConflict(t, l.Announce(t.Context(), newBatch(1, Span{1, 3, 5})), "below")
			requireConflict(t, l.Announce(t.Context(), newBatch(1, Span{1, 5, 7})), "above")
			requireConflict(t, l.Announce(t.Context(), newBatch(1, Span{9, 5, 7})), "a partition of which nothing is stored")
			requireConflict(t, l.Announce(t.Context(), newBatch(2, Span{1, 3, 5}, Span{2, -1, 5})), "all or none")
			marks, err := l.Watermarks(t.Context())
			require.NoError(t, err)
			require.Zero(t, marks[2].Pending)
			require.NoError(t, l.Announce(t.Context(), newBatch(2, Span{1, 4, 5}, Span{2, -1, 5})))
		},
		"one of many wins": func(t *testing.T, l fullLedger) {
			results := make(chan error)
			const many = 8
			for i := range many {
				go func() {
					spans := []Span{{1, -1, 5}, {2, -1, 5}, {3, -1, 5}}
					if i%2 == 0 {
						spans[0], spans[2] = spans[2], spans[0]
					}
					results <- l.Announce(t.Context(), newBatch(1, spans...))
				}()
			}
			won := 0
			for range many {
				if err := <-results; err == nil {
					won++
				} else {
					require.Equal(t, errs.Conflict, errs.KindOf(err), "%v", err)
				}
			}
			require.Equal(t, 1, won)
		},
		"a batch comes back as it was announced": func(t *testing.T, l fullLedger) {
			batch := newBatch(3, Span{1, -1, 4}, Span{2, -1, 9})
			require.NoError(t, l.Announce(t.Context(), batch))
			got, err := l.Load(t.Context(), batch.ID)
			require.NoError(t, err)
			batch.State = Pending
			require.Equal(t, batch, got)
			_, err = l.Load(t.Context(), uuid.New())
			require.Equal(t, errs.NotFound, errs.KindOf(err))
			require.Equal(t, errs.NotFound, errs.KindOf(l.Commit(t.Context(), uuid.New())))
		},
		"aborted batches are remembered and forgotten": func(t *testing.T, l fullLedger) {
			batch := newBatch(3, Span{1, -1, 4})
			require.NoError(t, l.Announce(t.Context(), batch))
			aborted, err := l.Aborted(t.Context(), time.Hour)
			require.NoError(t, err)
			require.Empty(t, aborted)
			require.NoError(t, l.Condemn(t.Context(), batch.ID))
			require.NoError(t, l.Release(t.Context(), batch.ID))
			aborted, err = l.Aborted(t.Context(), time.Hour)
			require.NoError(t, err)
			require.Len(t, aborted, 1)
			require.Equal(t, batch.ID, aborted[0].ID)
			require.NoError(t, l.Forget(t.Context(), time.Hour))
			_, err = l.Load(t.Context(), batch.ID)
			require.NoError(t, err)
			require.NoError(t, l.Forget(t.Context(), 0))
			_, err = l.Load(t.Context(), batch.ID)
			require.Equal(t, errs.NotFound, errs.KindOf(err))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, open(t))
		})
	}
}

func requireMarks(t *testing.T, l Ledger, want map[int32]Watermark) {
	t.Helper()
	got, err := l.Watermarks(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func requireConflict(t *testing.T, err error, what string) {
	t.Helper()
	require.Equal(t, errs.Conflict, errs.KindOf(err), "%s: %v", what, err)
}

// readableTables can tell what is in them, for the tests.
type readableTables interface {
	Tables
	Copies(table string) map[[2]int64]int
}

// clickhouseTables adds the test's look inside.
type clickhouseTables struct {
	*ClickHouseTables
	t  *testing.T
	db *clickhouse.DB
}

func openClickHouseTables(t *testing.T) clickhouseTables {
	db := testkit.ClickHouseDB(t, ClickHouseMigrations())
	return clickhouseTables{ClickHouseTables: NewClickHouseTables(db), t: t, db: db}
}

func (c clickhouseTables) Copies(table string) map[[2]int64]int {
	rows, err := c.db.Query(context.WithoutCancel(c.t.Context()),
		"SELECT toInt64(src_partition), toInt64(src_offset), toInt64(count()) FROM "+table+" GROUP BY ALL")
	require.NoError(c.t, err)
	defer rows.Close()
	out := map[[2]int64]int{}
	for rows.Next() {
		var partition, offset, n int64
		require.NoError(c.t, rows.Scan(&partition, &offset, &n))
		out[[2]int64{partition, offset}] = int(n)
	}
	require.NoError(c.t, rows.Err())
	return out
}

func TestMemoryTables(t *testing.T) {
	t.Parallel()
	tablesConformance(t, func(*testing.T) readableTables { return NewMemoryTables() })
}

func TestClickHouseTables(t *testing.T) {
	t.Parallel()
	tablesConformance(t, func(t *testing.T) readableTables { return openClickHouseTables(t) })
}

func tablesConformance(t *testing.T, open func(*testing.T) readableTables) {
	for name, check := range map[string]func(*testing.T, readableTables){
		"rows of a batch are counted by batch": func(t *testing.T, tables readableTables) {
			a, b := newBatch(6), newBatch(2)
			require.NoError(t, tables.Insert(t.Context(), a, run(t, 0, 0, 5)))
			require.NoError(t, tables.Insert(t.Context(), b, run(t, 1, 0, 1)))
			requireCounts(t, tables, a, 6)
			requireCounts(t, tables, b, 2)
			requireCounts(t, tables, newBatch(1), 0)
			require.Len(t, tables.Copies(tableEvents), 8)
			require.Len(t, tables.Copies(tableByPerson), 8)
		},
		"delete removes one batch": func(t *testing.T, tables readableTables) {
			a, b := newBatch(6), newBatch(2)
			require.NoError(t, tables.Insert(t.Context(), a, run(t, 0, 0, 5)))
			require.NoError(t, tables.Insert(t.Context(), b, run(t, 1, 0, 1)))
			require.NoError(t, tables.Delete(t.Context(), a))
			require.NoError(t, tables.Delete(t.Context(), a), "a repeat is harmless")
			requireCounts(t, tables, a, 0)
			requireCounts(t, tables, b, 2)
		},
		"kill of nothing is harmless": func(t *testing.T, tables readableTables) {
			require.NoError(t, tables.Kill(t.Context(), newBatch(1)))
		},
		"rows that were accepted are not refused": func(t *testing.T, tables readableTables) {
			refused, err := tables.Refused(t.Context(), run(t, 0, 0, 5))
			require.NoError(t, err)
			require.Empty(t, refused)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, open(t))
		})
	}
}

func requireCounts(t *testing.T, tables Tables, batch Batch, want int) {
	t.Helper()
	counts, err := tables.Count(t.Context(), batch)
	require.NoError(t, err)
	require.Equal(t, Counts{tableEvents: want, tableByPerson: want}, counts)
}

func TestClickHouseFindsTheRowsAtFault(t *testing.T) {
	t.Parallel()
	tables := openClickHouseTables(t)
	rows := run(t, 0, 0, 99)
	rows[17].PropertiesJSON = `{"a":12345678901234567890123}`
	rows[18].Context = `{"a":1,"a":2}`
	rows[99].TraitsJSON = `{`
	batch := newBatch(len(rows))
	require.Equal(t, errs.Invalid, errs.KindOf(tables.Insert(t.Context(), batch, rows)))
	counts, err := tables.Count(t.Context(), batch)
	require.NoError(t, err)
	require.Zero(t, counts[tableEvents])
	refused, err := tables.Refused(t.Context(), rows)
	require.NoError(t, err)
	require.Equal(t, []*Row{rows[17], rows[18], rows[99]}, refused)
}

func TestClickHouseTakesMoreMonthsThanItsDefaultAllows(t *testing.T) {
	t.Parallel()
	tables := openClickHouseTables(t)
	var rows []*Row
	for i := range 105 {
		rows = append(rows, build(t, resolved(0, int64(i), withTime(testTime().AddDate(0, -i, 0)))))
	}
	batch := newBatch(len(rows))
	require.NoError(t, tables.Insert(t.Context(), batch, rows))
	requireCounts(t, tables, batch, 105)
}

func TestClickHouseScansHashes(t *testing.T) {
	t.Parallel()
	tables := openClickHouseTables(t)
	rows := run(t, 3, 10, 29)
	rows[0].EventHash = [16]byte{1} // trailing zeros must come back
	rows[5].EventHash = rows[2].EventHash
	require.NoError(t, tables.Insert(t.Context(), newBatch(20), rows))
	require.NoError(t, tables.Insert(t.Context(), newBatch(1), run(t, 4, 10, 10)))
	got := map[string]int64{}
	require.NoError(t, tables.ScanHashes(t.Context(), 3, 10, 20, func(hashes [][]byte, offsets []int64) error {
		for i, hash := range hashes {
			got[string(hash)] = offsets[i]
		}
		return nil
	}))
	want := map[string]int64{}
	for i, row := range rows[:10] {
		if i != 5 {
			want[string(row.EventHash[:])] = row.Offset
		}
	}
	require.Equal(t, want, got)
	require.NoError(t, tables.ScanHashes(t.Context(), 99, 0, 1<<62, func([][]byte, []int64) error { return fmt.Errorf("nothing is there") }))
}
