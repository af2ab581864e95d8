package warehouse

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func errInjected() error { return errs.New(errs.Unavailable, "injected", "a fault of the test") }

// fault decides what happens to one call: it may fail before the call has any effect or after it had it.
type fault struct{ before, after bool }

// plan is asked at every call by its name.
type plan func(step string) fault

// at fails the n-th call (from 0); dead fails every call after it too, like a process that is gone.
func at(n int, f fault, dead bool) (p plan, calls *int) {
	calls = new(int)
	var mu sync.Mutex
	return func(string) fault {
		mu.Lock()
		defer mu.Unlock()
		defer func() { *calls++ }()
		switch {
		case *calls == n:
			return f
		case dead && *calls > n:
			return fault{before: true}
		default:
			return fault{}
		}
	}, calls
}

// faulty puts a plan before a ledger and tables.
type faulty struct {
	ledger Ledger
	tables Tables
	plan   plan
}

func (f *faulty) do(step string, call func() error) error {
	what := f.plan(step)
	if what.before {
		return errInjected()
	}
	err := call()
	if what.after {
		return errInjected()
	}
	return err
}

func (f *faulty) Watermarks(ctx context.Context) (out map[int32]Watermark, err error) {
	err = f.do("watermarks", func() (err error) { out, err = f.ledger.Watermarks(ctx); return err })
	return out, err
}

func (f *faulty) Announce(ctx context.Context, b Batch) error {
	return f.do("announce", func() error { return f.ledger.Announce(ctx, b) })
}

func (f *faulty) Commit(ctx context.Context, id uuid.UUID) error {
	return f.do("commit", func() error { return f.ledger.Commit(ctx, id) })
}

func (f *faulty) Condemn(ctx context.Context, id uuid.UUID) error {
	return f.do("condemn", func() error { return f.ledger.Condemn(ctx, id) })
}

func (f *faulty) Release(ctx context.Context, id uuid.UUID) error {
	return f.do("release", func() error { return f.ledger.Release(ctx, id) })
}

func (f *faulty) Load(ctx context.Context, id uuid.UUID) (b Batch, err error) {
	err = f.do("load", func() (err error) { b, err = f.ledger.Load(ctx, id); return err })
	return b, err
}

