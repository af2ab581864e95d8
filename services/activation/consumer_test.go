package activation

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	activationv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/activation/v1"
)

func TestAFailingDestinationHoldsNobody(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	well, ill := newReceiver(t), newReceiver(t)
	ill.fails(http.StatusInternalServerError)
	s.module(t)
	d, sick := s.destination(t, well.url), s.destination(t, ill.url)
	none := s.destination(t, well.url+"/none", func(d *Destination) { d.Filter = `event.name == "Something Else"` })
	s.produce(t, 24, 20)
	well.waitFor(t, s.total())
	s.waitCommitted(t)
	require.Zero(t, ill.distinct())
	require.EqualValues(t, s.total(), s.queue(t, sick).Parked)
	require.Zero(t, s.queue(t, d).Parked)
	require.Zero(t, s.queue(t, none))

	s.produce(t, 24, 5) // these queue up behind
	well.waitFor(t, s.total())
	s.waitCommitted(t)
	ill.recovers()
	ill.waitFor(t, s.total())
	ill.requireOrder(t)
	require.Eventually(t, func() bool { return s.queue(t, sick).Parked == 0 }, patience, glance)
	require.Zero(t, well.repeats())
	require.Zero(t, ill.repeats())

	delivered, failures := map[string]int{}, map[string]int{}
	for _, o := range s.outcomes(t, sick, ill.tries()) {
		switch o.GetStatus() {
		case activationv1.OutcomeStatus_OUTCOME_STATUS_DELIVERED:
			delivered[o.GetMessageId()]++
			require.EqualValues(t, failures[o.GetMessageId()]+1, o.GetAttempt())
			require.EqualValues(t, http.StatusOK, o.GetCode())
		case activationv1.OutcomeStatus_OUTCOME_STATUS_RETRY:
			failures[o.GetMessageId()]++
			require.EqualValues(t, failures[o.GetMessageId()], o.GetAttempt())
			require.Equal(t, "http_500", o.GetReason())
			require.True(t, o.GetNextAttemptAt().AsTime().After(o.GetAttemptedAt().AsTime()))
		default:
			t.Errorf("unexpected outcome %v", o)
		}
	}
	require.Len(t, delivered, s.total(), "one outcome per delivery")
}

// Failures at random, a second instance that joins, the first that leaves: each device keeps its order and nothing is lost.
func TestOrderThroughFailuresParkingAndRebalances(t *testing.T) {
	t.Parallel()
	for name, batch := range map[string]int{"one by one": 1, "in batches": 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreet(t)
			r := newReceiver(t)
			r.set(func() {
				r.answer = func([]string) int {
					return []int{http.StatusOK, http.StatusOK, http.StatusOK, http.StatusOK, http.StatusBadGateway}[rand.IntN(5)]
				}
			})
			d := s.destination(t, r.url, func(d *Destination) { d.Webhook.BatchSize = batch })
			_, stopFirst := s.module(t)
			produced := make(chan error, 1)
			go func() {
				for range 40 {
					if err := s.send(t.Context(), 36, 1); err != nil {
						produced <- err
						return
					}
				}
				produced <- nil
			}()
			r.waitFor(t, 200)
			_, stopSecond := s.module(t)
			r.waitFor(t, 600)
			stopFirst()
			require.NoError(t, <-produced)
			r.waitFor(t, s.total()*3/4)
			stopSecond()
			s.module(t)
			r.waitFor(t, s.total())
			s.waitCommitted(t)
			require.Eventually(t, func() bool { return s.queue(t, d).Parked == 0 }, patience, glance)
			r.requireOrder(t)
			require.Zero(t, r.repeats(), "orderly hand-overs repeat nothing")
			require.Zero(t, s.queue(t, d).Dead)
		})
	}
}

func TestASlowDestinationHoldsNobody(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	well, slow := newReceiver(t), newReceiver(t)
	slow.set(func() {
		slow.before = func() {
			timer := time.NewTimer(2 * time.Second)
			defer timer.Stop()
			<-timer.C
		}
	})
	s.destination(t, well.url)
	lazy := s.destination(t, slow.url)
	m, _ := s.module(t)
	s.produce(t, 24, 1)
	well.waitFor(t, s.total())
	// Once its latency is known, it is left to the retrier at once.
	require.Eventually(t, func() bool {
		target := m.forwarder.registry.get(lazy.ID)
		return target != nil && target.health.divert()
	}, patience, glance)
	s.waitCommitted(t)
	begin := time.Now()
	s.produce(t, 24, 1)
	well.waitFor(t, s.total())
	s.waitCommitted(t)
	require.Less(t, time.Since(begin), 2*time.Second)
	require.Less(t, slow.distinct(), s.total())
	slow.waitFor(t, s.total())
	slow.requireOrder(t)
}

