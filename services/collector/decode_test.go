package collector

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

func TestSegmentEventKeepsWhatWasSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	body := `{"messageId":"m1","anonymousId":"anon","userId":42,"event":"Sign\u0065d Up","properties": {"a" : 1.10,"b":[{}],"a":2},
		"context":{"sessionId":1697,"page":{"url":"x"}},"timestamp":"2026-10-18T11:59:50Z","sentAt":"2026-10-18T11:59:55+00:00","integrations":{"All":true}}`
	require.Equal(t, 200, b.post("/v1/track", body, "User-Agent", "sdk/1").code)
	require.Empty(t, cmp.Diff(&collectorv1.Event{
		WorkspaceId: workspaceID, SourceId: sourceID, EventId: "m1", Type: collectorv1.EventType_EVENT_TYPE_TRACK, Name: "Signed Up",
		// The sender's clock was five seconds late when it sent, so the event is ten minus five seconds old.
		Ts: timestamppb.New(noon().Add(-5 * time.Second)), ReceivedAt: timestamppb.New(noon()),
		OriginalTs: timestamppb.New(noon().Add(-10 * time.Second)), SentAt: timestamppb.New(noon().Add(-5 * time.Second)),
		AnonymousId: "anon", UserId: "42", SessionId: "1697",
		Properties: []byte(`{"a" : 1.10,"b":[{}],"a":2}`), Context: []byte(`{"sessionId":1697,"page":{"url":"x"}}`),
		Ip: "192.0.2.1", UserAgent: "sdk/1", Wire: "v1/track",
	}, b.log.events(t)[0], protocmp.Transform()))
	require.Equal(t, workspaceID+":anon", string(b.log.records[0].Key))
}

func TestShopEventKeepsTheWholeObject(t *testing.T) {
	t.Parallel()
	b := setup(t)
	event := `{"event_id":"e1","ts":"2026-10-18T11:00:00.123Z","event_type":"view","session_id":"s1","user_id":null, "anonymous_id":"stable",
 "page_url":"https://shop.example/p/123","device":{"type":"mobile"},"ecom":{"product_id":"sku-123","price":18990000,"qty":1},"props":{"x":"ế"}}`
	got := b.post("/v1/events", event)
	require.Equal(t, []eventResult{{EventID: "e1", Status: "ok"}}, got.results(t))
	e := b.log.events(t)[0]
	require.Equal(t, event, string(e.GetProperties()))
	require.Empty(t, e.GetContext())
	require.Equal(t, "s1", e.GetSessionId())
	require.Equal(t, "stable", e.GetAnonymousId())
	require.Equal(t, "v1/events", e.GetWire())
	require.Equal(t, time.Date(2026, 10, 18, 11, 0, 0, 123e6, time.UTC), e.GetTs().AsTime())
}

func TestTypesOfSegmentCalls(t *testing.T) {
	t.Parallel()
	for path, c := range map[string]struct {
		body string
		want *collectorv1.Event
	}{
		"/v1/identify": {`{"userId":"u","traits":{"email":"x"}}`, &collectorv1.Event{Type: 4, UserId: "u", Traits: []byte(`{"email":"x"}`)}},
		"/v1/i":        {`{"userId":"u","context":{"traits":{"a":1}}}`, &collectorv1.Event{Type: 4, UserId: "u", Traits: []byte(`{"a":1}`), Context: []byte(`{"traits":{"a":1}}`)}},
		"/v1/page":     {`{"anonymousId":"a","name":"Home","properties":[]}`, &collectorv1.Event{Type: 2, AnonymousId: "a", Name: "Home"}},
		"/v1/screen":   {`{"anonymousId":"a","userId":"","name":"Main"}`, &collectorv1.Event{Type: 3, AnonymousId: "a", Name: "Main"}},
		"/v1/s":        {`{"anonymousId":"a"}`, &collectorv1.Event{Type: 3, AnonymousId: "a"}},
		"/v1/group":    {`{"userId":"u","groupId":"g","traits":{"n":1}}`, &collectorv1.Event{Type: 5, UserId: "u", GroupId: "g", Traits: []byte(`{"n":1}`)}},
		"/v1/alias":    {`{"userId":"u","previousId":"p"}`, &collectorv1.Event{Type: 6, UserId: "u", PreviousId: "p"}},
	} {
		b := setup(t)
		require.Equal(t, 200, b.post(path, c.body).code, path)
		got := b.log.events(t)[0]
		c.want.WorkspaceId, c.want.SourceId, c.want.EventId = workspaceID, sourceID, got.GetEventId()
		c.want.Ts, c.want.ReceivedAt = timestamppb.New(noon()), timestamppb.New(noon())
		c.want.Ip, c.want.Wire, c.want.Flags = "192.0.2.1", got.GetWire(), []collectorv1.EventFlag{1}
		require.Empty(t, cmp.Diff(c.want, got, protocmp.Transform()), path)
	}
}

func TestBatchSharesSentAtAndContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	body := `{"batch":[
		{"type":"track","event":"A","userId":"u","timestamp":"2026-10-18T10:00:00Z","context":{"app":"mine" }},
		{"type":"page","anonymousId":"a","context":{}},
		{"type":"page","anonymousId":"b","sentAt":"2026-10-18T12:00:00Z","originalTimestamp":"2026-10-18T11:00:00Z"}],
		"sentAt":"2026-10-18T11:00:00Z","context":{"app":"batch","library":{"name":"l\u0069b"}}}`
	require.Equal(t, answer{200, b.post("/v1/batch", body).header, `{"success":true}`}, b.post("/v1/batch", body))
	e := b.log.events(t)
	require.Equal(t, `{"app":"mine","library":{"name":"l\u0069b"}}`, string(e[0].GetContext()))
	require.Equal(t, `{"app":"batch","library":{"name":"l\u0069b"}}`, string(e[1].GetContext()))
	require.Equal(t, `{"app":"batch","library":{"name":"l\u0069b"}}`, string(e[2].GetContext()))
	require.Equal(t, noon().Add(-time.Hour), e[0].GetTs().AsTime())
	require.Equal(t, noon().Add(-time.Hour), e[2].GetTs().AsTime())
}

func TestEachEventIsJudgedAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	long := strings.Repeat("x", 101)
	events := map[string]string{ // event → "reason path"
		`{"type":"track","event":"A","userId":"u","messageId":"good"}`:                          "",
		`{"type":"merge","userId":"u"}`:                                                         "unknown_event_type type",
		`{"userId":"u"}`:                                                                        "unknown_event_type type",
		`{"type":"track","event":"A"}`:                                                          "missing_id anonymousId",
		`{"type":"track","userId":"u"}`:                                                         "missing_event event",
		`{"type":"group","userId":"u"}`:                                                         "missing_group_id groupId",
		`{"type":"alias","userId":"u"}`:                                                         "missing_previous_id previousId",
		`{"type":"page","userId":"u","messageId":"` + long + `"}`:                               "event_id_too_long messageId",
		`{"type":"page","userId":"` + strings.Repeat("u", 513) + `"}`:                           "value_too_long userId",
		`{"type":"page","userId":"a\u0000b"}`:                                                   "invalid_character userId",
		`{"type":"page","userId":true}`:                                                         "wrong_type userId",
		`{"type":"page","userId":"u","properties":"text"}`:                                      "wrong_type properties",
		`{"type":"identify","userId":"u","traits":[1]}`:                                         "wrong_type traits",
		`{"type":"page","userId":"u","context":1}`:                                              "wrong_type context",
		`{"type":"page","userId":"u","timestamp":"yesterday"}`:                                  "invalid_timestamp timestamp",
		`{"type":"page","userId":"u","properties":{"a":"` + "\xff" + `"}}`:                      "invalid_utf8 properties",
		`{"type":"page","userId":"u","properties":` + nested(70) + `}`:                          "too_deep properties",
		`{"type":"page","userId":"u","properties":{"a":"` + strings.Repeat("x", 33<<10) + `"}}`: "event_too_large ",
		`"text"`: "not_an_object ",
	}
	var all, want []string
	for event, reason := range events {
		all, want = append(all, event), append(want, reason)
	}
	got := b.post("/v1/batch?results=1", `{"batch":[`+strings.Join(all, ",")+`]}`)
	require.Equal(t, 200, got.code)
	rejected := b.log.rejected(t)
	require.Len(t, rejected, len(events)-1)
	require.Len(t, b.log.events(t), 1)
	n := 0
	for i, r := range got.results(t) {
		if want[i] == "" {
			require.Equal(t, eventResult{EventID: "good", Status: "ok"}, r)
			continue
		}
		reason, path, _ := strings.Cut(want[i], " ")
		require.Equal(t, "rejected", r.Status, all[i])
		require.Equal(t, reason, r.Reason, all[i])
		require.Equal(t, reason, rejected[n].GetReason())
		require.Equal(t, path, rejected[n].GetPath())
		require.NotEmpty(t, rejected[n].GetMessage())
		require.NotEmpty(t, rejected[n].GetRejectionId())
		require.Equal(t, all[i][:min(len(all[i]), 32<<10)], string(rejected[n].GetPayload()))
		n++
	}
}

