package mekong

import (
	"crypto/rand"
	"fmt"
	"time"
)

// Type is what kind of statement an event makes.
type Type string

// Types of events.
const (
	// Track says that somebody did something: Event.Name says what.
	Track Type = "track"
	// Identify says who somebody is: Event.Traits.
	Identify Type = "identify"
	// Page and Screen say that somebody looked at a page or a screen of an app.
	Page   Type = "page"
	Screen Type = "screen"
	// Group says that somebody belongs to Event.GroupID.
	Group Type = "group"
	// Alias says that Event.PreviousID and Event.UserID are the same person.
	Alias Type = "alias"
)

// Event is one thing that happened. UserID or AnonymousID must be set.
type Event struct {
	// MessageID identifies the event, so that a repetition is recognised. Send assigns one where it is empty; whoever
	// may send an event again by another call of Send sets it.
	MessageID string `json:"messageId"`
	// Type is Track where it is empty.
	Type Type `json:"type"`
	// Name is the name of a Track event, or of a page or screen.
	Name        string `json:"-"`
	UserID      string `json:"userId,omitempty"`
	AnonymousID string `json:"anonymousId,omitempty"`
	GroupID     string `json:"groupId,omitempty"`
	PreviousID  string `json:"previousId,omitempty"`
	// Timestamp is when it happened; the time of Send where it is zero.
	Timestamp  time.Time      `json:"timestamp"`
	Properties map[string]any `json:"properties,omitempty"`
	Traits     map[string]any `json:"traits,omitempty"`
	Context    map[string]any `json:"context,omitempty"`
}

// wireEvent is an event as the batch path takes it: the name of a track event is "event", of a page or screen "name".
type wireEvent struct {
	Event
	TrackName string `json:"event,omitempty"`
	PageName  string `json:"name,omitempty"`
}

// complete returns e as it is sent, with what the caller left out filled in.
func (e Event) complete(now time.Time) wireEvent {
	if e.MessageID == "" {
		e.MessageID = newID()
	}
	if e.Type == "" {
		e.Type = Track
	}
	if e.Timestamp.IsZero() {
		e.Timestamp = now
	}
	e.Timestamp = e.Timestamp.UTC()
	w := wireEvent{Event: e}
	if e.Type == Track {
		w.TrackName = e.Name
	} else {
		w.PageName = e.Name
	}
	return w
}

// newID returns a random UUID (version 4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never returns an error
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Status is what became of an event.
type Status string

// Statuses of events.
const (
	// OK: the event is stored durably.
	OK Status = "ok"
	// Duplicate: an event with this id was stored before.
	Duplicate Status = "duplicate"
	// Rejected: the server will never take this event; Result.Reason says why.
	Rejected Status = "rejected"
	// Retry: it is not known to be stored. Send repeats such events by itself, so this status is left only when it
	// returned an error.
	Retry Status = "retry"
)

// Result is what became of one event.
type Result struct {
	MessageID string `json:"event_id"`
	Status    Status `json:"status"`
	// Reason is a code that says why an event was rejected.
	Reason string `json:"reason,omitempty"`
}
