package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// commandLimit is far more than any command needs that says no.
const commandLimit = 2 * time.Minute

// recoverLimit is how long what was acknowledged before a fault may take to be stored: consumer groups first notice that a
// killed member is gone.
const recoverLimit = time.Minute

// answer is what a command left behind.
type answer struct {
	code     int
	out, err string
}

// command runs bin/mekong to its end. An environment that is given last wins.
func command(tb testing.TB, env []string, args ...string) answer {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(tb), args...)
	cmd.Env = append(os.Environ(), env...) //nolint:forbidigo // the child gets the test's environment
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(tb, err, "mekong %s", strings.Join(args, " "))
	}
	require.NoError(tb, ctx.Err(), "mekong %s has not ended; it printed:\n%s", strings.Join(args, " "), errOut.String())
	return answer{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// ok returns what a command printed that must succeed.
func (a answer) ok(tb testing.TB) string {
	tb.Helper()
	require.Zero(tb, a.code, "%s%s", a.out, a.err)
	return a.out
}

// refused checks how a command says no: an exit code, and besides the log exactly one line that holds all parts.
func (a answer) refused(tb testing.TB, parts ...string) {
	tb.Helper()
	require.Contains(tb, []int{1, 2}, a.code, "%s%s", a.out, a.err)
	var said []string
	for line := range strings.Lines(a.err) {
		if !strings.HasPrefix(line, `{"time":`) {
			said = append(said, strings.TrimRight(line, "\n"))
		}
	}
	require.Len(tb, said, 1, "one sentence, got:\n%s", a.err)
	require.True(tb, strings.HasPrefix(said[0], "mekong: "), said[0])
	for _, part := range parts {
		require.Contains(tb, said[0], part)
	}
}

// data is the data directory of an installation made by single.
func (s *system) data() string { return filepath.Join(s.dataDir, "data") }

// env are the settings that single has started the installation with.
func (s *system) env() []string { return s.processes[0].env }

// mekong runs a command on the installation.
func (s *system) mekong(tb testing.TB, args ...string) answer {
	tb.Helper()
	env := append(s.env(), "MEKONG_URL="+s.grpc, "MEKONG_TOKEN="+s.token)
	return command(tb, env, append(args, "--data-dir", s.data())...)
}

// portSettings name every address of `mekong up`.
func portSettings() []string {
	return []string{
		"MEKONG_HTTP__LISTEN", "MEKONG_GRPC__LISTEN", "MEKONG_METRICS__LISTEN",
		"MEKONG_EMBEDDED__KAFKA__LISTEN", "MEKONG_EMBEDDED__POSTGRES__LISTEN", "MEKONG_EMBEDDED__CLICKHOUSE__LISTEN",
	}
}

// freePorts are settings that give every part an address that nothing listens on.
func freePorts(tb testing.TB) []string {
	tb.Helper()
	var env []string
	for _, setting := range portSettings() {
		env = append(env, setting+"="+freePort(tb))
	}
	return env
}

// setting returns the value that env gives to a setting.
func setting(tb testing.TB, env []string, name string) string {
	tb.Helper()
	value := ""
	for _, pair := range env {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			value = v
		}
	}
	require.NotEmpty(tb, value, "%s is not set", name)
	return value
}

// requireFree checks that all addresses of env can be listened on again.
func requireFree(tb testing.TB, env []string) {
	tb.Helper()
	for _, name := range portSettings() {
		address := setting(tb, env, name)
		l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", address)
		require.NoError(tb, err, "%s is still taken", name)
		require.NoError(tb, l.Close())
	}
}

// track sends n events with the ids prefix-0 … and requires that the door acknowledges all of them.
func (s *system) track(tb testing.TB, ws workspace, prefix string, n int) []string {
	tb.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%d", prefix, i)
		body := fmt.Sprintf(`{"messageId":%q,"event":"Product Viewed","anonymousId":"device-%d"}`, ids[i], i%7)
		code, _, raw := send(tb.Context(), httpClient(), s.door, "/v1/track", ws.key, []byte(body))
		require.Equal(tb, http.StatusOK, code, raw)
	}
	return ids
}

// requireStored waits until ClickHouse holds every id of the workspace, each once, and nothing else.
func (s *system) requireStored(tb testing.TB, ws workspace, ids []string) {
	tb.Helper()
	want := make(map[string]int, len(ids))
	for _, id := range ids {
		want[id] = 1
	}
	var rows map[string]int
	var err error
	arrived := func() bool {
		rows, err = stored(tb.Context(), s, ws.id)
		if err != nil || len(rows) < len(want) {
			return false
		}
		for id := range want {
			if rows[id] == 0 {
				return false
			}
		}
		return true
	}
	require.Eventually(tb, arrived, recoverLimit, 100*time.Millisecond, "%s", lazy(func() string {
		return fmt.Sprintf("%d of %d events are stored, error %v", len(rows), len(want), err)
	}))
	require.Equal(tb, want, rows)
}
