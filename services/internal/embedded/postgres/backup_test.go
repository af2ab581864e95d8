package postgres_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/embedded/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// writer inserts pairs of rows, each pair in one transaction, until stop; acked is the number of acknowledged pairs.
func writer(t *testing.T, address string) (acked *atomic.Int64, stop func() error) {
	t.Helper()
	setup := dial(t, address)
	execute(t, setup, "CREATE TABLE pairs (n bigint, half int, filler text, PRIMARY KEY (n, half))")
	acked = new(atomic.Int64)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		conn, err := pgx.Connect(ctx, address)
		if err != nil {
			done <- err
			return
		}
		defer conn.Close(context.WithoutCancel(ctx))
		for n := int64(1); ctx.Err() == nil; n++ {
			if _, err := conn.Exec(context.WithoutCancel(ctx), "INSERT INTO pairs SELECT $1, half, repeat('x', 500) FROM generate_series(1, 2) AS half", n); err != nil {
				done <- err
				return
			}
			acked.Store(n)
		}
		done <- nil
	}()
	return acked, func() error { cancel(); return <-done }
}

// checkPairs requires whole pairs without a gap and returns how many.
func checkPairs(t *testing.T, conn *pgx.Conn) int64 {
	t.Helper()
	pairs := scalar[int64](t, conn, "SELECT count(DISTINCT n) FROM pairs")
	require.Equal(t, 2*pairs, scalar[int64](t, conn, "SELECT count(*) FROM pairs"))
	require.Equal(t, pairs, scalar[int64](t, conn, "SELECT coalesce(max(n), 0) FROM pairs"))
	return pairs
}

func TestBackupWhileWritingAndRestoreElsewhere(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	server := start(t, cfg)
	acked, stop := writer(t, server.URL())
	require.Eventually(t, func() bool { return acked.Load() > 50 }, patience, 5*time.Millisecond)

	dir := filepath.Join(reachableDir(t), "backup")
	before := acked.Load()
	info, err := server.Backup(t.Context(), dir)
	require.NoError(t, err)
	after := acked.Load() + 1 // one more may have been committed and not yet counted
	require.NotEmpty(t, info.EndLSN)
	require.NotEqual(t, info.StartLSN, info.EndLSN)
	require.Eventually(t, func() bool { return acked.Load() > after+10 }, patience, 5*time.Millisecond)
	require.NoError(t, stop())
	require.Zero(t, scalar[int](t, server.connect(), "SELECT count(*) FROM pg_replication_slots"))

	_, err = server.Backup(t.Context(), dir)
	require.Equal(t, "backup_dir_not_empty", errs.CodeOf(err))
	require.Equal(t, "data_dir_in_use", errs.CodeOf(postgres.Restore(t.Context(), cfg, dir)))

	other := testConfig(t)
	require.NoError(t, postgres.Restore(t.Context(), other, dir))
	require.Equal(t, "data_dir_not_empty", errs.CodeOf(postgres.Restore(t.Context(), other, dir)))
	restored := start(t, other)
	pairs := checkPairs(t, restored.connect())
	require.GreaterOrEqual(t, pairs, before)
	require.LessOrEqual(t, pairs, after)
	execute(t, restored.connect(), "INSERT INTO pairs VALUES (-1, 1, '')")
	require.NoError(t, restored.stop())
	start(t, other)
}

func TestADamagedBackupIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(reachableDir(t), "backup")
	server := start(t, quickConfig(t))
	_, err := server.Backup(t.Context(), dir)
	require.NoError(t, err)
	require.NoError(t, server.stop())

	for name, spoil := range map[string]func(dir string){
		"archive bit":  func(dir string) { flip(t, filepath.Join(dir, "base.tar.zst"), 1<<20) },
		"archive head": func(dir string) { flip(t, filepath.Join(dir, "base.tar.zst"), 20) },
		"archive cut":  func(dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, "base.tar.zst"), 1<<20)) },
		"manifest":     func(dir string) { flip(t, filepath.Join(dir, "backup_manifest"), 500) },
		"no summary":   func(dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "backup.json"))) },
	} {
		t.Run(name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "backup")
			require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
			spoil(copied)
			cfg := quickConfig(t)
			err := postgres.Restore(t.Context(), cfg, copied)
			require.Equal(t, "backup_damaged", errs.CodeOf(err), "%v", err)
			for _, folder := range []string{"pg", "pg.new"} {
				_, err = os.Stat(filepath.Join(cfg.DataDir, folder))
				require.ErrorIs(t, err, os.ErrNotExist, folder)
			}
		})
	}
}
