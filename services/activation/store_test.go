package activation

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

// start is when the tests begin.
var start = time.Date(2026, 3, 1, 8, 0, 0, 123456000, time.UTC)

type bothStores interface {
	DestinationStore
	DestinationReader
	ParkedStore
}

func TestMemoryStore(t *testing.T) {
	t.Parallel()
	testStore(t, func(*testing.T) bothStores { return newMemoryStore() })
}

func TestPostgresStore(t *testing.T) {
	t.Parallel()
	testStore(t, func(t *testing.T) bothStores { return newPostgresStore(testkit.PostgresDB(t, Migrations())) })
}

func testStore(t *testing.T, open func(*testing.T) bothStores) {
	for name, test := range map[string]func(*testing.T, bothStores){
		"definitions":                             testDefinitions,
		"names and revisions":                     testConflicts,
		"other workspaces":                        testOtherWorkspaces,
		"fingerprint":                             testFingerprint,
		"parked messages come back in order":      testParkAndLoad,
		"parking twice changes nothing":           testParkTwice,
		"loads are bounded":                       testLoadLimits,
		"settling":                                testSettle,
		"dead messages":                           testDead,
		"the newest taker has the partition":      testTake,
		"hastening":                               testHasten,
		"a deleted destination leaves nothing":    testDeleteAndPurge,
		"partitions and destinations are apart":   testApart,
		"what a device has is freed with it only": testFreeOnlyEmpty,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func destination(workspaceID, name string) Destination {
	return Destination{
		WorkspaceID: workspaceID, ID: ids.New(), Name: name, Enabled: true, Filter: `event.name == "x"`,
		Webhook:       Webhook{URL: "https://receiver.example/hook", Headers: map[string]string{"X-Key": "k"}, BatchSize: 3, TimeoutS: 7},
		SigningSecret: secretPrefix + "c2VjcmV0", Revision: 1, CreatedAt: start, UpdatedAt: start,
	}
}

func insert(t *testing.T, s DestinationStore, d Destination) Destination {
	t.Helper()
	require.NoError(t, s.Insert(t.Context(), d))
	return d
}

func testDefinitions(t *testing.T, s bothStores) {
	workspace := ids.New()
	b, a := insert(t, s, destination(workspace, "b")), insert(t, s, destination(workspace, "A"))
	got, err := s.Get(t.Context(), workspace, b.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(b, got))
	list, err := s.List(t.Context(), workspace, 10)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff([]Destination{a, b}, list))
	list, err = s.List(t.Context(), workspace, 1)
	require.NoError(t, err)
	require.Len(t, list, 1)

	b.Name, b.Enabled, b.Filter, b.Webhook, b.Revision, b.UpdatedAt = "c", false, "", Webhook{URL: "http://x", BatchSize: 1, TimeoutS: 1}, 2, start.Add(time.Hour)
	require.NoError(t, s.Update(t.Context(), b))
	got, err = s.Get(t.Context(), workspace, b.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(b, got))
}

func testConflicts(t *testing.T, s bothStores) {
	workspace := ids.New()
	a, b := insert(t, s, destination(workspace, "a")), insert(t, s, destination(workspace, "b"))
	require.Equal(t, "destination_name_taken", errs.CodeOf(s.Insert(t.Context(), destination(workspace, "a"))))
	insert(t, s, destination(ids.New(), "a")) // another workspace may
	b.Name, b.Revision = "a", 2
	require.Equal(t, "destination_name_taken", errs.CodeOf(s.Update(t.Context(), b)))
	a.Revision = 3
	require.Equal(t, "destination_changed", errs.CodeOf(s.Update(t.Context(), a)))
	a.Revision = 2
	require.NoError(t, s.Update(t.Context(), a))
	require.Equal(t, "destination_changed", errs.CodeOf(s.Update(t.Context(), a)), "only one of two writers wins")
}

func testOtherWorkspaces(t *testing.T, s bothStores) {
	mine, theirs := insert(t, s, destination(ids.New(), "a")), ids.New()
	_, err := s.Get(t.Context(), theirs, mine.ID)
	require.Equal(t, errs.NotFound, errs.KindOf(err))
	_, err = s.Get(t.Context(), mine.WorkspaceID, "no-uuid")
	require.Equal(t, errs.NotFound, errs.KindOf(err))
	list, err := s.List(t.Context(), theirs, 10)
	require.NoError(t, err)
	require.Empty(t, list)
	stolen := mine
	stolen.WorkspaceID, stolen.Revision = theirs, 2
	require.Error(t, s.Update(t.Context(), stolen))
	require.Equal(t, errs.NotFound, errs.KindOf(s.Delete(t.Context(), theirs, mine.ID)))
	park(t, s, claimOf(t, s, 0), mine, 0, "one")
	q, err := s.Queue(t.Context(), theirs, mine.ID)
	require.NoError(t, err)
	require.Zero(t, q)
	q, err = s.Queue(t.Context(), mine.WorkspaceID, mine.ID)
	require.NoError(t, err)
	require.Equal(t, Queue{Parked: 1, OldestParkedAt: start}, q)
}

func testFingerprint(t *testing.T, s bothStores) {
	seen := map[Fingerprint]bool{}
	changed := func() {
		t.Helper()
		f, err := s.Fingerprint(t.Context())
		require.NoError(t, err)
		require.False(t, seen[f])
		seen[f] = true
		all, with, err := s.AllDestinations(t.Context())
		require.NoError(t, err)
		require.Equal(t, f, with)
		require.EqualValues(t, f.Count, len(all))
	}
	changed()
	a := insert(t, s, destination(ids.New(), "a"))
	changed()
	a.Revision = 2
	require.NoError(t, s.Update(t.Context(), a))
	changed()
	require.NoError(t, s.Delete(t.Context(), a.WorkspaceID, a.ID))
	insert(t, s, a)
	changed()
}

func claimOf(t *testing.T, s ParkedStore, partition int32) claim {
	t.Helper()
	taken, err := s.Take(t.Context(), []int32{partition})
	require.NoError(t, err)
	require.Len(t, taken, 1)
	require.Equal(t, partition, taken[0].Partition)
	return taken[0].claim
}

func deviceNo(n int) deviceHash { return ids.Hash128("device", strconv.Itoa(n)) }

// messageID is that of a named message at a destination.
func messageID(d Destination, name string) string { return ids.V5(messageSpace, d.ID, name) }

func parkingOf(d Destination, at time.Time) parking {
	return parking{WorkspaceID: d.WorkspaceID, DestinationID: d.ID, At: at}
}

// park puts messages of one device aside, due at start.
func park(t *testing.T, s ParkedStore, c claim, d Destination, device int, names ...string) {
	t.Helper()
	p := parkingOf(d, start)
	for _, name := range names {
		p.Messages = append(p.Messages, parkingMessage{
			MessageID: messageID(d, name), Device: deviceNo(device), Value: []byte(name), NextAttemptAt: start,
		})
	}
	require.NoError(t, s.Park(t.Context(), c, p))
}

func loadAll(t *testing.T, s ParkedStore, c claim, d Destination, now time.Time) load {
	t.Helper()
	due, err := s.Load(t.Context(), c, d.ID, now, loadLimit{Devices: 100, Messages: 1_000, Bytes: 1 << 20})
	require.NoError(t, err)
	return due
}

func values(messages []parkedMessage) (list []string) {
	for _, m := range messages {
		list = append(list, string(m.Value))
	}
	return list
}

func testParkAndLoad(t *testing.T, s bothStores) {
	d := insert(t, s, destination(ids.New(), "a"))
	c := claimOf(t, s, 3)
	p := parkingOf(d, start)
	for i, name := range []string{"a1", "b1", "a2", "b2", "c1"} {
		device := map[byte]int{'a': 1, 'b': 2, 'c': 3}[name[0]]
		p.Messages = append(p.Messages, parkingMessage{
			MessageID: messageID(d, name), Device: deviceNo(device), Value: []byte(name), Attempts: i,
			// The first message of a device decides.
			NextAttemptAt: start.Add(time.Duration(device) * time.Second).Add(time.Duration(i) * time.Millisecond),
		})
	}
	require.NoError(t, s.Park(t.Context(), c, p))
	require.Empty(t, loadAll(t, s, c, d, start).Devices)
	require.Equal(t, start.Add(time.Second), loadAll(t, s, c, d, start).Next)

	due := loadAll(t, s, c, d, start.Add(2*time.Second+time.Millisecond))
	require.Equal(t, []dueDevice{{Device: deviceNo(1)}, {Device: deviceNo(2), Attempts: 1}}, due.Devices, "the longest waiting first")
	require.Equal(t, []string{"a1", "b1", "a2", "b2"}, values(due.Messages))
	require.Equal(t, start.Add(3*time.Second+4*time.Millisecond), due.Next)
	require.Equal(t, parkedMessage{
		Seq: due.Messages[2].Seq, MessageID: messageID(d, "a2"), Device: deviceNo(1), Value: []byte("a2"), Attempts: 2, ParkedAt: start,
	}, due.Messages[2])
}

func testParkTwice(t *testing.T, s bothStores) {
	d := insert(t, s, destination(ids.New(), "a"))
	c := claimOf(t, s, 3)
	park(t, s, c, d, 1, "m2", "m3")
	// What a crash before the commit repeats: m1 was delivered before.
	again := parkingOf(d, start.Add(time.Hour))
	for _, name := range []string{"m1", "m2", "m3", "m4"} {
		again.Messages = append(again.Messages, parkingMessage{
			MessageID: messageID(d, name), Device: deviceNo(1), Value: []byte(name), Attempts: 5, NextAttemptAt: start.Add(time.Hour),
		})
	}
	require.NoError(t, s.Park(t.Context(), c, again))
	due := loadAll(t, s, c, d, start)
	require.Equal(t, []string{"m2", "m3", "m1", "m4"}, values(due.Messages))
	require.Equal(t, []dueDevice{{Device: deviceNo(1)}}, due.Devices, "its time stays")
	require.Equal(t, start, due.Messages[0].ParkedAt)
}

func testLoadLimits(t *testing.T, s bothStores) {
	d := insert(t, s, destination(ids.New(), "a"))
	c := claimOf(t, s, 0)
	for device := range 4 {
		var names []string
		for i := range 10 {
			names = append(names, string(rune('a'+device))+strconv.Itoa(i))
		}
		park(t, s, c, d, device, names...)
	}
	get := func(limit loadLimit) load {
		due, err := s.Load(t.Context(), c, d.ID, start, limit)
		require.NoError(t, err)
		return due
	}
	require.Len(t, get(loadLimit{Devices: 2, Messages: 100, Bytes: 1000}).Devices, 2)
	require.Len(t, get(loadLimit{Devices: 2, Messages: 100, Bytes: 1000}).Messages, 20)
	require.Len(t, get(loadLimit{Devices: 4, Messages: 12, Bytes: 1000}).Messages, 12, "three of each")
	require.Len(t, get(loadLimit{Devices: 4, Messages: 100, Bytes: 9}).Messages, 4, "nine bytes hold four")
	require.Len(t, get(loadLimit{Devices: 4, Messages: 100, Bytes: 1}).Messages, 1, "one is always taken")
	due := get(loadLimit{Devices: 4, Messages: 100, Bytes: 1000})
	next := map[deviceHash]byte{}
	for _, m := range due.Messages {
		require.Equal(t, '0'+next[m.Device], m.Value[1], "the oldest of each, in order")
		next[m.Device]++
	}
}

func testSettle(t *testing.T, s bothStores) {
	d := insert(t, s, destination(ids.New(), "a"))
	c := claimOf(t, s, 0)
	park(t, s, c, d, 1, "a1", "a2", "a3")
	park(t, s, c, d, 2, "b1", "b2")
	park(t, s, c, d, 3, "c1")
	later, next := start.Add(time.Minute), start.Add(time.Hour)
	free, err := s.Settle(t.Context(), c, settlement{
		WorkspaceID: d.WorkspaceID, DestinationID: d.ID, At: later,
		Delivered: []string{messageID(d, "a1"), messageID(d, "c1")}, Failed: []string{messageID(d, "b1")},
		Taken: []deviceHash{deviceNo(1), deviceNo(2), deviceNo(3)},
		Again: []againDevice{
			{Device: deviceNo(1), NextAttemptAt: later},
			{Device: deviceNo(2), NextAttemptAt: next, Attempts: 4},
			{Device: deviceNo(3), NextAttemptAt: later},
		},
	})
	require.NoError(t, err)
	require.Equal(t, []deviceHash{deviceNo(3)}, free)
	due := loadAll(t, s, c, d, later)
	require.Equal(t, []string{"a2", "a3"}, values(due.Messages))
	require.Equal(t, next, due.Next)
	due = loadAll(t, s, c, d, next)
	require.Equal(t, []dueDevice{{Device: deviceNo(1)}, {Device: deviceNo(2), Attempts: 4}}, due.Devices)
	attempts := map[string]int{}
	for _, m := range due.Messages {
		attempts[string(m.Value)] = m.Attempts
	}
	require.Equal(t, map[string]int{"a2": 0, "a3": 0, "b1": 1, "b2": 0}, attempts)
}

func testDead(t *testing.T, s bothStores) {
	d := insert(t, s, destination(ids.New(), "a"))
	c := claimOf(t, s, 0)
	p := parkingOf(d, start)
	p.Dead = []deadMessage{{MessageID: messageID(d, "poison"), Value: []byte("poison"), Attempts: 1, Reason: "http_400", Code: 400}}
	require.NoError(t, s.Park(t.Context(), c, p))
	require.NoError(t, s.Park(t.Context(), c, p), "a repeat is harmless")
	park(t, s, c, d, 1, "poison", "a1", "a2")
	require.Equal(t, []string{"a1", "a2"}, values(loadAll(t, s, c, d, start).Messages), "the dead do not rise")
	_, err := s.Settle(t.Context(), c, settlement{
		WorkspaceID: d.WorkspaceID, DestinationID: d.ID, At: start, Taken: []deviceHash{deviceNo(1)},
		Dead: []deadMessage{{MessageID: messageID(d, "a1"), Value: []byte("a1"), Attempts: 3, Reason: "too_old"}},
	})
	require.NoError(t, err)
	q, err := s.Queue(t.Context(), d.WorkspaceID, d.ID)
	require.NoError(t, err)
	require.Equal(t, Queue{Parked: 1, Dead: 2, OldestParkedAt: start}, q)
}

func testTake(t *testing.T, s bothStores) {
	d := insert(t, s, destination(ids.New(), "a"))
	old := claimOf(t, s, 5)
	park(t, s, old, d, 1, "a1", "a2")
	other := claimOf(t, s, 6)
	park(t, s, other, d, 2, "b1")
	taken, err := s.Take(t.Context(), []int32{5})
	require.NoError(t, err)
	require.Equal(t, map[string][]deviceHash{d.ID: {deviceNo(1)}}, taken[0].Blocked)

	p := parkingOf(d, start)
	p.Messages = []parkingMessage{{MessageID: messageID(d, "a3"), Device: deviceNo(1), Value: []byte("a3"), NextAttemptAt: start}}
	require.Equal(t, codePartitionTaken, errs.CodeOf(s.Park(t.Context(), old, p)))
	_, err = s.Settle(t.Context(), old, settlement{
		WorkspaceID: d.WorkspaceID, DestinationID: d.ID, Delivered: []string{messageID(d, "a1")}, Taken: []deviceHash{deviceNo(1)}, At: start,
	})
	require.Equal(t, codePartitionTaken, errs.CodeOf(err))
	require.Equal(t, codePartitionTaken, errs.CodeOf(s.Hasten(t.Context(), old, d.ID, start)))
	require.Equal(t, []string{"a1", "a2"}, values(loadAll(t, s, taken[0].claim, d, start).Messages), "nothing was changed")
	require.NoError(t, s.Park(t.Context(), taken[0].claim, p))
	park(t, s, other, d, 2, "b2") // another partition is not concerned
}

func testHasten(t *testing.T, s bothStores) {
	d := insert(t, s, destination(ids.New(), "a"))
	c, other := claimOf(t, s, 0), claimOf(t, s, 1)
	p := parkingOf(d, start)
	for i := range 20 {
		p.Messages = append(p.Messages, parkingMessage{
			MessageID: messageID(d, strconv.Itoa(i)), Device: deviceNo(i), Value: []byte{byte(i)}, NextAttemptAt: start.Add(time.Duration(i) * time.Hour),
		})
	}
	require.NoError(t, s.Park(t.Context(), c, p))
	p.Messages = []parkingMessage{{MessageID: messageID(d, "x"), Device: deviceNo(99), Value: []byte("x"), NextAttemptAt: start.Add(time.Hour)}}
	require.NoError(t, s.Park(t.Context(), other, p))
	require.NoError(t, s.Hasten(t.Context(), c, d.ID, start.Add(time.Minute)))
	require.Len(t, loadAll(t, s, c, d, start).Devices, 1, "not before their time")
	require.Len(t, loadAll(t, s, c, d, start.Add(time.Minute)).Devices, 20)
	require.Empty(t, loadAll(t, s, other, d, start.Add(time.Minute)).Devices)
}

func testDeleteAndPurge(t *testing.T, s bothStores) {
	workspace := ids.New()
	d, kept := insert(t, s, destination(workspace, "a")), insert(t, s, destination(workspace, "b"))
	c := claimOf(t, s, 0)
	for _, each := range []Destination{d, kept} {
		park(t, s, c, each, 1, "m1")
		p := parkingOf(each, start)
		p.Dead = []deadMessage{{MessageID: messageID(each, "dead"), Value: []byte("dead"), Reason: "r"}}
		require.NoError(t, s.Park(t.Context(), c, p))
	}
	require.NoError(t, s.Delete(t.Context(), workspace, d.ID))
	require.Empty(t, loadAll(t, s, c, d, start).Devices)
	// A batch that was under way parks for it afterwards.
	park(t, s, c, d, 1, "m2")
	p := parkingOf(d, start)
	p.Dead = []deadMessage{{MessageID: messageID(d, "late"), Value: []byte("late"), Reason: "r"}}
	require.NoError(t, s.Park(t.Context(), c, p))
	require.Len(t, loadAll(t, s, c, d, start).Messages, 1)
	require.NoError(t, s.Purge(t.Context(), d.ID))
	require.NoError(t, s.Purge(t.Context(), kept.ID), "one that exists stays")
	require.Empty(t, loadAll(t, s, c, d, start).Devices)
	require.Len(t, loadAll(t, s, c, kept, start).Messages, 1)
	insert(t, s, d)
	q, err := s.Queue(t.Context(), workspace, d.ID)
	require.NoError(t, err)
	require.Zero(t, q)
}

func testApart(t *testing.T, s bothStores) {
	d, e := insert(t, s, destination(ids.New(), "a")), insert(t, s, destination(ids.New(), "a"))
	c, other := claimOf(t, s, 0), claimOf(t, s, 1)
	park(t, s, c, d, 1, "same")
	park(t, s, c, e, 1, "same")
	park(t, s, other, d, 2, "elsewhere")
	require.Equal(t, []string{"same"}, values(loadAll(t, s, c, d, start).Messages))
	require.Equal(t, []string{"elsewhere"}, values(loadAll(t, s, other, d, start).Messages))
	_, err := s.Settle(t.Context(), c, settlement{
		WorkspaceID: d.WorkspaceID, DestinationID: d.ID, Delivered: []string{messageID(d, "same")}, Taken: []deviceHash{deviceNo(1)}, At: start,
	})
	require.NoError(t, err)
	require.Equal(t, []string{"same"}, values(loadAll(t, s, c, e, start).Messages))
}

func testFreeOnlyEmpty(t *testing.T, s bothStores) {
	d := insert(t, s, destination(ids.New(), "a"))
	c := claimOf(t, s, 0)
	park(t, s, c, d, 1, "a1")
	due := loadAll(t, s, c, d, start)
	park(t, s, c, d, 1, "a2") // arrives while a1 is under way
	settle := func(names ...string) []deviceHash {
		set := settlement{WorkspaceID: d.WorkspaceID, DestinationID: d.ID, Taken: []deviceHash{due.Devices[0].Device}, At: start}
		for _, name := range names {
			set.Delivered = append(set.Delivered, messageID(d, name))
		}
		free, err := s.Settle(context.WithoutCancel(t.Context()), c, set)
		require.NoError(t, err)
		return free
	}
	require.Empty(t, settle("a1"))
	require.Equal(t, []string{"a2"}, values(loadAll(t, s, c, d, start).Messages))
	require.Equal(t, []deviceHash{deviceNo(1)}, settle("a2"))
	require.Empty(t, settle("a2"), "again is harmless")
}
