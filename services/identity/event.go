package identity

import (
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// eventFields are what identity reads of an accepted event.
type eventFields struct {
	workspaceID string
	eventID     string
	anonymousID string
	userID      string
}

// Event is one accepted event, as far as identity cares: whose it is and where it stands in the log.
type Event struct {
	WorkspaceID string
	// Hash is hash128(workspace, event id): what deduplication compares.
	Hash ids.Hash
	// Offset is the event's place in its partition of the input.
	Offset int64
	// Identifiers are never empty, strongest first.
	Identifiers []Identifier
}

// newEvent refuses what the door should not have let in; such an event can never be resolved.
func newEvent(f eventFields, offset int64) (Event, error) {
	switch {
	case !ids.Valid(f.workspaceID):
		return Event{}, errs.New(errs.Invalid, "workspace_id_invalid", "The event's workspace_id is not a UUID")
	case f.eventID == "":
		return Event{}, errs.New(errs.Invalid, "event_id_missing", "The event has no event_id")
	}
	e := Event{
		WorkspaceID: f.workspaceID, Offset: offset,
		Hash: ids.Hash128(f.workspaceID, f.eventID), Identifiers: identifiersOf(f),
	}
	if len(e.Identifiers) == 0 {
		return Event{}, errs.New(errs.Invalid, "identifier_missing", "The event has neither user_id nor anonymous_id")
	}
	for _, id := range e.Identifiers {
		if strings.IndexByte(id.Value, 0) >= 0 {
			return Event{}, errs.New(errs.Invalid, "identifier_invalid", "An identifier of the event holds a zero byte")
		}
	}
	return e, nil
}
