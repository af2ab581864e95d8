package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// freezeTime is longer than the session of a consumer group: others take the partitions of a frozen process, which then
// wakes up and believes that they are still its own.
const freezeTime = 14 * time.Second

// freezer stops a process without ending it, as a long pause of its machine would.
func freezer(p *process) victim {
	return victim{"freeze " + p.name, func(tb testing.TB) {
		tb.Helper()
		p.signal(syscall.SIGSTOP)
		timer := time.NewTimer(freezeTime)
		<-timer.C
		p.signal(syscall.SIGCONT)
	}}
}

// TestChaosZombies runs two instances of everything that consumes, and freezes and kills them in turn: what a process
// writes after it woke up in a world that has moved on must be harmless.
func TestChaosZombies(t *testing.T) {
	s := clusterOf(t, 2)
	events, faults, rate := 6_000, 3, 150
	if fullSize() {
		events, faults, rate = 100_000, 16, 400
	}
	var zombies []victim
	for _, p := range s.processes {
		for _, kind := range []string{"warehouse", "identity", "activation"} {
			if strings.HasPrefix(p.name, kind) {
				zombies = append(zombies, freezer(p))
			}
		}
	}
	if fullSize() {
		zombies = append(zombies, s.victims...)
	}
	s.victims = zombies
	a := api{s.api, s.token}
	ws := newWorkspace(t, a, "zombies")
	rec := newReceiver(t)
	newDestination(t, a, ws.id, "zombies", rec.url, "", 10)
	s.waitKey(t, ws)

	book := newLedger()
	done := make(chan struct{})
	go func() {
		defer close(done)
		load{door: s.door, key: ws.key, prefix: "z", events: events, rate: rate, clients: 4, batch: 10, devices: 200}.run(t.Context(), t, book)
	}()
	s.killAround(t, faults, 2*time.Second)
	<-done
	s.waitReady(t)
	require.Len(t, book.acked, events, "every event was acknowledged in the end")
	book.compare(t, s, ws, rec, 4*time.Minute)
}

// TestChaosOutages takes a receiver, ClickHouse and the whole of the consumers away for a while, one after the other, in
// the single process: the door goes on, and everything arrives in the end.
func TestChaosOutages(t *testing.T) {
	s := single(t)
	outage := 5 * time.Second
	events, rate := 8_000, 400
	if fullSize() {
		outage, events, rate = time.Minute, 120_000, 500
	}
	a := api{s.api, s.token}
	ws := newWorkspace(t, a, "outages")
	rec := newReceiver(t)
	newDestination(t, a, ws.id, "outages", rec.url, "", 20)
	s.waitKey(t, ws)
	book := newLedger()
	done := make(chan struct{})
	go func() {
		defer close(done)
		load{door: s.door, key: ws.key, prefix: "o", events: events, rate: rate, clients: 4, batch: 20, devices: 300}.run(t.Context(), t, book)
	}()
	hold := func(what string, begin, end func()) {
		t.Logf("outage of %s", what)
		begin()
		timer := time.NewTimer(outage)
		<-timer.C
		end()
	}
	main := s.processes[0]
	hold("the receiver", func() { rec.setFail(alwaysDown) }, func() { rec.setFail(nil) })
	for _, engine := range []string{"engine-clickhouse", "native/bin/postgres -D"} {
		frozen := 0
		for pid, line := range children(main.pid()) {
			if strings.Contains(line, engine) && !strings.HasPrefix(line, "postgres:") {
				frozen = pid
			}
		}
		require.NotZero(t, frozen, engine)
		hold(engine, func() { _ = syscall.Kill(frozen, syscall.SIGSTOP) }, func() { _ = syscall.Kill(frozen, syscall.SIGCONT) })
	}
	<-done
	s.waitReady(t)
	require.Len(t, book.acked, events, "every event was acknowledged in the end")
	book.compare(t, s, ws, rec, 4*time.Minute)
}
