package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCLIHelp walks all commands: each says what it is for and shows an example.
func TestCLIHelp(t *testing.T) {
	found := map[string]bool{}
	var walk func(path []string)
	walk = func(path []string) {
		help := command(t, nil, append(path, "--help")...).ok(t)
		_, list, group := strings.Cut(help, "\nCommands:\n")
		if !group {
			require.Contains(t, help, "\nExample: ", "mekong %s --help", strings.Join(path, " "))
			found[strings.Join(path, " ")] = true
			return
		}
		list, _, _ = strings.Cut(list, "\n\n")
		for line := range strings.Lines(list) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), "   ")
			if strings.HasPrefix(line, "   ") { // a description goes on
				continue
			}
			walk(strings.Fields(name))
		}
	}
	walk(nil)
	for _, name := range []string{
		"up", "run", "doctor", "sql", "addresses", "topics list", "topics apply", "workspace create", "source create", "source add-key",
		"destination create", "token create", "token revoke", "backup", "restore", "config print", "version",
	} {
		require.True(t, found[name], "mekong %s is missing in the help", name)
	}
}

// TestCLI does with commands alone what a person does with an installation, from the first workspace to its restore.
func TestCLI(t *testing.T) {
	s := single(t)
	rec := newReceiver(t)
	ws := workspace{}

	require.True(t, t.Run("workspace, source, key, destination, token", func(t *testing.T) { ws = manage(t, s, rec) }))
	ids := s.track(t, ws, "cli", 10)
	s.requireStored(t, ws, ids)
	require.Eventually(t, func() bool { return len(rec.got()) == len(ids) }, arriveLimit, 100*time.Millisecond)
	t.Run("settings", func(t *testing.T) { settings(t, s) })
	t.Run("looking", func(t *testing.T) { look(t, s, ws) })
	t.Run("doctor", func(t *testing.T) { doctor(t, s) })
	t.Run("backup and restore", func(t *testing.T) { backupAndRestore(t, s, ws, ids) })
}

// columns returns the fields of a printed table below its header.
func columns(tb testing.TB, table string) []string {
	tb.Helper()
	lines := strings.Split(strings.TrimSpace(table), "\n")
	require.Len(tb, lines, 2, table)
	return strings.Fields(lines[1])
}

func manage(t *testing.T, s *system, rec *receiver) workspace {
	created := columns(t, s.mekong(t, "workspace", "create", "my-shop", "--name", "My shop", "--time-zone", "Asia/Ho_Chi_Minh", "--currency", "VND").ok(t))
	ws := workspace{id: created[0]}
	require.Equal(t, "my-shop", created[1])
	require.Contains(t, s.mekong(t, "workspace", "list").ok(t), "Asia/Ho_Chi_Minh")
	s.mekong(t, "workspace", "create", "my-shop").refused(t, "Another workspace has this slug")
	s.mekong(t, "workspace", "create", "Not A Slug").refused(t, "slug")

	source := columns(t, s.mekong(t, "source", "create", "site", "-w", "my-shop", "--type", "server").ok(t))
	ws.sourceID, ws.key = source[0], source[4]
	s.waitKey(t, ws)
	second := workspace{id: ws.id, key: strings.TrimSpace(s.mekong(t, "source", "add-key", ws.sourceID, "-w", ws.id, "--rotate-after", "24h").ok(t))}
	s.waitKey(t, second)
	require.Contains(t, s.mekong(t, "source", "list", "-w", "my-shop").ok(t), second.key)
	s.mekong(t, "source", "create", "x", "-w", "nobody").refused(t, "workspace")

	destination := columns(t, s.mekong(t, "destination", "create", "erp", "-w", "my-shop", "--url", rec.url,
		"--filter", `event.name == "Product Viewed"`).ok(t))
	require.Len(t, destination, 2, "id and signing secret")
	require.Contains(t, s.mekong(t, "destination", "list", "-w", "my-shop").ok(t), destination[0])
	// CEL points at the place over several lines, so this is more than a sentence.
	bad := s.mekong(t, "destination", "create", "bad", "-w", "my-shop", "--url", rec.url, "--filter", "event.name ==")
	require.Equal(t, 2, bad.code)
	require.Contains(t, bad.err, "filter is not valid CEL")

	secret := strings.TrimSpace(s.mekong(t, "token", "create", "ci", "--scopes", "workspaces:read", "--expires", "1h").ok(t))
	limited := []string{"MEKONG_URL=" + s.grpc, "MEKONG_TOKEN=" + secret}
	require.Contains(t, command(t, limited, "workspace", "list").ok(t), ws.id)
	command(t, limited, "workspace", "create", "other").refused(t, "workspaces:write")
	var tokenID string
	for line := range strings.Lines(s.mekong(t, "token", "list").ok(t)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == "ci" {
			tokenID = fields[0]
		}
	}
	s.mekong(t, "token", "revoke", tokenID).ok(t)
	require.Eventually(t, func() bool { return command(t, limited, "workspace", "list").code == 1 }, arriveLimit, 200*time.Millisecond,
		"a revoked token stops")
	command(t, limited, "workspace", "list").refused(t, "token")
	command(t, []string{"MEKONG_URL=" + s.grpc}, "workspace", "list").refused(t, "--token")
	command(t, []string{"MEKONG_URL=" + freePort(t), "MEKONG_TOKEN=" + s.token}, "workspace", "list").refused(t, "is the system running")
	return ws
}

