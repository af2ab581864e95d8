package clickhouse_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse/chtest"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// childrenOf lists the live processes whose parent is pid.
func childrenOf(t *testing.T, pid int) (children []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue // it has just ended
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if fields[1] == strconv.Itoa(pid) && fields[0] != "Z" {
			children = append(children, child)
		}
	}
	return children
}

// enginePID finds the child that works in a data directory.
func enginePID(t *testing.T, parent int, dataDir string) int {
	t.Helper()
	var pid int
	require.Eventually(t, func() bool {
		for _, child := range childrenOf(t, parent) {
			if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", child)); err == nil && cwd == filepath.Join(dataDir, "work") {
				pid = child
				return true
			}
		}
		return false
	}, time.Minute, 20*time.Millisecond)
	return pid
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	t.Parallel()
	cfg := chtest.Config(t)
	d := newDoor(t, chtest.Start(t, cfg))
	d.must("CREATE TABLE k (w UInt32, a UInt64, s String) ENGINE = MergeTree ORDER BY (w, a)")
	stop := make(chan struct{})
	var acknowledged [3]atomic.Int64
	var wg sync.WaitGroup
	const batch = 500
	for w := range acknowledged {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				var body strings.Builder
				for i := range batch {
					fmt.Fprintf(&body, "%d\t%d\tx\n", w, n*batch+i)
				}
				status, _, _, err := d.send(context.WithoutCancel(t.Context()), http.MethodPost, body.String(), url.Values{"query": {"INSERT INTO k FORMAT TSV"}})
				if err != nil || status != http.StatusOK {
					n-- // not acknowledged: it may be stored or not; the same rows are sent again
					continue
				}
				acknowledged[w].Store(int64(n + 1))
			}
		})
	}
	for range 3 {
		before := acknowledged[0].Load()
		require.Eventually(t, func() bool { return acknowledged[0].Load() > before+5 }, time.Minute, time.Millisecond)
		require.NoError(t, syscall.Kill(enginePID(t, os.Getpid(), cfg.DataDir), syscall.SIGKILL))
	}
	before := acknowledged[0].Load()
	require.Eventually(t, func() bool { return acknowledged[0].Load() > before+5 }, time.Minute, time.Millisecond, "the engine comes back by itself")
	close(stop)
	wg.Wait()
	for w := range acknowledged {
		want := acknowledged[w].Load() * batch
		got := strings.TrimSpace(d.must(fmt.Sprintf("SELECT uniqExact(a) FROM k WHERE w = %d AND a < %d", w, want)))
		require.Equal(t, strconv.FormatInt(want, 10), got, "writer %d", w)
	}
	require.Equal(t, "0\n", d.must("SELECT count() FROM system.detached_parts"))
}

// TestChildDiesWithItsParent kills a parent, which is this test binary again, and looks for its child.
func TestChildDiesWithItsParent(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	if dir := os.Getenv("MEKONG_TEST_PARENT_DIR"); dir != "" { //nolint:forbidigo // this is the process that shall be killed
		cfg := chtest.Config(t)
		cfg.DataDir = dir
		chtest.Start(t, cfg)
		select {}
	}
	t.Parallel()
	dir := t.TempDir()
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChildDiesWithItsParent$")
	parent.Env = []string{"MEKONG_TEST_PARENT_DIR=" + dir, "PATH=/usr/bin:/bin", "TMPDIR=" + t.TempDir()}
	require.NoError(t, parent.Start())
	child := enginePID(t, parent.Process.Pid, dir)
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait() // it was killed
	require.Eventually(t, func() bool { return errors.Is(syscall.Kill(child, 0), syscall.ESRCH) }, 20*time.Second, 20*time.Millisecond)
	cfg := chtest.Config(t)
	cfg.DataDir = dir
	require.Equal(t, "1\n", newDoor(t, chtest.Start(t, cfg)).must("SELECT 1"), "the directory is free again")
}

