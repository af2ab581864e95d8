package identity

import (
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// person is a profile while a transaction decides about it.
type person struct {
	workspaceID string
	Profile
	// holds are the unique types of which it has its one identifier.
	holds map[string]bool
	fresh bool
	moved bool
}

// attachment gives an identifier to a profile.
type attachment struct {
	workspaceID string
	identifier  Identifier
	person      *person
}

// change is a Change whose profile has no number yet; the version is that of its moment.
type change struct {
	person      *person
	version     int64
	kind        ChangeKind
	identifiers []Identifier
}

// verdict is the decision about one event.
type verdict struct {
	event   *Event
	person  *person
	version int64
}

// assignment is what one transaction decides: the pure rule, the same for every store.
type assignment struct {
	newID func() string
	// owner is the profile of each known identifier; attached ones are added.
	owner map[ids.Hash]*person

	verdicts    []verdict
	created     []*person
	attachments []attachment
	changes     []change
	edges       []edge
}

type edge struct {
	person *person
	a, b   ids.Hash
	offset int64
}

// add decides about the next event: its strongest known identifier says whose it is, and the unknown ones are attached
// to that profile. A profile that already holds an identifier of a unique type takes no second one: then, or when
// nothing is known, the event founds a new profile. An identifier that has a profile keeps it.
func (a *assignment) add(e *Event) {
	var target *person
	var anchor ids.Hash
	var unknown []Identifier
	for _, id := range e.Identifiers {
		p := a.owner[id.Hash]
		switch {
		case p == nil:
			unknown = append(unknown, id)
		case target == nil:
			target, anchor = p, id.Hash
		}
	}
	kind := IdentifierAdded
	if target == nil || target.refuses(unknown) {
		kind = ProfileCreated
		target = &person{workspaceID: e.WorkspaceID, Profile: Profile{ID: a.newID()}, holds: map[string]bool{}, fresh: true}
		anchor = unknown[0].Hash
		a.created = append(a.created, target)
	}
	for _, id := range unknown {
		a.owner[id.Hash] = target
		if isUnique(id.Type) {
			target.holds[id.Type] = true
		}
		a.attachments = append(a.attachments, attachment{workspaceID: e.WorkspaceID, identifier: id, person: target})
		if id.Hash != anchor {
			a.edges = append(a.edges, edge{person: target, a: anchor, b: id.Hash, offset: e.Offset})
		}
	}
	if len(unknown) > 0 {
		target.Version++
		target.moved = true
		a.changes = append(a.changes, change{person: target, version: target.Version, kind: kind, identifiers: unknown})
	}
	a.verdicts = append(a.verdicts, verdict{event: e, person: target, version: target.Version})
}

// refuses reports whether one of the identifiers would be the second of a unique type.
func (p *person) refuses(identifiers []Identifier) bool {
	for _, id := range identifiers {
		if p.holds[id.Type] {
			return true
		}
	}
	return false
}

// decisions returns the decision of each event; to be called when new profiles have their numbers.
func (a *assignment) decisions() map[int64]Decision {
	out := make(map[int64]Decision, len(a.verdicts))
	for _, v := range a.verdicts {
		p := v.person.Profile
		p.Version = v.version
		out[v.event.Offset] = Decision{Profile: p, EventHash: v.event.Hash}
	}
	return out
}

// changesAt returns what happened, in order.
func (a *assignment) changesAt(at time.Time) []Change {
	out := make([]Change, len(a.changes))
	for i, c := range a.changes {
		p := c.person.Profile
		p.Version = c.version
		out[i] = Change{WorkspaceID: c.person.workspaceID, Profile: p, Kind: c.kind, Identifiers: c.identifiers, At: at}
	}
	return out
}

// known returns the profile, at its newest version, of every identifier of the events.
func (a *assignment) known() map[ids.Hash]Profile {
	out := make(map[ids.Hash]Profile, len(a.owner))
	for hash, p := range a.owner {
		out[hash] = p.Profile
	}
	return out
}