func nested(depth int) string {
	return `{"x":` + strings.Repeat("[", depth) + "1" + strings.Repeat("]", depth) + "}"
}

func TestShopEventsAreJudgedAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.post("/v1/events", `[
		{"event_type":"view","anonymous_id":"a","event_id":"1"},
		{"event_type":"buy","anonymous_id":"a","event_id":"2"},
		{"anonymous_id":"a","event_id":"3"},
		{"event_type":"view","event_id":"4"},
		{"event_type":"view","anonymous_id":"a","event_id":"5","ts":{}},
		{"event_type":"view","anonymous_id":"a","event_id":"6","ecom":7}, 8]`)
	require.Equal(t, []eventResult{
		{"1", "ok", ""},
		{"2", "rejected", "unknown_event_type"},
		{"3", "rejected", "missing_event_type"},
		{"4", "rejected", "missing_id"},
		{"5", "rejected", "invalid_timestamp"},
		{"6", "rejected", "wrong_type"},
		{"", "rejected", "not_an_object"},
	}, got.results(t))
	require.Equal(t, "anonymous_id", b.log.rejected(t)[2].GetPath())
}

func TestUnreadableBodies(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Limits.Events = 3 })
	for _, c := range []struct{ path, body, code string }{
		{"/v1/track", `{"event":`, "invalid_json"},
		{"/v1/track", `[]`, "invalid_body"},
		{"/v1/track", `{"userId":"u","event":"a"} x`, "invalid_json"},
		{"/v1/batch", `{}`, "batch_missing"},
		{"/v1/batch", `[{"type":"page"}]`, "batch_missing"},
		{"/v1/batch", `{"batch":{}}`, "batch_missing"},
		{"/v1/batch", `{"batch":[{"type":"page","userId":"u"},]}`, "invalid_json"},
		{"/v1/batch", `{"batch":[1,2,3,4]}`, "batch_too_large"},
		{"/v1/events", `"x"`, "invalid_body"},
		{"/v1/events", `[{}`, "invalid_json"},
		{"/v1/events", ``, "body_empty"},
		{"/v1/events", `nonsense`, "invalid_json"},
	} {
		got := b.post(c.path, c.body)
		require.Equal(t, c.code, got.errorCode(t), c.body)
		want := 400
		if c.code == "batch_too_large" {
			want = 413
		}
		require.Equal(t, want, got.code, c.body)
	}
	require.Empty(t, b.log.records)
	require.Equal(t, 200, b.post("/v1/batch", `{"batch":[]}`).code)
	require.JSONEq(t, `{"results":[]}`, b.post("/v1/events", `[]`).body)
}

func TestAssignedIDsRepeatWithTheEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	send := func(event string) string {
		return b.post("/v1/batch?results=1", `{"batch":[`+event+`]}`).results(t)[0].EventID
	}
	timed := `{"type":"track","event":"A","userId":"u","messageId":"","timestamp":"2026-10-18T10:00:00Z","properties":{"n":%d}}`
	first := send(fmt.Sprintf(timed, 1))
	require.Equal(t, first, send(fmt.Sprintf(timed, 1)))
	require.NotEqual(t, first, send(fmt.Sprintf(timed, 2)))
	untimed := `{"type":"track","event":"A","userId":"u"}`
	require.NotEqual(t, send(untimed), send(untimed), "two equal clicks are two")
	require.Equal(t, collectorv1.EventFlag_EVENT_FLAG_ID_ASSIGNED, b.log.events(t)[0].GetFlags()[0])
	require.Len(t, b.log.events(t), 4)
}

