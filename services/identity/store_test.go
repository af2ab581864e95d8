package identity_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/identity"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

// harness is a store under test with a look behind it.
type harness struct {
	identity.Store
	// second is another instance on the same data.
	second identity.Store
	// changes returns all changes that will be published, in order.
	changes func(t require.TestingT) []identity.Change
	// edges returns the evidence as "profile a b", sorted.
	edges func(t require.TestingT) []string
}

func stores(t *testing.T) map[string]func(t *testing.T) harness {
	t.Helper()
	return map[string]func(t *testing.T) harness{
		"memory": func(*testing.T) harness {
			s := identity.NewMemoryStore(clock.Real())
			return harness{
				Store: s, second: s,
				changes: func(require.TestingT) []identity.Change { return s.Changes() },
				edges: func(require.TestingT) []string {
					var out []string
					for _, e := range s.Edges() {
						out = append(out, edge(e.ProfileID, e.A[:], e.B[:]))
					}
					slices.Sort(out)
					return out
				},
			}
		},
		"postgres": func(t *testing.T) harness {
			if testing.Short() {
				t.Skip("needs an engine")
			}
			db := testkit.PostgresDB(t, identity.Migrations())
			return harness{
				Store: identity.NewPostgresStoreForTest(db), second: identity.NewPostgresStoreForTest(db),
				changes: func(t require.TestingT) []identity.Change { return outboxOf(t, db) },
				edges:   func(t require.TestingT) []string { return edgesOf(t, db) },
			}
		},
	}
}

