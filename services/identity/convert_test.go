package identity

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

func drawEvent(t *rapid.T) *collectorv1.Event {
	text := rapid.String()
	maybeTime := func(label string) *timestamppb.Timestamp {
		if !rapid.Bool().Draw(t, label) {
			return nil
		}
		return &timestamppb.Timestamp{Seconds: rapid.Int64().Draw(t, label+" s"), Nanos: rapid.Int32().Draw(t, label+" ns")}
	}
	return &collectorv1.Event{
		WorkspaceId: text.Draw(t, "workspace"), SourceId: text.Draw(t, "source"), EventId: text.Draw(t, "event id"),
		Type: collectorv1.EventType(rapid.Int32().Draw(t, "type")), Name: text.Draw(t, "name"),
		Ts: maybeTime("ts"), ReceivedAt: maybeTime("received at"), OriginalTs: maybeTime("original"), SentAt: maybeTime("sent at"),
		AnonymousId: text.Draw(t, "anonymous id"), UserId: text.Draw(t, "user id"), SessionId: text.Draw(t, "session id"),
		GroupId: text.Draw(t, "group id"), PreviousId: text.Draw(t, "previous id"),
		Properties: rapid.SliceOf(rapid.Byte()).Draw(t, "properties"), Ip: text.Draw(t, "ip"),
		Flags: []collectorv1.EventFlag{collectorv1.EventFlag(rapid.Int32().Draw(t, "flag"))}, Wire: text.Draw(t, "wire"),
	}
}

// sameAsGenerated fails unless decodeFields accepts exactly what the generated code accepts, and reads the same.
func sameAsGenerated(t require.TestingT, raw []byte) {
	var want collectorv1.Event
	wantErr := proto.Unmarshal(raw, &want)
	got, err := decodeFields(raw)
	require.Equal(t, wantErr == nil, err == nil, "generated code: %v, ours: %v", wantErr, err)
	if err == nil {
		require.Equal(t, eventFields{
			workspaceID: want.GetWorkspaceId(), eventID: want.GetEventId(), anonymousID: want.GetAnonymousId(), userID: want.GetUserId(),
		}, got)
	}
}

func TestDecodeEqualsGeneratedCode(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw, err := proto.Marshal(drawEvent(t))
		require.NoError(t, err)
		if rapid.Bool().Draw(t, "twice") { // the last value of a field wins
			again, err := proto.Marshal(drawEvent(t))
			require.NoError(t, err)
			raw = append(raw, again...)
		}
		if n := len(raw); n > 0 && rapid.Bool().Draw(t, "damage") {
			raw[rapid.IntRange(0, n-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			raw = raw[:rapid.IntRange(0, n).Draw(t, "cut")]
		}
		sameAsGenerated(t, raw)
	})
}

func FuzzDecode(f *testing.F) {
	raw, err := proto.Marshal(&collectorv1.Event{WorkspaceId: "w", EventId: "e", UserId: "u", Ts: timestamppb.New(time.Unix(1, 2))})
	require.NoError(f, err)
	f.Add(raw)
	f.Add([]byte{0x0a, 0x01, 0xff})                          // not UTF-8
	f.Add([]byte{0x32, 0x01, 0x0b})                          // a group that does not end, in a timestamp
	f.Add([]byte{0xaa, 0x01, 0x02, 0x01, 0x80})              // packed flags that end early
	f.Add([]byte{0x0b, 0x0c})                                // an empty group
	f.Add(protowire.AppendTag(nil, 1, protowire.VarintType)) // no value
	f.Add([]byte("\xc8\xc8\xc8\xc80\xc8\xc8\xc80"))          // a field number that is too high
	f.Fuzz(func(t *testing.T, raw []byte) { sameAsGenerated(t, raw) })
}

func TestEncodeEqualsGeneratedCode(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		event := drawEvent(t)
		raw, err := proto.Marshal(event)
		require.NoError(t, err)
		e := &Event{Hash: ids.Hash128(rapid.String().Draw(t, "hash")), Offset: rapid.Int64Min(0).Draw(t, "offset")}
		want := &identityv1.ResolvedEvent{
			Event: event, ProfileId: rapid.String().Draw(t, "profile"), ProfileNo: rapid.Int64().Draw(t, "no"),
			ProfileVersion: rapid.Int64().Draw(t, "version"), SrcPartition: rapid.Int32Min(0).Draw(t, "partition"),
			SrcOffset: e.Offset, EventHash: e.Hash[:],
		}
		for range rapid.IntRange(0, 3).Draw(t, "identifiers") {
			id := newIdentifier("w", rapid.String().Draw(t, "type"), rapid.String().Draw(t, "value"))
			e.Identifiers = append(e.Identifiers, id)
			want.Identifiers = append(want.Identifiers, &identityv1.Identifier{Type: id.Type, Hash: id.Hash[:]})
		}
		p := Profile{ID: want.GetProfileId(), No: want.GetProfileNo(), Version: want.GetProfileVersion()}
		encoded := appendResolved([]byte("kept"), raw, e, p, want.GetSrcPartition())
		require.True(t, bytes.HasPrefix(encoded, []byte("kept")))
		encoded = encoded[len("kept"):]
		var got identityv1.ResolvedEvent
		require.NoError(t, proto.Unmarshal(encoded, &got))
		require.Empty(t, cmp.Diff(want, &got, protocmp.Transform()))

		offset, hash, err := resolvedPlace(encoded)
		require.NoError(t, err)
		require.Equal(t, e.Offset, offset)
		require.Equal(t, e.Hash, hash)
	})
}

func TestNewEventRefusesWhatCannotBeResolved(t *testing.T) {
	t.Parallel()
	good := eventFields{workspaceID: ids.New(), eventID: "e", anonymousID: " a ", userID: "u"}
	e, err := newEvent(good, 7)
	require.NoError(t, err)
	require.Equal(t, []Identifier{
		newIdentifier(good.workspaceID, "user_id", "u"), newIdentifier(good.workspaceID, "anonymous_id", "a"),
	}, e.Identifiers, "strongest first, without white space around")
	require.Equal(t, ids.Hash128(good.workspaceID, "e"), e.Hash)

	for code, spoil := range map[string]func(*eventFields){
		"workspace_id_invalid": func(f *eventFields) { f.workspaceID = "w" },
		"event_id_missing":     func(f *eventFields) { f.eventID = "" },
		"identifier_missing":   func(f *eventFields) { f.userID, f.anonymousID = " ", "" },
		"identifier_invalid":   func(f *eventFields) { f.userID = "u\x00" },
	} {
		f := good
		spoil(&f)
		_, err := newEvent(f, 0)
		require.Error(t, err)
		require.Equal(t, code, errs.CodeOf(err))
	}
}
