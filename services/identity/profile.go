package identity

import (
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// Profile is a person at one version.
type Profile struct {
	// ID is a UUIDv7, never derived from an identifier: identifiers move, profiles stay.
	ID string
	// No is the dense number that the warehouse joins on.
	No int64
	// Version rises by one with each change.
	Version int64
}

// ChangeKind says what happened to a profile.
type ChangeKind uint8

// The kinds of change.
const (
	ProfileCreated ChangeKind = iota + 1
	IdentifierAdded
)

// Change is one new version of a profile.
type Change struct {
	WorkspaceID string
	Profile     Profile
	Kind        ChangeKind
	// Identifiers are those that this change brought.
	Identifiers []Identifier
	At          time.Time
}

// Edge says that an event carried two identifiers of one profile together. Edges are only ever added: they are the
// evidence from which a profile can be split again.
type Edge struct {
	WorkspaceID string
	ProfileID   string
	// A is the identifier that decided, B the one that was attached.
	A, B      ids.Hash
	Partition int32
	Offset    int64
}

// Decision says whose an event is. It is kept until the event cannot be replayed any more.
type Decision struct {
	Profile   Profile
	EventHash ids.Hash
}