func TestPoisonIsSetAside(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	r := newReceiver(t)
	poison := map[string]bool{"0-3": true, "5-0": true, "7-9": true, "7-8": true}
	var parkFirst atomic.Bool
	parkFirst.Store(true)
	r.set(func() {
		r.answer = func(ids []string) int {
			if parkFirst.Load() {
				return http.StatusServiceUnavailable
			}
			for _, id := range ids {
				if poison[id] {
					return http.StatusUnprocessableEntity
				}
			}
			return http.StatusOK
		}
	})
	d := s.destination(t, r.url, func(d *Destination) { d.Webhook.BatchSize = 20 })
	s.module(t)
	s.produce(t, 12, 10)
	s.waitCommitted(t)
	parkFirst.Store(false) // the parked ones
	r.waitFor(t, s.total()-len(poison))
	require.Eventually(t, func() bool { return s.queue(t, d) == Queue{Dead: int64(len(poison))} }, patience, glance)
	r.set(func() { // the map is read under this lock
		for _, id := range []string{"1-10", "1-11", "4-19"} {
			poison[id] = true
		}
	})
	s.produce(t, 12, 10)
	r.waitFor(t, s.total()-len(poison))
	require.Eventually(t, func() bool { return s.queue(t, d) == Queue{Dead: int64(len(poison))} }, patience, glance)
	r.requireOrder(t)
}

// The process dies after the deliveries and before their commit.
func TestACrashBeforeTheCommitRepeatsAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	r := newReceiver(t)
	r.set(func() {
		r.answer = func(ids []string) int {
			if strings.HasPrefix(ids[0], "3-") && rand.IntN(2) == 0 {
				return http.StatusInternalServerError
			}
			return http.StatusOK
		}
	})
	d := s.destination(t, r.url)
	fault := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.CoordinatorNotAvailable, Count: -1})
	_, crash := s.module(t)
	s.produce(t, 12, 10)
	r.waitFor(t, s.total())
	crash()
	require.False(t, s.committed(t))
	fault.Remove()
	s.produce(t, 12, 10)
	s.module(t)
	r.waitFor(t, s.total())
	s.waitCommitted(t)
	require.Eventually(t, func() bool { return s.queue(t, d).Parked == 0 }, patience, glance)
	r.requireOrder(t)
	require.Positive(t, r.repeats())
}

func TestAPartitionLeavesDuringARetry(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	r := newReceiver(t)
	r.fails(http.StatusInternalServerError)
	d := s.destination(t, r.url, func(d *Destination) { d.Webhook.TimeoutS = 30 })
	first, stop := s.module(t)
	s.produce(t, 12, 5)
	s.waitCommitted(t)
	// given retries that hang
	gate := make(chan struct{})
	var hanging atomic.Int32
	r.set(func() {
		r.answer = nil
		r.before = func() { hanging.Add(1); <-gate }
	})
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	require.Eventually(t, func() bool { return hanging.Load() > 0 }, patience, glance)
	// when partitions go to another instance
	second, _ := s.module(t)
	require.Eventually(t, func() bool { return len(second.forwarder.owned()) == 6 && len(first.forwarder.owned()) == 6 }, patience, glance)
	stop()
	require.Eventually(t, func() bool { return len(second.forwarder.owned()) == 12 }, patience, glance)
	r.set(func() { r.before = nil })
	open()
	// then it goes on where the other was
	r.waitFor(t, s.total())
	r.requireOrder(t)
	require.Eventually(t, func() bool { return s.queue(t, d).Parked == 0 }, patience, glance)
}

func TestADestinationDeletedWhileParked(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	well, ill := newReceiver(t), newReceiver(t)
	ill.fails(http.StatusInternalServerError)
	s.destination(t, well.url)
	d := s.destination(t, ill.url)
	m, _ := s.module(t)
	s.produce(t, 12, 5)
	s.waitCommitted(t)
	require.Positive(t, s.queue(t, d).Parked)
	require.NoError(t, s.store.Delete(t.Context(), d.WorkspaceID, d.ID))
	s.produce(t, 12, 5)
	well.waitFor(t, s.total())
	s.waitCommitted(t)
	require.Eventually(t, func() bool { return m.forwarder.blockedDevices() == 0 }, patience, glance, "nothing of it stays in memory")
	require.NoError(t, s.store.Insert(t.Context(), d))
	require.Zero(t, s.queue(t, d))
}