// Insert makes four steps of one insert: half and whole of each table, as two months give two parts.
func (f *faulty) Insert(ctx context.Context, b Batch, rows []*Row) error {
	parts, ok := f.tables.(interface {
		insertInto(table string, b Batch, rows []*Row)
	})
	if !ok {
		return f.do("insert", func() error { return f.tables.Insert(ctx, b, rows) })
	}
	for _, table := range []string{tableEvents, tableByPerson} {
		for _, half := range [][]*Row{rows[:len(rows)/2], rows[len(rows)/2:]} {
			runtime.Gosched()
			if err := f.do("insert", func() error { parts.insertInto(table, b, half); return nil }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *faulty) Count(ctx context.Context, b Batch) (c Counts, err error) {
	err = f.do("count", func() (err error) { c, err = f.tables.Count(ctx, b); return err })
	return c, err
}

func (f *faulty) Kill(ctx context.Context, b Batch) error {
	return f.do("kill", func() error { return f.tables.Kill(ctx, b) })
}

func (f *faulty) Delete(ctx context.Context, b Batch) error {
	return f.do("delete", func() error { return f.tables.Delete(ctx, b) })
}

func (f *faulty) Refused(ctx context.Context, rows []*Row) ([]*Row, error) {
	return f.tables.Refused(ctx, rows)
}

func requireOnce(t require.TestingT, tables readableTables, partitions int32, last int64) {
	want := map[[2]int64]int{}
	for p := range partitions {
		for o := range last + 1 {
			want[[2]int64{int64(p), o}] = 1
		}
	}
	for _, table := range []string{tableEvents, tableByPerson} {
		require.Equal(t, want, tables.Copies(table), table)
	}
}

// storeAll gives rows until they are stored.
func storeAll(t testing.TB, s *Service, rows []*Row) {
	t.Helper()
	require.Eventually(t, func() bool { return s.Store(t.Context(), rows) == nil }, 20*time.Second, time.Millisecond)
}

func twoPartitions(t testing.TB) []*Row { return append(run(t, 0, 0, 3), run(t, 1, 0, 3)...) }

// A fault between any two steps, of an instance that lives on or of one that dies, leaves each event once.
func TestAFaultAtAnyStepStoresEachEventOnce(t *testing.T) {
	t.Parallel()
	for _, dead := range []bool{false, true} {
		for _, f := range []fault{{before: true}, {after: true}} {
			for step, more := 0, true; more; step++ {
				ledger, tables := NewMemoryLedger(clock.Real()), NewMemoryTables()
				p, calls := at(step, f, dead)
				first := &faulty{ledger, tables, p}
				s := newTestService(t, first, first)
				err := s.Store(t.Context(), twoPartitions(t))
				more = *calls > step
				if dead {
					require.Equal(t, more, err != nil)
					s = newTestService(t, ledger, tables) // another instance reads the same events again
				}
				storeAll(t, s, append(twoPartitions(t), run(t, 0, 4, 5)...))
				storeAll(t, s, run(t, 1, 4, 5))
				requireOnce(t, tables, 2, 5)
				marks, err := ledger.Watermarks(t.Context())
				require.NoError(t, err)
				require.Equal(t, map[int32]Watermark{0: {Offset: 5}, 1: {Offset: 5}}, marks, "step %d of %+v", step, f)
			}
		}
	}
}

// A second fault may hit the one who settles.
func TestTwoFaultsStoreEachEventOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		ledger, tables := NewMemoryLedger(clock.Real()), NewMemoryTables()
		for range 4 {
			p, _ := at(rapid.IntRange(0, 14).Draw(rt, "step"), rapid.SampledFrom([]fault{{before: true}, {after: true}}).Draw(rt, "fault"), rapid.Bool().Draw(rt, "dead"))
			f := &faulty{ledger, tables, p}
			s := newTestService(t, f, f)
			for range 3 {
				_ = s.Store(t.Context(), twoPartitions(t)) // what fails is what the next one finds
			}
		}
		storeAll(t, newTestService(t, ledger, tables), twoPartitions(t))
		requireOnce(rt, tables, 2, 3)
	})
}

// lateTables let an insert that was given up arrive later, whatever Kill says.
type lateTables struct {
	*MemoryTables
	rng  *rand.Rand
	mu   sync.Mutex
	late sync.WaitGroup
}

func (l *lateTables) chance(percent int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.IntN(100) < percent
}

func (l *lateTables) insertInto(table string, b Batch, rows []*Row) {
	if !l.chance(30) {
		l.MemoryTables.insertInto(table, b, rows)
		return
	}
	wait := l.chance(50)
	l.late.Go(func() {
		for range 200 {
			runtime.Gosched()
		}
		if wait {
			time.Sleep(time.Millisecond) //nolint:forbidigo // the fault itself is a delay, nothing waits for it
		}
		l.MemoryTables.insertInto(table, b, rows)
	})
}

// Three instances that all believe they own the same partitions, with faults and late inserts, still leave each event
// once when the sweeper has been there.
func TestRivalsStoreEachEventOnce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			ledger := NewMemoryLedger(clock.Real())
			tables := &lateTables{MemoryTables: NewMemoryTables(), rng: rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // a test
			var rivals sync.WaitGroup
			for range 3 {
				f := &faulty{ledger, tables, func(string) fault {
					return fault{before: tables.chance(4), after: tables.chance(4)}
				}}
				s := newTestService(t, f, f)
				rivals.Go(func() {
					for last := int64(4); last < 40; last += 5 {
						for try := 0; s.Store(t.Context(), append(run(t, 0, last-4, last), run(t, 1, last-4, last)...)) != nil; try++ {
							runtime.Gosched()
							if try > 5000 {
								t.Error("the events cannot be stored")
								return
							}
						}
					}
				})
			}
			rivals.Wait()
			tables.late.Wait()
			_, err := newTestSweeper(t, ledger, tables).sweep(t.Context())
			require.NoError(t, err)
			requireOnce(t, tables, 2, 39)
		})
	}
}

func newTestSweeper(t testing.TB, graveyard Graveyard, tables Tables) *sweeper {
	t.Helper()
	s := newTestService(t, nil, nil)
	return &sweeper{graveyard: graveyard, tables: tables, cfg: s.cfg, clock: clock.Real(), log: slog.New(slog.DiscardHandler), metrics: s.metrics}
}

