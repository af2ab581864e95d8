//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// orphanLimit is how long a child may outlive a parent that was killed.
	orphanLimit = 10 * time.Second
	// restartLimit is generous, since the machine may be busy; the time itself is logged, the promise is 20 s.
	restartLimit = time.Minute
	// nobody is the ordinary user that root becomes for a test.
	nobody = 65534
)

// TestLifecycle starts, stops, kills and starts again, as root and as an ordinary user, below a folder that others may not
// enter.
func TestLifecycle(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Run("root", func(t *testing.T) { lifecycle(t, 0) })
		t.Run("an ordinary user", func(t *testing.T) { lifecycle(t, nobody) })
		return
	}
	t.Run("an ordinary user", func(t *testing.T) { lifecycle(t, os.Geteuid()) })
}

func lifecycle(t *testing.T, uid int) {
	home := privateFolder(t, uid) // first, so that it goes last, when nothing runs in it any more
	s := newSystem(t)
	path, args := runAs(t, uid, home, "up", "--data-dir", filepath.Join(home, "data"))
	httpAt, env := s.singleEnv(t)
	env = append(env, "HOME="+home)
	p := s.process(t, "mekong", path, args, env, "http://"+httpAt)

	cold := begin(t, p, s.door)
	s.token = ownerToken(t, p)
	ws := newWorkspace(t, api{s.api, s.token}, "life")
	s.waitKey(t, ws)
	acked := s.track(t, ws, "first", 20)
	require.Equal(t, uid, owner(t, filepath.Join(home, "data", "VERSION")))
	for child, line := range children(p.pid()) {
		if strings.Contains(line, "bin/postgres -D") {
			require.NotZero(t, owner(t, "/proc/"+strconv.Itoa(child)), "PostgreSQL never runs as root")
		}
	}

	// Ctrl-C in a terminal reaches the whole group of processes.
	family := children(p.pid())
	require.GreaterOrEqual(t, len(family), 2, "the engines: %v", family)
	require.NoError(t, syscall.Kill(-p.pid(), syscall.SIGINT))
	require.Zero(t, p.wait(t, time.Minute), "a system that was asked to stop has not failed")
	requireGone(t, family, 0)
	requireFree(t, env)

	warm := begin(t, p, s.door)
	t.Logf("ready after %.1f s cold, %.1f s warm", cold.Seconds(), warm.Seconds())
	require.Less(t, warm, restartLimit)
	require.Equal(t, 1, strings.Count(p.output(t), "API token of the owner"), "the token is printed once only")
	acked = append(acked, s.track(t, ws, "second", 20)...)
	s.clickhouse = clickhouseAddress(t, env, filepath.Join(home, "data"))
	s.requireStored(t, ws, acked)

	acked = append(acked, s.track(t, ws, "third", 50)...)
	family = children(p.pid())
	p.kill(t)
	requireGone(t, family, orphanLimit)
	after := begin(t, p, s.door)
	t.Logf("ready after %.1f s behind kill -9", after.Seconds())
	require.Less(t, after, restartLimit)
	s.requireStored(t, ws, acked)
}

// clickhouseAddress asks the command; root may read the data of all.
func clickhouseAddress(tb testing.TB, env []string, dataDir string) string {
	tb.Helper()
	for line := range strings.Lines(command(tb, env, "addresses", "--show-passwords", "--data-dir", dataDir).ok(tb)) {
		if address, ok := strings.CutPrefix(line, "clickhouse"); ok {
			return strings.TrimSpace(address)
		}
	}
	require.Fail(tb, "no address of ClickHouse")
	return ""
}

// begin starts p and returns how long it took until it was ready.
func begin(tb testing.TB, p *process, url string) time.Duration {
	tb.Helper()
	now := time.Now()
	p.start(tb)
	p.waitReady(tb, url)
	return time.Since(now)
}

// privateFolder belongs to uid, and nobody else may enter it.
func privateFolder(t *testing.T, uid int) string {
	t.Helper()
	// Not t.TempDir, which lies below a folder that only the test's own user may enter.
	dir, err := os.MkdirTemp("", "mekong-life-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chown(dir, uid, -1))
	return dir
}

// runAs returns the command line that runs mekong as uid with no right of root. Programs that uid could not reach, in a
// repository below a closed folder, are copied to home.
func runAs(t *testing.T, uid int, home string, args ...string) (path string, all []string) {
	t.Helper()
	if uid == os.Geteuid() {
		return binary(t), args
	}
	setpriv, err := exec.LookPath("setpriv")
	require.NoError(t, err, "setpriv of util-linux is missing")
	become := []string{"--reuid=" + strconv.Itoa(uid), "--regid=" + strconv.Itoa(uid), "--clear-groups", "--no-new-privs", "--"}
	engines := filepath.Join(repoRoot(t), ".engines")
	probe := exec.CommandContext(t.Context(), setpriv, append(become, "test", "-x", binary(t), "-a", "-r", filepath.Join(engines, "package.json"))...) //nolint:gosec // ours
	if probe.Run() != nil {
		out, err := exec.CommandContext(t.Context(), "cp", "-RL", engines, filepath.Join(home, ".engines")).CombinedOutput() //nolint:gosec // ours
		require.NoError(t, err, "%s", out)
		require.NoError(t, os.Mkdir(filepath.Join(home, "bin"), 0o755))
		out, err = exec.CommandContext(t.Context(), "cp", binary(t), filepath.Join(home, "bin", "mekong")).CombinedOutput() //nolint:gosec // ours
		require.NoError(t, err, "%s", out)
		out, err = exec.CommandContext(t.Context(), "chown", "-R", strconv.Itoa(uid), home).CombinedOutput() //nolint:gosec // ours
		require.NoError(t, err, "%s", out)
		return setpriv, append(append(become, filepath.Join(home, "bin", "mekong")), args...)
	}
	return setpriv, append(append(become, binary(t)), args...)
}

// requireGone waits until no process of family is left.
func requireGone(tb testing.TB, family map[int]string, limit time.Duration) {
	tb.Helper()
	alive := func() (left []string) {
		for pid, line := range family {
			now, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
			if err == nil && !strings.Contains(string(now), ") Z ") && commandLine(pid) == line {
				left = append(left, strconv.Itoa(pid)+" "+line)
			}
		}
		return left
	}
	if limit > 0 {
		require.Eventually(tb, func() bool { return len(alive()) == 0 }, limit, 50*time.Millisecond)
	}
	require.Empty(tb, alive(), "processes are left behind")
}

func commandLine(pid int) string {
	line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
}

// owner returns the user that a file belongs to.
func owner(tb testing.TB, path string) int {
	tb.Helper()
	info, err := os.Stat(path)
	require.NoError(tb, err)
	stat, ok := info.Sys().(*syscall.Stat_t)
	require.True(tb, ok)
	return int(stat.Uid)
}
