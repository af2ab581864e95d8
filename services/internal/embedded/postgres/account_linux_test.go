package postgres_test

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/embedded/postgres"
)

// status returns a field of /proc/<pid>/status.
func status(t *testing.T, pid int, field string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	require.NoError(t, err)
	match := regexp.MustCompile(`(?m)^` + field + `:\s+(\S+)`).FindStringSubmatch(string(text))
	require.Len(t, match, 2)
	return match[1]
}

// inClosedFolder moves data and programs under a folder that only its owner may enter.
func inClosedFolder(t *testing.T, cfg postgres.Config, owner int) postgres.Config {
	t.Helper()
	closed := reachableDir(t)
	native := filepath.Join(closed, "engines", "native")
	require.NoError(t, os.MkdirAll(filepath.Dir(native), 0o755))
	out, err := exec.CommandContext(t.Context(), "cp", "-a", filepath.Dir(cfg.BinDir), native).CombinedOutput()
	require.NoError(t, err, "%s", out)
	cfg.BinDir, cfg.DataDir = filepath.Join(native, "bin"), filepath.Join(closed, "data", "postgres")
	if owner != 0 {
		require.NoError(t, os.Chown(closed, owner, owner))
		require.NoError(t, os.Mkdir(filepath.Join(closed, "data"), 0o700))
		require.NoError(t, os.Chown(filepath.Join(closed, "data"), owner, owner))
	}
	require.NoError(t, os.Chmod(closed, 0o700))
	return cfg
}

func TestRootBecomesAnUnprivilegedUser(t *testing.T) {
	t.Parallel()
	server := start(t, quickConfig(t))
	require.NotEqual(t, "0", status(t, server.PID(), "Uid"))
	require.Equal(t, "0000000000000000", status(t, server.PID(), "CapEff"), "no right is kept that is not needed")
}

func TestRunsUnderAClosedFolder(t *testing.T) {
	t.Parallel()
	cfg := inClosedFolder(t, quickConfig(t), 0)
	server := start(t, cfg)
	require.Equal(t, 1, scalar[int](t, server.connect(), "SELECT 1"))
	require.NotEqual(t, "0", status(t, server.PID(), "Uid"))
	if os.Geteuid() == 0 {
		require.Contains(t, []string{"0000000000000002", "0000000000000004"}, status(t, server.PID(), "CapEff"), "the right to pass folders and no other")
	}
	dir := filepath.Join(filepath.Dir(cfg.DataDir), "backup")
	_, err := server.Backup(t.Context(), dir)
	require.NoError(t, err)
	require.NoError(t, server.stop())
	start(t, cfg)
}

func TestRunsAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		start(t, testConfig(t)) // we are one
		return
	}
	ordinary, err := user.Lookup("nobody")
	require.NoError(t, err)
	uid, err := strconv.Atoi(ordinary.Uid)
	require.NoError(t, err)
	cfg := inClosedFolder(t, testConfig(t), uid)
	process, err := startHelper(t, cfg, uint32(uid))
	require.NoError(t, err)
	require.Equal(t, 1, scalar[int](t, dial(t, process.url), "SELECT 1"))

	// Another ordinary user must not be able to take over, root must.
	daemon, err := user.Lookup("daemon")
	require.NoError(t, err)
	other, err := strconv.Atoi(daemon.Uid)
	require.NoError(t, err)
	require.NoError(t, process.cmd.Process.Kill())
	_, err = startHelper(t, cfg, uint32(other))
	require.Error(t, err)
	server := start(t, cfg)
	require.Equal(t, ordinary.Uid, status(t, server.PID(), "Uid"), "the owner of the data stays")
}
