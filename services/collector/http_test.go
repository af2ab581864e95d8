package collector

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const page = `{"userId":"u","messageId":"%"}`

func TestKeyIsAcceptedInEveryForm(t *testing.T) {
	t.Parallel()
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	jwt := "Bearer aaa.bbb.ccc"
	for name, c := range map[string]struct {
		path, body string
		headers    []string
		code       int
	}{
		"basic":                {"/v1/page", page, []string{"Authorization", basic(testKey + ":")}, 200},
		"basic with password":  {"/v1/page", page, []string{"Authorization", basic(testKey + ":x")}, 200},
		"basic without colon":  {"/v1/page", page, []string{"Authorization", basic(testKey)}, 200},
		"basic unpadded":       {"/v1/page", page, []string{"Authorization", strings.TrimRight(basic(testKey+":"), "=")}, 200},
		"bearer":               {"/v1/page", page, []string{"Authorization", "bearer " + testKey}, 200},
		"header":               {"/v1/page", page, []string{"X-Write-Key", testKey}, 200},
		"jwt and header":       {"/v1/page", page, []string{"Authorization", jwt, "X-Write-Key", testKey}, 200},
		"jwt alone":            {"/v1/page", page, []string{"Authorization", jwt}, 401},
		"query":                {"/v1/page?writeKey=" + testKey, page, nil, 200},
		"query api_key":        {"/v1/page?api_key=" + testKey, page, nil, 200},
		"body":                 {"/v1/page", `{"userId":"u","writeKey":"` + testKey + `"}`, nil, 200},
		"body of a batch":      {"/v1/batch", `{"batch":[],"writeKey":"` + testKey + `"}`, nil, 200},
		"body of a shop event": {"/v1/events", `{"event_type":"view","anonymous_id":"a","token":"` + testKey + `"}`, nil, 200},
		"none":                 {"/v1/page", page, nil, 401},
		"wrong":                {"/v1/page", page, []string{"X-Write-Key", "other"}, 401},
		"wrong before a body":  {"/v1/page", `{"userId":"u","writeKey":"` + testKey + `"}`, []string{"X-Write-Key", "other"}, 401},
	} {
		b := setup(t)
		got := b.send(http.MethodPost, c.path, c.body, c.headers...)
		require.Equal(t, c.code, got.code, name)
		if c.code == 401 {
			require.Contains(t, []string{"write_key_missing", "write_key_unknown"}, got.errorCode(t), name)
			require.Empty(t, b.log.records)
		}
	}
}

func TestSourceDecidesWhoMaySend(t *testing.T) {
	t.Parallel()
	b := setup(t)
	source := Source{WorkspaceID: workspaceID, ID: sourceID, Enabled: true, Origins: []string{"https://shop.example"}}
	b.putSource(2, source)
	require.Equal(t, 200, b.post("/v1/page", page, "Origin", "https://shop.example").code)
	require.Equal(t, 200, b.post("/v1/page", page).code)
	got := b.post("/v1/page", page, "Origin", "https://evil.example")
	require.Equal(t, 403, got.code)
	require.Equal(t, "origin_not_allowed", got.errorCode(t))
	require.Equal(t, "https://evil.example", got.header.Get("Access-Control-Allow-Origin"), "the page must be able to read why")

	source.Enabled = false
	b.putSource(3, source)
	got = b.post("/v1/page", page)
	require.Equal(t, 404, got.code)
	require.Equal(t, "source_disabled", got.errorCode(t))

	source.Enabled, source.Deleted = true, true
	b.putSource(4, source)
	require.Equal(t, 401, b.post("/v1/page", page).code)
}

func TestPreflightAllowsWhatTheBrowserAsks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for path := range routes() {
		got := b.send(http.MethodOptions, path, "", "Origin", "https://a.example",
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,x-retry-count,rsa-recovered")
		require.Equal(t, 204, got.code)
		require.Equal(t, "https://a.example", got.header.Get("Access-Control-Allow-Origin"))
		require.Equal(t, "true", got.header.Get("Access-Control-Allow-Credentials"))
		require.Equal(t, "authorization,x-retry-count,rsa-recovered", got.header.Get("Access-Control-Allow-Headers"))
		require.Contains(t, got.header.Get("Access-Control-Allow-Methods"), "POST")
	}
	require.Equal(t, 405, b.send(http.MethodGet, "/v1/track", "").code)
}

func compressed(t *testing.T, kind, body string) string {
	t.Helper()
	var out bytes.Buffer
	var w interface {
		Write(p []byte) (int, error)
		Close() error
	}
	switch kind {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		z, err := zstd.NewWriter(&out)
		require.NoError(t, err)
		w = z
	default:
		w = brotli.NewWriter(&out)
	}
	_, err := w.Write([]byte(body))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.String()
}

