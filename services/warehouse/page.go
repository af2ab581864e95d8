package warehouse

import (
	"net/url"
	"strings"
)

// pageOf takes path and campaign out of the address of a page, as far as nothing better is known.
func (r *Row) pageOf(address string) {
	address, _, _ = strings.Cut(address, "#")
	address, query, _ := strings.Cut(address, "?")
	if r.text[fieldPagePath] == "" {
		if _, rest, ok := strings.Cut(address, "://"); ok {
			path := "/"
			if i := strings.IndexByte(rest, '/'); i >= 0 {
				path = rest[i:]
			}
			r.text[fieldPagePath] = path
		} else if strings.HasPrefix(address, "/") {
			r.text[fieldPagePath] = address
		}
	}
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if f, ok := queryField(key); ok && r.text[f] == "" && value != "" {
			r.text[f] = unescape(value)
		}
	}
}

func queryField(key string) (field, bool) {
	switch key {
	case "utm_source":
		return fieldUTMSource, true
	case "utm_medium":
		return fieldUTMMedium, true
	case "utm_campaign":
		return fieldUTMCampaign, true
	case "utm_term":
		return fieldUTMTerm, true
	case "utm_content":
		return fieldUTMContent, true
	case "gclid", "gbraid", "wbraid", "fbclid", "ttclid", "msclkid", "dclid", "twclid", "li_fat_id", "zclid":
		return fieldClickID, true
	default:
		return 0, false
	}
}

func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	if plain, err := url.QueryUnescape(s); err == nil {
		return strings.ToValidUTF8(plain, "\uFFFD")
	}
	return s
}

// domainOf is the host of an address in lower case, without port and leading "www.".
func domainOf(address string) string {
	_, rest, ok := strings.Cut(address, "://")
	if !ok {
		return ""
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = rest[i+1:]
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.HasSuffix(rest, "]") {
		rest = rest[:i]
	}
	return strings.TrimPrefix(strings.ToLower(rest), "www.")
}
