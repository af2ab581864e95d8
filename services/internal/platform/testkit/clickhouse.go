package testkit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	embedded "github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/platform/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

const (
	clickhouseDirs = "mekong-test-clickhouse-"
	// clickhouseChild makes a test binary the engine's child process.
	clickhouseChild = "engine-clickhouse"
	// clickhouseVariable names an external server to test against.
	clickhouseVariable = "MEKONG_TEST_CLICKHOUSE"
)

// sharedClickHouse is the one engine of a test process.
var sharedClickHouse clickhouseServer

type clickhouseServer struct {
	once  sync.Once
	admin *clickhouse.DB
	url   string
	err   error
	stop  func()
}

// Main runs the tests of a package that uses ClickHouse and stops its engine afterwards: the engine's child process is
// the test binary again, and becomes the child here.
//
//	func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }
func Main(m *testing.M) int {
	if len(os.Args) > 1 && os.Args[1] == clickhouseChild {
		if err := embedded.ChildMain(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	defer StopPostgres()
	defer StopClickHouse()
	return m.Run()
}

// ClickHouse gives the test a database of its own and returns its address. The database goes when the test ends. The
// package's TestMain must call Main. With -short the test is skipped.
func ClickHouse(t testing.TB) (dsn string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs ClickHouse")
	}
	s := &sharedClickHouse
	ctx := context.WithoutCancel(t.Context())
	s.once.Do(func() { s.err = s.start(ctx) })
	require.NoError(t, s.err)
	name := "test_" + strings.ReplaceAll(ids.New(), "-", "")
	require.NoError(t, s.admin.Exec(ctx, "CREATE DATABASE "+name))
	t.Cleanup(func() { require.NoError(t, s.admin.Exec(ctx, "DROP DATABASE "+name+" SYNC")) })
	return withDatabase(s.url, name)
}

// ClickHouseDB gives the test a migrated database of its own.
func ClickHouseDB(t testing.TB, sets ...clickhouse.Set) *clickhouse.DB {
	t.Helper()
	db := OpenClickHouse(t, ClickHouse(t))
	for _, set := range sets {
		require.NoError(t, clickhouse.Migrate(t.Context(), db, set))
	}
	return db
}

// OpenClickHouse opens a small pool that closes with the test.
func OpenClickHouse(t testing.TB, dsn string) *clickhouse.DB {
	t.Helper()
	cfg := clickhouse.DefaultConfig()
	cfg.URL = config.Secret(dsn)
	db, err := clickhouse.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// StopClickHouse ends the process's engine and removes its data; Main calls it.
func StopClickHouse() {
	if s := &sharedClickHouse; s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

func (s *clickhouseServer) start(ctx context.Context) error {
	if s.url = os.Getenv(clickhouseVariable); s.url == "" { //nolint:forbidigo // tests have no config; the variable is their contract
		if err := s.startEmbedded(ctx); err != nil {
			return err
		}
	}
	cfg := clickhouse.DefaultConfig()
	cfg.URL = config.Secret(withDatabase(s.url, "default"))
	var err error
	s.admin, err = clickhouse.Open(ctx, cfg)
	return err
}

func (s *clickhouseServer) startEmbedded(ctx context.Context) error {
	cfg := embedded.DefaultConfig()
	root, err := workspaceRoot()
	if err != nil {
		return err
	}
	cfg.LibraryPath = filepath.Join(root, cfg.LibraryPath)
	if cfg.Listen, err = freeAddress(ctx); err != nil {
		return err
	}
	removeClickHouseLeftovers()
	if cfg.DataDir, err = os.MkdirTemp("", clickhouseDirs); err != nil {
		return err
	}
	engine, err := embedded.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	started, ended := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() { ended <- engine.Runner().Run(ctx, func() { once.Do(func() { close(started) }) }) }()
	select {
	case err := <-ended:
		cancel()
		return errors.Join(err, os.RemoveAll(cfg.DataDir))
	case <-started:
	}
	s.url = engine.URL()
	s.stop = func() {
		if s.admin != nil {
			_ = s.admin.Close() // the engine goes anyway
		}
		cancel()
		_ = errors.Join(<-ended, os.RemoveAll(cfg.DataDir)) // what is left the next process removes
	}
	return nil
}

// removeClickHouseLeftovers removes the data of test processes that are gone; one that lives holds its lock.
func removeClickHouseLeftovers() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), clickhouseDirs+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		// A directory that was just created is not locked yet.
		if info, err := os.Stat(dir); err != nil || time.Since(info.ModTime()) < 10*time.Minute {
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

// workspaceRoot is the directory that holds go.work.
func workspaceRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.work above the test")
		}
		dir = parent
	}
}
