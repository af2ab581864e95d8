package admin

import (
	"strings"
	"time"

	"golang.org/x/text/currency"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// What a workspace gets when its creator says nothing.
const (
	DefaultTimeZone = "Asia/Ho_Chi_Minh"
	DefaultCurrency = "VND"
)

const maxSlugLength = 63

// Workspace is the tenant: every row, key and message of Mekong carries its id.
type Workspace struct {
	ID             string
	OrganisationID string
	Slug           string
	Name           string
	TimeZone       string
	Currency       string
	Revision       int64
	CreatedAt      time.Time
}

// Normalize fills defaults and takes out what people type without meaning it.
func (w Workspace) Normalize() Workspace {
	w = w.withoutSpaces()
	if w.TimeZone == "" {
		w.TimeZone = DefaultTimeZone
	}
	if w.Currency == "" {
		w.Currency = DefaultCurrency
	}
	return w
}

func (w Workspace) withoutSpaces() Workspace {
	w.Slug = strings.TrimSpace(w.Slug)
	w.Name = strings.TrimSpace(w.Name)
	w.TimeZone = strings.TrimSpace(w.TimeZone)
	w.Currency = strings.ToUpper(strings.TrimSpace(w.Currency))
	return w
}

// Validate reports every field that cannot be stored.
func (w Workspace) Validate() error {
	var p problems
	p.checkName(w.Name)
	switch {
	case !isSlug(w.Slug):
		p.add("slug", "must have 1 to 63 characters of a-z, 0-9 and -, and neither start nor end with -")
	case ids.Valid(w.Slug):
		// Workspaces are found by id or slug, so one must never look like the other.
		p.add("slug", "must not look like an id")
	}
	if !isTimeZone(w.TimeZone) {
		p.add("time_zone", "must be an IANA time zone such as Asia/Ho_Chi_Minh")
	}
	if !isCurrency(w.Currency) {
		p.add("currency", "must be an ISO 4217 code such as VND")
	}
	return p.err("invalid_workspace")
}

func isSlug(s string) bool {
	if s == "" || len(s) > maxSlugLength || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

func isTimeZone(name string) bool {
	// LoadLocation knows "Local" too, which means another zone on every machine.
	if name == "" || name == "Local" || len(name) > 64 {
		return false
	}
	_, err := time.LoadLocation(name)
	return err == nil
}

func isCurrency(code string) bool {
	// "No currency" and "for tests" are ISO codes in which nobody can keep accounts.
	if len(code) != 3 || strings.ToUpper(code) != code || code == "XXX" || code == "XTS" {
		return false
	}
	_, err := currency.ParseISO(code)
	return err == nil
}

func errWorkspaceNotFound() error {
	return errs.New(errs.NotFound, "workspace_not_found", "There is no such workspace, or this token may not use it.")
}

func errSlugTaken() error {
	return errs.New(errs.Conflict, "slug_taken", "Another workspace has this slug; choose another one.")
}
