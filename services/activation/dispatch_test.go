package activation

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// roundTrip is a receiver without a network.
type roundTrip func(ids []string) int

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var list []struct{ ID string }
	if raw[0] != '[' {
		raw = []byte("[" + string(raw) + "]")
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	ids := make([]string, len(list))
	for i, e := range list {
		ids[i] = e.ID
	}
	code := f(ids)
	if code == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

func senderTo(f roundTrip) *sender {
	return &sender{now: time.Now, client: &http.Client{Transport: f}}
}

func targetOf(batchSize int, cfg Config) *target {
	d := destination(testWorkspace, "a")
	d.Webhook = Webhook{URL: "http://receiver.example", BatchSize: batchSize, TimeoutS: 5}
	return &target{Destination: d, filter: &filter{}, health: &health{cfg: cfg}}
}

// eventOf is the n-th event of a device; its id is "<device>-<n>".
func eventOf(t testing.TB, device, n int) *message {
	t.Helper()
	e := order()
	e.Event.AnonymousId, e.Event.EventId = "device-"+strconv.Itoa(device), strconv.Itoa(device)+"-"+strconv.Itoa(n)
	return messageOf(t, e)
}

func itemsOf(t testing.TB, d *target, messages ...*message) []*item {
	t.Helper()
	var items []*item
	for _, m := range messages {
		items = append(items, &item{message: m, messageID: m.id(d.ID)})
	}
	return items
}

func dispatchTo(tgt *target, s *sender) *dispatch {
	return &dispatch{target: tgt, sender: s, now: time.Now, until: time.Now().Add(time.Minute)}
}

func idOf(it *item) string { return it.resolved.GetEvent().GetEventId() }

// Whatever fails, a device's messages are taken in order, nothing behind a failure is tried, and each state is true.
func TestDispatchKeepsOrderUnderRandomFailures(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		devices, batch := rapid.IntRange(1, 6).Draw(rt, "devices"), rapid.IntRange(1, 7).Draw(rt, "batch")
		cfg := DefaultConfig()
		cfg.BreakAfter = rapid.IntRange(1, 50).Draw(rt, "break")
		tgt := targetOf(batch, cfg)
		var items []*item
		poison := map[string]bool{}
		next := make([]int, devices)
		for range rapid.IntRange(1, 60).Draw(rt, "messages") {
			device := rapid.IntRange(0, devices-1).Draw(rt, "device")
			items = append(items, itemsOf(t, tgt, eventOf(t, device, next[device]))...)
			if rapid.IntRange(0, 9).Draw(rt, "poison") == 0 {
				poison[idOf(items[len(items)-1])] = true
			}
			next[device]++
		}
		var mu sync.Mutex
		seed := rand.New(rand.NewPCG(uint64(rapid.IntRange(0, 1<<30).Draw(rt, "seed")), 1))
		took, saw := map[string]bool{}, map[string][]string{}
		s := senderTo(func(ids []string) int {
			mu.Lock()
			defer mu.Unlock()
			for _, id := range ids {
				if poison[id] {
					return http.StatusBadRequest
				}
			}
			if n := seed.IntN(10); n < 2 {
				return []int{0, http.StatusInternalServerError}[n]
			}
			for _, id := range ids {
				device, _, _ := strings.Cut(id, "-")
				took[id] = true
				saw[device] = append(saw[device], id)
			}
			return http.StatusOK
		})
		dispatchTo(tgt, s).run(t.Context(), items, 4)

		ended := map[string]bool{} // devices that must not have gone on
		want := map[string][]string{}
		for _, it := range items {
			device, _, _ := strings.Cut(idOf(it), "-")
			if it.state == failed || it.state == waiting {
				ended[device] = true
			} else if ended[device] {
				rt.Fatalf("%s is in state %d behind one that was not taken", idOf(it), it.state)
			}
			if it.state == rejected && !poison[idOf(it)] {
				rt.Fatalf("%s was rejected without fault", idOf(it))
			}
			if took[idOf(it)] != (it.state == sent) {
				rt.Fatalf("%s: taken %v, state %d", idOf(it), took[idOf(it)], it.state)
			}
			if it.state == sent {
				want[device] = append(want[device], idOf(it))
			}
		}
		for device := range want {
			if strings.Join(saw[device], " ") != strings.Join(want[device], " ") {
				rt.Fatalf("device %s: saw %v, want %v", device, saw[device], want[device])
			}
		}
	})
}