func TestBodiesAreDecompressedByWhatTheyAre(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 2 { // the second time from the pools
		for name, c := range map[string]struct{ body, encoding string }{
			"gzip, silent":               {compressed(t, "gzip", page), ""},
			"gzip":                       {compressed(t, "gzip", page), "gzip"},
			"gzip, form":                 {compressed(t, "gzip", page), "x-gzip"},
			"zstd":                       {compressed(t, "zstd", page), "zstd"},
			"brotli":                     {compressed(t, "br", page), "br"},
			"plain, header left behind":  {page, "gzip"},
			"plain with a declared none": {page, "identity"},
		} {
			require.Equal(t, 200, b.post("/v1/page", c.body, "Content-Encoding", c.encoding, "Content-Type", "text/plain").code, name)
		}
		for name, c := range map[string]struct{ body, encoding, code string }{
			"cut gzip":       {compressed(t, "gzip", page)[:20], "", "invalid_compression"},
			"cut header":     {"\x1f\x8b", "", "invalid_compression"},
			"bad zstd":       {"\x28\xb5\x2f\xfdxxxx", "", "invalid_compression"},
			"bad brotli":     {"no brotli at all", "br", "invalid_compression"},
			"something else": {page, "deflate", "unsupported_encoding"},
		} {
			got := b.post("/v1/page", c.body, "Content-Encoding", c.encoding)
			require.Equal(t, 400, got.code, name)
			require.Equal(t, c.code, got.errorCode(t), name)
		}
	}
	require.Equal(t, b.door.bodies.free.Load(), DefaultConfig().InFlightBytes, "all memory is given back")
}

func TestSizesAreLimited(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) {
		c.Limits.EventBytes, c.Limits.BodyBytes, c.Limits.DecodedBytes = 1<<10, 4<<10, 8<<10
		c.InFlightBytes = maxPooledBody + 20<<10
	})
	spaces := func(n int) string { return page + strings.Repeat(" ", n-len(page)) }
	require.Equal(t, 200, b.post("/v1/page", spaces(4<<10)).code)
	for _, body := range []string{spaces(4<<10 + 1), compressed(t, "gzip", spaces(8<<10+1)), compressed(t, "br", spaces(1<<20))} {
		encoding := ""
		if body[0] != '{' && body[0] != 0x1f {
			encoding = "br"
		}
		got := b.post("/v1/page", body, "Content-Encoding", encoding)
		require.Equal(t, 413, got.code)
		require.Equal(t, "body_too_large", got.errorCode(t))
	}
	require.Equal(t, 200, b.post("/v1/page", compressed(t, "gzip", spaces(8<<10))).code)
	got := b.post("/v1/page", `{"userId":"u","properties":{"a":"`+strings.Repeat("x", 1<<10)+`"}}`)
	require.Equal(t, 413, got.code)
	require.Equal(t, "event_too_large", got.errorCode(t))
	require.Len(t, b.log.rejected(t), 1)
	require.Len(t, b.log.rejected(t)[0].GetPayload(), 1<<10)
	got = b.post("/v1/batch?results=1", `{"context":{"a":"`+strings.Repeat("x", 1<<10)+`"},"batch":[{"type":"page","userId":"u"}]}`)
	require.Equal(t, "context_too_large", got.results(t)[0].Reason)
}

func TestMemoryForBodiesIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	held := reservation{owner: b.door.bodies}
	require.True(t, held.take(int(DefaultConfig().InFlightBytes)))
	got := b.post("/v1/page", page)
	require.Equal(t, 503, got.code)
	require.Equal(t, "overloaded", got.errorCode(t))
	require.Equal(t, "1", got.header.Get("Retry-After"))
	held.release()
	require.Equal(t, 200, b.post("/v1/page", page).code)
}

func TestRefusedSingleEventIsABadRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.post("/v1/track", `{"userId":"u"}`)
	require.Equal(t, 400, got.code)
	require.Equal(t, "missing_event", got.errorCode(t))
	require.Contains(t, got.body, "event: ")
	require.Len(t, b.log.rejected(t), 1, "its owner finds it")
}

func TestWhatIsNotDurableIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.log.fail(errs.New(errs.Unavailable, "spool_full", "Full.").WithRetryAfter(4500 * time.Millisecond))
	for _, path := range []string{"/v1/page", "/v1/batch", "/v1/batch?results=1", "/v1/events"} {
		body := page
		switch path {
		case "/v1/batch", "/v1/batch?results=1":
			body = `{"batch":[{"type":"page","userId":"u","messageId":"m"},{"type":"page"}]}`
		case "/v1/events":
			body = `[{"event_id":"m","event_type":"view","anonymous_id":"a"},{}]`
		}
		got := b.post(path, body, "Origin", "https://a.example")
		require.Equal(t, 503, got.code, path)
		require.Equal(t, "5", got.header.Get("Retry-After"), path)
		require.Equal(t, "spool_full", got.errorCode(t), path)
		require.Equal(t, "https://a.example", got.header.Get("Access-Control-Allow-Origin"))
		require.Contains(t, got.header.Get("Access-Control-Expose-Headers"), "Retry-After")
		if path == "/v1/events" || path == "/v1/batch?results=1" {
			require.Equal(t, []eventResult{{"m", "retry", ""}, {"", "retry", ""}}, got.results(t))
		}
	}
	b.log.fail(nil)
	got := b.post("/v1/events", `{"event_id":"m","event_type":"view","anonymous_id":"a"}`)
	require.Equal(t, "ok", got.results(t)[0].Status, "a failed append is no proof of an earlier one")
}

