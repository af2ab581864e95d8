package web

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// policy is the content security policy of every answer.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; " +
	"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

const (
	cacheForever    = "public, max-age=31536000, immutable"
	cacheRevalidate = "no-cache"
)

// encodings in the order of preference, with the suffix of the file that holds it.
func encodings() [2][2]string { return [2][2]string{{"br", ".br"}, {"gzip", ".gz"}} }

// A file is one servable file with its compressed variants, all in memory: the binary holds them anyway.
type file struct {
	plain       []byte
	packed      map[string][]byte // by content coding
	contentType string
	etag        string
	cache       string
}

// Handler serves the pages: index.html at / and /api/docs, other files at their own names. Mount it below everything
// else: it answers 404 to what it does not know.
func Handler() (http.Handler, error) {
	embedded, ok := files()
	if !ok {
		return http.HandlerFunc(absent), nil
	}
	return newHandler(embedded)
}

func newHandler(dist fs.FS) (http.Handler, error) {
	byPath, err := load(dist)
	if err != nil {
		return nil, err
	}
	index, ok := byPath["/index.html"]
	if !ok {
		return nil, fmt.Errorf("the embedded pages have no index.html: run make build")
	}
	byPath["/"], byPath["/api/docs"] = index, index
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !readOnly(w, r) {
			return
		}
		found, ok := byPath[clean(r.URL.Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		found.serve(w, r)
	}), nil
}

// absent answers when the binary was built without the pages.
func absent(w http.ResponseWriter, r *http.Request) {
	if !readOnly(w, r) {
		return
	}
	switch clean(r.URL.Path) {
	case "/", "/api/docs":
		http.Error(w, "This binary was built without the web pages: run make build.", http.StatusNotFound)
	default:
		http.NotFound(w, r)
	}
}

// clean lets /api/docs/ mean /api/docs.
func clean(urlPath string) string { return path.Clean("/" + urlPath) }

func readOnly(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "The pages are read with GET.", http.StatusMethodNotAllowed)
	return false
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.contentType)
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", f.cache)
	header.Set("Vary", "Accept-Encoding")

	body, etag := f.plain, f.etag
	for _, coding := range encodings() {
		if packed, ok := f.packed[coding[0]]; ok && accepts(r.Header.Get("Accept-Encoding"), coding[0]) {
			body, etag = packed, f.etag+"-"+coding[0]
			header.Set("Content-Encoding", coding[0])
			break
		}
	}
	header.Set("ETag", `"`+etag+`"`)
	if matches(r.Header.Get("If-None-Match"), f.etag) {
		header.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client went away: nothing is left to tell it
	}
}

// accepts tells whether an Accept-Encoding header allows a coding; "br;q=0" forbids it.
func accepts(header, coding string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, parameters, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), coding) {
			continue
		}
		quality, found := strings.CutPrefix(strings.TrimSpace(parameters), "q=")
		if !found {
			return true
		}
		q, err := strconv.ParseFloat(quality, 64)
		return err == nil && q > 0
	}
	return false
}

// matches tells whether If-None-Match names the content, in whatever coding the client holds it.
func matches(header, etag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		tag := strings.Trim(strings.TrimPrefix(strings.TrimSpace(part), "W/"), `"`)
		for _, coding := range encodings() {
			tag = strings.TrimSuffix(tag, "-"+coding[0])
		}
		if tag == etag {
			return true
		}
	}
	return false
}

// load reads every file with its variants.
func load(dist fs.FS) (map[string]*file, error) {
	byPath := map[string]*file{}
	err := fs.WalkDir(dist, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || isVariant(name) {
			return err
		}
		plain, err := fs.ReadFile(dist, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(plain)
		loaded := &file{
			plain:       plain,
			packed:      map[string][]byte{},
			contentType: contentType(name),
			etag:        hex.EncodeToString(sum[:12]),
			cache:       cacheRevalidate,
		}
		if strings.HasPrefix(name, "assets/") {
			loaded.cache = cacheForever
		}
		for _, coding := range encodings() {
			packed, err := fs.ReadFile(dist, name+coding[1])
			if err == nil {
				loaded.packed[coding[0]] = packed
			}
		}
		byPath["/"+name] = loaded
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the embedded pages: %w", err)
	}
	return byPath, nil
}

func isVariant(name string) bool {
	for _, coding := range encodings() {
		if strings.HasSuffix(name, coding[1]) {
			return true
		}
	}
	return false
}

// contentType does not depend on the machine's own tables for the types that the pages consist of.
func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	default:
		if known := mime.TypeByExtension(ext); known != "" {
			return known
		}
		return "application/octet-stream"
	}
}
