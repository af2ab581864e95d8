package mekong_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mekong "github.com/mekong-cdp/mekong/sdk/go"
)

type sentEvent struct {
	MessageID string    `json:"messageId"`
	Type      string    `json:"type"`
	Event     string    `json:"event"`
	Name      string    `json:"name"`
	UserID    string    `json:"userId"`
	Timestamp time.Time `json:"timestamp"`
}

type sentBatch struct {
	Batch  []sentEvent `json:"batch"`
	SentAt time.Time   `json:"sentAt"`
}

func (b sentBatch) ids() []string {
	var list []string
	for _, e := range b.Batch {
		list = append(list, e.MessageID)
	}
	return list
}

// server answers attempt n (from 0) by answer, and keeps what it got.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	batches []sentBatch
	waits   []time.Duration
}

func newServer(t *testing.T, answer func(n int, b sentBatch, w http.ResponseWriter)) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		batch, err := readBatch(r)
		if err != nil {
			t.Error(err)
			http.Error(w, err.Error(), http.StatusTeapot)
			return
		}
		s.mu.Lock()
		n := len(s.batches)
		s.batches = append(s.batches, batch)
		s.mu.Unlock()
		answer(n, batch, w)
	}))
	t.Cleanup(s.Close)
	return s
}

func readBatch(r *http.Request) (sentBatch, error) {
	key, _, _ := r.BasicAuth()
	if r.Method != http.MethodPost || r.URL.String() != "/v1/batch?results=1" || key != "wk" || r.Header.Get("Content-Encoding") != "gzip" {
		return sentBatch{}, fmt.Errorf("unexpected request %s %s, key %q, encoding %q", r.Method, r.URL, key, r.Header.Get("Content-Encoding"))
	}
	zip, err := gzip.NewReader(r.Body)
	if err != nil {
		return sentBatch{}, err
	}
	var batch sentBatch
	return batch, json.NewDecoder(zip).Decode(&batch)
}

// client records waits instead of waiting.
func (s *server) client(opts ...mekong.Option) *mekong.Client {
	record := mekong.WithWait(func(ctx context.Context, d time.Duration) error {
		s.waits = append(s.waits, d)
		return ctx.Err()
	})
	return mekong.New(s.URL+"/", "wk", append([]mekong.Option{record}, opts...)...)
}

func answerAll(w http.ResponseWriter, b sentBatch, status string) {
	var list []string
	for _, e := range b.Batch {
		list = append(list, fmt.Sprintf(`{"event_id":%q,"status":%q}`, e.MessageID, status))
	}
	_, _ = io.WriteString(w, `{"results":[`+strings.Join(list, ",")+`]}`)
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error":{"code":%q,"message":%q,"request_id":"r-1"}}`, code, message)
}

func TestSendFillsInWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(_ int, b sentBatch, w http.ResponseWriter) { answerAll(w, b, "ok") })
	then := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("ICT", 7*3600))

	results, err := s.client().Send(t.Context(),
		mekong.Event{Name: "Product Viewed", UserID: "u"},
		mekong.Event{MessageID: "mine", Type: mekong.Page, Name: "Home", AnonymousID: "a", Timestamp: then},
	)
	if err != nil || len(results) != 2 || results[0].Status != mekong.OK || results[1].MessageID != "mine" {
		t.Fatalf("results %+v, error %v", results, err)
	}
	first, second := s.batches[0].Batch[0], s.batches[0].Batch[1]
	if first.MessageID != results[0].MessageID || len(first.MessageID) != 36 || first.Type != "track" || first.Event != "Product Viewed" || first.Name != "" {
		t.Errorf("first event %+v", first)
	}
	if since := time.Since(first.Timestamp); since < 0 || since > time.Minute || s.batches[0].SentAt.Before(first.Timestamp) {
		t.Errorf("timestamp %v, sent at %v", first.Timestamp, s.batches[0].SentAt)
	}
	if second.Type != "page" || second.Name != "Home" || second.Event != "" || !second.Timestamp.Equal(then) {
		t.Errorf("second event %+v", second)
	}
}

