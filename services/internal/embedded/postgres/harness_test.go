package postgres_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/embedded/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

const patience = 60 * time.Second

func testConfig(t *testing.T) postgres.Config {
	t.Helper()
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	cfg := postgres.DefaultConfig()
	cfg.BinDir, cfg.DataDir, cfg.Listen = testkit.PostgresBinDir(t), reachableDir(t), testkit.FreeAddress(t)
	cfg.SharedBuffersMB = 32
	return cfg
}

// quickConfig does not sync: for tests in which nothing is killed.
func quickConfig(t *testing.T) postgres.Config {
	t.Helper()
	cfg := testConfig(t)
	cfg.UnsafeNoSync = true
	return cfg
}

// reachableDir is a temporary folder that the server's user may enter: t.TempDir's parents are closed to others.
func reachableDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mekong-postgres-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// logBuffer collects the log of a server.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

type running struct {
	*postgres.Server
	t    *testing.T
	logs *logBuffer
	stop func() error
}

// start runs a server until stop or the end of the test.
func start(t *testing.T, cfg postgres.Config) *running {
	t.Helper()
	r, err := tryStart(t, cfg)
	require.NoError(t, err)
	return r
}

func tryStart(t *testing.T, cfg postgres.Config) (*running, error) {
	t.Helper()
	r := &running{t: t, logs: &logBuffer{}}
	server, err := postgres.New(cfg, slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		return nil, err
	}
	r.Server = server
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	started, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- server.Runner().Run(ctx, sync.OnceFunc(func() { close(started) })) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	select {
	case <-started:
		t.Cleanup(func() { require.NoError(t, r.stop()) })
		return r, nil
	case err := <-done:
		cancel()
		return nil, err
	case <-time.After(patience):
		cancel()
		t.Fatalf("not started: %s", r.logs)
		return nil, nil
	}
}

func (r *running) connect() *pgx.Conn {
	r.t.Helper()
	return dial(r.t, r.URL())
}

func dial(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), statement, args...)
	require.NoError(t, err, statement)
}

func scalar[T any](t *testing.T, conn *pgx.Conn, query string, args ...any) (value T) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), query, args...).Scan(&value), query)
	return value
}

// awaitConn connects as soon as the server is back.
func (r *running) awaitConn() (conn *pgx.Conn) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		var err error
		if r.Runner().Ready(r.t.Context()) != nil {
			return false
		}
		conn, err = pgx.Connect(r.t.Context(), r.URL())
		return err == nil
	}, patience, 50*time.Millisecond, "%s", r.logs)
	r.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(r.t.Context())) })
	return conn
}

func replaceUser(t *testing.T, address, user, password string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.User = url.UserPassword(user, password)
	return u.String()
}
