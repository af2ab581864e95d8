package kafkatest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 30 * time.Second
)

// RealBroker is an Apache Kafka that a test started.
type RealBroker struct {
	Addr string

	dir  string
	port int
	cmd  *exec.Cmd
	done chan struct{}
	out  *tail
}

// RealTarget returns the brokers that MEKONG_TEST_KAFKA names, or a real Kafka started for t, which can be restarted.
func RealTarget(t testing.TB) Target {
	t.Helper()
	if addrs := os.Getenv("MEKONG_TEST_KAFKA"); addrs != "" { //nolint:forbidigo // the switch of tests, not a setting of the program
		return Target{Brokers: strings.Split(addrs, ",")}
	}
	r := StartReal(t)
	return Target{Brokers: []string{r.Addr}, Restart: r.Restart}
}

// StartReal starts an Apache Kafka on free ports with data of its own, and stops it when t ends.
func StartReal(t testing.TB) *RealBroker {
	t.Helper()
	r := &RealBroker{dir: t.TempDir(), port: FreePort(t, 2)}
	r.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port))
	r.start(t)
	t.Cleanup(func() { r.stop(t, syscall.SIGKILL) })
	return r
}

// Restart kills the broker and starts it on the same data.
func (r *RealBroker) Restart(t testing.TB) {
	t.Helper()
	r.stop(t, syscall.SIGKILL)
	r.start(t)
}

func (r *RealBroker) start(t testing.TB) {
	t.Helper()
	root := repoRoot(t)
	if libs, err := filepath.Glob(filepath.Join(root, ".engines", "kafka", "libs", "kafka_*.jar")); err != nil || len(libs) == 0 {
		require.Fail(t, "the jars of Apache Kafka are missing: run `make engines`, or name running brokers in MEKONG_TEST_KAFKA")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), startTimeout)
	defer cancel()
	r.out, r.done = &tail{}, make(chan struct{})
	// The process outlives ctx: it is killed by stop, or with its parent.
	r.cmd = exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(root, "tools", "kafka", "run.sh"), "--port", strconv.Itoa(r.port), "--data", r.dir) //nolint:gosec // our own script
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, r.cmd.Start())
	go func(cmd *exec.Cmd, done chan struct{}) {
		defer close(done)
		_ = cmd.Wait() // how it ended shows in its output
	}(r.cmd, r.done)
	client, err := kgo.NewClient(kgo.SeedBrokers(r.Addr), kgo.RetryTimeout(time.Second))
	require.NoError(t, err)
	defer client.Close()
	for {
		select {
		case <-r.done:
			require.Fail(t, "Apache Kafka ended while starting", r.out.String())
		default:
		}
		pingCtx, stop := context.WithTimeout(ctx, 2*time.Second)
		// The first look at a group makes the broker create the topic of the commits, which takes it a while.
		_, err := kadm.NewClient(client).FetchOffsets(pingCtx, "kafkatest.start")
		if errors.Is(err, kerr.GroupIDNotFound) {
			err = nil
		}
		stop()
		if err == nil {
			return
		}
		wait := time.NewTimer(200 * time.Millisecond)
		select {
		case <-wait.C:
		case <-ctx.Done():
			r.stop(t, syscall.SIGKILL)
			require.Fail(t, "Apache Kafka did not start in time", r.out.String())
		}
	}
}

func (r *RealBroker) stop(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-r.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		require.NoError(t, err)
	}
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	select {
	case <-r.done:
	case <-timeout.C:
		require.Fail(t, "Apache Kafka did not stop", r.out.String())
	}
}

// FreePort returns the first of n neighbouring free ports. They lie below the range from which the system takes ports for
// outgoing connections, so that a server can be restarted on its port.
func FreePort(t testing.TB, n int) int {
	t.Helper()
	var lc net.ListenConfig
	for range 200 {
		first := 20_000 + rand.IntN(9_000) //nolint:gosec // spreading needs no secrecy
		free := 0
		for ; free < n; free++ {
			l, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first+free)))
			if err != nil {
				break
			}
			l.Close()
		}
		if free == n {
			return first
		}
	}
	require.Fail(t, "no free ports")
	return 0
}

func repoRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		require.NotEqual(t, dir, parent, "no go.work above the test: run it inside the repository")
		dir = parent
	}
}

// tail keeps the last output of a process.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buf.Len() > 64<<10 {
		w.buf.Reset()
	}
	return w.buf.Write(p)
}

// String returns the output kept.
func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
