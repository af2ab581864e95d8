package clickhouse

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const (
	// maxFailedStarts in a row end the engine.
	maxFailedStarts = 5
	firstBackoff    = 100 * time.Millisecond
	maxBackoff      = 5 * time.Second
	// healthyAfter a child that ran this long is not counted as a failed start when it dies.
	healthyAfter = 10 * time.Second
)

// supervise runs children one after the other until ctx is done.
func (e *Engine) supervise(ctx context.Context, started func()) error {
	if err := verifyLibrary(e.cfg.LibraryPath, e.dir.verified()); err != nil {
		return err
	}
	listener, err := e.listen(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // the process stops using it anyway
	backoff, failures := firstBackoff, 0
	for {
		c, err := e.startChild(ctx, listener)
		if err == nil {
			err = e.awaitReady(ctx, c)
		}
		if err == nil {
			e.ready.Store(true)
			started()
			since := time.Now()
			err = c.wait(ctx, e.cfg.StopTimeout)
			e.ready.Store(false)
			if time.Since(since) > healthyAfter {
				backoff, failures = firstBackoff, 0
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		failures++
		kind := errs.KindOf(err)
		if kind == errs.Precondition || failures >= maxFailedStarts {
			return errs.Wrap(err, kind, errs.CodeOf(err), "The embedded ClickHouse does not start: "+sentence(err))
		}
		e.log.Warn("engine ended, starting it again", "reason", sentence(err), "in", backoff)
		timer := time.NewTimer(backoff)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		backoff = min(backoff*2, maxBackoff)
	}
}

// listen takes the address. The parent keeps the socket, so that clients wait instead of failing while a child starts again.
func (e *Engine) listen(ctx context.Context) (*net.TCPListener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", e.cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errs.Wrap(err, errs.Precondition, "port_in_use", fmt.Sprintf(
			"Another program listens on %s; stop it or choose another address with MEKONG_EMBEDDED__CLICKHOUSE__LISTEN", e.cfg.Listen))
	}
	if err != nil {
		return nil, errs.Wrap(err, errs.Precondition, "bad_listen", fmt.Sprintf(
			"Cannot listen on %s; choose another address with MEKONG_EMBEDDED__CLICKHOUSE__LISTEN", e.cfg.Listen))
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(errors.New("not a TCP listener"), l.Close())
	}
	address := tcp.Addr().String()
	e.address.Store(&address)
	return tcp, nil
}

// child is one engine process.
type child struct {
	cmd     *exec.Cmd
	control io.WriteCloser // closing it asks the child to stop
	status  chan childStatus
	ended   chan error
}

// startChild spawns the engine. The thread that forks must outlive the child, because the kernel sends the death signal
// when that thread ends; so one goroutine keeps its thread until the child has ended.
func (e *Engine) startChild(ctx context.Context, listener *net.TCPListener) (*child, error) {
	c := &child{status: make(chan childStatus, 16), ended: make(chan error, 1)}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		drained, err := e.spawn(context.WithoutCancel(ctx), c, listener)
		started <- err
		if err == nil {
			<-drained
			c.ended <- c.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, "engine_spawn", "The engine process cannot be started ("+err.Error()+")")
	}
	return c, nil
}

func (e *Engine) spawn(ctx context.Context, c *child, listener *net.TCPListener) (drained <-chan struct{}, err error) {
	config, err := json.Marshal(e.childConfig())
	if err != nil {
		return nil, err
	}
	socket, err := listener.File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = socket.Close() }()
	controlRead, controlWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = controlRead.Close() }()
	if err := os.MkdirAll(e.dir.work(), 0o700); err != nil {
		return nil, errors.Join(err, controlWrite.Close())
	}
	command := e.cfg.ChildCommand
	c.cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	c.cmd.Dir = e.dir.work()
	c.cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + e.dir.work(), "TMPDIR=" + e.dir.temp(), "TZ=UTC", "LC_ALL=C.UTF-8"}
	c.cmd.ExtraFiles = []*os.File{controlRead, socket}
	c.cmd.SysProcAttr = childAttributes()
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, controlWrite.Close())
	}
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, errors.Join(err, controlWrite.Close())
	}
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, controlWrite.Close())
	}
	c.control = controlWrite
	done := make(chan struct{})
	go func() {
		defer close(done)
		logged := make(chan struct{})
		go func() {
			defer close(logged)
			e.forwardLog(stderr)
		}()
		readStatus(stdout, c.status)
		<-logged
	}()
	_, err = controlWrite.Write(append(config, '\n'))
	if err != nil {
		e.log.Warn("engine ended before it read its configuration", "error", err)
	}
	return done, nil
}