// engines are the stores of production, each test with its own.
func engines(t *testing.T) (*PostgresLedger, clickhouseTables) {
	t.Helper()
	return NewPostgresLedger(testkit.PostgresDB(t, Migrations())), openClickHouseTables(t)
}

// The same on the real engines, at the steps that matter: nothing, one table, half a table, everything but the commit.
func TestEnginesStoreEachEventOnce(t *testing.T) {
	t.Parallel()
	rows := twoPartitions(t)
	var half []*Row
	for _, row := range rows {
		if row.TS == testTime().UnixMilli() { // the first of two months
			half = append(half, row)
		}
	}
	for name, write := range map[string]func(*testing.T, clickhouseTables, Batch){
		"nothing": func(*testing.T, clickhouseTables, Batch) {},
		"one month of one table": func(t *testing.T, c clickhouseTables, b Batch) {
			c.stamp.batch, c.stamp.at = b.ID, b.CreatedAt.UnixMilli()
			require.NoError(t, c.write(t.Context(), tableEvents, c.events, "", half))
		},
		"one table": func(t *testing.T, c clickhouseTables, b Batch) {
			c.stamp.batch, c.stamp.at = b.ID, b.CreatedAt.UnixMilli()
			require.NoError(t, c.write(t.Context(), tableEvents, c.events, "", rows))
		},
		"everything": func(t *testing.T, c clickhouseTables, b Batch) { require.NoError(t, c.Insert(t.Context(), b, rows)) },
		"more than everything": func(t *testing.T, c clickhouseTables, b Batch) {
			require.NoError(t, c.Insert(t.Context(), b, rows))
			require.NoError(t, c.Insert(t.Context(), b, half))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ledger, tables := engines(t)
			gone := newBatch(len(rows), Span{0, -1, 3}, Span{1, -1, 3})
			require.NoError(t, ledger.Announce(t.Context(), gone))
			write(t, tables, gone)
			s := newTestService(t, ledger, tables)
			require.NoError(t, s.Reload(t.Context(), []int32{0, 1}))
			storeAll(t, s, rows)
			requireOnce(t, tables, 2, 3)
			_, err := newTestSweeper(t, ledger, tables).sweep(t.Context())
			require.NoError(t, err)
			requireOnce(t, tables, 2, 3)
		})
	}
}

// pausedTables stop before the insert until the test lets them go on.
type pausedTables struct {
	Tables
	reached, resume chan struct{}
}

func (p *pausedTables) Insert(ctx context.Context, b Batch, rows []*Row) error {
	close(p.reached)
	<-p.resume
	return p.Tables.Insert(ctx, b, rows)
}

// pausedCount stops after it counted until the test lets it go on.
type pausedCount struct {
	Tables
	reached, resume chan struct{}
}

func (p *pausedCount) Count(ctx context.Context, b Batch) (Counts, error) {
	counts, err := p.Tables.Count(ctx, b)
	close(p.reached)
	<-p.resume
	return counts, err
}

// partly counts one row of one table, as in the middle of an insert.
type partly struct{ Tables }

func (partly) Count(context.Context, Batch) (Counts, error) { return Counts{tableEvents: 1}, nil }

// Whoever settles a batch may have counted too early: if its owner commits it meanwhile, nothing of it is deleted.
func TestASlowSettlerDeletesNothingThatWasCommitted(t *testing.T) {
	t.Parallel()
	ledger, tables := NewMemoryLedger(clock.Real()), NewMemoryTables()
	owner := &pausedTables{Tables: tables, reached: make(chan struct{}), resume: make(chan struct{})}
	settler := &pausedCount{Tables: partly{tables}, reached: make(chan struct{}), resume: make(chan struct{})}
	stored, settled := make(chan error), make(chan error)
	first := newTestService(t, ledger, owner)
	go func() { stored <- first.Store(t.Context(), twoPartitions(t)) }()
	<-owner.reached
	marks, err := ledger.Watermarks(t.Context())
	require.NoError(t, err)
	batch, err := ledger.Load(t.Context(), marks[0].Pending)
	require.NoError(t, err)
	second := newTestService(t, ledger, settler)
	go func() { settled <- second.Settle(t.Context(), batch.ID) }()
	<-settler.reached
	close(owner.resume)
	require.NoError(t, <-stored)
	close(settler.resume)
	require.NoError(t, <-settled)
	requireOnce(t, tables, 2, 3)
}