func TestTimesAreCorrectedOrClamped(t *testing.T) {
	t.Parallel()
	at := func(offset time.Duration) string { return noon().Add(offset).Format(time.RFC3339Nano) }
	for _, c := range []struct {
		name, original, sent string
		want                 time.Duration
		clamped              bool
	}{
		{"no time", `null`, `null`, 0, false},
		{"no sentAt", `"` + at(-time.Hour) + `"`, `null`, -time.Hour, false},
		{"late clock", `"` + at(-50*time.Hour) + `"`, `"` + at(-49*time.Hour) + `"`, -time.Hour, false},
		{"clock never set", `"1970-01-01T00:00:10Z"`, `"1970-01-01T00:00:40Z"`, -30 * time.Second, false},
		{"a little ahead", `"` + at(time.Minute) + `"`, `null`, time.Minute, false},
		{"far ahead", `"` + at(25*time.Hour) + `"`, `null`, 0, true},
		{"before 2000", `"1999-12-31T23:59:59Z"`, `null`, 0, true},
		{"absurd sentAt", `"` + at(-time.Hour) + `"`, `"1970-01-01T00:00:00Z"`, 0, true},
		{"unreadable sentAt", `"` + at(-time.Hour) + `"`, `"soon"`, -time.Hour, false},
		{"milliseconds", fmt.Sprint(noon().Add(-time.Hour).UnixMilli()), `null`, -time.Hour, false},
		{"seconds", fmt.Sprint(noon().Add(-time.Hour).Unix()), `null`, -time.Hour, false},
		{"no zone", `"2026-10-18T11:00:00.5"`, `null`, -time.Hour + 500*time.Millisecond, false},
		{"another zone", `"2026-10-18T18:00:00+07:00"`, `null`, -time.Hour, false},
		{"a day", `"2026-10-18"`, `null`, -12 * time.Hour, false},
	} {
		b := setup(t)
		body := `{"type":"page","userId":"u","timestamp":` + c.original + `,"sentAt":` + c.sent + `}`
		require.Equal(t, 200, b.post("/v1/page", body).code, c.name)
		e := b.log.events(t)[0]
		require.Equal(t, noon().Add(c.want), e.GetTs().AsTime(), c.name)
		flagged := false
		for _, f := range e.GetFlags() {
			flagged = flagged || f == collectorv1.EventFlag_EVENT_FLAG_TIME_CLAMPED
		}
		require.Equal(t, c.clamped, flagged, c.name)
	}
}

// FuzzDecode: no body breaks the door, and what it accepts is a valid message with valid JSON in it.
func FuzzDecode(f *testing.F) {
	f.Add(byte(0), `{"type":"track","event":"A","userId":"u","properties":{"a":1},"context":{"traits":{}}}`)
	f.Add(byte(1), `{"batch":[{"type":"page","userId":"u","context":{"a":1}}],"context":{"b":2},"sentAt":"2026-10-18T11:00:00Z"}`)
	f.Add(byte(2), `[{"event_type":"purchase","anonymous_id":"a","ecom":{"qty":-1},"products":[{"qty":1}],"ts":1}]`)
	f.Add(byte(1), `{"batch":[{"type":"track","event":"Order Completed","userId":1,"properties":{"products":[{"quantity":-1}]}}]}`)
	wires := []wire{{name: "v1/track", typ: TypeTrack}, {name: "v1/batch", shape: shapeBatch}, {name: "v1/events", shape: shapeShop}}
	d := &decoder{limits: DefaultConfig().Limits, words: newVocabulary()}
	f.Fuzz(func(t *testing.T, which byte, body string) {
		var req request
		if err := d.decode(wires[int(which)%len(wires)], body, &req); err != nil {
			require.Equal(t, errs.Invalid, errs.KindOf(err))
			return
		}
		for i := range req.items {
			it := &req.items[i]
			d.finish(it, &req, sourceID, noon())
			if it.refused() {
				require.NoError(t, proto.Unmarshal(appendRejected(nil, it, fullReceipt(), 100), &collectorv1.RejectedEvent{}))
				continue
			}
			got := &collectorv1.Event{}
			require.NoError(t, proto.Unmarshal(appendEvent(nil, &it.Event, fullReceipt()), got))
			require.NoError(t, got.GetTs().CheckValid())
			require.NotEmpty(t, got.GetEventId())
			for _, raw := range [][]byte{got.GetProperties(), got.GetTraits(), got.GetContext()} {
				require.True(t, len(raw) == 0 || raw[0] == '{' && validJSON(raw), "%q", raw)
			}
		}
	})
}