func readStatus(r io.Reader, status chan<- childStatus) {
	defer close(status)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var s childStatus
		if json.Unmarshal(lines.Bytes(), &s) == nil {
			select {
			case status <- s:
			default: // nobody waits for it any more
			}
		}
	}
}

// forwardLog copies the child's log. Lines of the engine itself are shortened to their source: they can quote statements.
func (e *Engine) forwardLog(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text := lines.Text()
		var entry struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
		}
		switch {
		case json.Unmarshal([]byte(text), &entry) == nil && entry.Msg != "":
			e.log.Warn("engine process", "level", entry.Level, "line", text)
		case strings.Contains(text, "<Fatal>"), strings.HasPrefix(text, "fatal error:"), strings.HasPrefix(text, "panic:"), strings.HasPrefix(text, "SIG"):
			e.log.Error("engine crashed", "line", text)
		default:
			e.log.Debug("engine output", "line", text)
		}
	}
}

// awaitReady waits until the child answers SELECT 1.
func (e *Engine) awaitReady(ctx context.Context, c *child) error {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.StartTimeout)
	defer cancel()
	var reason error
	for {
		select {
		case s, ok := <-c.status:
			switch {
			case !ok:
				err := <-c.ended
				_ = c.control.Close()
				if reason == nil {
					reason = errs.Wrap(err, errs.Unavailable, "engine_died", fmt.Sprintf("The engine process ended while it started (%v)", err))
				}
				return reason
			case s.Ready:
				if _, err := e.ask(ctx, "SELECT 1"); err != nil {
					return errors.Join(err, c.stop(e.cfg.StopTimeout))
				}
				return nil
			default:
				reason = errs.New(kindNamed(s.Kind), s.Code, s.Message)
			}
		case <-ctx.Done():
			err := c.stop(e.cfg.StopTimeout)
			return errs.Wrap(err, errs.Unavailable, "engine_slow", fmt.Sprintf("The engine did not start within %s", e.cfg.StartTimeout))
		}
	}
}

func kindNamed(name string) errs.Kind {
	for kind := errs.Internal; kind <= errs.Unavailable; kind++ {
		if kind.String() == name {
			return kind
		}
	}
	return errs.Internal
}

// wait blocks until the child ends by itself, or stops it when ctx is done.
func (c *child) wait(ctx context.Context, timeout time.Duration) error {
	select {
	case err := <-c.ended:
		_ = c.control.Close()
		return errs.Wrap(err, errs.Unavailable, "engine_died", fmt.Sprintf("The engine process ended (%v)", err))
	case <-ctx.Done():
		return c.stop(timeout)
	}
}

// stop asks the child to end and kills it when it does not.
func (c *child) stop(timeout time.Duration) error {
	_ = c.control.Close()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case err := <-c.ended:
		return err
	case <-timer.C:
		killErr := c.cmd.Process.Kill()
		return errors.Join(<-c.ended, killErr)
	}
}

// executable is the default command of the child: this binary.
func executable() ([]string, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, errs.Wrap(err, errs.Precondition, "no_executable", "The path of this program cannot be found; set clickhouse.child_command")
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, errs.Wrap(err, errs.Precondition, "no_executable", "The path of this program cannot be found; set clickhouse.child_command")
	}
	return []string{path, "engine-clickhouse"}, nil
}
