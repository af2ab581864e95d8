package collector

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// routes says which path is which wire. Segment's browser SDK uses the short forms.
func routes() map[string]wire {
	all := map[string]wire{
		"/v1/events": {name: "v1/events", shape: shapeShop},
		"/v1/batch":  {name: "v1/batch", shape: shapeBatch},
		"/v1/b":      {name: "v1/batch", shape: shapeBatch},
	}
	for name, typ := range typeNames() {
		w := wire{name: "v1/" + name, shape: shapeSingle, typ: typ}
		all["/v1/"+name], all["/v1/"+name[:1]] = w, w
	}
	return all
}

// door answers the ingestion paths.
type door struct {
	service   *service
	keys      *keyFinder
	bodies    *bodyReader
	sources   *limiter
	addresses *limiter
	proxies   []netip.Prefix
	metrics   *metrics
}

// register adds all paths to mux.
func (h *door) register(mux *http.ServeMux) {
	for path, w := range routes() {
		mux.HandleFunc("POST "+path, h.handler(w))
		mux.HandleFunc("OPTIONS "+path, preflight)
	}
}

func (h *door) handler(w wire) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		allowOrigin(rw, r)
		code := h.serve(rw, r, w)
		h.metrics.request(r.Context(), w.name, code)
	}
}

// serve answers one request and returns the status.
func (h *door) serve(rw http.ResponseWriter, r *http.Request, w wire) int {
	ctx := r.Context()
	ip := h.address(r)
	if wait, ok := h.addresses.take(ip, 1, h.service.clock.Now()); !ok {
		return writeError(rw, r, errs.New(errs.RateLimited, "address_rate_limited", "This address sends too many requests; slow down.").WithRetryAfter(wait))
	}
	var source Source
	key := keyOf(r)
	if key != "" {
		var err error
		if source, err = h.admit(ctx, r, key); err != nil {
			return writeError(rw, r, err)
		}
	}
	body, done, err := h.bodies.read(r)
	defer done()
	if err != nil {
		return writeError(rw, r, err)
	}
	var req request
	if err := h.service.decoder.decode(w, body, &req); err != nil {
		return writeError(rw, r, err)
	}
	if key == "" {
		if source, err = h.admit(ctx, r, req.writeKey); err != nil {
			return writeError(rw, r, err)
		}
	}
	received := h.service.now()
	if wait, ok := h.sources.take(source.ID, len(req.items), received); !ok {
		return writeError(rw, r, errs.New(errs.RateLimited, "source_rate_limited", "This source sends more events than it may; slow down.").WithRetryAfter(wait))
	}
	return h.collect(rw, r, w, &req, &receipt{
		source: source, wire: w.name, receivedAt: received, ip: ip, userAgent: userAgent(r),
	})
}

// collect stores what was read and answers as the wire expects it.
func (h *door) collect(rw http.ResponseWriter, r *http.Request, w wire, req *request, rec *receipt) int {
	detailed := w.shape == shapeShop || w.shape == shapeBatch && wantsResults(r)
	results, err := h.service.collect(r.Context(), req, rec, detailed)
	switch {
	case err != nil && detailed:
		return writeErrorResults(rw, r, err, results)
	case err != nil:
		return writeError(rw, r, err)
	case detailed:
		return writeResults(rw, results)
	case w.shape == shapeSingle && results[0].status == statusRejected:
		return writeRejection(rw, r, req.items[0].Rejected)
	default:
		return writeSuccess(rw)
	}
}

// admit finds the source of a key and checks that this request may use it.
func (h *door) admit(ctx context.Context, r *http.Request, key string) (Source, error) {
	if key == "" {
		return Source{}, errKeyMissing
	}
	source, err := h.keys.find(ctx, key)
	if err != nil {
		return Source{}, err
	}
	if !source.allows(r.Header.Get("Origin")) {
		return Source{}, errOrigin
	}
	return source, nil
}

func wantsResults(r *http.Request) bool {
	if r.URL.RawQuery == "" {
		return false
	}
	switch r.URL.Query().Get("results") {
	case "1", "true":
		return true
	}
	return false
}
