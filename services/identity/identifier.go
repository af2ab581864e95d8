package identity

import (
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// identifierType is one row of the table of identifier types.
type identifierType struct {
	name string
	// unique types name one person: a profile holds at most one identifier of such a type, so two of them never become
	// one profile by sharing a device.
	unique bool
	// of returns the value that an event carries, empty when it carries none.
	of func(eventFields) string
}

// identifierTypes are the types that an event may carry, strongest first: the strongest known one decides whose event it
// is. A new type is a new row.
var identifierTypes = [...]identifierType{
	{name: "user_id", unique: true, of: func(f eventFields) string { return f.userID }},
	{name: "anonymous_id", of: func(f eventFields) string { return f.anonymousID }},
}

// Identifier is one name under which a person is known in a workspace.
type Identifier struct {
	Type string
	// Value is personal data: it goes into the database and nowhere else.
	Value string
	// Hash is hash128(workspace, type, normalised value).
	Hash ids.Hash
}

func newIdentifier(workspaceID, kind, value string) Identifier {
	return Identifier{Type: kind, Value: value, Hash: ids.Hash128(workspaceID, kind, value)}
}

// identifiersOf returns the identifiers of an event, strongest first. Both types are opaque strings of the sender, so
// only white space around them is not part of the value.
func identifiersOf(f eventFields) []Identifier {
	out := make([]Identifier, 0, len(identifierTypes))
	for i := range identifierTypes {
		t := &identifierTypes[i]
		if value := strings.TrimSpace(t.of(f)); value != "" {
			out = append(out, newIdentifier(f.workspaceID, t.name, value))
		}
	}
	return out
}

func isUnique(kind string) bool {
	for i := range identifierTypes {
		if identifierTypes[i].name == kind {
			return identifierTypes[i].unique
		}
	}
	return false
}