func TestSendRepeatsWithTheSameIDs(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(n int, b sentBatch, w http.ResponseWriter) {
		switch n {
		case 0:
			w.Header().Set("Retry-After", "7")
			fail(w, http.StatusServiceUnavailable, "spool_full", "The disk is full.")
		case 1:
			fail(w, http.StatusTooManyRequests, "source_rate_limited", "Slow down.")
		case 2:
			panic(http.ErrAbortHandler) // the connection breaks
		default:
			answerAll(w, b, "duplicate")
		}
	})
	results, err := s.client().Send(t.Context(), mekong.Event{Name: "A", UserID: "u"}, mekong.Event{Name: "B", UserID: "u"})
	if err != nil || results[0].Status != mekong.Duplicate || results[1].Status != mekong.Duplicate {
		t.Fatalf("results %+v, error %v", results, err)
	}
	// The transport itself may repeat a request whose connection broke, never with other events.
	if len(s.batches) < 4 {
		t.Fatalf("%d attempts", len(s.batches))
	}
	for _, b := range s.batches {
		if !slices.Equal(b.ids(), s.batches[0].ids()) || !b.Batch[0].Timestamp.Equal(s.batches[0].Batch[0].Timestamp) {
			t.Errorf("attempt with ids %v, first had %v", b.ids(), s.batches[0].ids())
		}
	}
	if s.waits[0] < 7*time.Second || s.waits[0] > 8*time.Second {
		t.Errorf("waited %v, the server asked for 7 s", s.waits[0])
	}
}

func TestSendRepeatsOnlyWhatTheServerWantsAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(n int, b sentBatch, w http.ResponseWriter) {
		if n > 0 {
			answerAll(w, b, "ok")
			return
		}
		_, _ = io.WriteString(w, `{"results":[{"event_id":"1","status":"ok"},{"event_id":"2","status":"retry"},{"event_id":"3","status":"rejected","reason":"missing_id"}]}`)
	})
	results, err := s.client().Send(t.Context(), mekong.Event{MessageID: "1"}, mekong.Event{MessageID: "2"}, mekong.Event{MessageID: "3"})
	want := []mekong.Result{
		{MessageID: "1", Status: mekong.OK},
		{MessageID: "2", Status: mekong.OK},
		{MessageID: "3", Status: mekong.Rejected, Reason: "missing_id"},
	}
	if err != nil || !slices.Equal(results, want) {
		t.Fatalf("results %+v, error %v", results, err)
	}
	if !slices.Equal(s.batches[1].ids(), []string{"2"}) {
		t.Errorf("second attempt had %v", s.batches[1].ids())
	}
}

func TestSendStopsAtARefusal(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(_ int, _ sentBatch, w http.ResponseWriter) {
		fail(w, http.StatusUnauthorized, "write_key_unknown", "There is no such key.")
	})
	results, err := s.client().Send(t.Context(), mekong.Event{Name: "A", UserID: "u"})
	var refused *mekong.APIError
	if !errors.As(err, &refused) || *refused != (mekong.APIError{Status: 401, Code: "write_key_unknown", Message: "There is no such key.", RequestID: "r-1"}) {
		t.Fatalf("error %v", err)
	}
	if results[0].Status != mekong.Retry || len(s.batches) != 1 {
		t.Errorf("results %+v after %d attempts", results, len(s.batches))
	}
}

