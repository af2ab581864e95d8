package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
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
)

// repoRoot is the folder that holds go.work.
func repoRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	require.NoError(tb, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		require.NotEqual(tb, parent, dir, "go.work not found above the test")
		dir = parent
	}
}

// binary is what users run; `make build` makes it.
func binary(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(repoRoot(tb), "bin", "mekong")
	_, err := os.Stat(path)
	require.NoError(tb, err, "bin/mekong is missing: run `make build`")
	return path
}

// fullSize reports whether the long proofs were asked for.
func fullSize() bool {
	return os.Getenv("MEKONG_TEST_SIZE") == "full" //nolint:forbidigo // the one switch between `make test` and `make verify`
}

const (
	// The ports of the tests lie below the range from which the system takes ports for outgoing connections, so that a
	// killed process finds its own again.
	firstPort = 29_500
	testPorts = 3_000
)

// portsGiven counts, so that no port is given twice; where it begins differs between two runs at the same time.
var portsGiven atomic.Int64

// freePort returns an address on which nothing listens, and which no other caller gets.
func freePort(tb testing.TB) string {
	tb.Helper()
	portsGiven.CompareAndSwap(0, rand.Int64N(testPorts)) //nolint:gosec // spreading needs no secrecy
	for range testPorts {
		address := net.JoinHostPort("127.0.0.1", strconv.FormatInt(firstPort+portsGiven.Add(1)%testPorts, 10))
		l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", address)
		if err == nil {
			require.NoError(tb, l.Close())
			return address
		}
	}
	require.Fail(tb, "no free ports")
	return ""
}

// process is one operating-system process of the system under test. It can be killed and started again.
type process struct {
	name string
	path string
	args []string
	env  []string
	log  string // file that gets stdout and stderr of all lives

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	code   int
	kills  int
}

func (p *process) start(tb testing.TB) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(tb, err)
	cmd := exec.Command(p.path, p.args...)   //nolint:noctx // its life is the test's, ended by stop or kill
	cmd.Env = append(os.Environ(), p.env...) //nolint:forbidigo // the child gets the test's environment
	cmd.Stdout, cmd.Stderr = out, out
	// The system must not outlive a test that was killed itself.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(tb, cmd.Start())
	exited := make(chan struct{})
	p.cmd, p.exited = cmd, exited
	go func() {
		_ = cmd.Wait()
		_ = out.Close()
		p.mu.Lock()
		p.code = cmd.ProcessState.ExitCode()
		p.mu.Unlock()
		close(exited)
	}()
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

func (p *process) running() bool {
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	if exited == nil {
		return false
	}
	select {
	case <-exited:
		return false
	default:
		return true
	}
}

func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Signal(sig)
	}
}

// kill ends the process as a power cut would, and waits until it is gone.
func (p *process) kill(tb testing.TB) {
	tb.Helper()
	p.kills++
	p.signal(syscall.SIGKILL)
	p.wait(tb, 20*time.Second)
}

// stop asks the process to end and returns its exit code.
func (p *process) stop(tb testing.TB) int {
	tb.Helper()
	p.signal(syscall.SIGTERM)
	return p.wait(tb, time.Minute)
}

func (p *process) wait(tb testing.TB, limit time.Duration) int {
	tb.Helper()
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-exited:
	case <-timer.C:
		p.signal(syscall.SIGQUIT)
		p.signal(syscall.SIGKILL)
		require.Failf(tb, "process has not ended", "%s within %s; its log ends:\n%s", p.name, limit, tail(p.log, 40))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.code
}

// output returns everything that the process has printed.
func (p *process) output(tb testing.TB) string {
	tb.Helper()
	data, err := os.ReadFile(p.log)
	require.NoError(tb, err)
	return string(data)
}

func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// children returns the living descendants of pid by their command lines.
func children(pid int) map[int]string {
	parents := map[int]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range dirs {
		data, err := os.ReadFile(stat)
		if err != nil {
			continue
		}
		// The command in parentheses may hold spaces; what follows the last one is state and parent.
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if len(fields) > 1 && fields[0] != "Z" {
			parents[child], _ = strconv.Atoi(fields[1])
		}
	}
	found := map[int]string{}
	for child := range parents {
		for up := parents[child]; up > 1; up = parents[up] {
			if up == pid {
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
				found[child] = strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
				break
			}
		}
	}
	return found
}

// httpClient is used for everything that is not the load itself.
func httpClient() *http.Client { return &http.Client{Timeout: 30 * time.Second} }

// status returns the status and body of a GET; 0 when nobody answers.
func status(ctx context.Context, url string) (int, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := httpClient().Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// waitReady waits until /readyz answers 200.
func (p *process) waitReady(tb testing.TB, url string) {
	tb.Helper()
	var code int
	var body string
	require.Eventually(tb, func() bool {
		code, body = status(tb.Context(), url+"/readyz")
		return code == http.StatusOK || !p.running()
	}, readyLimit, 50*time.Millisecond, "%s is not ready: %d %s; log:\n%s", p.name, code, body, tail(p.log, 40))
	require.True(tb, p.running(), "%s ended while starting; its log ends:\n%s", p.name, tail(p.log, 60))
}

// findLine returns the first printed line that contains part, waiting for it.
func (p *process) findLine(tb testing.TB, part string, limit time.Duration) string {
	tb.Helper()
	var found string
	require.Eventually(tb, func() bool {
		scan := bufio.NewScanner(strings.NewReader(p.output(tb)))
		scan.Buffer(nil, 1<<20)
		for scan.Scan() {
			if strings.Contains(scan.Text(), part) {
				found = scan.Text()
				return true
			}
		}
		return false
	}, limit, 50*time.Millisecond, "%s has not printed %q", p.name, part)
	return found
}
