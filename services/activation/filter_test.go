package activation

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

const testWorkspace = "0198c2d4-0000-7000-8000-000000000001"

// order is an event with everything in it.
func order() *identityv1.ResolvedEvent {
	return &identityv1.ResolvedEvent{
		Event: &collectorv1.Event{
			WorkspaceId: testWorkspace, SourceId: "src", EventId: "e-1", Type: collectorv1.EventType_EVENT_TYPE_TRACK, Name: "Order Completed",
			Ts: timestamppb.New(start), ReceivedAt: timestamppb.New(start.Add(time.Second)),
			AnonymousId: "anon-1", UserId: "u-1", SessionId: "s-1", ShopStep: collectorv1.ShopStep_SHOP_STEP_PURCHASE,
			Properties: []byte(`{"price": 18990000, "qty":2, "tags":["a","b"], "nested":{"deep":{"x":null}}, "big":12345678901234567890123, "html":"<b>&"}`),
			Context:    []byte(`{"page":{"url":"https://shop.example"}}`),
		},
		ProfileId: "p-1",
	}
}

func messageOf(t testing.TB, e *identityv1.ResolvedEvent) *message {
	t.Helper()
	value, err := proto.Marshal(e)
	require.NoError(t, err)
	m, err := decodeMessage(value)
	require.NoError(t, err)
	return m
}

func TestFilter(t *testing.T) {
	t.Parallel()
	m := messageOf(t, order())
	for expression, want := range map[string]bool{
		"":                                true,
		"true":                            true,
		`event.name == "Order Completed"`: true,
		`event.name == "Order"`:           false,
		`event.type == "track"`:           true,
		`event.shop_step == "purchase"`:   true,
		`event.timestamp > timestamp("2026-01-01T00:00:00Z")`:        true,
		`event.timestamp.getFullYear() == 2026`:                      true,
		`event.user_id == "u-1" && event.anonymous_id == "anon-1"`:   true,
		`event.profile_id == "p-1" && event.session_id == "s-1"`:     true,
		`event.group_id == "" && event.source_id == "src"`:           true,
		`event.properties.price > 1000000`:                           true,
		`event.properties.price == 18990000`:                         true,
		`event.properties.qty * event.properties.price > 30000000.0`: true,
		`"b" in event.properties.tags`:                               true,
		`event.properties.tags.exists(x, x == "c")`:                  false,
		`event.properties.nested.deep.x == null`:                     true,
		`has(event.properties.coupon)`:                               false,
		`!has(event.properties.coupon)`:                              true,
		`event.properties.big > 1`:                                   true,
		`event["properties"]["qty"] == 2`:                            true,
		`event["prop" + "erties"].qty == 2`:                          true,
		`"properties" in event`:                                      true,
		`event.exists(key, key == "traits")`:                         true,
		`event.context.page.url.startsWith("https://")`:              true,
		`size(event.traits) == 0`:                                    true,
		`event.name.matches("^Order .*")`:                            true,
	} {
		f, err := compileFilter(expression)
		require.NoError(t, err, expression)
		// Filters share the view of a message: an earlier one that needs less must not leave too little.
		got, err := f.matches(m)
		require.NoError(t, err, expression)
		require.Equal(t, want, got, expression)
	}
}

func TestAFilterThatFailsDoesNotMatch(t *testing.T) {
	t.Parallel()
	m := messageOf(t, order())
	for _, expression := range []string{
		`event.properties.coupon == "x"`, `event.nmae == "x"`, `event.properties.qty`, `event.properties.tags.startsWith("a")`,
		// More work than an evaluation may be.
		`event.properties.tags.all(a, ["1","2","3","4","5","6","7","8","9","10"].all(b, ["1","2","3","4","5","6","7","8","9","10"].all(c,
		["1","2","3","4","5","6","7","8","9","10"].all(d, ["1","2","3","4","5","6","7","8","9","10"].all(e, a+b+c+d+e != "")))))`,
	} {
		f, err := compileFilter(expression)
		require.NoError(t, err, expression)
		got, _ := f.matches(m)
		require.False(t, got, expression)
	}
	broken := order()
	broken.Event.Properties, broken.Event.Traits = []byte("null"), []byte("[1]")
	f, err := compileFilter("size(event.properties) == 0 && size(event.traits) == 0")
	require.NoError(t, err)
	got, err := f.matches(messageOf(t, broken))
	require.NoError(t, err)
	require.True(t, got, "a document that is no object is as good as empty")
}