// conform runs one test against every store.
func conform(t *testing.T, test func(t *testing.T, h harness)) {
	t.Helper()
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func edge(profile string, a, b []byte) string { return fmt.Sprintf("%s %x %x", profile, a, b) }

func event(workspace string, offset int64, userID, anonymousID string) identity.Event {
	return identity.NewEventForTest(workspace, fmt.Sprint("event-", offset), userID, anonymousID, offset)
}

func assign(t require.TestingT, s identity.Store, events ...identity.Event) []identity.Profile {
	got, err := s.Assign(context.Background(), 3, events)
	require.NoError(t, err)
	out := make([]identity.Profile, len(events))
	for i, e := range events {
		require.Equal(t, e.Hash, got.Decisions[e.Offset].EventHash)
		out[i] = got.Decisions[e.Offset].Profile
		for _, id := range e.Identifiers {
			require.Contains(t, got.Known, id.Hash)
		}
	}
	return out
}

func TestStrongestKnownIdentifierDecides(t *testing.T) {
	t.Parallel()
	conform(t, func(t *testing.T, h harness) {
		ws := ids.New()
		got := assign(t, h,
			event(ws, 0, "", "phone"),  // a visitor
			event(ws, 1, "u", "phone"), // signs in: the visitor gets a name
			event(ws, 2, "", "laptop"), // another device
			event(ws, 3, "u", ""),
			event(ws, 4, "v", "phone"),  // somebody else on the phone: never the same person as u
			event(ws, 5, "v", "laptop"), // the laptop keeps its profile
			event(ws, 6, "v", "tablet"), // a new device of v
			event(ws, 7, "", "tablet"),
		)
		visitor, laptop, v := got[0], got[2], got[4]
		require.EqualValues(t, 1, visitor.Version)
		require.Equal(t, identity.Profile{ID: visitor.ID, No: visitor.No, Version: 2}, got[1])
		require.Equal(t, got[1], got[3])
		require.NotEqual(t, visitor.ID, laptop.ID)
		require.NotEqual(t, visitor.ID, v.ID)
		require.NotEqual(t, laptop.ID, v.ID)
		require.Equal(t, v, got[5])
		require.Equal(t, identity.Profile{ID: v.ID, No: v.No, Version: 2}, got[6])
		require.Equal(t, got[6], got[7])
		for _, p := range got {
			require.True(t, ids.Valid(p.ID))
		}
		// Numbers are dense and differ.
		require.ElementsMatch(t, []int64{1, 2, 3}, []int64{visitor.No, laptop.No, v.No})

		hash := func(kind, value string) []byte { h := ids.Hash128(ws, kind, value); return h[:] }
		want := []string{
			edge(visitor.ID, hash("anonymous_id", "phone"), hash("user_id", "u")),
			edge(v.ID, hash("user_id", "v"), hash("anonymous_id", "tablet")),
		}
		slices.Sort(want)
		require.Equal(t, want, h.edges(t))
	})
}

func TestWorkspacesDoNotMeet(t *testing.T) {
	t.Parallel()
	conform(t, func(t *testing.T, h harness) {
		a, b := ids.New(), ids.New()
		got := assign(t, h, event(a, 0, "u", "x"), event(b, 1, "u", "x"))
		require.NotEqual(t, got[0].ID, got[1].ID)
	})
}

func TestLookupFindsOnlyWhatIsAttached(t *testing.T) {
	t.Parallel()
	conform(t, func(t *testing.T, h harness) {
		ws := ids.New()
		known := event(ws, 0, "u", "x")
		p := assign(t, h, known)[0]
		got, err := h.Lookup(t.Context(), []identity.Event{known, event(ws, 1, "u", "y"), event(ids.New(), 2, "u", "")})
		require.NoError(t, err)
		require.Equal(t, map[ids.Hash]identity.Profile{known.Identifiers[0].Hash: p, known.Identifiers[1].Hash: p}, got)
	})
}

func TestReplayReturnsTheFirstDecision(t *testing.T) {
	t.Parallel()
	conform(t, func(t *testing.T, h harness) {
		ws := ids.New()
		events := []identity.Event{event(ws, 10, "", "x"), event(ws, 11, "u", "x"), event(ws, 12, "u", "y")}
		first := assign(t, h, events...)
		changes, edges := h.changes(t), h.edges(t)

		require.Equal(t, first, assign(t, h, events...))
		require.Equal(t, first[:1], assign(t, h, events[0]), "the version of then, not of now")
		require.Equal(t, append(slices.Clone(first), first[2]), assign(t, h, append(slices.Clone(events), event(ws, 13, "u", ""))...))
		require.Equal(t, changes, h.changes(t))
		require.Equal(t, edges, h.edges(t))

		decided, err := h.Decisions(t.Context(), 3, 11)
		require.NoError(t, err)
		require.Len(t, decided, 3)
		require.Equal(t, identity.Decision{Profile: first[1], EventHash: events[1].Hash}, decided[11])
		decided, err = h.Decisions(t.Context(), 4, 0)
		require.NoError(t, err)
		require.Empty(t, decided)

		n, err := h.PruneDecisions(t.Context(), 3, 12)
		require.NoError(t, err)
		require.EqualValues(t, 2, n)
		decided, err = h.Decisions(t.Context(), 3, 0)
		require.NoError(t, err)
		require.Len(t, decided, 2)
	})
}

// TestDecisionOfALostLogIsNotTaken: after a log was recreated its offsets name other events.
func TestDecisionOfALostLogIsNotTaken(t *testing.T) {
	t.Parallel()
	conform(t, func(t *testing.T, h harness) {
		ws := ids.New()
		before := assign(t, h, event(ws, 5, "u", ""))[0]
		other := identity.NewEventForTest(ws, "another event", "v", "", 5)
		after := assign(t, h, other)[0]
		require.NotEqual(t, before.ID, after.ID)
		require.Equal(t, after, assign(t, h, other)[0])
	})
}

func TestInstancesAgree(t *testing.T) {
	t.Parallel()
	conform(t, func(t *testing.T, h harness) {
		ws := ids.New()
		const people = 20
		var wg sync.WaitGroup
		for worker := range 6 {
			store := h.Store
			if worker%2 == 1 {
				store = h.second
			}
			wg.Go(func() {
				for round := range 5 {
					var events []identity.Event
					for i := range people {
						// Everyone meets the same people in another order, on shared and on own devices.
						n := (i*7 + worker*3 + round) % people
						device := fmt.Sprint("device-", n, "-", (worker+round)%3)
						offset := int64(worker*1000 + round*people + i)
						events = append(events, event(ws, offset, fmt.Sprint("user-", n), device))
					}
					_, err := store.Assign(t.Context(), int32(worker), events)
					if !errorIsNil(t, err) {
						return
					}
				}
			})
		}
		wg.Wait()

		var probes []identity.Event
		for n := range people {
			probes = append(probes, event(ws, int64(n), fmt.Sprint("user-", n), ""))
		}
		known, err := h.Lookup(t.Context(), probes)
		require.NoError(t, err)
		require.Len(t, known, people)
		checkChanges(t, h.changes(t), known, people)
		// Three devices each: no profile was founded twice and no device was attached twice.
		require.Len(t, h.edges(t), 3*people)
	})
}

func errorIsNil(t *testing.T, err error) bool {
	if err != nil {
		t.Errorf("assign: %v", err)
	}
	return err == nil
}

// checkChanges wants every version of every profile exactly once and in order, and each identifier brought once.
func checkChanges(t require.TestingT, changes []identity.Change, known map[ids.Hash]identity.Profile, profiles int) {
	versions := map[string]int64{}
	brought := map[ids.Hash]string{}
	for _, c := range changes {
		require.Equal(t, versions[c.Profile.ID]+1, c.Profile.Version)
		versions[c.Profile.ID] = c.Profile.Version
		want := identity.IdentifierAdded
		if c.Profile.Version == 1 {
			want = identity.ProfileCreated
		}
		require.Equal(t, want, c.Kind)
		require.NotEmpty(t, c.Identifiers)
		for _, id := range c.Identifiers {
			require.NotContains(t, brought, id.Hash)
			brought[id.Hash] = c.Profile.ID
		}
	}
	require.Len(t, versions, profiles)
	for hash, p := range known {
		require.Equal(t, p.ID, brought[hash])
		require.Equal(t, p.Version, versions[p.ID])
	}
}

// TestStoresDecideAlike gives random events to both stores and compares, profile names apart.
func TestStoresDecideAlike(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs an engine")
	}
	db := testkit.PostgresDB(t, identity.Migrations())
	offset := int64(0)
	rapid.Check(t, func(rt *rapid.T) {
		memory := identity.NewMemoryStore(clock.Real())
		ws := ids.New()
		alias := map[string]string{}
		for range rapid.IntRange(1, 4).Draw(rt, "batches") {
			var events []identity.Event
			for range rapid.IntRange(1, 6).Draw(rt, "events") {
				user := rapid.SampledFrom([]string{"", "u1", "u2", "u3"}).Draw(rt, "user")
				device := rapid.SampledFrom([]string{"d1", "d2", "d3", "d4"}).Draw(rt, "device")
				events = append(events, event(ws, offset, user, device))
				offset++
			}
			got, want := assign(rt, identity.NewPostgresStoreForTest(db), events...), assign(rt, memory, events...)
			for i := range events {
				if _, met := alias[want[i].ID]; !met {
					alias[want[i].ID] = got[i].ID
				}
				require.Equal(rt, alias[want[i].ID], got[i].ID)
				require.Equal(rt, want[i].Version, got[i].Version)
			}
		}
	})
}

func TestForgottenWorkspaceSeesNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs an engine")
	}
	db := testkit.PostgresDB(t, identity.Migrations())
	assign(t, identity.NewPostgresStoreForTest(db), event(ids.New(), 0, "u", "x"))
	for _, table := range []string{"profiles", "identifiers", "edges", "decisions", "outbox"} {
		count := func(ctx context.Context, tx pgx.Tx) (n int, err error) {
			err = tx.QueryRow(ctx, "SELECT count(*) FROM identity."+table).Scan(&n)
			return n, err
		}
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			n, err := count(ctx, tx)
			require.Zero(t, n, table)
			return err
		}))
		require.NoError(t, db.AsSystem(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			n, err := count(ctx, tx)
			require.Positive(t, n, table)
			return err
		}))
	}
}

func outboxOf(t require.TestingT, db *postgres.DB) []identity.Change {
	var out []identity.Change
	require.NoError(t, db.AsSystem(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT workspace_id::text, topic, key, headers, value FROM identity.outbox ORDER BY id")
		if err != nil {
			return err
		}
		var workspace, topic string
		var key, value []byte
		var headers map[string]string
		_, err = pgx.ForEachRow(rows, []any{&workspace, &topic, &key, &headers, &value}, func() error {
			var m identityv1.ProfileChange
			require.NoError(t, proto.Unmarshal(value, &m))
			require.Equal(t, "mekong.identity.profile-changes.v1", topic)
			require.Equal(t, workspace+":"+m.GetProfileId(), string(key))
			require.Equal(t, workspace, m.GetWorkspaceId())
			require.Equal(t, map[string]string{
				"workspace": workspace, "message_type": "mekong.identity.v1.ProfileChange", "schema_version": "1",
			}, headers)
			require.WithinDuration(t, time.Now(), m.GetChangedAt().AsTime(), time.Minute)
			c := identity.Change{
				WorkspaceID: workspace, Kind: identity.ChangeKind(m.GetKind()), At: m.GetChangedAt().AsTime(),
				Profile: identity.Profile{ID: m.GetProfileId(), No: m.GetProfileNo(), Version: m.GetProfileVersion()},
			}
			for _, id := range m.GetIdentifiers() {
				c.Identifiers = append(c.Identifiers, identity.Identifier{Type: id.GetType(), Hash: ids.Hash(id.GetHash())})
			}
			out = append(out, c)
			return nil
		})
		return err
	}))
	return out
}

