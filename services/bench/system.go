package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// demoKey is the write key that `--demo` creates.
const demoKey = "demo_write_key"

// system is bin/mekong with ports and a data directory of its own.
type system struct {
	binary, logs, data string
	// http, metrics, kafka are addresses.
	http, metrics, kafka string
	env                  []string
	running              *process
}

// newSystem chooses ports. With a broker given, that is the Kafka; else it is embedded.
func newSystem(ctx context.Context, b *bench, name, broker string) (*system, error) {
	data := filepath.Join(b.dir, name)
	// The embedded PostgreSQL runs as another user when this one is root, and must be able to enter.
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	s := &system{binary: b.binary, logs: b.dir, data: data, env: []string{"MEKONG_GRPC__SERVICE_TOKEN=bench"}}
	for setting, kept := range map[string]*string{
		"HTTP__LISTEN": &s.http, "METRICS__LISTEN": &s.metrics, "EMBEDDED__KAFKA__LISTEN": &s.kafka,
		"GRPC__LISTEN": nil, "EMBEDDED__POSTGRES__LISTEN": nil, "EMBEDDED__CLICKHOUSE__LISTEN": nil,
	} {
		address, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}
		if kept != nil {
			*kept = address
		}
		s.env = append(s.env, "MEKONG_"+setting+"="+address)
	}
	if broker != "" {
		s.kafka = broker
		s.env = append(s.env, "MEKONG_KAFKA__BROKERS="+broker)
	}
	return s, nil
}

// up starts everything with the demo workspace and returns how long it took to be ready.
func (s *system) up(ctx context.Context) (time.Duration, error) {
	return s.start(ctx, "up", "--demo")
}

// run starts some targets only.
func (s *system) run(ctx context.Context, targets string, env ...string) error {
	before := s.env
	s.env = append(before[:len(before):len(before)], env...)
	defer func() { s.env = before }()
	_, err := s.start(ctx, "run", "--demo", "--target", targets)
	return err
}

func (s *system) start(ctx context.Context, args ...string) (time.Duration, error) {
	if err := s.launch(ctx, args...); err != nil {
		return 0, err
	}
	took, err := s.running.await(ctx, answersReady(s.http))
	if err != nil {
		s.kill()
		return 0, err
	}
	return took, nil
}

// launch starts the process and waits for nothing.
func (s *system) launch(ctx context.Context, args ...string) error {
	p, err := start(ctx, s.logs, filepath.Base(s.data), s.binary, append(args, "--data-dir", s.data), s.env)
	s.running = p
	return err
}

func (s *system) stop() error {
	if s.running == nil {
		return nil
	}
	p := s.running
	s.running = nil
	return p.stop()
}

// kill is `kill -9` of the main process; its children have to notice by themselves.
func (s *system) kill() {
	s.running.kill()
	s.running = nil
}

// address asks the binary, as users do: "clickhouse", "postgres" come with their passwords.
func (s *system) address(ctx context.Context, what string) (string, error) {
	cmd := exec.CommandContext(ctx, s.binary, "addresses", "--show-passwords", "--data-dir", s.data)
	cmd.Env = append(os.Environ(), s.env...) //nolint:forbidigo // the child gets this program's environment
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("mekong addresses: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if name, address, _ := strings.Cut(strings.TrimSpace(line), " "); name == what {
			return strings.TrimSpace(address), nil
		}
	}
	return "", fmt.Errorf("mekong addresses names no %s", what)
}
