package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
)

// arriveLimit is how long an event may take from the door to any of its ends in a test.
const arriveLimit = 30 * time.Second

// TestStreet follows events through the whole system, in both topologies.
func TestStreet(t *testing.T) {
	for name, build := range topologies() {
		t.Run(name, func(t *testing.T) {
			s := build(t)
			t.Run("an event of every door reaches ClickHouse and the webhook", func(t *testing.T) { everyDoor(t, s) })
			t.Run("a batch sent five times is stored once and answered duplicate", func(t *testing.T) { fiveTimes(t, s) })
			t.Run("a filter chooses, a failing receiver gets everything later, in order", func(t *testing.T) { failingReceiver(t, s) })
			t.Run("keys rotate with an overlap and stop when revoked", func(t *testing.T) { rotateKeys(t, s) })
			t.Run("workspaces do not see each other", func(t *testing.T) { tenants(t, s) })
			t.Run("the same things by gRPC, and the reference page", func(t *testing.T) { otherDoors(t, s) })
			t.Run("bad input is refused with a reason", func(t *testing.T) { badInput(t, s) })
			t.Run("a trace travels from the sender through Kafka", func(t *testing.T) { traceTravels(t, s) })
		})
	}
}

func everyDoor(t *testing.T, s *system) {
	a := api{s.api, s.token}
	ws := newWorkspace(t, a, "street")
	rec := newReceiver(t)
	newDestination(t, a, ws.id, "all", rec.url, "", 1)
	s.waitKey(t, ws)

	now := time.Now().UTC().Format(time.RFC3339Nano)
	shop := fmt.Sprintf(`{"event_id":"shop-1","ts":%q,"event_type":"add_to_cart","session_id":"s-1","user_id":null,"anonymous_id":"d-1",
		"page_url":"https://shop.example/p/123?utm_source=news","referrer":"https://google.com","device":{"type":"mobile"},
		"ecom":{"product_id":"sku-123","category":"Laptops","currency":"VND","price":18990000,"qty":2},"props":{}}`, now)
	for path, body := range map[string]string{
		"/v1/events":   shop,
		"/v1/track":    `{"messageId":"track-1","event":"Order Completed","anonymousId":"d-1","userId":"u-1","properties":{"order_id":"o-1","total":42.5,"currency":"USD","note":null,"big":12345678901234567890123}}`,
		"/v1/page":     `{"messageId":"page-1","name":"Home","anonymousId":"d-1","properties":{"url":"https://shop.example/"}}`,
		"/v1/identify": `{"messageId":"identify-1","anonymousId":"d-1","userId":"u-1","traits":{"plan":"gold"}}`,
		"/v1/batch":    `{"batch":[{"type":"track","messageId":"batch-1","event":"Product Viewed","anonymousId":"d-1"},{"type":"group","messageId":"batch-2","groupId":"g-1","userId":"u-1"}]}`,
	} {
		code, _, raw := send(t.Context(), httpClient(), s.door, path, ws.key, []byte(body))
		require.Equal(t, http.StatusOK, code, "%s: %s", path, raw)
	}

	want := []string{"shop-1", "track-1", "page-1", "identify-1", "batch-1", "batch-2"}
	var rows map[string]int
	require.Eventually(t, func() bool {
		var err error
		rows, err = stored(t.Context(), s, ws.id)
		got := rec.got()
		for _, id := range want {
			if err != nil || rows[id] != 1 || got[id] == 0 {
				return false
			}
		}
		return true
	}, arriveLimit, 200*time.Millisecond, "%s", lazy(func() string { return fmt.Sprintf("stored %v, delivered %v", rows, rec.got()) }))

	facts, err := query(t.Context(), s.clickhouse, fmt.Sprintf(`SELECT event_type, event_name, shop_step, product_id, toString(price), toString(quantity), utm_source,
		device_type, session_id FROM fact_events WHERE workspace_id = '%s' AND event_id = 'shop-1'`, ws.id))
	require.NoError(t, err)
	require.Equal(t, [][]string{{"track", "Product Added", "add_to_cart", "sku-123", "18990000", "2", "news", "mobile", "s-1"}}, facts)

	raw, err := query(t.Context(), s.clickhouse, fmt.Sprintf(
		"SELECT properties_raw FROM fact_events WHERE workspace_id = '%s' AND event_id = 'track-1'", ws.id))
	require.NoError(t, err)
	require.JSONEq(t, `{"order_id":"o-1","total":42.5,"currency":"USD","note":null,"big":12345678901234567890123}`, raw[0][0])

	people, err := query(t.Context(), s.clickhouse, fmt.Sprintf(
		"SELECT uniqExact(profile_id) FROM fact_events WHERE workspace_id = '%s' AND user_id = 'u-1'", ws.id))
	require.NoError(t, err)
	require.Equal(t, "1", people[0][0], "one user is one person")
}

