package postgres_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/embedded/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

// helperVariable turns the test program into a process that only runs a server: DataDir, BinDir and Listen follow.
const helperVariable = "MEKONG_TEST_POSTGRES_HELPER"

func TestMain(m *testing.M) {
	if settings := os.Getenv(helperVariable); settings != "" { //nolint:forbidigo // how the test program tells its second self what to be
		if err := serve(strings.Split(settings, "\n")); err != nil {
			_, _ = fmt.Fprintln(os.Stdout, "error:", err) // the parent reads it; there is nobody else to tell
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	testkit.StopPostgres()
	os.Exit(code)
}

// serve runs a server until standard input ends.
func serve(settings []string) error {
	cfg := postgres.DefaultConfig()
	cfg.DataDir, cfg.BinDir, cfg.Listen = settings[0], settings[1], settings[2]
	server, err := postgres.New(cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString(0)
		cancel()
	}()
	return server.Runner().Run(ctx, func() { _, _ = fmt.Fprintln(os.Stdout, "url:", server.URL()) })
}

// helper is a process of its own that runs a server.
type helper struct {
	cmd *exec.Cmd
	url string
}

// startHelper runs the server in a process of user uid (0: ours).
func startHelper(t *testing.T, cfg postgres.Config, uid uint32) (*helper, error) {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	if uid != 0 { // the compiled test lies where only we may look
		reachable := filepath.Join(reachableDir(t), "program")
		require.NoError(t, os.Chmod(filepath.Dir(reachable), 0o755))
		content, err := os.ReadFile(program)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(reachable, content, 0o755))
		program = reachable
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program)
	cmd.Env = append(cmd.Environ(), helperVariable+"="+strings.Join([]string{cfg.DataDir, cfg.BinDir, cfg.Listen}, "\n"))
	cmd.Dir = "/"
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "url: ")
	if !ok {
		return nil, fmt.Errorf("helper said %q", line)
	}
	return &helper{cmd: cmd, url: address}, nil
}

// processesIn counts the processes that work in a data directory.
func processesIn(t *testing.T, cfg postgres.Config) (n int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(t, err)
	for _, dir := range dirs {
		if target, err := os.Readlink(dir); err == nil && target == filepath.Join(cfg.DataDir, "pg") {
			n++
		}
	}
	return n
}
