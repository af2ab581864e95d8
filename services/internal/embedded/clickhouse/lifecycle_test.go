package clickhouse_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse/chtest"
)

// TestStopAtAnyMoment stops engines earlier and earlier; each must end without an error and leave no child.
func TestStopAtAnyMoment(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	t.Parallel()
	cfg := chtest.Config(t)
	for _, after := range []time.Duration{5 * time.Second, 700 * time.Millisecond, 300 * time.Millisecond, 100 * time.Millisecond, 10 * time.Millisecond, 0} {
		e, err := clickhouse.New(cfg, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), after)
		require.NoError(t, e.Runner().Run(ctx, func() {}), after)
		cancel()
		for _, child := range childrenOf(t, os.Getpid()) {
			cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(child), "cwd"))
			require.False(t, err == nil && cwd == filepath.Join(cfg.DataDir, "work"), "a child of %s is left", after)
		}
	}
	require.Equal(t, "1\n", newDoor(t, chtest.Start(t, cfg)).must("SELECT 1"))
}

// TestStopEndsStatements: an orderly stop does not wait for long statements, and their clients get an error.
func TestStopEndsStatements(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	t.Parallel()
	cfg := chtest.Config(t)
	cfg.StopTimeout = 4 * time.Second
	e := chtest.Start(t, cfg)
	d := newDoor(t, e)
	type answer struct {
		status int
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		status, _, _, err := d.send(context.WithoutCancel(t.Context()), http.MethodPost, "SELECT sleepEachRow(0.1) FROM numbers(1000) SETTINGS max_block_size = 1", url.Values{"query_id": {"long"}})
		answers <- answer{status, err}
	}()
	require.Eventually(t, func() bool { return d.must("KILL QUERY WHERE query_id = 'long' TEST") != "" }, 10*time.Second, 10*time.Millisecond)
	started := time.Now()
	require.NoError(t, e.Stop())
	require.Less(t, time.Since(started), cfg.StopTimeout+2*time.Second)
	a := <-answers
	require.True(t, a.err != nil || a.status >= 400)
}

// TestQueueIsBounded: more statements than places wait, and those that wait too long are told.
func TestQueueIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	t.Parallel()
	cfg := chtest.Config(t)
	cfg.MaxConcurrentQueries = 1
	cfg.MaxQueueTime = 200 * time.Millisecond
	d := newDoor(t, chtest.Start(t, cfg))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _, _, _ = d.send(t.Context(), http.MethodPost, "SELECT sleepEachRow(0.1) FROM numbers(600) SETTINGS max_block_size = 1", url.Values{"query_id": {"busy"}})
	}()
	require.Eventually(t, func() bool {
		status, code, _, err := d.send(t.Context(), http.MethodPost, "SELECT 1", nil)
		return err == nil && status == http.StatusServiceUnavailable && code == "202"
	}, 20*time.Second, 10*time.Millisecond)
	status, _, body, err := d.send(t.Context(), http.MethodPost, "KILL QUERY WHERE query_id = 'busy' SYNC", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, body)
	<-done
	require.Equal(t, "1\n", d.must("SELECT 1"))
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, clickhouse.DefaultConfig().Validate())
	for name, change := range map[string]func(*clickhouse.Config){
		"listen":   func(c *clickhouse.Config) { c.Listen = "18123" },
		"data_dir": func(c *clickhouse.Config) { c.DataDir = "" },
		"memory":   func(c *clickhouse.Config) { c.MaxMemoryBytes = 1 },
		"user":     func(c *clickhouse.Config) { c.Users = map[string]clickhouse.User{"mekong": {Password: "x"}} },
		"password": func(c *clickhouse.Config) { c.Users = map[string]clickhouse.User{"x": {}} },
		"queries":  func(c *clickhouse.Config) { c.MaxConcurrentQueries = 0 },
	} {
		cfg := clickhouse.DefaultConfig()
		change(&cfg)
		require.Error(t, cfg.Validate(), name)
	}
}
