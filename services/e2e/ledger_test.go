package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ledger notes what was sent and what the door acknowledged.
type ledger struct {
	mu    sync.Mutex
	sent  map[string]bool
	acked map[string]bool

	resent  atomic.Int64 // batches that had to be sent again
	refused map[string]int
}

// ledgerEvent is one line of a batch.
type ledgerEvent struct {
	Type        string         `json:"type"`
	MessageID   string         `json:"messageId"`
	Event       string         `json:"event,omitempty"`
	AnonymousID string         `json:"anonymousId"`
	UserID      string         `json:"userId,omitempty"`
	Properties  map[string]any `json:"properties,omitempty"`
}

// load is a generator of events at a steady rate.
type load struct {
	door, key string
	prefix    string
	events    int
	rate      int // events per second over all clients
	clients   int
	batch     int
	devices   int
}

// run sends everything and returns when each batch was acknowledged: a client repeats a batch, with the same ids, until
// the door has answered for every event of it.
func (l load) run(ctx context.Context, tb testing.TB, book *ledger) {
	tb.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	perClient := time.Duration(float64(time.Second) * float64(l.batch) * float64(l.clients) / float64(l.rate))
	for c := range l.clients {
		wg.Go(func() {
			client := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			random := rand.New(rand.NewPCG(uint64(c), 7)) //nolint:gosec // a reproducible load, no secret
			tick := time.NewTicker(perClient)
			defer tick.Stop()
			for {
				first := int(next.Add(int64(l.batch))) - l.batch
				if first >= l.events {
					return
				}
				l.deliver(ctx, client, book, l.makeBatch(random, first, min(l.batch, l.events-first)))
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
}

func (l load) makeBatch(random *rand.Rand, first, n int) []ledgerEvent {
	events := make([]ledgerEvent, n)
	for i := range events {
		device := random.IntN(l.devices)
		e := ledgerEvent{
			Type: "track", MessageID: fmt.Sprintf("%s-%07d", l.prefix, first+i), Event: "Product Viewed",
			AnonymousID: fmt.Sprintf("device-%d", device), Properties: map[string]any{"product_id": fmt.Sprintf("sku-%d", i), "price": 12.5, "n": first + i},
		}
		if device%3 == 0 {
			e.UserID = fmt.Sprintf("user-%d", device/2)
		}
		if random.IntN(20) == 0 {
			e.Type, e.Event = "identify", ""
		}
		events[i] = e
	}
	return events
}

// deliver repeats a batch until the door has answered for all of it.
func (l load) deliver(ctx context.Context, client *http.Client, book *ledger, events []ledgerEvent) {
	book.mu.Lock()
	for _, e := range events {
		book.sent[e.MessageID] = true
	}
	book.mu.Unlock()
	for first := true; len(events) > 0 && ctx.Err() == nil; first = false {
		if !first {
			book.resent.Add(1)
			pause := time.NewTimer(200 * time.Millisecond)
			select {
			case <-pause.C:
			case <-ctx.Done():
				return
			}
		}
		body, err := json.Marshal(map[string]any{"batch": events})
		if err != nil {
			return
		}
		code, results, raw := send(ctx, client, l.door, "/v1/batch?results=1", l.key, body)
		if code != http.StatusOK || len(results) != len(events) {
			book.note(fmt.Sprintf("%d %.120s", code, raw))
			continue
		}
		events = book.settle(events, results)
	}
}

// settle notes the answers and returns the events that must be sent again.
func (b *ledger) settle(events []ledgerEvent, results []result) []ledgerEvent {
	b.mu.Lock()
	defer b.mu.Unlock()
	var again []ledgerEvent
	for i, r := range results {
		switch r.Status {
		case "ok", "duplicate":
			b.acked[events[i].MessageID] = true
		default:
			b.refused[r.Status+" "+r.Reason]++
			again = append(again, events[i])
		}
	}
	return again
}

func (b *ledger) note(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused[what]++
}

func newLedger() *ledger {
	return &ledger{sent: map[string]bool{}, acked: map[string]bool{}, refused: map[string]int{}}
}

// stored returns how many rows ClickHouse holds for each event id of the workspace.
func stored(ctx context.Context, s *system, workspaceID string) (map[string]int, error) {
	rows, err := query(ctx, s.clickhouse, fmt.Sprintf(
		"SELECT event_id, count() FROM fact_events WHERE workspace_id = '%s' GROUP BY event_id", workspaceID))
	if err != nil {
		return nil, err
	}
	counts := make(map[string]int, len(rows))
	for _, row := range rows {
		n := 0
		if _, err := fmt.Sscan(row[1], &n); err != nil {
			return nil, err
		}
		counts[row[0]] = n
	}
	return counts, nil
}

// compare checks door = ClickHouse = receiver, giving what is late time to arrive.
func (b *ledger) compare(tb testing.TB, s *system, ws workspace, rec *receiver, limit time.Duration) {
	tb.Helper()
	var rows map[string]int
	var problem string
	require.Eventually(tb, func() bool {
		var err error
		if rows, err = stored(tb.Context(), s, ws.id); err != nil {
			problem = err.Error()
			return false
		}
		problem = b.missing("stored", rows)
		if problem == "" {
			problem = b.missing("delivered", rec.got())
		}
		return problem == ""
	}, limit, time.Second, "%s", lazy(func() string { return problem }))

	var doubles, strangers []string
	for id, n := range rows {
		if n > 1 {
			doubles = append(doubles, fmt.Sprintf("%s ×%d", id, n))
		}
		if !b.sent[id] {
			strangers = append(strangers, id)
		}
	}
	require.Empty(tb, doubles, "stored twice")
	require.Empty(tb, strangers, "stored but never sent")
	extra := 0
	for _, n := range rec.got() {
		extra += n - 1
	}
	tb.Logf("sent %d, acknowledged %d, stored %d, delivered %d (+%d repeats), batches sent again %d",
		len(b.sent), len(b.acked), len(rows), len(rec.got()), extra, b.resent.Load())
}

func (b *ledger) missing(where string, got map[string]int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var lost []string
	for id := range b.acked {
		if got[id] == 0 {
			lost = append(lost, id)
		}
	}
	if len(lost) == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d acknowledged events are not %s, for example %s",
		len(lost), len(b.acked), where, strings.Join(lost[:min(5, len(lost))], ", "))
}

// lazy is a message that is made only when it is printed.
type lazy func() string

func (l lazy) String() string { return l() }

// TestKillLedger kills every process of the system at random moments under load.
func TestKillLedger(t *testing.T) {
	for name, build := range topologies() {
		t.Run(name, func(t *testing.T) {
			s := build(t)
			events, kills, rate := 12_000, 4, 1_000
			if fullSize() {
				events, kills, rate = 200_000, 20, 1_500
			}
			a := api{s.api, s.token}
			ws := newWorkspace(t, a, "ledger")
			rec := newReceiver(t)
			newDestination(t, a, ws.id, "ledger", rec.url, "", 20)
			s.waitKey(t, ws)

			book := newLedger()
			done := make(chan struct{})
			go func() {
				defer close(done)
				load{door: s.door, key: ws.key, prefix: "e", events: events, rate: rate, clients: 8, batch: 20, devices: 400}.run(t.Context(), t, book)
			}()
			between := time.Duration(float64(time.Second) * float64(events) / float64(rate) / float64(kills+1))
			s.killAround(t, kills, between)
			<-done
			s.waitReady(t)
			t.Logf("answers other than 200: %v", book.refused)
			require.Len(t, book.acked, events, "every event was acknowledged in the end")
			book.compare(t, s, ws, rec, 4*time.Minute)
		})
	}
}
