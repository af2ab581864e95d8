package admin

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

const (
	defaultAuditPage = 100
	maxAuditPage     = 1000
	maxAuditText     = 200
	maxClockSkew     = 5 * time.Minute
)

// AuditEntry is one change that someone made.
type AuditEntry struct {
	ID             string
	OrganisationID string
	// WorkspaceID is empty for changes of the organisation itself.
	WorkspaceID string
	// Actor is "token:<id>" or "system".
	Actor string
	// Action is "<noun>.<verb>".
	Action string
	// Target is "<kind>:<id>".
	Target    string
	At        time.Time
	RequestID string
}

// Validate reports every field that cannot be stored.
func (a AuditEntry) Validate(now time.Time) error {
	var p problems
	if !ids.Valid(a.ID) {
		p.add("audit_id", "must be a UUID")
	}
	if !ids.Valid(a.OrganisationID) {
		p.add("organisation_id", "must be a UUID")
	}
	if a.WorkspaceID != "" && !ids.Valid(a.WorkspaceID) {
		p.add("workspace_id", "must be a UUID or empty")
	}
	if kind, id, ok := strings.Cut(a.Actor, ":"); a.Actor != "system" && (!ok || !isWord(kind) || !isAuditText(id)) {
		p.add("actor", "must be system or <kind>:<id>")
	}
	if noun, verb, ok := strings.Cut(a.Action, "."); !ok || !isWord(noun) || !isWord(verb) {
		p.add("action", "must be <noun>.<verb> of a-z and _")
	}
	if kind, id, ok := strings.Cut(a.Target, ":"); !ok || !isWord(kind) || !isAuditText(id) {
		p.add("target", "must be <kind>:<id>")
	}
	if a.RequestID != "" && !isAuditText(a.RequestID) {
		p.add("request_id", "must be at most 200 printable characters")
	}
	if a.At.IsZero() || a.At.After(now.Add(maxClockSkew)) {
		p.add("at", "must be a time that is not in the future")
	}
	return p.err("invalid_audit_entry")
}

func isWord(s string) bool {
	return s != "" && len(s) <= 50 && !strings.ContainsFunc(s, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') })
}

func isAuditText(s string) bool {
	return s != "" && len(s) <= maxAuditText && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// AuditCursor is the place after which a page of the audit log begins; the zero value is the newest entry.
type AuditCursor struct {
	At time.Time
	ID string
}

func (c AuditCursor) isZero() bool { return c.ID == "" }

// precedes tells whether the cursor comes before the entry in the order of the log, newest first.
func (c AuditCursor) precedes(a AuditEntry) bool {
	return c.isZero() || a.At.Before(c.At) || (a.At.Equal(c.At) && a.ID < c.ID)
}

// String is the page token of the place.
func (c AuditCursor) String() string {
	if c.isZero() {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(c.At.UnixMicro(), 10) + "/" + c.ID))
}

func parseAuditCursor(token string) (AuditCursor, error) {
	if token == "" {
		return AuditCursor{}, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		micros, id, _ := strings.Cut(string(raw), "/")
		at, err := strconv.ParseInt(micros, 10, 64)
		if err == nil && ids.Valid(id) {
			return AuditCursor{At: time.UnixMicro(at).UTC(), ID: id}, nil
		}
	}
	return AuditCursor{}, errs.New(errs.Invalid, "invalid_page_token",
		"page_token: give the next_page_token of the page before, unchanged, or nothing for the first page")
}