func fiveTimes(t *testing.T, s *system) {
	ws := newWorkspace(t, api{s.api, s.token}, "five")
	s.waitKey(t, ws)
	body := []byte(`{"batch":[{"type":"track","messageId":"a","event":"E","anonymousId":"d"},{"type":"track","messageId":"b","event":"E","anonymousId":"d"}]}`)
	for i := range 5 {
		code, results, raw := send(t.Context(), httpClient(), s.door, "/v1/batch?results=1", ws.key, body)
		require.Equal(t, http.StatusOK, code, raw)
		want := "duplicate"
		if i == 0 {
			want = "ok"
		}
		require.Equal(t, []result{{EventID: "a", Status: want}, {EventID: "b", Status: want}}, results, "time %d", i+1)
	}
	require.Eventually(t, func() bool {
		rows, err := stored(t.Context(), s, ws.id)
		return err == nil && rows["a"] == 1 && rows["b"] == 1
	}, arriveLimit, 200*time.Millisecond)
	// What comes later must not add a row: wait until a later event has passed, then count again.
	code, _, raw := send(t.Context(), httpClient(), s.door, "/v1/track", ws.key, []byte(`{"messageId":"c","event":"E","anonymousId":"d"}`))
	require.Equal(t, http.StatusOK, code, raw)
	require.Eventually(t, func() bool {
		rows, err := stored(t.Context(), s, ws.id)
		return err == nil && rows["c"] == 1
	}, arriveLimit, 200*time.Millisecond)
	rows, err := stored(t.Context(), s, ws.id)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1}, rows)
}

func failingReceiver(t *testing.T, s *system) {
	a := api{s.api, s.token}
	ws := newWorkspace(t, a, "failing")
	failing, healthy := newReceiver(t), newReceiver(t)
	var refused atomic.Int64
	failing.setFail(func(*http.Request) int { refused.Add(1); return http.StatusServiceUnavailable })
	newDestination(t, a, ws.id, "failing", failing.url, `event.name == "Chosen"`, 1)
	newDestination(t, a, ws.id, "healthy", healthy.url, `event.name == "Chosen"`, 1)
	s.waitKey(t, ws)
	const n = 20
	var want []string
	for i := range n {
		for _, name := range []string{"Chosen", "Other"} {
			id := fmt.Sprintf("%s-%02d", name, i)
			body := fmt.Sprintf(`{"messageId":%q,"event":%q,"anonymousId":"d"}`, id, name)
			code, _, raw := send(t.Context(), httpClient(), s.door, "/v1/track", ws.key, []byte(body))
			require.Equal(t, http.StatusOK, code, raw)
			if name == "Chosen" {
				want = append(want, id)
			}
		}
	}
	require.Eventually(t, func() bool { return len(healthy.got()) == n }, arriveLimit, 100*time.Millisecond, "the healthy one is not held up")
	require.Eventually(t, func() bool { return refused.Load() > 0 }, arriveLimit, 50*time.Millisecond)
	require.Empty(t, failing.got())
	failing.setFail(nil)
	require.Eventually(t, func() bool { return len(failing.got()) == n }, time.Minute, 100*time.Millisecond, "what was refused arrives later")
	require.Equal(t, want, healthy.orderOf("d"))
	require.Equal(t, want, failing.orderOf("d"), "a device keeps its order through retries")
}

func rotateKeys(t *testing.T, s *system) {
	a := api{s.api, s.token}
	ws := newWorkspace(t, a, "rotate")
	s.waitKey(t, ws)
	keys := "/api/v1/workspaces/" + ws.id + "/sources/" + ws.sourceID + "/write-keys"
	second := ws
	second.key = dig(t, a.must(t, http.MethodPost, keys, map[string]any{"rotateAfterS": "3600"}), "writeKey", "writeKey")
	s.waitKey(t, second)
	event := []byte(`{"event":"E","anonymousId":"d"}`)
	for _, key := range []string{ws.key, second.key} {
		code, _, raw := send(t.Context(), httpClient(), s.door, "/v1/track", key, event)
		require.Equal(t, http.StatusOK, code, raw)
	}
	a.must(t, http.MethodDelete, keys+"/"+ws.key, nil)
	require.Eventually(t, func() bool {
		code, _, _ := send(t.Context(), httpClient(), s.door, "/v1/track", ws.key, event)
		return code == http.StatusUnauthorized
	}, arriveLimit, 100*time.Millisecond, "a revoked key stops")
	code, _, raw := send(t.Context(), httpClient(), s.door, "/v1/track", second.key, event)
	require.Equal(t, http.StatusOK, code, raw)

	a.must(t, http.MethodPatch, "/api/v1/workspaces/"+ws.id+"/sources/"+ws.sourceID, map[string]any{"enabled": false})
	require.Eventually(t, func() bool {
		code, _, _ := send(t.Context(), httpClient(), s.door, "/v1/track", second.key, event)
		return code == http.StatusNotFound
	}, arriveLimit, 100*time.Millisecond, "a disabled source answers 404")
}