func TestPoisonIsFoundByHalving(t *testing.T) {
	t.Parallel()
	tgt := targetOf(50, DefaultConfig())
	var messages []*message
	for i := range 50 {
		messages = append(messages, eventOf(t, i%5, i))
	}
	items, requests := itemsOf(t, tgt, messages...), 0
	d := dispatchTo(tgt, senderTo(func(ids []string) int {
		requests++
		for _, id := range ids {
			if id == "3-13" || id == "4-44" {
				return http.StatusUnprocessableEntity
			}
		}
		return http.StatusOK
	}))
	d.run(t.Context(), items, 1)
	for _, it := range items {
		want := sent
		if id := idOf(it); id == "3-13" || id == "4-44" {
			want = rejected
			require.Equal(t, "http_422", it.result.reason)
		}
		require.Equal(t, want, it.state, idOf(it))
	}
	require.Less(t, requests, 30)
	require.Len(t, d.attempts, 50, "one outcome each")
}

func TestASingleRefusedMessageDoesNotHoldItsDevice(t *testing.T) {
	t.Parallel()
	tgt := targetOf(1, DefaultConfig())
	items := itemsOf(t, tgt, eventOf(t, 1, 0), eventOf(t, 1, 1))
	dispatchTo(tgt, senderTo(func(ids []string) int {
		if ids[0] == "1-0" {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})).run(t.Context(), items, 3)
	require.Equal(t, rejected, items[0].state)
	require.Equal(t, sent, items[1].state)
}

func TestTakeSkipsDevicesThatFailed(t *testing.T) {
	t.Parallel()
	tgt := targetOf(1, DefaultConfig())
	items := itemsOf(t, tgt, eventOf(t, 1, 0), eventOf(t, 2, 0), eventOf(t, 1, 1), eventOf(t, 3, 0))
	broken := map[deviceHash]bool{items[0].device: true}
	request, rest := take(items, broken, 1)
	require.Equal(t, []*item{items[1]}, request)
	require.Equal(t, items[2:], rest)
	request, rest = take(rest, broken, 5)
	require.Equal(t, []*item{items[3]}, request)
	require.Empty(t, rest)
	request, _ = take(items[:1], broken, 1)
	require.Empty(t, request)
}

func TestAnOpenCircuitEndsADispatch(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.BreakAfter = 2
	tgt, requests := targetOf(1, cfg), 0
	var messages []*message
	for i := range 20 {
		messages = append(messages, eventOf(t, i, 0))
	}
	items := itemsOf(t, tgt, messages...)
	dispatchTo(tgt, senderTo(func([]string) int { requests++; return 500 })).run(t.Context(), items, 1)
	require.Equal(t, 2, requests)
	states := map[state]int{}
	for _, it := range items {
		states[it.state]++
	}
	require.Equal(t, map[state]int{failed: 2, waiting: 18}, states)
}

// hangs is a receiver that never answers by itself.
type hangs struct{}

func (hangs) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestNobodyWaitsForAHungReceiver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tgt := targetOf(1, DefaultConfig())
		tgt.Webhook.TimeoutS = 30
		items := itemsOf(t, tgt, eventOf(t, 1, 0), eventOf(t, 2, 0), eventOf(t, 1, 1))
		s := &sender{now: time.Now, client: &http.Client{Transport: hangs{}}}
		begin := time.Now()
		d := &dispatch{target: tgt, sender: s, now: time.Now, until: begin.Add(holdTime), cut: true}
		d.run(t.Context(), items, 2)
		require.Equal(t, holdTime, time.Since(begin))
		require.Equal(t, failed, items[0].state)
		require.Equal(t, "slow", items[0].result.reason)
		require.Equal(t, waiting, items[2].state)
		require.True(t, tgt.health.divert())
		require.Zero(t, tgt.health.openFor(time.Now()))

		// Where nobody waits, it has its own timeout, and that is a failure.
		begin = time.Now()
		d = &dispatch{target: tgt, sender: s, now: time.Now, until: begin.Add(drainTime)}
		d.run(t.Context(), items[:1], 2)
		require.Equal(t, 30*time.Second, time.Since(begin))
		require.Equal(t, "timeout", items[0].result.reason)
	})
}

func TestRequestsUnderWayMayEndWhenThePartitionGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for took, want := range map[time.Duration]state{requestGrace / 2: sent, requestGrace * 2: waiting} {
			tgt := targetOf(1, DefaultConfig())
			items := itemsOf(t, tgt, eventOf(t, 1, 0), eventOf(t, 1, 1))
			ctx, cancel := context.WithCancel(t.Context())
			s := &sender{now: time.Now, client: &http.Client{Transport: answersAfter(took)}}
			time.AfterFunc(time.Millisecond, cancel)
			d := dispatchTo(tgt, s)
			begin := time.Now()
			d.run(ctx, items, 1)
			require.LessOrEqual(t, time.Since(begin), requestGrace+time.Millisecond)
			require.Equal(t, want, items[0].state)
			require.Equal(t, waiting, items[1].state, "nothing new begins")
			require.False(t, tgt.health.divert(), "our stop is not its failure")
		}
	})
}

type answersAfter time.Duration

func (a answersAfter) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(time.Duration(a)):
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}
