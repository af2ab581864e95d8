package collector

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	"github.com/mekong-cdp/mekong/services/collector/spool"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

func TestMain(m *testing.M) {
	// kfake keeps one goroutine per connection that it closed while a request was held.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).read.func1"))
}

const (
	workspaceID = "0199a000-0000-7000-8000-000000000001"
	sourceID    = "0199a000-0000-7000-8000-000000000002"
	testKey     = "wk_test"
)

func noon() time.Time { return time.Date(2026, 10, 18, 12, 0, 0, 0, time.UTC) }

// memoryLog keeps what was appended.
type memoryLog struct {
	mu      sync.Mutex
	records []spool.Record
	err     error
}

func (l *memoryLog) Append(_ context.Context, records []spool.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	for _, r := range records {
		l.records = append(l.records, spool.Record{
			Topic: r.Topic, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value), Headers: slices.Clone(r.Headers),
		})
	}
	return nil
}

func (l *memoryLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *memoryLog) events(t testing.TB) (events []*collectorv1.Event) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		if r.Topic == stream.CollectorEvents {
			e := &collectorv1.Event{}
			require.NoError(t, proto.Unmarshal(r.Value, e))
			events = append(events, e)
		}
	}
	return events
}

func (l *memoryLog) rejected(t testing.TB) (events []*collectorv1.RejectedEvent) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		if r.Topic == stream.CollectorRejected {
			e := &collectorv1.RejectedEvent{}
			require.NoError(t, proto.Unmarshal(r.Value, e))
			events = append(events, e)
		}
	}
	return events
}

// fakeAdmin knows some keys and counts how often it was asked.
type fakeAdmin struct {
	mu      sync.Mutex
	answers map[string]*adminv1.ResolveWriteKeyResponse
	err     error
	calls   int
}

func (a *fakeAdmin) ResolveWriteKey(_ context.Context, in *adminv1.ResolveWriteKeyRequest, _ ...grpc.CallOption) (*adminv1.ResolveWriteKeyResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	if a.err != nil {
		return nil, a.err
	}
	if out, ok := a.answers[in.GetWriteKey()]; ok {
		return out, nil
	}
	return nil, grpcstatus.Error(codes.NotFound, "no such key")
}

func (a *fakeAdmin) asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

// bundle is a door on an in-memory log.
type bundle struct {
	t     testing.TB
	log   *memoryLog
	admin *fakeAdmin
	clock *clock.Fake
	door  *door
	ring  *keyRing
	mux   *http.ServeMux
}

func setup(t testing.TB, change ...func(*Config)) *bundle {
	t.Helper()
	b := &bundle{t: t, log: &memoryLog{}, admin: &fakeAdmin{}, clock: clock.NewFake(noon()), ring: newKeyRing(), mux: http.NewServeMux()}
	cfg := DefaultConfig()
	cfg.RememberedEvents = 1 << 12
	for _, f := range change {
		f(&cfg)
	}
	require.NoError(t, cfg.Validate())
	b.putSource(1, Source{WorkspaceID: workspaceID, ID: sourceID, Type: "web", Enabled: true}, testKey)
	finder, err := newKeyFinder(b.ring, b.admin, b.clock, func() bool { return true })
	require.NoError(t, err)
	ms, err := newMetrics(nil)
	require.NoError(t, err)
	b.door, err = newDoor(cfg, Deps{Clock: b.clock}, b.log, finder, ms)
	require.NoError(t, err)
	b.door.register(b.mux)
	return b
}

func (b *bundle) putSource(revision int64, s Source, keys ...string) {
	b.ring.change(func(d *draft) {
		d.source(s, revision)
		for _, key := range keys {
			d.writeKey(key, revision, writeKey{workspaceID: s.WorkspaceID, sourceID: s.ID})
		}
	})
}

// answer is what a client sees.
type answer struct {
	code   int
	header http.Header
	body   string
}

func (a answer) errorCode(t testing.TB) string {
	t.Helper()
	var body struct {
		Error struct{ Code, Message string }
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &body), a.body)
	require.NotEmpty(t, body.Error.Message)
	return body.Error.Code
}

type eventResult struct {
	EventID string `json:"event_id"`
	Status  string
	Reason  string
}

func (a answer) results(t testing.TB) []eventResult {
	t.Helper()
	var body struct{ Results []eventResult }
	require.NoError(t, json.Unmarshal([]byte(a.body), &body), a.body)
	return body.Results
}

// post sends body with the test key, unless headers (name, value, …) say otherwise.
func (b *bundle) post(path, body string, headers ...string) answer {
	b.t.Helper()
	return b.send(http.MethodPost, path, body, append([]string{"X-Write-Key", testKey}, headers...)...)
}

func (b *bundle) send(method, path, body string, headers ...string) answer {
	b.t.Helper()
	r := httptest.NewRequestWithContext(b.t.Context(), method, path, bytes.NewReader([]byte(body)))
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	b.mux.ServeHTTP(rec, r)
	data, err := io.ReadAll(rec.Body)
	require.NoError(b.t, err)
	return answer{code: rec.Code, header: rec.Header(), body: string(data)}
}

func validJSON(raw []byte) bool { return json.Valid(raw) }

// discard is a log that is always durable.
type discard struct{}

func (discard) Append(context.Context, []spool.Record) error { return nil }
