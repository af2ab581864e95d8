package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func setup(t *testing.T) http.Handler {
	t.Helper()
	handler, err := newHandler(fstest.MapFS{
		"index.html":          {Data: []byte("<!doctype html>plain")},
		"index.html.br":       {Data: []byte("br")},
		"index.html.gz":       {Data: []byte("gz")},
		"favicon.svg":         {Data: []byte("<svg/>")},
		"assets/app-1a2b.js":  {Data: []byte("js")},
		"assets/app-1a2b.css": {Data: []byte("css")},
	})
	require.NoError(t, err)
	return handler
}

func get(t *testing.T, handler http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

func TestPagesAndFiles(t *testing.T) {
	t.Parallel()
	handler := setup(t)
	for path, want := range map[string]struct{ contentType, cache, body string }{
		"/":                   {"text/html; charset=utf-8", cacheRevalidate, "<!doctype html>plain"},
		"/api/docs":           {"text/html; charset=utf-8", cacheRevalidate, "<!doctype html>plain"},
		"/api/docs/":          {"text/html; charset=utf-8", cacheRevalidate, "<!doctype html>plain"},
		"/favicon.svg":        {"image/svg+xml", cacheRevalidate, "<svg/>"},
		"/assets/app-1a2b.js": {"text/javascript; charset=utf-8", cacheForever, "js"},
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			got := get(t, handler, path)
			require.Equal(t, http.StatusOK, got.Code)
			require.Equal(t, want.contentType, got.Header().Get("Content-Type"))
			require.Equal(t, want.cache, got.Header().Get("Cache-Control"))
			require.Equal(t, want.body, got.Body.String())
			require.Contains(t, got.Header().Get("Content-Security-Policy"), "default-src 'none'")
			require.NotContains(t, got.Header().Get("Content-Security-Policy"), "unsafe")
			require.Equal(t, "nosniff", got.Header().Get("X-Content-Type-Options"))
		})
	}
}

func TestUnknownPathsAreNotFound(t *testing.T) {
	t.Parallel()
	handler := setup(t)
	for _, path := range []string{"/nothing", "/assets/", "/assets", "/index.html.br", "/../web.go", "/api"} {
		require.Equal(t, http.StatusNotFound, get(t, handler, path).Code, path)
	}
}

func TestContentCoding(t *testing.T) {
	t.Parallel()
	handler := setup(t)
	for accept, want := range map[string]struct{ coding, body string }{
		"":                         {"", "<!doctype html>plain"},
		"gzip, deflate, br, zstd":  {"br", "br"},
		"gzip":                     {"gzip", "gz"},
		"GZIP;q=0.5, br;q=0":       {"gzip", "gz"},
		"br;q=0.0, gzip;q=0":       {"", "<!doctype html>plain"},
		"brotli":                   {"", "<!doctype html>plain"},
		"br;q=nonsense, gzip;q=.1": {"gzip", "gz"},
	} {
		got := get(t, handler, "/", "Accept-Encoding", accept)
		require.Equal(t, want.coding, got.Header().Get("Content-Encoding"), accept)
		require.Equal(t, want.body, got.Body.String(), accept)
		require.Equal(t, "Accept-Encoding", got.Header().Get("Vary"), accept)
	}
	require.Empty(t, get(t, handler, "/favicon.svg", "Accept-Encoding", "br").Header().Get("Content-Encoding"))
}

func TestRevalidation(t *testing.T) {
	t.Parallel()
	handler := setup(t)
	plain := get(t, handler, "/").Header().Get("ETag")
	packed := get(t, handler, "/", "Accept-Encoding", "br").Header().Get("ETag")
	require.NotEmpty(t, plain)
	require.NotEqual(t, plain, packed, "two codings are two representations")

	for _, held := range []string{plain, packed, "W/" + plain, `"other", ` + packed} {
		got := get(t, handler, "/", "If-None-Match", held, "Accept-Encoding", "br")
		require.Equal(t, http.StatusNotModified, got.Code, held)
		require.Empty(t, got.Body.String())
	}
	require.Equal(t, http.StatusOK, get(t, handler, "/", "If-None-Match", `"other"`).Code)
}

func TestMethods(t *testing.T) {
	t.Parallel()
	handler := setup(t)
	head := httptest.NewRecorder()
	handler.ServeHTTP(head, httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/", nil))
	require.Equal(t, http.StatusOK, head.Code)
	require.Equal(t, "20", head.Header().Get("Content-Length"))
	require.Empty(t, head.Body.String())

	post := httptest.NewRecorder()
	handler.ServeHTTP(post, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
	require.Equal(t, http.StatusMethodNotAllowed, post.Code)
	require.Equal(t, "GET, HEAD", post.Header().Get("Allow"))
}

func TestPagesWithoutIndexAreRefused(t *testing.T) {
	t.Parallel()
	_, err := newHandler(fstest.MapFS{"favicon.svg": {Data: []byte("<svg/>")}})
	require.ErrorContains(t, err, "make build")
}

func TestAbsentPagesSayHowToGetThem(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/", "/api/docs"} {
		got := get(t, http.HandlerFunc(absent), path)
		require.Equal(t, http.StatusNotFound, got.Code)
		require.Contains(t, got.Body.String(), "run make build")
	}
	require.NotContains(t, get(t, http.HandlerFunc(absent), "/x").Body.String(), "make build")
}
