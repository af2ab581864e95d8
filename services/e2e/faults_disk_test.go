//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// smallDisk holds a fresh installation and some events.
const smallDisk = "size=400m,mode=0755"

// TestFaultsOfAFullDisk fills the disk under a running system: the door says no instead of acknowledging, or the process
// ends with one sentence; with room again, after a restart, everything that was acknowledged is stored once.
func TestFaultsOfAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can mount the small disk that this test fills")
		return
	}
	s := newSystem(t)
	require.NoError(t, syscall.Mount("tmpfs", s.dataDir, "tmpfs", 0, smallDisk))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(s.dataDir, syscall.MNT_DETACH)) })
	logs := t.TempDir() // not on the disk that will be full
	httpAt, env := s.singleEnv(t)
	p := s.process(t, "mekong", binary(t), []string{"up", "--data-dir", s.data()}, env, "http://"+httpAt)
	p.log = filepath.Join(logs, "mekong.log")
	p.start(t)
	// Clean-ups run in reverse: the process must have ended before its disk goes.
	t.Cleanup(func() {
		if p.running() {
			p.stop(t)
		}
	})
	p.waitReady(t, s.door)
	s.token = ownerToken(t, p)
	s.learnAddresses(t, env)
	ws := newWorkspace(t, api{s.api, s.token}, "disk")
	s.waitKey(t, ws)
	acked := s.track(t, ws, "before", 20)
	s.requireStored(t, ws, acked)

	filler := filepath.Join(s.dataDir, "filler")
	fillDisk(t, filler, 1<<20)
	refused := 0
	begin := time.Now()
	for i := 0; refused < 20 && p.running() && time.Since(begin) < 30*time.Second; i++ {
		id := fmt.Sprintf("full-%d", i)
		body := fmt.Sprintf(`{"messageId":%q,"event":"E","anonymousId":"d","properties":{"x":%q}}`, id, strings.Repeat("x", 20_000))
		code, _, raw := send(t.Context(), httpClient(), s.door, "/v1/track", ws.key, []byte(body))
		switch code {
		case http.StatusOK:
			acked = append(acked, id)
		case http.StatusServiceUnavailable, http.StatusTooManyRequests:
			require.Contains(t, raw, `"message"`)
			refused++
		case 0: // the process is ending
		default:
			require.Failf(t, "unexpected answer", "%d %s", code, raw)
		}
	}
	require.True(t, refused > 0 || !p.running(), "a full disk must be noticed, %d events were acknowledged", len(acked))
	t.Logf("acknowledged %d, refused %d, process still running: %v", len(acked), refused, p.running())

	require.NoError(t, os.Remove(filler))
	if p.running() {
		p.stop(t)
	} else {
		require.NotZero(t, p.wait(t, time.Second))
	}
	said := ""
	for line := range strings.Lines(p.output(t)) {
		if strings.HasPrefix(line, "mekong: ") {
			said += line
		}
	}
	t.Logf("it said: %s", said)
	p.start(t)
	p.waitReady(t, s.door)
	acked = append(acked, s.track(t, ws, "after", 5)...)
	s.requireAtLeastStored(t, ws, acked)
}

// requireAtLeastStored waits until every id is stored once. An event that was refused may be stored too: its sender was
// told to try again.
func (s *system) requireAtLeastStored(tb testing.TB, ws workspace, ids []string) {
	tb.Helper()
	var rows map[string]int
	var err error
	missing := func() (lost []string) {
		for _, id := range ids {
			if rows[id] == 0 {
				lost = append(lost, id)
			}
		}
		return lost
	}
	require.Eventually(tb, func() bool {
		rows, err = stored(tb.Context(), s, ws.id)
		return err == nil && len(missing()) == 0
	}, recoverLimit, 100*time.Millisecond, "%s", lazy(func() string { return fmt.Sprintf("missing %v, error %v", missing(), err) }))
	for id, n := range rows {
		require.Equal(tb, 1, n, id)
	}
}

// fillDisk writes until nothing fits, then gives room back.
func fillDisk(tb testing.TB, path string, room int64) {
	tb.Helper()
	file, err := os.Create(path)
	require.NoError(tb, err)
	defer file.Close()
	for size := 1 << 20; size >= 1; size /= 4 {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
		require.ErrorIs(tb, err, syscall.ENOSPC)
	}
	info, err := file.Stat()
	require.NoError(tb, err)
	require.NoError(tb, file.Truncate(info.Size()-room))
}