func settings(t *testing.T, s *system) {
	env := append(s.env(), "MEKONG_GRPC__SERVICE_TOKEN=do-not-print-me")
	diff := command(t, env, "config", "print", "--diff", "--data-dir", s.data()).ok(t)
	require.Contains(t, diff, "http.listen = "+setting(t, env, "MEKONG_HTTP__LISTEN")+" (default: 127.0.0.1:8080)\n")
	require.Contains(t, diff, "data_dir = "+s.data()+" (default: .data)\n")
	require.NotContains(t, diff, "collector.limits")
	require.NotContains(t, diff, "do-not-print-me")
	all := command(t, env, "config", "print").ok(t)
	require.Contains(t, all, "collector.limits.event_bytes = 32768\n")
	require.NotContains(t, all, "do-not-print-me")
	require.Equal(t, "", command(t, nil, "config", "print", "--diff").ok(t), "nothing is set")
	require.Regexp(t, `^mekong \S+\n$`, command(t, nil, "version").ok(t))
}

func look(t *testing.T, s *system, ws workspace) {
	topics := s.mekong(t, "topics", "list").ok(t)
	for _, topic := range []string{"mekong.collector.events.v1", "mekong.identity.resolved-events.v1", "mekong.admin.config-changes.v1"} {
		require.Contains(t, topics, topic)
	}
	require.Contains(t, s.mekong(t, "topics", "apply").ok(t), s.kafka)

	sql := "SELECT event_name, count() FROM fact_events WHERE workspace_id = '" + ws.id + "' GROUP BY event_name"
	require.Equal(t, "Product Viewed\t10\n", s.mekong(t, "sql", "--format", "TSV", sql).ok(t))
	require.Contains(t, s.mekong(t, "sql", sql).ok(t), "│ Product Viewed │")
	s.mekong(t, "sql", "SELEC 1").refused(t, "Syntax error")

	shown := s.mekong(t, "addresses", "--show-passwords").ok(t)
	hidden := s.mekong(t, "addresses").ok(t)
	for _, line := range []string{"kafka       " + s.kafka, "clickhouse  " + s.clickhouse, "postgres    " + s.postgres, "grpc        " + s.grpc} {
		require.Contains(t, shown, line+"\n")
	}
	require.Equal(t, strings.Count(shown, "\n"), strings.Count(hidden, "\n"))
	for _, address := range []string{s.clickhouse, s.postgres} {
		_, rest, _ := strings.Cut(address, "://mekong:")
		password, _, _ := strings.Cut(rest, "@")
		require.NotContains(t, hidden, password)
	}
	command(t, nil, "addresses", "--data-dir", t.TempDir()).refused(t, "no installation", "--data-dir")
}

func doctor(t *testing.T, s *system) {
	report := s.mekong(t, "doctor").ok(t)
	require.NotContains(t, report, "WRONG")
	for _, part := range []string{"running", "disk", "embedded Kafka", "ClickHouse", "Postgres", "door", "one broker, no replicas"} {
		require.Contains(t, report, part)
	}
}

func backupAndRestore(t *testing.T, s *system, ws workspace, ids []string) {
	target := filepath.Join(t.TempDir(), "backup")
	s.mekong(t, "backup", target).refused(t, "Another process uses "+s.data())
	require.NoDirExists(t, target, "a refused backup leaves nothing")
	p := s.processes[0]
	require.Zero(t, p.stop(t), "a system that was asked to stop has not failed")

	report := s.mekong(t, "doctor").ok(t)
	require.Contains(t, report, "stopped")
	require.Contains(t, report, "is free")
	taken := newReceiver(t)
	busy := command(t, append(s.env(), "MEKONG_HTTP__LISTEN="+strings.TrimSuffix(strings.TrimPrefix(taken.url, "http://"), "/hook")),
		"doctor", "--data-dir", s.data())
	require.Equal(t, 1, busy.code)
	require.Contains(t, busy.out, "WRONG  port of HTTP")
	require.Contains(t, busy.out, "MEKONG_HTTP__LISTEN")
	s.mekong(t, "workspace", "list").refused(t, "is the system running")
	s.mekong(t, "sql", "SELECT 1").refused(t, "is the system running")

	require.Contains(t, s.mekong(t, "backup", target).ok(t), target)
	s.mekong(t, "backup", target).refused(t, "new directory")
	command(t, nil, "restore", target, "--data-dir", s.data()).refused(t, "is not empty")
	command(t, nil, "restore", t.TempDir(), "--data-dir", filepath.Join(s.dataDir, "none")).refused(t, "no complete backup")
	restored := filepath.Join(s.dataDir, "restored")
	require.Contains(t, command(t, nil, "restore", target, "--data-dir", restored).ok(t), "mekong up --data-dir "+restored)
	// The old one is out of the way, so that nothing can come from there.
	require.NoError(t, os.Rename(s.data(), s.data()+".old"))

	p.args = []string{"up", "--data-dir", restored}
	p.start(t)
	p.waitReady(t, s.door)
	s.requireStored(t, ws, ids)
	code, results, raw := send(t.Context(), httpClient(), s.door, "/v1/batch?results=1", ws.key,
		[]byte(`{"batch":[{"type":"track","messageId":"cli-0","event":"Product Viewed","anonymousId":"device-0"}]}`))
	require.Equal(t, http.StatusOK, code, raw)
	require.Equal(t, "duplicate", results[0].Status, "what was stored before the backup is known")
	s.requireStored(t, ws, append(ids, s.track(t, ws, "after", 5)...))
	require.Contains(t, s.mekong(t, "workspace", "list").ok(t), ws.id, "the token of the owner still counts")
}
