package httpserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/httpserver"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

func start(t *testing.T, handler http.Handler, drain func()) (url string, stop func() error) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	cfg := httpserver.DefaultConfig()
	cfg.Listen = l.Addr().String()
	s := httpserver.New("http", "MEKONG_HTTP__LISTEN", cfg, slog.New(slog.DiscardHandler), handler, drain)
	ctx, cancel := context.WithCancel(t.Context())
	started, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Runner().Run(ctx, func() { close(started) }) }()
	<-started
	t.Cleanup(cancel)
	return "http://" + cfg.Listen, func() error { cancel(); return <-done }
}

// get returns status, headers and body of an answer.
func get(t *testing.T, url, requestID string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	req.Header.Set(rpc.RequestIDHeader, requestID)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header, string(body)
}

func TestErrorsHaveOneShape(t *testing.T) {
	t.Parallel()
	url, _ := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httpserver.WriteError(w, r, errs.New(errs.Unavailable, "spool_full", "The spool is full.").WithRetryAfter(1500*time.Millisecond))
	}), nil)
	code, header, body := get(t, url, "req-1")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "2", header.Get("Retry-After"), "rounded up, never down")
	require.JSONEq(t, `{"error":{"code":"spool_full","message":"The spool is full.","request_id":"req-1"}}`, body)
	require.Equal(t, "req-1", header.Get(rpc.RequestIDHeader))
}

func TestEveryKindHasItsStatus(t *testing.T) {
	t.Parallel()
	for kind, status := range map[errs.Kind]int{
		errs.Invalid: 400, errs.Unauthenticated: 401, errs.Forbidden: 403, errs.NotFound: 404, errs.Conflict: 409,
		errs.Precondition: 412, errs.RateLimited: 429, errs.Unavailable: 503, errs.Internal: 500,
	} {
		require.Equal(t, status, httpserver.StatusOf(errs.New(kind, "c", "m")), kind.String())
	}
	require.Equal(t, 500, httpserver.StatusOf(errors.New("x")))
}

func TestReadyzListsWhatIsNotReady(t *testing.T) {
	t.Parallel()
	behind := errs.New(errs.Unavailable, "behind", "Catching up.")
	checks := []runtime.Check{{Name: "a"}, {Name: "b", Err: behind}}
	rec := httptest.NewRecorder()
	handler := httpserver.Readyz(httpserver.ReadyInfo{Version: "v1"}, func(*http.Request) []runtime.Check { return checks })
	handler(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	require.Equal(t, 503, rec.Code)
	require.JSONEq(t, `{"ready":false,"checks":[{"name":"a","ready":true},{"name":"b","ready":false,"reason":"Catching up."}],"version":"v1"}`, rec.Body.String())

	checks = checks[:1]
	rec = httptest.NewRecorder()
	handler(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	require.Equal(t, 200, rec.Code)
	require.True(t, json.Valid(rec.Body.Bytes()))
}

func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	drained := make(chan struct{})
	url, stop := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		w.WriteHeader(http.StatusNoContent)
	}), func() { close(drained) })
	answer := make(chan int, 1)
	go func() {
		resp, err := http.Get(url) //nolint:noctx // the test's own end bounds it
		if err != nil {
			answer <- 0
			return
		}
		answer <- resp.StatusCode
		_ = resp.Body.Close()
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	<-drained
	close(release)
	require.Equal(t, http.StatusNoContent, <-answer)
	require.NoError(t, <-stopped)
}
