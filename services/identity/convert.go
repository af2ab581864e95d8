package identity

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// Numbers of the fields of mekong.collector.v1.Event that are read or checked here. The event travels on as the bytes it
// came in, so nothing else of it is taken apart; a test holds this reading equal to the generated code.
const (
	eventWorkspaceID = 1
	eventEventID     = 3
	eventAnonymousID = 10
	eventUserID      = 11
	eventFlags       = 21
)

// Numbers of the fields of mekong.identity.v1.ResolvedEvent.
const (
	resolvedEvent          = 1
	resolvedProfileID      = 2
	resolvedProfileNo      = 3
	resolvedProfileVersion = 4
	resolvedIdentifiers    = 5
	resolvedSrcPartition   = 6
	resolvedSrcOffset      = 7
	resolvedEventHash      = 8

	identifierTypeField = 1
	identifierHashField = 2
)

// errMalformed says that a record is no event. Consumers behind us decode the whole event, so what they would refuse is
// refused here, where it becomes a dead letter once.
func errMalformed() error {
	return errs.New(errs.Invalid, "event_malformed", "The record is not a mekong.collector.v1.Event")
}

// decodeFields reads an event's fields from its wire format.
func decodeFields(b []byte) (eventFields, error) {
	var f eventFields
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 || !number.IsValid() {
			return eventFields{}, errMalformed()
		}
		b = b[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
				return eventFields{}, errMalformed()
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 || !validField(number, v) {
			return eventFields{}, errMalformed()
		}
		b = b[n:]
		switch number {
		case eventWorkspaceID:
			f.workspaceID = string(v)
		case eventEventID:
			f.eventID = string(v)
		case eventAnonymousID:
			f.anonymousID = string(v)
		case eventUserID:
			f.userID = string(v)
		}
	}
	return f, nil
}

// validField checks what the generated code checks of a length-delimited field.
func validField(number protowire.Number, v []byte) bool {
	switch number {
	case 1, 2, 3, 5, 10, 11, 12, 13, 14, 19, 20, 22: // strings
		return utf8.Valid(v)
	case 6, 7, 8, 9: // timestamps
		for len(v) > 0 {
			number, _, n := protowire.ConsumeField(v)
			if n < 0 || !number.IsValid() {
				return false
			}
			v = v[n:]
		}
	case eventFlags: // packed
		for len(v) > 0 {
			_, n := protowire.ConsumeVarint(v)
			if n < 0 {
				return false
			}
			v = v[n:]
		}
	}
	return true
}

// appendResolved appends the wire format of a ResolvedEvent that embeds event as it is.
func appendResolved(b, event []byte, e *Event, p Profile, partition int32) []byte {
	b = appendBytes(b, resolvedEvent, event)
	b = protowire.AppendTag(b, resolvedProfileID, protowire.BytesType)
	b = protowire.AppendString(b, p.ID)
	b = appendInt(b, resolvedProfileNo, p.No)
	b = appendInt(b, resolvedProfileVersion, p.Version)
	for i := range e.Identifiers {
		id := &e.Identifiers[i]
		size := protowire.SizeTag(identifierTypeField) + protowire.SizeBytes(len(id.Type)) +
			protowire.SizeTag(identifierHashField) + protowire.SizeBytes(len(id.Hash))
		b = protowire.AppendTag(b, resolvedIdentifiers, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(size)) //nolint:gosec // a length
		b = protowire.AppendTag(b, identifierTypeField, protowire.BytesType)
		b = protowire.AppendString(b, id.Type)
		b = appendBytes(b, identifierHashField, id.Hash[:])
	}
	b = appendInt(b, resolvedSrcPartition, int64(partition))
	b = appendInt(b, resolvedSrcOffset, e.Offset)
	return appendBytes(b, resolvedEventHash, e.Hash[:])
}

// resolvedSize bounds what appendResolved appends.
func resolvedSize(event []byte, e *Event) int {
	return len(event) + 160 + 40*len(e.Identifiers)
}

func appendBytes(b []byte, number protowire.Number, v []byte) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return protowire.AppendBytes(b, v)
}

func appendInt(b []byte, number protowire.Number, v int64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, number, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(v)) //nolint:gosec // two's complement, as protobuf has it
}

// resolvedPlace reads the source offset and the event hash of a ResolvedEvent.
func resolvedPlace(b []byte) (offset int64, hash ids.Hash, err error) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, hash, errMalformed()
		}
		b = b[n:]
		value := b
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return 0, hash, errMalformed()
		}
		b = b[n:]
		switch {
		case number == resolvedSrcOffset && kind == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(value)
			offset = int64(v) //nolint:gosec // two's complement, as protobuf has it
		case number == resolvedEventHash && kind == protowire.BytesType:
			if v, _ := protowire.ConsumeBytes(value); len(v) == len(hash) {
				copy(hash[:], v)
			}
		}
	}
	if hash == (ids.Hash{}) {
		return 0, hash, errMalformed()
	}
	return offset, hash, nil
}

// changeMessage is the wire format of a ProfileChange.
func changeMessage(c Change) ([]byte, error) {
	m := &identityv1.ProfileChange{
		WorkspaceId: c.WorkspaceID, ProfileId: c.Profile.ID, ProfileNo: c.Profile.No, ProfileVersion: c.Profile.Version,
		ChangedAt: timestamppb.New(c.At),
	}
	switch c.Kind {
	case ProfileCreated:
		m.Kind = identityv1.ProfileChangeKind_PROFILE_CHANGE_KIND_CREATED
	case IdentifierAdded:
		m.Kind = identityv1.ProfileChangeKind_PROFILE_CHANGE_KIND_IDENTIFIER_ADDED
	}
	for _, id := range c.Identifiers {
		m.Identifiers = append(m.Identifiers, &identityv1.Identifier{Type: id.Type, Hash: id.Hash[:]})
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}
