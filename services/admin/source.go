package admin

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Types of sources.
const (
	SourceWeb     = "web"
	SourceApp     = "app"
	SourceServer  = "server"
	SourceWebhook = "webhook"
)

const maxOrigins = 100

// Source is one place that events come from: a shop's web site, an app, a server, a webhook.
type Source struct {
	WorkspaceID string
	ID          string
	Name        string
	Type        string
	Enabled     bool
	// Origins that browsers may send from; empty allows all.
	Origins   []string
	Revision  int64
	CreatedAt time.Time
	// DeletedAt is zero while the source lives. Deleted sources stay for a while, so that readers learn of it.
	DeletedAt time.Time
}

// Deleted tells whether the source is gone for everyone but the readers of the log.
func (s Source) Deleted() bool { return !s.DeletedAt.IsZero() }

// Validate reports every field that cannot be stored.
func (s Source) Validate() error {
	var p problems
	p.checkName(s.Name)
	switch s.Type {
	case SourceWeb, SourceApp:
	case SourceServer, SourceWebhook:
		if len(s.Origins) > 0 {
			p.add("origins", "only web and app sources have origins")
		}
	default:
		p.add("type", "must be web, app, server or webhook")
	}
	if len(s.Origins) > maxOrigins {
		p.add("origins", "at most 100 are allowed")
		return p.err("invalid_source")
	}
	for i, origin := range s.Origins {
		if _, problem := parseOrigin(origin); problem != "" {
			p.add("origins["+strconv.Itoa(i)+"]", problem)
		}
	}
	return p.err("invalid_source")
}

// normalizeOrigins writes origins as browsers do (lower case, punycode, no default port), without repetitions. What
// cannot be read stays as it is, for Validate to name.
func normalizeOrigins(origins []string) []string {
	out := make([]string, 0, len(origins))
	for _, origin := range origins {
		origin = strings.TrimSpace(origin)
		if normal, problem := parseOrigin(origin); problem == "" {
			origin = normal
		}
		if !slices.Contains(out, origin) {
			out = append(out, origin)
		}
	}
	return out
}

// parseOrigin returns the normal form of scheme://host[:port] or scheme://*.host[:port], or what is wrong with it.
func parseOrigin(origin string) (normal, problem string) {
	const form = "must be scheme://host or scheme://host:port, such as https://shop.example"
	switch {
	case origin == "*":
		return "", "leave the list empty to allow all origins"
	case origin == "" || len(origin) > 300:
		return "", form
	}
	scheme, rest, ok := strings.Cut(origin, "://")
	if !ok || strings.ContainsAny(rest, "/?#@\\") {
		return "", form + ", without a path"
	}
	host, wildcard := strings.CutPrefix(rest, "*.")
	if strings.Contains(host, "*") {
		return "", "a wildcard may only be the first label, as in https://*.shop.example"
	}
	u, err := url.Parse(scheme + "://" + host)
	if err != nil || u.Hostname() == "" || strings.HasSuffix(u.Host, ":") {
		return "", form
	}
	name, port := u.Hostname(), u.Port()
	isIP := false
	if addr, err := netip.ParseAddr(name); err == nil {
		isIP = true
		if addr.Is6() {
			name = "[" + addr.String() + "]"
		}
	} else if name, err = hostNames().ToASCII(name); err != nil {
		return "", "the host is not a valid name"
	}
	if wildcard && (isIP || !strings.Contains(name, ".")) {
		return "", "a wildcard must be followed by a name with two labels at least, as in https://*.shop.example"
	}
	scheme = strings.ToLower(scheme)
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", "the port must be between 1 and 65535"
		}
		port = ":" + port
	}
	if scheme == "https" && port == ":443" || scheme == "http" && port == ":80" {
		port = ""
	}
	if wildcard {
		name = "*." + name
	}
	return scheme + "://" + name + port, ""
}

// hostNames is what browsers do to names, and refuses names that no DNS could hold.
func hostNames() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))
}

func errSourceNotFound() error {
	return errs.New(errs.NotFound, "source_not_found", "There is no such source in this workspace.")
}

func errSourceNameTaken() error {
	return errs.New(errs.Conflict, "source_name_taken", "Another source of this workspace has this name; choose another one.")
}