// A process that was paused inside its insert comes back when another has stored its events: it removes its own rows.
func TestAZombieRemovesItsRows(t *testing.T) {
	t.Parallel()
	ledger, tables := engines(t)
	paused := &pausedTables{Tables: NewClickHouseTables(tables.db), reached: make(chan struct{}), resume: make(chan struct{})}
	zombie, heir := newTestService(t, ledger, paused), newTestService(t, ledger, tables)
	done := make(chan error)
	go func() { done <- zombie.Store(t.Context(), twoPartitions(t)) }()
	<-paused.reached
	storeAll(t, heir, append(twoPartitions(t), run(t, 0, 4, 4)...))
	storeAll(t, heir, run(t, 1, 4, 4))
	close(paused.resume)
	require.NoError(t, <-done, "its events are stored, by another")
	requireOnce(t, tables, 2, 4)
}

// One that dies right after its late insert leaves its rows to the sweeper, which looks for as long as the window says.
func TestTheSweeperRemovesLateRows(t *testing.T) {
	t.Parallel()
	ledger, tables := engines(t)
	gone := newBatch(8, Span{0, -1, 3}, Span{1, -1, 3})
	require.NoError(t, ledger.Announce(t.Context(), gone))
	s := newTestService(t, ledger, tables)
	storeAll(t, s, twoPartitions(t))
	require.NoError(t, tables.Insert(t.Context(), gone, twoPartitions(t)))
	require.Equal(t, 2, tables.Copies(tableEvents)[[2]int64{0, 0}])
	found, err := newTestSweeper(t, ledger, tables).sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, found)
	requireOnce(t, tables, 2, 3)
}

func TestStoreDropsRepeats(t *testing.T) {
	t.Parallel()
	ledger, tables := NewMemoryLedger(clock.Real()), NewMemoryTables()
	s := newTestService(t, ledger, tables)
	rows := run(t, 0, 0, 3)
	require.NoError(t, s.Store(t.Context(), append(append(rows, rows[2], rows[3]), run(t, 0, 2, 5)...)))
	require.NoError(t, s.Store(t.Context(), rows))
	require.NoError(t, s.Store(t.Context(), nil))
	requireOnce(t, tables, 1, 5)
}

func TestStoreCutsWhatIsTooMuchForOneInsert(t *testing.T) {
	t.Parallel()
	ledger, tables := NewMemoryLedger(clock.Real()), NewMemoryTables()
	s := newTestService(t, ledger, tables)
	s.cfg.MaxRows = 7
	require.NoError(t, s.Store(t.Context(), run(t, 0, 0, 29)))
	require.Len(t, tables.rows[tableEvents], 5)
	requireOnce(t, tables, 1, 29)
	require.Len(t, split(run(t, 0, 0, 9), 100, 3*run(t, 0, 0, 0)[0].size()), 4)
}

// Should ClickHouse refuse a document that we hold for sound, its row is stored with the text alone, the others whole.
func TestARefusedDocumentDoesNotFailItsBatch(t *testing.T) {
	t.Parallel()
	ledger, tables := engines(t)
	rows := twoPartitions(t)
	rows[3].PropertiesJSON = `{"a":12345678901234567890123}`
	require.NoError(t, newTestService(t, ledger, tables).Store(t.Context(), rows))
	requireOnce(t, tables, 2, 3)
	var refused, whole uint64
	require.NoError(t, tables.db.QueryRow(t.Context(),
		"SELECT countIf(has(flags, 'document_refused') AND properties_raw != '' AND empty(JSONAllPaths(properties))), countIf(properties.product_id::String = 'sku-1') FROM fact_events",
		nil, &refused, &whole))
	require.EqualValues(t, 1, refused)
	require.EqualValues(t, 7, whole)
}

func TestSweeperStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := newTestSweeper(t, NewMemoryLedger(clock.Real()), NewMemoryTables())
	started, done := make(chan struct{}), make(chan error)
	go func() { done <- s.run(ctx, func() { close(started) }) }()
	<-started
	cancel()
	require.NoError(t, <-done)
}
