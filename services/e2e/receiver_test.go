package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// receiver is the webhook of a customer: it notes every event that it answered with 200.
type receiver struct {
	url    string
	mu     sync.Mutex
	counts map[string]int
	order  map[string][]string // anonymous id → event ids in the order of their first arrival
	// fail, when set, decides the status of a request.
	fail func(r *http.Request) int
}

// delivered is the part of a delivered event that the tests look at.
type delivered struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	AnonymousID string          `json:"anonymous_id"`
	ProfileID   string          `json:"profile_id"`
	Properties  json.RawMessage `json:"properties"`
}

func newReceiver(tb testing.TB) *receiver {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	rec := &receiver{url: "http://" + l.Addr().String() + "/hook", counts: map[string]int{}, order: map[string][]string{}}
	server := &http.Server{Handler: rec, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	tb.Cleanup(func() { _ = server.Close() })
	return rec
}

func (rec *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	rec.mu.Lock()
	fail := rec.fail
	rec.mu.Unlock()
	if fail != nil {
		if code := fail(r); code != http.StatusOK {
			w.WriteHeader(code)
			return
		}
	}
	events, err := decodeDelivered(body)
	if err != nil {
		http.Error(w, "not events", http.StatusBadRequest)
		return
	}
	rec.mu.Lock()
	for _, e := range events {
		if rec.counts[e.ID] == 0 {
			rec.order[e.AnonymousID] = append(rec.order[e.AnonymousID], e.ID)
		}
		rec.counts[e.ID]++
	}
	rec.mu.Unlock()
	w.WriteHeader(http.StatusOK)
}

func decodeDelivered(body []byte) ([]delivered, error) {
	if len(body) > 0 && body[0] == '[' {
		var many []delivered
		err := json.Unmarshal(body, &many)
		return many, err
	}
	var one delivered
	err := json.Unmarshal(body, &one)
	return []delivered{one}, err
}

func (rec *receiver) setFail(fail func(r *http.Request) int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.fail = fail
}

// got returns how often each event was delivered.
func (rec *receiver) got() map[string]int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	copied := make(map[string]int, len(rec.counts))
	for id, n := range rec.counts {
		copied[id] = n
	}
	return copied
}

// orderOf returns the events of a device in the order of their first delivery.
func (rec *receiver) orderOf(anonymousID string) []string {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return append([]string(nil), rec.order[anonymousID]...)
}

// alwaysDown is a receiver behind a broken proxy.
func alwaysDown(*http.Request) int { return http.StatusBadGateway }
