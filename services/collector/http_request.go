package collector

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"strings"
)

// keyOf returns the write key that the headers or the query name, empty when it must be in the body.
func keyOf(r *http.Request) string {
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	credentials = strings.TrimSpace(credentials)
	switch {
	case strings.EqualFold(scheme, "Basic"):
		if key := basicKey(credentials); key != "" {
			return key
		}
	case strings.EqualFold(scheme, "Bearer"):
		// A token with two dots is a JWT: it says who the person is, and the key is somewhere else.
		if credentials != "" && strings.Count(credentials, ".") != 2 {
			return credentials
		}
	}
	if key := r.Header.Get("X-Write-Key"); key != "" {
		return key
	}
	if r.URL.RawQuery == "" {
		return ""
	}
	query := r.URL.Query()
	for _, name := range []string{"writeKey", "write_key", "api_key", "token"} {
		if key := query.Get(name); key != "" {
			return key
		}
	}
	return ""
}

// basicKey takes the user name; some senders leave out the colon or the padding.
func basicKey(credentials string) string {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(credentials, "="))
	if err != nil {
		return ""
	}
	key, _, _ := strings.Cut(string(b), ":")
	return key
}

// address is the sender's: the last hop that is no proxy of ours.
func (h *door) address(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	addr := peer.Addr().Unmap()
	if len(h.proxies) == 0 || !h.trusted(addr) {
		return addr.WithZone("").String()
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		if addr = hop.Unmap(); !h.trusted(addr) {
			break
		}
	}
	return addr.WithZone("").String()
}

func (h *door) trusted(addr netip.Addr) bool {
	for _, p := range h.proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

func userAgent(r *http.Request) string {
	ua := r.UserAgent()
	if len(ua) > maxUserAgent {
		ua = ua[:maxUserAgent]
	}
	return strings.ToValidUTF8(ua, "\ufffd")
}

// allowOrigin lets pages of any origin read the answer, errors and their Retry-After too. Which origins may send is the
// source's business; there are no cookies that a page could misuse.
func allowOrigin(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Expose-Headers", "Retry-After, X-Request-Id")
	h.Add("Vary", "Origin")
}

// preflight allows what the browser asks for: SDKs add headers of their own on retries, and a fixed list would lose
// exactly the retried events.
func preflight(w http.ResponseWriter, r *http.Request) {
	allowOrigin(w, r)
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Methods", "POST, OPTIONS")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
}
