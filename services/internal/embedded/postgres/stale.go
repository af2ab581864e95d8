package postgres

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	staleFast      = 15 * time.Second
	staleImmediate = 5 * time.Second
	stalePause     = 50 * time.Millisecond
)

// settleOld ends what a killed parent left behind in pgDir. We hold the lock of the data directory, so no other Mekong
// uses it; a process is taken for a server of this directory by its working directory, never by its number alone.
func settleOld(ctx context.Context, pgDir string, log *slog.Logger) error {
	pid, err := postmasterPID(pgDir)
	if err != nil {
		return err
	}
	if pid != 0 && worksIn(pid, pgDir) {
		log.WarnContext(ctx, "ending a postgres left by an earlier run", "pid", pid)
	}
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, staleFast}, {syscall.SIGQUIT, staleImmediate}, {syscall.SIGKILL, staleImmediate}} {
		if pid != 0 && worksIn(pid, pgDir) {
			if err := syscall.Kill(pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return precondition(err, "old_postgres_alive", "an earlier PostgreSQL still runs on this data directory and may not be signalled; stop it")
			}
		}
		// Its children end on their own when the postmaster is gone.
		gone, err := poll(ctx, step.wait, func() bool { return !anyoneWorksIn(pgDir) })
		if err != nil {
			return err
		}
		if gone {
			return forgetForeignPID(pgDir)
		}
	}
	return precondition(nil, "old_postgres_alive", "an earlier PostgreSQL still runs on this data directory and does not stop; stop its processes")
}

// forgetForeignPID removes a postmaster.pid whose number now belongs to a stranger: the server would take it for alive.
func forgetForeignPID(pgDir string) error {
	pid, err := postmasterPID(pgDir)
	if err != nil || pid == 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return err
	}
	return os.Remove(filepath.Join(pgDir, "postmaster.pid"))
}

func postmasterPID(pgDir string) (int, error) {
	data, err := os.ReadFile(filepath.Join(pgDir, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(data), "\n")
	if pid, err := strconv.Atoi(strings.TrimSpace(first)); err == nil && pid > 1 {
		return pid, nil
	}
	return 0, nil // torn by a crash: the server overwrites it
}

func worksIn(pid int, dir string) bool {
	cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	return err == nil && cwd == dir
}

func anyoneWorksIn(dir string) bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false // no /proc on this system: the server's own check of shared memory remains
	}
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && worksIn(pid, dir) {
			return true
		}
	}
	return false
}

// poll waits until done, at most limit.
func poll(ctx context.Context, limit time.Duration, done func() bool) (bool, error) {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(stalePause)
	defer tick.Stop()
	for {
		if done() {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-deadline.C:
			return done(), nil
		case <-tick.C:
		}
	}
}