func TestSendRefusesAnAnswerOfSomethingElse(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"a page": "<html>", "too few results": `{"results":[]}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(_ int, _ sentBatch, w http.ResponseWriter) { _, _ = io.WriteString(w, text) })
			results, err := s.client().Send(t.Context(), mekong.Event{Name: "A", UserID: "u"})
			var refused *mekong.APIError
			if !errors.As(err, &refused) || refused.Code != "unexpected_answer" || results[0].Status != mekong.Retry {
				t.Fatalf("results %+v, error %v", results, err)
			}
		})
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(n int, b sentBatch, w http.ResponseWriter) {
		if n == 0 {
			answerAll(w, b, "ok")
			return
		}
		fail(w, http.StatusServiceUnavailable, "overloaded", "Try again.")
	})
	events := make([]mekong.Event, 501)
	for i := range events {
		events[i] = mekong.Event{Name: "A", UserID: "u"}
	}

	t.Run("cancelled while it waits", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		client := mekong.New(s.URL, "wk", mekong.WithWait(func(ctx context.Context, _ time.Duration) error {
			cancel()
			return ctx.Err()
		}))
		results, err := client.Send(ctx, events...)
		var incomplete *mekong.IncompleteError
		var last *mekong.APIError
		if !errors.As(err, &incomplete) || !errors.Is(err, context.Canceled) || !errors.As(err, &last) || last.Code != "overloaded" {
			t.Fatalf("error %v", err)
		}
		if results[499].Status != mekong.OK || results[500].Status != mekong.Retry {
			t.Errorf("results %+v %+v", results[499], results[500])
		}
	})

	t.Run("deadline before the next attempt", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		client := mekong.New(s.URL, "wk", mekong.WithBackoff(time.Hour, time.Hour))
		_, err := client.Send(ctx, events[0])
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			t.Fatalf("error %v, context %v", err, ctx.Err())
		}
	})
}

func TestSendSplits(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(_ int, b sentBatch, w http.ResponseWriter) { answerAll(w, b, "ok") })
	big := map[string]any{"text": strings.Repeat("x", 1<<20)}
	events := []mekong.Event{{Properties: big}, {Properties: big}, {Properties: big}, {Properties: big}}
	for range 1000 {
		events = append(events, mekong.Event{UserID: "u"})
	}
	results, err := s.client().Send(t.Context(), events...)
	if err != nil || len(results) != len(events) {
		t.Fatalf("%d results, error %v", len(results), err)
	}
	var sizes []int
	var ids []string
	for _, b := range s.batches {
		sizes = append(sizes, len(b.Batch))
		ids = append(ids, b.ids()...)
	}
	if !slices.Equal(sizes, []int{2, 500, 500, 2}) {
		t.Errorf("requests of %v events", sizes)
	}
	for i, r := range results {
		if r.Status != mekong.OK || r.MessageID != ids[i] {
			t.Fatalf("result %d is %+v, sent as %s", i, r, ids[i])
		}
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != len(events) {
		t.Error("ids repeat")
	}
}

func TestSendNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(int, sentBatch, http.ResponseWriter) { t.Error("a request without events") })
	results, err := s.client().Send(t.Context())
	if err != nil || len(results) != 0 {
		t.Fatalf("results %+v, error %v", results, err)
	}
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	for name, client := range map[string]*mekong.Client{
		"endpoint without scheme": mekong.New("events.example.com", "wk"),
		"no address":              mekong.New("http://\x7f", "wk"),
		"empty key":               mekong.New("https://events.example.com", ""),
		"no HTTP client":          mekong.New("https://events.example.com", "wk", mekong.WithHTTPClient(nil)),
		"waits the wrong way":     mekong.New("https://events.example.com", "wk", mekong.WithBackoff(time.Second, time.Millisecond)),
	} {
		_, err := client.Send(t.Context(), mekong.Event{Name: "A", UserID: "u"})
		var bad *mekong.ConfigError
		if !errors.As(err, &bad) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	s := newServer(t, func(int, sentBatch, http.ResponseWriter) { t.Error("something was sent") })
	_, err := s.client().Send(t.Context(), mekong.Event{}, mekong.Event{Properties: map[string]any{"f": func() {}}})
	var bad *mekong.EncodeError
	if !errors.As(err, &bad) || bad.Index != 1 {
		t.Errorf("error %v", err)
	}
}

func TestBackoffGrowsAndIsBounded(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(n int, b sentBatch, w http.ResponseWriter) {
		if n < 40 {
			fail(w, http.StatusInternalServerError, "internal", "Something went wrong.")
			return
		}
		answerAll(w, b, "ok")
	})
	_, err := s.client(mekong.WithBackoff(100*time.Millisecond, time.Second)).Send(t.Context(), mekong.Event{UserID: "u"})
	if err != nil || len(s.waits) != 40 {
		t.Fatalf("%d waits, error %v", len(s.waits), err)
	}
	longest := 100 * time.Millisecond
	for i, wait := range s.waits {
		if wait < longest/2 || wait > longest {
			t.Errorf("wait %d was %v, expected %v to %v", i, wait, longest/2, longest)
		}
		longest = min(2*longest, time.Second)
	}
}