func TestRatesAreLimited(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) {
		c.Rates = Rates{SourceEvents: 10, SourceBurst: 5, AddressRequests: 100, AddressBurst: 8}
	})
	batch := `{"batch":[` + strings.Repeat(`{"type":"page","userId":"u"},`, 4) + `{"type":"page","userId":"u"}]}`
	require.Equal(t, 200, b.post("/v1/batch", batch).code)
	got := b.post("/v1/batch", batch)
	require.Equal(t, 429, got.code)
	require.Equal(t, "source_rate_limited", got.errorCode(t))
	require.Equal(t, "1", got.header.Get("Retry-After"))
	b.clock.Advance(500 * time.Millisecond)
	require.Equal(t, 200, b.post("/v1/batch", batch).code)
	code := 0
	for i := 0; i < 20 && code != 429; i++ {
		got = b.post("/v1/batch", `{"batch":[]}`)
		code = got.code
	}
	require.Equal(t, "address_rate_limited", got.errorCode(t))
}

func TestAddressIsTheLastHopThatIsNoProxy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		proxies   []string
		forwarded string
		want      string
	}{
		{nil, "198.51.100.7", "192.0.2.1"},
		{[]string{"192.0.2.0/24"}, "198.51.100.7", "198.51.100.7"},
		{[]string{"192.0.2.0/24"}, "6.6.6.6, 198.51.100.7, 192.0.2.9", "198.51.100.7"},
		{[]string{"192.0.2.0/24"}, "", "192.0.2.1"},
		{[]string{"192.0.2.0/24"}, "2001:db8::1, nonsense, 192.0.2.8", "192.0.2.8"},
	} {
		b := setup(t, func(cfg *Config) { cfg.TrustedProxies = c.proxies })
		require.Equal(t, 200, b.post("/v1/page", page, "X-Forwarded-For", c.forwarded).code)
		require.Equal(t, c.want, b.log.events(t)[0].GetIp())
	}
}

func TestLimiterForgetsOnlyTheIdle(t *testing.T) {
	t.Parallel()
	l := newLimiter(1, 2)
	now := noon()
	for range 2 {
		_, ok := l.take("busy", 1, now)
		require.True(t, ok)
	}
	wait, ok := l.take("busy", 1, now)
	require.False(t, ok)
	require.Equal(t, time.Second, wait)
	_, ok = l.take("busy", 1, now.Add(wait))
	require.True(t, ok)
	_, ok = l.take("other", 1000, now)
	require.True(t, ok, "what is larger than the burst passes once")
	_, ok = l.take("other", 1, now.Add(998*time.Second))
	require.False(t, ok)
	for i := range 50_000 {
		l.take(strconv.Itoa(i), 1, now)
	}
	_, ok = l.take("other", 1, now)
	require.False(t, ok, "a flood of names does not free the one that owes most")
	_, ok = (*limiter)(nil).take("any", 1, now)
	require.True(t, ok)
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"limits.depth must be positive":       func(c *Config) { c.Limits.Depth = 0 },
		"limits.depth must be at most":        func(c *Config) { c.Limits.Depth = 600 },
		"limits must grow":                    func(c *Config) { c.Limits.DecodedBytes = 1 },
		"limits.event_bytes must be at most":  func(c *Config) { c.Limits.EventBytes = 1 << 20 },
		"in_flight_bytes":                     func(c *Config) { c.InFlightBytes = 1 << 20 },
		"spool.segment_bytes must be at most": func(c *Config) { c.Spool.MaxBytes = 1 << 20 },
		"lookup_timeout":                      func(c *Config) { c.LookupTimeout = -1 },
		"rates must not be negative":          func(c *Config) { c.Rates.AddressBurst = -1 },
		"rates must be at most":               func(c *Config) { c.Rates.SourceEvents = 2e9 },
		"trusted_proxies":                     func(c *Config) { c.TrustedProxies = []string{"x"} },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		err := cfg.Validate()
		require.ErrorContains(t, err, name)
		require.Equal(t, errs.Invalid, errs.KindOf(err))
	}
	require.NoError(t, DefaultConfig().Validate())
}