func TestRefusalsToStart(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	t.Parallel()
	cfg := chtest.Config(t)
	chtest.Start(t, cfg)
	refused := func(name, code, text string, change func(*clickhouse.Config)) {
		t.Run(name, func(t *testing.T) {
			c := chtest.Config(t)
			change(&c)
			_, err := chtest.TryStart(t, c)
			require.Equal(t, code, errs.CodeOf(err), fmt.Sprint(err))
			require.Equal(t, errs.Precondition, errs.KindOf(err))
			require.Contains(t, errs.MessageOf(err), text)
			require.NotContains(t, errs.MessageOf(err), "\n", "one sentence")
		})
	}
	refused("second instance", "data_dir_in_use", cfg.DataDir, func(c *clickhouse.Config) { c.DataDir = cfg.DataDir })
	refused("port taken", "port_in_use", "MEKONG_EMBEDDED__CLICKHOUSE__LISTEN", func(c *clickhouse.Config) { c.Listen = cfg.Listen })
	refused("missing library", "engine_missing", "make engines", func(c *clickhouse.Config) { c.LibraryPath += ".missing" })
	refused("other library", "engine_checksum", "make engines", func(c *clickhouse.Config) {
		c.LibraryPath = filepath.Join(t.TempDir(), "libchdb.so")
		require.NoError(t, os.WriteFile(c.LibraryPath, []byte("not it"), 0o600))
	})
	refused("data of a newer engine", "data_too_new", "99.1", func(c *clickhouse.Config) {
		require.NoError(t, os.WriteFile(filepath.Join(c.DataDir, "VERSION"), []byte("99.1.1\n"), 0o600))
	})
}

func TestBackoffGivesUp(t *testing.T) {
	t.Parallel()
	cfg := chtest.Config(t)
	cfg.ChildCommand = []string{"/bin/false"}
	_, err := chtest.TryStart(t, cfg)
	require.ErrorContains(t, err, "does not start")
	require.Contains(t, errs.MessageOf(err), "exit status 1")
}

func TestPasswordIsKept(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	t.Parallel()
	cfg := chtest.Config(t)
	e := chtest.Start(t, cfg)
	d := newDoor(t, e)
	d.must("CREATE TABLE kept (a UInt64) ENGINE = MergeTree ORDER BY a")
	d.must("INSERT INTO kept VALUES (1)")
	for _, wrong := range []door{d.as("mekong", ""), d.as("mekong", "x"), d.as("nobody", "x"), d.as("default", "")} {
		status, code, body, err := wrong.send(t.Context(), http.MethodPost, "SELECT 1", nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusForbidden, status)
		require.Equal(t, "516", code, body)
	}
	info, err := os.Stat(filepath.Join(cfg.DataDir, "password"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, e.Stop())
	again := chtest.Start(t, cfg)
	require.Equal(t, e.DSN(), again.DSN())
	require.Equal(t, "1\n", newDoor(t, again).must("SELECT count() FROM kept"))
	require.NotContains(t, again.Log.String(), d.password)
	conn, err := net.Dial("tcp", cfg.Listen) //nolint:noctx // only whether it listens
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

// TestFullDisk runs the engine on a file system of 40 MB.
func TestFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	t.Parallel()
	cfg := chtest.Config(t)
	mounted := syscall.Mount("tmpfs", cfg.DataDir, "tmpfs", 0, "size=40m") == nil
	if mounted {
		t.Cleanup(func() { require.NoError(t, syscall.Unmount(cfg.DataDir, syscall.MNT_DETACH)) })
	} else { // not root: the same failure comes from a limit on the size of files
		cfg.ChildCommand = []string{"/bin/sh", "-c", "ulimit -f 8192; exec \"$0\" engine-clickhouse", os.Args[0]}
	}
	d := newDoor(t, chtest.Start(t, cfg))
	d.must("CREATE TABLE f (n UInt32, s String CODEC(NONE)) ENGINE = MergeTree ORDER BY n SETTINGS old_parts_lifetime = 1")
	size := 2 << 20
	if !mounted {
		size = 16 << 20
	}
	acknowledged, failed := 0, false
	for i := 0; i < 40 && !failed; i++ {
		body := fmt.Sprintf("%d\t%s\n", i, strings.Repeat(string(rune('a'+i%26)), size))
		status, _, text, err := d.send(t.Context(), http.MethodPost, body, url.Values{"query": {"INSERT INTO f FORMAT TSV"}})
		require.NoError(t, err)
		if status == http.StatusOK {
			acknowledged++
			continue
		}
		failed = true
		require.NotContains(t, text, strings.Repeat("a", 100), "the error does not quote the rows")
	}
	require.True(t, failed, "a full disk must be told")
	require.Equal(t, fmt.Sprintf("%d\n", acknowledged), d.must("SELECT count() FROM f"), "what was acknowledged is there, what was refused is not")
	if !mounted {
		return
	}
	require.NoError(t, syscall.Mount("tmpfs", cfg.DataDir, "tmpfs", syscall.MS_REMOUNT, "size=200m"))
	require.Eventually(t, func() bool {
		status, _, _, err := d.send(t.Context(), http.MethodPost, "1000\tlate\n", url.Values{"query": {"INSERT INTO f FORMAT TSV"}})
		return err == nil && status == http.StatusOK
	}, time.Minute, 100*time.Millisecond, "with room again the engine works again")
	require.Equal(t, fmt.Sprintf("%d\n", acknowledged+1), d.must("SELECT count() FROM f"))
}

// TestDamagedPart flips and cuts the files of a part: the engine must say so instead of answering wrongly.
func TestDamagedPart(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	t.Parallel()
	for name, damage := range map[string]func(*testing.T, string){
		"flipped bit": func(t *testing.T, path string) {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			data[len(data)/2] ^= 0x10
			require.NoError(t, os.WriteFile(path, data, 0o600))
		},
		"cut": func(t *testing.T, path string) {
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(path, info.Size()*2/3))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := chtest.Config(t)
			e := chtest.Start(t, cfg)
			d := newDoor(t, e)
			d.must("CREATE TABLE p (a UInt64, s String) ENGINE = MergeTree ORDER BY a SETTINGS min_bytes_for_wide_part = 0")
			d.must("INSERT INTO p SELECT number, toString(cityHash64(number)) FROM numbers(100000)")
			const sums = "SELECT count(), sum(cityHash64(a, s)) FROM p"
			whole := d.must(sums)
			require.NoError(t, e.Stop())
			var hit int
			require.NoError(t, filepath.WalkDir(filepath.Join(cfg.DataDir, "store"), func(path string, _ fs.DirEntry, err error) error {
				if err == nil && filepath.Base(path) == "s.bin" {
					damage(t, path)
					hit++
				}
				return err
			}))
			require.Positive(t, hit)
			d = newDoor(t, chtest.Start(t, cfg))
			status, code, body, err := d.send(t.Context(), http.MethodPost, sums, nil)
			require.NoError(t, err)
			if status == http.StatusOK { // the engine noticed at its start and set the part aside
				require.NotEqual(t, whole, body)
				require.NotEqual(t, "0\n", d.must("SELECT count() FROM system.detached_parts WHERE table = 'p'"), "nothing disappears without a trace")
				return
			}
			require.NotEmpty(t, code, body)
			require.Equal(t, "1\n", d.must("SELECT 1"), "the rest of the engine works")
		})
	}
}