func TestADisabledDestinationGetsNothingUntilItIsEnabled(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	well, ill := newReceiver(t), newReceiver(t)
	ill.fails(http.StatusInternalServerError)
	s.destination(t, well.url)
	d := s.destination(t, ill.url)
	m, _ := s.module(t)
	s.produce(t, 12, 5)
	s.waitCommitted(t)
	parked := s.queue(t, d).Parked
	require.EqualValues(t, s.total(), parked)
	s.update(t, &d, func(d *Destination) { d.Enabled = false })
	require.Eventually(t, func() bool { return !m.forwarder.registry.get(d.ID).Enabled && m.idle(d.ID) }, patience, glance)
	ill.recovers()
	tries := ill.tries()
	for range 3 {
		s.produce(t, 12, 2)
		well.waitFor(t, s.total())
		s.waitCommitted(t)
	}
	require.Equal(t, tries, ill.tries())
	require.Zero(t, ill.distinct())
	s.update(t, &d, func(d *Destination) { d.Enabled = true })
	ill.waitFor(t, int(parked))
	require.Eventually(t, func() bool { return s.queue(t, d).Parked == 0 }, patience, glance)
	require.EqualValues(t, parked, ill.distinct(), "what happened meanwhile is not for it")
	ill.requireOrder(t)
}

func TestAProbeClosesTheCircuitAndEverythingIsHastened(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	r := newReceiver(t)
	r.fails(http.StatusInternalServerError)
	d := s.destination(t, r.url)
	m, _ := s.module(t, func(c *Config) {
		c.BackoffMin, c.BackoffMax, c.BreakAfter = 100*time.Millisecond, time.Hour, 3
	})
	s.produce(t, 60, 2)
	s.waitCommitted(t)
	health := m.forwarder.registry.get(d.ID).health
	require.Eventually(t, func() bool {
		health.mu.Lock()
		defer health.mu.Unlock()
		return health.opened >= 3
	}, patience, glance)
	require.Less(t, r.tries(), s.total(), "most were never tried while the circuit was open")
	// All devices but one would wait for long.
	s.postpone(t, d, time.Hour)
	r.recovers()
	r.waitFor(t, s.total())
	r.requireOrder(t)
	require.False(t, health.divert())
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	r := newReceiver(t)
	r.set(func() { r.header.Set("Retry-After", "2") })
	r.fails(http.StatusTooManyRequests)
	s.destination(t, r.url)
	s.module(t, func(c *Config) { c.Concurrency = 1 })
	s.produce(t, 1, 20)
	require.Eventually(t, func() bool { return r.tries() == 1 }, patience, glance)
	r.recovers()
	s.waitCommitted(t)
	s.produce(t, 12, 1)
	r.waitFor(t, s.total())
	r.mu.Lock()
	defer r.mu.Unlock()
	require.GreaterOrEqual(t, r.requests[1].Sub(r.requests[0]), 2*time.Second)
}

func TestACorrectedAddressIsTriedAtOnce(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	wrong, right := newReceiver(t), newReceiver(t)
	wrong.fails(http.StatusNotFound)
	d := s.destination(t, wrong.url)
	s.module(t, func(c *Config) { c.BackoffMin, c.BackoffMax = time.Hour, time.Hour })
	s.produce(t, 12, 5)
	s.waitCommitted(t)
	require.Zero(t, s.queue(t, d).Dead, "a wrong address kills nothing")
	s.update(t, &d, func(d *Destination) { d.Webhook.URL = right.url })
	right.waitFor(t, s.total())
	right.requireOrder(t)
}

func TestStoppingAtAnyMomentIsClean(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	r := newReceiver(t)
	s.destination(t, r.url)
	s.produce(t, 12, 10)
	for i := range 8 {
		_, stop := s.module(t)
		if i%2 == 1 {
			r.waitFor(t, 1)
		}
		stop()
	}
	s.module(t)
	r.waitFor(t, s.total())
	r.requireOrder(t)
}
