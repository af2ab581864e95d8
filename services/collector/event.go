package collector

import (
	"strings"
	"time"

	"github.com/mekong-cdp/mekong/services/collector/jsonscan"
)

// Type is the kind of call that the sender made. Its numbers are those of the proto.
type Type uint8

// The types of events.
const (
	TypeUnknown Type = iota
	TypeTrack
	TypePage
	TypeScreen
	TypeIdentify
	TypeGroup
	TypeAlias
)

// Step is where an event stands on the way through a shop. Its numbers are those of the proto.
type Step uint8

// The steps of a shop.
const (
	StepNone Step = iota
	StepImpression
	StepView
	StepClick
	StepSearch
	StepAddToCart
	StepCheckout
	StepPurchase
	StepRefund
)

// Event is one event as the rest of Mekong will see it.
type Event struct {
	ID           string
	Type         Type
	Name         string
	Time         time.Time
	OriginalTime time.Time
	SentAt       time.Time
	AnonymousID  string
	UserID       string
	SessionID    string
	GroupID      string
	PreviousID   string
	Step         Step
	// Properties, Traits and Context are JSON objects exactly as sent, empty when absent.
	Properties string
	Traits     string
	Context    string
	// IDAssigned and TimeClamped tell what the door changed.
	IDAssigned  bool
	TimeClamped bool
}

// DistinctID is the device, else the person: what keeps events of one sender in order.
func (e *Event) DistinctID() string {
	if e.AnonymousID != "" {
		return e.AnonymousID
	}
	return e.UserID
}

// Rejection says why one event was refused.
type Rejection struct {
	Reason  string
	Message string
	Path    string
}

// item is one event of a request: accepted so far, or refused.
type item struct {
	Event
	Raw      string
	Rejected Rejection
	// timestamp is the sender's time as it wrote it, for the id of events that have none.
	timestamp string
}

func (it *item) refused() bool { return it.Rejected.Reason != "" }

// refuse keeps the first reason.
func (it *item) refuse(reason, path, message string) {
	if !it.refused() {
		it.Rejected = Rejection{Reason: reason, Path: path, Message: message}
	}
}

const (
	maxEventID = 100
	// maxText bounds names and identifiers; longer ones are mistakes, and they become keys.
	maxText = 512
)

// text takes a string or a number; null and absence are the empty string.
func (it *item) text(v jsonscan.Value, path string) string {
	switch {
	case !v.Given():
		return ""
	case v.Kind != jsonscan.String && v.Kind != jsonscan.Number:
		it.refuse("wrong_type", path, "This must be a string or a number.")
		return ""
	}
	s := v.Text()
	switch {
	case len(s) > maxText:
		it.refuse("value_too_long", path, "This may have at most 512 bytes.")
		return ""
	case strings.IndexByte(s, 0) >= 0:
		it.refuse("invalid_character", path, "This must not contain the character NUL.")
		return ""
	}
	return s
}

// eventID is text with its own limit; what is too long is not kept, since it could not be found again.
func (it *item) eventID(v jsonscan.Value, path string) string {
	id := it.text(v, path)
	if len(id) > maxEventID {
		it.refuse("event_id_too_long", path, "An event id may have at most 100 bytes.")
		return ""
	}
	return id
}

// object takes an object as it was sent. PHP writes an empty one as [].
func (it *item) object(v jsonscan.Value, path string) string {
	switch {
	case v.Kind == jsonscan.Object:
		return v.Raw
	case !v.Given(), v.Kind == jsonscan.Array && strings.TrimSpace(v.Raw[1:len(v.Raw)-1]) == "":
		return ""
	}
	it.refuse("wrong_type", path, "This must be an object.")
	return ""
}

// time takes an ISO 8601 time or a Unix time in seconds or milliseconds.
func (it *item) time(v jsonscan.Value, path string) time.Time {
	if !v.Given() {
		return time.Time{}
	}
	t, ok := parseTime(v)
	if !ok {
		it.refuse("invalid_timestamp", path, "This must be an ISO 8601 time like 2026-10-18T12:34:56.789Z.")
	}
	return t
}

// flaw refuses what could be read but not stored.
func (it *item) flaw(f jsonscan.Flaw, path string) {
	switch {
	case f&jsonscan.InvalidUTF8 != 0:
		it.refuse("invalid_utf8", path, "The text is not valid UTF-8.")
	case f&jsonscan.TooDeep != 0:
		it.refuse("too_deep", path, "The value is nested too deeply.")
	}
}

// complete checks what each type needs besides well-formed members.
func (it *item) complete(names memberNames) {
	switch {
	case it.refused():
	case it.AnonymousID == "" && it.UserID == "":
		it.refuse("missing_id", names.anonymousID, "An event needs an anonymous id or a user id.")
	case it.Type == TypeTrack && it.Name == "":
		it.refuse("missing_event", names.event, "A track event needs a name.")
	case it.Type == TypeGroup && it.GroupID == "":
		it.refuse("missing_group_id", "groupId", "A group event needs the id of the group.")
	case it.Type == TypeAlias && it.PreviousID == "":
		it.refuse("missing_previous_id", "previousId", "An alias event needs the previous id.")
	}
}