func TestBackupAndRestore(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	t.Parallel()
	from := chtest.Start(t, chtest.Config(t))
	d := newDoor(t, from)
	d.must("CREATE TABLE b (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
	d.must("INSERT INTO b SELECT number, toString(number) FROM numbers(200000)")
	d.must("CREATE DATABASE other")
	d.must("CREATE TABLE other.c ENGINE = MergeTree ORDER BY a AS SELECT number AS a FROM numbers(7)")
	d.must("CREATE VIEW v AS SELECT count() AS n FROM b")
	dir := filepath.Join(t.TempDir(), "it's a backup")
	require.NoError(t, from.Backup(t.Context(), dir))
	require.Equal(t, "not_empty", errs.CodeOf(from.Backup(t.Context(), dir)), "a backup is not overwritten")
	require.Equal(t, "not_empty", errs.CodeOf(from.Restore(t.Context(), dir)), "an engine with tables is not overwritten")
	d.must("INSERT INTO b VALUES (1000000, 'later')")

	to := chtest.Start(t, chtest.Config(t))
	require.NoError(t, to.Restore(t.Context(), dir))
	restored := newDoor(t, to)
	require.Equal(t, "200000\t19999900000\n", restored.must("SELECT count(), sum(a) FROM b"))
	require.Equal(t, "7\n", restored.must("SELECT count() FROM other.c"))
	require.Equal(t, "200000\n", restored.must("SELECT n FROM v"))
	facts, err := to.Facts(t.Context())
	require.NoError(t, err)
	require.Equal(t, "200007", facts["rows"])
	require.Equal(t, "no_backup", errs.CodeOf(to.Restore(t.Context(), t.TempDir())))
}