func tenants(t *testing.T, s *system) {
	a := api{s.api, s.token}
	one, two := newWorkspace(t, a, "one"), newWorkspace(t, a, "two")
	secret := dig(t, a.must(t, http.MethodPost, "/api/v1/tokens", map[string]any{
		"name": "one only", "scopes": []string{"sources:read", "destinations:write", "workspaces:read"}, "workspaceId": one.id,
	}), "secret")
	limited := api{s.api, secret}
	limited.must(t, http.MethodGet, "/api/v1/workspaces/"+one.id+"/sources", nil)
	code, answer := limited.call(t, http.MethodGet, "/api/v1/workspaces/"+two.id+"/sources", nil)
	require.Equal(t, http.StatusNotFound, code, "%v", answer)
	code, answer = limited.call(t, http.MethodGet, "/api/v1/workspaces/"+two.id+"/destinations", nil)
	require.Equal(t, http.StatusNotFound, code, "%v", answer)
	code, answer = limited.call(t, http.MethodPost, "/api/v1/workspaces/"+one.id+"/sources", map[string]any{"name": "x", "type": "web"})
	require.Equal(t, http.StatusForbidden, code, "%v", answer)
	require.Equal(t, "missing_scope", dig(t, answer, "error", "code"))
	code, answer = api{s.api, ""}.call(t, http.MethodGet, "/api/v1/workspaces", nil)
	require.Equal(t, http.StatusUnauthorized, code, "%v", answer)
	require.NotEmpty(t, dig(t, answer, "error", "request_id"))
}

func otherDoors(t *testing.T, s *system) {
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+s.token), time.Minute)
	defer cancel()
	client := adminv1.NewAdminServiceClient(conn)
	w, err := client.CreateWorkspace(ctx, &adminv1.CreateWorkspaceRequest{Slug: "by-grpc", Name: "By gRPC"})
	require.NoError(t, err)
	src, err := client.CreateSource(ctx, &adminv1.CreateSourceRequest{WorkspaceId: w.GetWorkspace().GetWorkspaceId(), Name: "app", Type: "app"})
	require.NoError(t, err)
	key, err := client.CreateWriteKey(ctx, &adminv1.CreateWriteKeyRequest{
		WorkspaceId: w.GetWorkspace().GetWorkspaceId(), SourceId: src.GetSource().GetSourceId(),
	})
	require.NoError(t, err)
	s.waitKey(t, workspace{key: key.GetWriteKey().GetWriteKey()})

	code, document := status(t.Context(), s.api+"/api/openapi.json")
	require.Equal(t, http.StatusOK, code)
	var parsed struct {
		Paths map[string]any `json:"paths"`
	}
	require.NoError(t, json.Unmarshal([]byte(document), &parsed))
	require.Contains(t, parsed.Paths, "/api/v1/workspaces")
	code, page := status(t.Context(), s.api+"/api/docs")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, page, "<html")
}

func badInput(t *testing.T, s *system) {
	ws := newWorkspace(t, api{s.api, s.token}, "bad")
	s.waitKey(t, ws)
	for name, tc := range map[string]struct {
		path, key, body string
		code            int
	}{
		"not JSON":      {"/v1/track", ws.key, `{`, http.StatusBadRequest},
		"unknown key":   {"/v1/track", "wk_nobody", `{"event":"E","anonymousId":"d"}`, http.StatusUnauthorized},
		"no id at all":  {"/v1/track", ws.key, `{"event":"E"}`, http.StatusBadRequest},
		"no event name": {"/v1/track", ws.key, `{"anonymousId":"d"}`, http.StatusBadRequest},
		"too large":     {"/v1/track", ws.key, `{"event":"E","anonymousId":"d","properties":{"x":"` + tooLong() + `"}}`, http.StatusRequestEntityTooLarge},
	} {
		code, _, raw := send(t.Context(), httpClient(), s.door, tc.path, tc.key, []byte(tc.body))
		require.Equal(t, tc.code, code, "%s: %s", name, raw)
		var answer map[string]any
		require.NoError(t, json.Unmarshal([]byte(raw), &answer), name)
		require.NotEmpty(t, dig(t, answer, "error", "message"), name)
	}
	code, results, raw := send(t.Context(), httpClient(), s.door, "/v1/events", ws.key,
		[]byte(`[{"event_id":"good","event_type":"view","anonymous_id":"d","page_url":"https://shop.example/"},{"event_id":"bad","event_type":"nonsense","anonymous_id":"d"}]`))
	require.Equal(t, http.StatusOK, code, raw)
	require.Equal(t, "ok", results[0].Status)
	require.Equal(t, "rejected", results[1].Status)
	require.NotEmpty(t, results[1].Reason)
}

// tooLong is a value that makes an event larger than 32 KiB.
func tooLong() string { return strings.Repeat("x", 40_000) }
