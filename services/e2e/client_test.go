package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// api is the REST door with a token.
type api struct {
	base, token string
}

// call sends body as JSON and returns the status and the decoded answer.
func (a api) call(tb testing.TB, method, path string, body any) (int, map[string]any) {
	tb.Helper()
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		require.NoError(tb, err)
		payload = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(tb.Context(), method, a.base+path, payload)
	require.NoError(tb, err)
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	resp, err := httpClient().Do(req)
	require.NoError(tb, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(tb, err)
	var answer map[string]any
	require.NoError(tb, json.Unmarshal(data, &answer), "%s %s answered %d %s", method, path, resp.StatusCode, data)
	return resp.StatusCode, answer
}

// must is call for what has to succeed.
func (a api) must(tb testing.TB, method, path string, body any) map[string]any {
	tb.Helper()
	code, answer := a.call(tb, method, path, body)
	require.Equal(tb, http.StatusOK, code, "%s %s: %v", method, path, answer)
	return answer
}

// dig follows keys into nested objects and lists (by number) and returns the string found.
func dig(tb testing.TB, value any, keys ...any) string {
	tb.Helper()
	for _, key := range keys {
		switch k := key.(type) {
		case string:
			object, ok := value.(map[string]any)
			require.True(tb, ok, "no object at %v in %v", key, value)
			value = object[k]
		case int:
			list, ok := value.([]any)
			require.True(tb, ok && k < len(list), "no element %d in %v", k, value)
			value = list[k]
		}
	}
	s, ok := value.(string)
	require.True(tb, ok, "%v is not a string: %v", keys, value)
	return s
}

// workspace is a tenant with a source and its key, ready to send.
type workspace struct {
	id, sourceID, key string
}

func newWorkspace(tb testing.TB, a api, slug string) workspace {
	tb.Helper()
	w := a.must(tb, http.MethodPost, "/api/v1/workspaces", map[string]any{"slug": slug, "name": slug})
	id := dig(tb, w, "workspace", "workspaceId")
	s := a.must(tb, http.MethodPost, "/api/v1/workspaces/"+id+"/sources", map[string]any{"name": "site", "type": "server"})
	return workspace{
		id: id, sourceID: dig(tb, s, "source", "sourceId"), key: dig(tb, s, "source", "writeKeys", 0, "writeKey"),
	}
}

func newDestination(tb testing.TB, a api, workspaceID, name, url, filter string, batch int) {
	tb.Helper()
	a.must(tb, http.MethodPost, "/api/v1/workspaces/"+workspaceID+"/destinations", map[string]any{
		"name": name, "enabled": true, "filter": filter, "webhook": map[string]any{"url": url, "batchSize": batch},
	})
}

// result is what the door says of one event.
type result struct {
	EventID string `json:"event_id"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
}

// send posts raw JSON to a door and returns status, results (when the door gives them) and the raw answer.
func send(ctx context.Context, client *http.Client, door, path, key string, body []byte) (int, []result, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, door+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err.Error()
	}
	req.SetBasicAuth(key, "")
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err.Error()
	}
	var answer struct {
		Results []result `json:"results"`
	}
	_ = json.Unmarshal(data, &answer)
	return resp.StatusCode, answer.Results, string(data)
}

// query runs SQL over ClickHouse's HTTP interface and returns the rows as fields.
func query(ctx context.Context, dsn, sql string) ([][]string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	password, _ := u.User.Password()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://"+u.Host+"/?database=mekong&default_format=TabSeparated", strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(u.User.Username(), password)
	resp, err := httpClient().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ClickHouse answered %d: %s", resp.StatusCode, data)
	}
	var rows [][]string
	for line := range strings.Lines(string(data)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows, nil
}
