package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	startLimit = 3 * time.Minute
	stopLimit  = time.Minute
)

// process is one child process; what it prints goes to a file.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start runs a program until it is stopped or ctx ends.
func start(ctx context.Context, logDir, name, path string, args, env []string) (*process, error) {
	log := filepath.Join(logDir, name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	cmd.Env = append(os.Environ(), env...) //nolint:forbidigo // the children get this program's environment
	cmd.Stdout, cmd.Stderr = out, out
	// Ctrl-C reaches this program alone, which then stops its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	p := &process{name: name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		_ = out.Close()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process and waits for it, killing it when it takes too long.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		p.kill()
		return fmt.Errorf("%s did not end within %s and was killed", p.name, stopLimit)
	}
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// await calls ready until it returns nil, and returns how long that took.
func (p *process) await(ctx context.Context, ready func(context.Context) error) (time.Duration, error) {
	return p.awaitWithin(ctx, startLimit, ready)
}

func (p *process) awaitWithin(ctx context.Context, limit time.Duration, ready func(context.Context) error) (time.Duration, error) {
	begin := time.Now()
	for {
		err := ready(ctx)
		if err == nil {
			return time.Since(begin), nil
		}
		select {
		case <-p.done:
			return 0, fmt.Errorf("%s ended while starting; its log ends:\n%s", p.name, tail(p.log))
		case <-ctx.Done():
			return 0, ctx.Err()
		default:
		}
		if time.Since(begin) > limit {
			return 0, fmt.Errorf("%s is not ready after %s: %w; its log ends:\n%s", p.name, limit, err, tail(p.log))
		}
		if err := pause(ctx, 25*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// listening is ready once something accepts connections at address.
func listening(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// answersReady is ready once GET /readyz says so.
func answersReady(address string) func(context.Context) error {
	client := &http.Client{Timeout: 5 * time.Second}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz answers %d", resp.StatusCode)
		}
		return nil
	}
}

// freeAddress returns a port of loopback that nothing listens on.
func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