func edgesOf(t require.TestingT, db *postgres.DB) []string {
	var out []string
	require.NoError(t, db.AsSystem(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT profile_id::text, a, b FROM identity.edges")
		if err != nil {
			return err
		}
		var profile string
		var a, b []byte
		_, err = pgx.ForEachRow(rows, []any{&profile, &a, &b}, func() error {
			out = append(out, edge(profile, a, b))
			return nil
		})
		return err
	}))
	slices.SortFunc(out, strings.Compare)
	return out
}

// BenchmarkAssign measures the slow path: each event brings a new person with two identifiers.
func BenchmarkAssign(b *testing.B) {
	db := testkit.PostgresDB(b, identity.Migrations())
	store := identity.NewPostgresStoreForTest(db)
	ws, next := ids.New(), int64(0)
	const size = 500
	for b.Loop() {
		events := make([]identity.Event, size)
		for i := range events {
			events[i] = event(ws, next, fmt.Sprint("user-", next), fmt.Sprint("device-", next))
			next++
		}
		assign(b, store, events...)
	}
	b.ReportMetric(float64(b.N)*size/b.Elapsed().Seconds(), "events/s")
}

// TestIdentifiersAreReachedByTheirKey guards against the plan that reads a whole workspace for each identifier: it comes
// back as soon as a second index of the table begins with workspace_id, and shows only on tables nobody analyzed yet.
func TestIdentifiersAreReachedByTheirKey(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, identity.Migrations())
	ws := ids.New()
	var events []identity.Event
	for i := range 500 {
		events = append(events, event(ws, int64(i), fmt.Sprint("user-", i), fmt.Sprint("device-", i)))
	}
	assign(t, identity.NewPostgresStoreForTest(db), events...)
	require.NoError(t, db.InWorkspace(t.Context(), ws, func(ctx context.Context, tx pgx.Tx) error {
		for table, key := range map[string]string{"identifiers": "hash = k.key::text::bytea", "profiles": "id = k.key"} {
			rows, err := tx.Query(ctx, `EXPLAIN SELECT * FROM unnest($1::uuid[], $1::uuid[]) AS k (workspace_id, key)
				CROSS JOIN LATERAL (SELECT 1 FROM identity.`+table+` WHERE workspace_id = k.workspace_id AND `+key+` FOR UPDATE) AS i`, []string{ws})
			if err != nil {
				return err
			}
			plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			require.Contains(t, strings.Join(plan, "\n"), "Index Scan using "+table+"_pkey", strings.Join(plan, "\n"))
		}
		return nil
	}))
}
