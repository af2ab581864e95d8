package collector

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
)

func upper(s string) string { return strings.ToUpper(s) }

func fullReceipt() *receipt {
	return &receipt{
		source: Source{WorkspaceID: "w", ID: "s"}, wire: "v1/track", receivedAt: noon(), ip: "10.0.0.1", userAgent: "agent",
	}
}

// TestEventMatchesItsProto fails when the descriptor has a field that the hand-written encoding does not know.
func TestEventMatchesItsProto(t *testing.T) {
	t.Parallel()
	before1970 := time.Date(1969, 12, 31, 23, 59, 59, 5, time.UTC)
	e := &Event{
		ID: "id", Type: TypeAlias, Name: "name", Time: noon().Add(time.Nanosecond), OriginalTime: before1970, SentAt: noon().Add(time.Hour),
		AnonymousID: "anon", UserID: "user", SessionID: "session", GroupID: "group", PreviousID: "previous", Step: StepRefund,
		Properties: `{"p":1}`, Traits: `{"t":1}`, Context: `{"c":1}`, IDAssigned: true, TimeClamped: true,
	}
	want := &collectorv1.Event{
		WorkspaceId: "w", SourceId: "s", EventId: "id", Type: collectorv1.EventType_EVENT_TYPE_ALIAS, Name: "name",
		Ts: timestamppb.New(e.Time), ReceivedAt: timestamppb.New(noon()), OriginalTs: timestamppb.New(before1970), SentAt: timestamppb.New(e.SentAt),
		AnonymousId: "anon", UserId: "user", SessionId: "session", GroupId: "group", PreviousId: "previous",
		ShopStep: collectorv1.ShopStep_SHOP_STEP_REFUND, Properties: []byte(`{"p":1}`), Traits: []byte(`{"t":1}`), Context: []byte(`{"c":1}`),
		Ip: "10.0.0.1", UserAgent: "agent", Wire: "v1/track",
		Flags: []collectorv1.EventFlag{collectorv1.EventFlag_EVENT_FLAG_ID_ASSIGNED, collectorv1.EventFlag_EVENT_FLAG_TIME_CLAMPED},
	}
	fields := want.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		require.True(t, want.ProtoReflect().Has(fields.Get(i)), "field %s is new: teach appendEvent and this test", fields.Get(i).Name())
	}
	got := &collectorv1.Event{}
	require.NoError(t, proto.Unmarshal(appendEvent(nil, e, fullReceipt()), got))
	require.Empty(t, cmp.Diff(want, got, protocmp.Transform()))

	got = &collectorv1.Event{}
	require.NoError(t, proto.Unmarshal(appendEvent(nil, &Event{}, &receipt{}), got))
	require.Empty(t, cmp.Diff(&collectorv1.Event{}, got, protocmp.Transform()))
}

func TestRejectedMatchesItsProto(t *testing.T) {
	t.Parallel()
	it := &item{Event: Event{ID: "id\xff"}, Raw: "0123456789", Rejected: Rejection{Reason: "r", Message: "m", Path: "p"}}
	got := &collectorv1.RejectedEvent{}
	require.NoError(t, proto.Unmarshal(appendRejected(nil, it, fullReceipt(), 4), got))
	fields := got.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		require.True(t, got.ProtoReflect().Has(fields.Get(i)), "field %s is not written", fields.Get(i).Name())
	}
	got.RejectionId = ""
	require.Empty(t, cmp.Diff(&collectorv1.RejectedEvent{
		WorkspaceId: "w", SourceId: "s", EventId: "id\ufffd", Reason: "r", Message: "m", Path: "p",
		ReceivedAt: timestamppb.New(noon()), Payload: []byte("0123"), Wire: "v1/track",
	}, got, protocmp.Transform()))
}