func TestFiltersThatCannotBeSaved(t *testing.T) {
	t.Parallel()
	for expression, says := range map[string]string{
		"event.name ==":                "not valid CEL",
		"user.name == 1":               "undeclared reference",
		`"text"`:                       "must yield true or false",
		"1 + 1":                        "must yield true or false",
		strings.Repeat("(", 300) + "1": "not valid CEL",
	} {
		_, err := compileFilter(expression)
		require.ErrorContains(t, err, says, expression)
	}
}

func TestOnlyFiltersThatNeedThemDecodeDocuments(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]bool{
		`event.name == "event"`:                      true, // in doubt
		`event.name == "x" && event.type == "track"`: false,
		`event.timestamp.getFullYear() == 2026`:      false,
		`event.named == 1`:                           true,
		`event.properties.x == 1`:                    true,
		`has(event.traits.x)`:                        true,
		`event["context"].x == 1`:                    true,
	} {
		require.Equal(t, want, needsDocuments(expression), expression)
	}
}

func TestMessageAsJSON(t *testing.T) {
	t.Parallel()
	got, err := messageOf(t, order()).json()
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"e-1","type":"track","name":"Order Completed","timestamp":"2026-03-01T08:00:00.123456Z",
		"received_at":"2026-03-01T08:00:01.123456Z","workspace_id":"`+testWorkspace+`","source_id":"src","profile_id":"p-1",
		"anonymous_id":"anon-1","user_id":"u-1","session_id":"s-1","shop_step":"purchase",
		"properties":{"price":18990000,"qty":2,"tags":["a","b"],"nested":{"deep":{"x":null}},"big":12345678901234567890123,"html":"<b>&"},
		"context":{"page":{"url":"https://shop.example"}}}`, string(got))
	require.Contains(t, string(got), "12345678901234567890123", "numbers keep their digits")
	broken := order()
	broken.Event.Properties = []byte(`{"a":`)
	_, err = messageOf(t, broken).json()
	require.Equal(t, "event_not_json", errs.CodeOf(err))
}

func TestMessageIDs(t *testing.T) {
	t.Parallel()
	m, other := messageOf(t, order()), order()
	other.EventHash = make([]byte, 16)
	require.Equal(t, m.id("d1"), messageOf(t, order()).id("d1"), "the same on every attempt")
	require.NotEqual(t, m.id("d1"), m.id("d2"))
	require.NotEqual(t, m.id("d1"), messageOf(t, other).id("d1"))
	require.True(t, ids.Valid(m.id("d1")))

	withUser, same := order(), order()
	withUser.Event.AnonymousId = ""
	same.Event.EventId = "e-2"
	require.NotEqual(t, m.device, messageOf(t, withUser).device)
	require.Equal(t, m.device, messageOf(t, same).device)
}

func TestRecordsThatAreNoMessages(t *testing.T) {
	t.Parallel()
	noWorkspace, noID := order(), order()
	noWorkspace.Event.WorkspaceId, noID.Event.EventId = "shop", ""
	for _, e := range []*identityv1.ResolvedEvent{noWorkspace, noID, {}} {
		value, err := proto.Marshal(e)
		require.NoError(t, err)
		_, err = decodeMessage(value)
		require.Equal(t, "incomplete_event", errs.CodeOf(err))
	}
	_, err := decodeMessage([]byte("\xff\xff"))
	require.Equal(t, "not_a_resolved_event", errs.CodeOf(err))
}
