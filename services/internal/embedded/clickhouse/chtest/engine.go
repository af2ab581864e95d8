package chtest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse"
)

// childArgument makes a test binary the engine's child process.
const childArgument = "engine-clickhouse"

// Main runs the tests of a package, or the child process when an engine started this binary as such.
func Main(m *testing.M) int {
	if len(os.Args) > 1 && os.Args[1] == childArgument {
		if err := clickhouse.ChildMain(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	return m.Run()
}

// Config is the default configuration for a test: a free port, a data directory of its own, little memory.
func Config(t testing.TB) clickhouse.Config {
	t.Helper()
	cfg := clickhouse.DefaultConfig()
	cfg.Listen = FreeAddress(t)
	cfg.DataDir = t.TempDir()
	cfg.LibraryPath = Library(t)
	return cfg
}

// FreeAddress returns a loopback address that nothing listens on.
func FreeAddress(t testing.TB) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return l.Addr().String()
}

// Library is the path of the pinned library below the root of the workspace.
func Library(t testing.TB) string {
	t.Helper()
	return filepath.Join(Root(t), clickhouse.DefaultConfig().LibraryPath)
}

// Root is the directory that holds go.work.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		require.NotEqual(t, parent, dir, "no go.work above the working directory")
		dir = parent
	}
}

// Running is an engine that serves, and the means to stop it before the test ends.
type Running struct {
	*clickhouse.Engine
	Log *Log

	stop context.CancelFunc
	done chan error
	once sync.Once
	err  error
}

// Start runs an engine until the test ends.
func Start(t testing.TB, cfg clickhouse.Config) *Running {
	t.Helper()
	r, err := TryStart(t, cfg)
	require.NoError(t, err)
	return r
}

// TryStart is Start for engines that may not come up.
func TryStart(t testing.TB, cfg clickhouse.Config) (*Running, error) {
	t.Helper()
	log := &Log{}
	engine, err := clickhouse.New(cfg, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &Running{Engine: engine, Log: log, stop: cancel, done: make(chan error, 1)}
	started := make(chan struct{})
	var once sync.Once
	go func() { r.done <- engine.Runner().Run(ctx, func() { once.Do(func() { close(started) }) }) }()
	t.Cleanup(func() {
		require.NoError(t, r.Stop())
		if t.Failed() {
			t.Log("engine log:\n" + log.String())
		}
	})
	select {
	case <-started:
		return r, nil
	case err := <-r.done:
		r.once.Do(func() {}) // it has ended; Stop has nothing to wait for
		cancel()
		return nil, err
	case <-time.After(cfg.StartTimeout + time.Minute):
		return nil, fmt.Errorf("engine did not start: %s", log)
	}
}

// Stop ends the engine in order and returns what its runner returned.
func (r *Running) Stop() error {
	r.once.Do(func() {
		r.stop()
		r.err = <-r.done
	})
	return r.err
}

// Done gives the end of a runner that fails by itself.
func (r *Running) Done() <-chan error { return r.done }

// Log collects what an engine logs.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write is io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns all lines.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
