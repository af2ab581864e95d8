package postgres_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	platform "github.com/mekong-cdp/mekong/services/internal/platform/postgres"
)

func TestKilledPostmasterIsStartedAgainAndLosesNothing(t *testing.T) {
	t.Parallel()
	server := start(t, testConfig(t))
	acked, stop := writer(t, server.URL())
	require.Eventually(t, func() bool { return acked.Load() > 50 }, patience, 5*time.Millisecond)
	pid := server.PID()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.Eventually(t, func() bool { return server.PID() != pid && server.PID() != 0 }, patience, 5*time.Millisecond)
	require.Error(t, stop(), "the writer's connection must break")

	conn := server.awaitConn()
	pairs := checkPairs(t, conn)
	require.GreaterOrEqual(t, pairs, acked.Load())
	require.LessOrEqual(t, pairs, acked.Load()+1)
}

func TestKilledParentLeavesNoOrphanAndLosesNothing(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	parent, err := startHelper(t, cfg, 0)
	require.NoError(t, err)
	acked, stop := writer(t, parent.url)
	require.Eventually(t, func() bool { return acked.Load() > 50 }, patience, 5*time.Millisecond)
	require.Positive(t, processesIn(t, cfg))
	require.NoError(t, parent.cmd.Process.Kill())
	require.Eventually(t, func() bool { return processesIn(t, cfg) == 0 }, 15*time.Second, 20*time.Millisecond, "orphans remain")
	require.Error(t, stop())

	server := start(t, cfg)
	require.Equal(t, parent.url, server.URL())
	require.GreaterOrEqual(t, checkPairs(t, server.connect()), acked.Load())
}

func TestRestartDoesNotWaitForAnOldServerToEndByItself(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	parent, err := startHelper(t, cfg, 0)
	require.NoError(t, err)
	conn := dial(t, parent.url)
	execute(t, conn, "CREATE TABLE kept AS SELECT 1 AS n")
	require.NoError(t, parent.cmd.Process.Kill())
	require.Error(t, parent.cmd.Wait())
	server := start(t, cfg) // at once, while the old one shuts down
	require.Equal(t, 1, scalar[int](t, server.connect(), "SELECT n FROM kept"))
}

func TestAnOldPostmasterThatSurvivedIsEnded(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	server := start(t, cfg)
	pid := server.PID()
	execute(t, server.connect(), "CREATE TABLE kept AS SELECT 1 AS n")
	require.NoError(t, server.stop())

	// The same program on the same data, of a parent that does not take it along when it dies.
	info, err := os.Stat(filepath.Join(cfg.DataDir, "pg"))
	require.NoError(t, err)
	owner := info.Sys().(*syscall.Stat_t)
	old := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(cfg.BinDir, "postgres"), "-D", filepath.Join(cfg.DataDir, "pg"),
		"-c", "listen_addresses=", "-c", "unix_socket_directories="+filepath.Join(cfg.DataDir, "run"))
	old.Dir = "/"
	if os.Geteuid() == 0 {
		old.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	require.NoError(t, old.Start())
	ended := make(chan error, 1)
	go func() { ended <- old.Wait() }()
	require.Eventually(t, func() bool { return processesIn(t, cfg) > 1 }, patience, 10*time.Millisecond)

	again := start(t, cfg)
	require.NoError(t, <-ended, "it was asked to shut down")
	require.NotEqual(t, pid, again.PID())
	require.Equal(t, 1, scalar[int](t, again.connect(), "SELECT n FROM kept"))
}

func TestAPidFileThatNamesAStrangerIsNotBelieved(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	require.NoError(t, start(t, cfg).stop())
	stranger := exec.CommandContext(t.Context(), "sleep", "600")
	require.NoError(t, stranger.Start())
	defer func() {
		require.NoError(t, stranger.Process.Kill(), "the stranger must still live")
		_ = stranger.Wait()
	}()
	write(t, &cfg, "pg/postmaster.pid", fmt.Sprintf("%d\n%s/pg\n1700000000\n", stranger.Process.Pid, cfg.DataDir))
	start(t, cfg)
	require.NoError(t, stranger.Process.Signal(syscall.Signal(0)))
}

func TestABitFlipIsAnErrorNotWrongData(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	server := start(t, cfg)
	conn := server.connect()
	execute(t, conn, "CREATE TABLE ledger AS SELECT n, 'amount ' || n AS v FROM generate_series(1, 1000) AS n")
	file := scalar[string](t, conn, "SELECT pg_relation_filepath('ledger')")
	require.NoError(t, server.stop())
	flip(t, filepath.Join(cfg.DataDir, "pg", file), 8192-100) // inside the last row of the first page

	again := start(t, cfg)
	_, err := again.connect().Exec(t.Context(), "SELECT sum(length(v)) FROM ledger")
	require.Equal(t, "data_corrupted", errs.CodeOf(platform.Classify(err)), "%v", err)
	require.Eventually(t, func() bool {
		facts, err := again.Facts(t.Context())
		return err == nil && facts.ChecksumFailures > 0
	}, patience, 50*time.Millisecond)

	_, err = again.Backup(t.Context(), filepath.Join(reachableDir(t), "backup"))
	require.Equal(t, "backup_failed", errs.CodeOf(err), "a damaged server must not make a backup that looks good: %v", err)
}

func TestAFullDiskLosesNothingAcknowledged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can mount the small disk that this test fills")
		return
	}
	for name, tc := range map[string]struct {
		room int64
		// write must leave the newest number where newest finds it.
		write, newest string
	}{
		"in a table": {
			1 << 20, "INSERT INTO ledger SELECT $1, repeat(md5($1::bigint::text), 60)", "SELECT count(*) FROM ledger WHERE n <= (SELECT max(n) FROM ledger)",
		},
		// Updates in place: the table stays small, the log fills the disk.
		"in the write-ahead log": {
			4 << 20, "INSERT INTO ledger VALUES (0, $1::bigint::text) ON CONFLICT (n) DO UPDATE SET v = repeat(md5($1::bigint::text), 58) || ' ' || $1::bigint", "SELECT split_part(v, ' ', 2)::bigint FROM ledger",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			require.NoError(t, syscall.Mount("tmpfs", cfg.DataDir, "tmpfs", 0, "size=160m,mode=0755"))
			t.Cleanup(func() { require.NoError(t, syscall.Unmount(cfg.DataDir, 0)) })
			server := start(t, cfg)
			conn := server.connect()
			execute(t, conn, "CREATE TABLE ledger (n bigint PRIMARY KEY, v text) WITH (fillfactor = 10)")
			filler := filepath.Join(cfg.DataDir, "filler")
			fillDisk(t, filler, tc.room)

			acked, failure := int64(0), error(nil)
			for failure == nil {
				if _, failure = conn.Exec(t.Context(), tc.write, acked+1); failure == nil {
					acked++
				}
			}
			require.Greater(t, acked, int64(10))
			require.Equal(t, errs.Unavailable, errs.KindOf(platform.Classify(failure)), "%v", failure)

			require.NoError(t, os.Remove(filler))
			conn = server.awaitConn()
			newest := scalar[int64](t, conn, tc.newest)
			require.GreaterOrEqual(t, newest, acked)
			require.LessOrEqual(t, newest, acked+1)
			execute(t, conn, tc.write, newest+1)
		})
	}
}

// fillDisk writes until nothing fits, then gives room back.
func fillDisk(t *testing.T, path string, room int64) {
	t.Helper()
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	for size := 1 << 20; size >= 4096; size /= 2 {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
	info, err := file.Stat()
	require.NoError(t, err)
	require.NoError(t, file.Truncate(info.Size()-room))
}
