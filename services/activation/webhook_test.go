package activation

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// The example of the Standard Webhooks specification.
func TestSignatureOfTheSpecification(t *testing.T) {
	t.Parallel()
	got, err := sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	require.NoError(t, err)
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", got)
	_, err = sign("whsec_%%%", "id", "1", nil)
	require.Equal(t, "bad_signing_secret", errs.CodeOf(err))
}

func privateConfig() Config {
	cfg := DefaultConfig()
	cfg.AllowPrivateAddresses = true
	return cfg
}

func newTestSender(t testing.TB, cfg Config) *sender {
	t.Helper()
	s := newSender(cfg, time.Now)
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

func serve(t testing.TB, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	})
	s := newTestSender(t, privateConfig())
	s.now = func() time.Time { return start }
	d := destination(testWorkspace, "a")
	d.Webhook = Webhook{URL: server.URL + "/hook?x=1", Headers: map[string]string{"X-Key": "k"}, BatchSize: 1, TimeoutS: 5}
	m := messageOf(t, order())
	result := s.send(t.Context(), &d, []*message{m})
	require.Equal(t, delivered, result.verdict, result.reason)
	require.Equal(t, "POST /hook?x=1", got.Method+" "+got.RequestURI)
	require.Equal(t, "k", got.Header.Get("X-Key"))
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.Equal(t, m.id(d.ID), got.Header.Get("Webhook-Id"))
	require.Equal(t, strconv.FormatInt(start.Unix(), 10), got.Header.Get("Webhook-Timestamp"))
	want, err := sign(d.SigningSecret, m.id(d.ID), got.Header.Get("Webhook-Timestamp"), body)
	require.NoError(t, err)
	require.Equal(t, want, got.Header.Get("Webhook-Signature"))
	require.Equal(t, byte('{'), body[0])

	d.Webhook.BatchSize = 2
	second := order()
	second.Event.EventId = "e-2"
	for n, messages := range map[int][]*message{1: {m}, 2: {m, messageOf(t, second)}} {
		require.Equal(t, delivered, s.send(t.Context(), &d, messages).verdict)
		var list []map[string]any
		require.NoError(t, json.Unmarshal(body, &list))
		require.Len(t, list, n, "a batch of one is an array too")
		require.Equal(t, requestID(d.ID, messages), got.Header.Get("Webhook-Id"))
	}
	require.NotEqual(t, requestID(d.ID, []*message{m, m}), requestID(d.ID, []*message{m}))
}

func TestAnEventThatIsNotJSONIsRefusedWithoutARequest(t *testing.T) {
	t.Parallel()
	d := destination(testWorkspace, "a")
	broken := order()
	broken.Event.Traits = []byte("{")
	result := newTestSender(t, privateConfig()).send(t.Context(), &d, []*message{messageOf(t, broken)})
	require.Equal(t, attemptResult{verdict: refused, reason: "event_not_json"}, result)
}

func TestWhatAnAnswerMeans(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]verdict{
		200: delivered, 201: delivered, 202: delivered, 204: delivered,
		// The message is at fault.
		400: refused, 409: refused, 413: refused, 415: refused, 422: refused,
		// The destination is at fault: someone may put that right.
		301: retry, 302: retry, 307: retry, 401: retry, 403: retry, 404: retry, 405: retry, 410: retry,
		408: retry, 425: retry, 429: retry, 500: retry, 501: retry, 502: retry, 503: retry, 504: retry,
	} {
		result := judge(&http.Response{StatusCode: code, Header: http.Header{"Retry-After": {"7"}}}, start)
		require.Equal(t, want, result.verdict, code)
		require.Equal(t, code, result.code)
		if code == 429 || code == 503 {
			require.Equal(t, 7*time.Second, result.retryAfter, code)
		} else {
			require.Zero(t, result.retryAfter, code)
		}
		if want != delivered {
			require.Equal(t, "http_"+strconv.Itoa(code), result.reason)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "120": 2 * time.Minute, "999999": time.Hour, "99999999999999999": time.Hour, "soon": 0, "1.5": 0,
		start.Add(30 * time.Second).Format(http.TimeFormat): 30*time.Second - 123456*time.Microsecond,
		start.Add(-time.Hour).Format(http.TimeFormat):       0,
		start.Add(48 * time.Hour).Format(http.TimeFormat):   time.Hour,
	} {
		require.Equal(t, want, retryAfter(value, start), value)
	}
}

func TestPublicAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "172.32.0.1": true, "100.128.0.1": true,
		"127.0.0.1": false, "127.9.9.9": false, "10.0.0.1": false, "172.16.5.5": false, "192.168.1.1": false, "169.254.169.254": false,
		"0.0.0.0": false, "0.1.2.3": false, "100.64.0.1": false, "192.0.0.8": false, "198.18.0.1": false, "224.0.0.1": false,
		"240.0.0.1": false, "255.255.255.255": false, "::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false,
		"fc00::1": false, "fd12::1": false, "ff02::1": false, "fec0::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false,
		"::ffff:8.8.8.8": true, "::127.0.0.1": false, "64:ff9b::7f00:1": false, "64:ff9b:1::1": false, "2002:7f00:1::": false, "2001::1": false,
	} {
		require.Equal(t, want, public(netip.MustParseAddr(address)), address)
	}
}

func TestPrivateAddressesAreNotReached(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	server := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	s := newTestSender(t, DefaultConfig())
	d := destination(testWorkspace, "a")
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"} {
		d.Webhook.URL = "http://" + host + ":" + port
		result := s.send(t.Context(), &d, []*message{messageOf(t, order())})
		require.Equal(t, retry, result.verdict, host)
		require.Equal(t, codePrivateAddress, result.reason, host)
	}
	// A name that leads there is refused too, whoever answers for it.
	s.client.Transport.(*http.Transport).DialContext = (&net.Dialer{Control: refusePrivate, Resolver: loopbackResolver(t)}).DialContext
	d.Webhook.URL = "http://receiver.example:" + port
	require.Equal(t, codePrivateAddress, s.send(t.Context(), &d, []*message{messageOf(t, order())}).reason)
	require.Zero(t, reached.Load())
}

// loopbackResolver is a name server that answers every A question with 127.0.0.1.
func loopbackResolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		query := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			end := 12 // behind the header: labels, a zero, type and class
			for end < n && query[end] != 0 {
				end += int(query[end]) + 1
			}
			question := query[12 : end+5]
			answer := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
			if question[len(question)-3] == 1 {
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
			}
			_, _ = conn.WriteTo(answer, from)
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var followed atomic.Bool
	target := serve(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
	})
	d := destination(testWorkspace, "a")
	d.Webhook.URL = server.URL
	result := newTestSender(t, privateConfig()).send(t.Context(), &d, []*message{messageOf(t, order())})
	require.Equal(t, "http_307", result.reason)
	require.False(t, followed.Load())
}

func TestWhatGoesWrongOnTheWay(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	slow := serve(t, func(http.ResponseWriter, *http.Request) { <-gate })
	t.Cleanup(func() { close(gate) })
	endless := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	headers := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) })
	closed := httptest.NewServer(nil)
	closed.Close()
	s := newTestSender(t, privateConfig())
	for name, tc := range map[string]struct {
		url    string
		reason string
	}{
		"timeout": {slow.URL, "timeout"}, "refused": {closed.URL, "connection_refused"}, "dns": {"http://nowhere.invalid", "dns"},
		"too many headers": {headers.URL, "network"}, "endless": {endless.URL, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := destination(testWorkspace, "a")
			d.Webhook.URL, d.Webhook.TimeoutS = tc.url, 1
			result := s.send(t.Context(), &d, []*message{messageOf(t, order())})
			require.Equal(t, tc.reason, result.reason)
			require.Less(t, result.latency, 5*time.Second)
		})
	}
}
