package clickhouse

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// File descriptors that the parent hands down.
const (
	fdControl  = 3 // carries the configuration, then ends when the parent stops the child or dies
	fdListener = 4
)

// childConfig is what the child must know, sent through the control pipe so that no secret shows in arguments or files.
type childConfig struct {
	DataDir              string               `json:"data_dir"`
	LibraryPath          string               `json:"library_path"`
	Accounts             map[string]childUser `json:"accounts"`
	MaxMemoryBytes       int64                `json:"max_memory_bytes"`
	MaxQueryMemoryBytes  int64                `json:"max_query_memory_bytes"`
	MaxThreads           int                  `json:"max_threads"`
	MaxConcurrentQueries int                  `json:"max_concurrent_queries"`
	MaxQueueTime         time.Duration        `json:"max_queue_time"`
	MaxExecutionTime     time.Duration        `json:"max_execution_time"`
	ResponseBufferBytes  int                  `json:"response_buffer_bytes"`
	StopTimeout          time.Duration        `json:"stop_timeout"`
}

type childUser struct {
	Password string `json:"password"`
	Owner    bool   `json:"owner"`
}

// childStatus is a line on the standard output of the child.
type childStatus struct {
	Ready   bool   `json:"ready,omitempty"`
	Kind    string `json:"kind,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// ChildMain is the child process: it serves until its parent closes the control pipe or dies. It is started by an
// Engine only; args is empty.
func ChildMain(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return errs.New(errs.Invalid, "bad_arguments", "This command takes no arguments; it is started by mekong itself")
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP) // Ctrl-C reaches the parent, which stops the child in order
	control := os.NewFile(fdControl, "control")
	listenerFile := os.NewFile(fdListener, "listener")
	if control == nil || listenerFile == nil {
		return errs.New(errs.Precondition, "not_a_child", "This command is started by mekong itself, not by hand")
	}
	reader := bufio.NewReader(control)
	line, err := reader.ReadBytes('\n')
	if err != nil {
		return errs.Wrap(err, errs.Precondition, "not_a_child", "This command is started by mekong itself, not by hand")
	}
	var cfg childConfig
	if err := json.Unmarshal(line, &cfg); err != nil {
		return errs.Wrap(err, errs.Internal, "bad_child_config", "The configuration of the engine process cannot be read")
	}
	listener, err := net.FileListener(listenerFile)
	if err != nil {
		return errs.Wrap(err, errs.Internal, "no_listener", "The engine process got no listening socket")
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, reader) // ends when the parent closes its end or dies
		stop()
	}()
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	err = serveChild(ctx, cfg, listener, log)
	if err != nil {
		report(childStatus{Kind: errs.KindOf(err).String(), Code: errs.CodeOf(err), Message: sentence(err)})
	}
	return err
}

// sentence is what the parent shows: the message of our own errors, the whole text of others.
func sentence(err error) string {
	var e *errs.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

func report(status childStatus) {
	line, err := json.Marshal(status)
	if err == nil {
		_, _ = os.Stdout.Write(append(line, '\n')) // a parent that is gone needs no report
	}
}

func serveChild(ctx context.Context, cfg childConfig, listener net.Listener, log *slog.Logger) (err error) {
	dir := layout(cfg.DataDir)
	unlock, err := lockPatiently(ctx, cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	s, anchor, err := openServer(ctx, cfg, dir, log)
	if err != nil {
		return err
	}
	httpServer := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    1 << 20,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopping, stopStatements := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStatements()
	s.stopping = stopping
	served := make(chan error, 1)
	go func() { served <- httpServer.Serve(listener) }()
	report(childStatus{Ready: true})
	trim := time.NewTicker(idleSessionTime / 2)
	defer trim.Stop()
	for running := true; running; {
		select {
		case now := <-trim.C:
			s.pool.trim(now)
		case err := <-served:
			return err
		case <-ctx.Done():
			running = false
		}
	}
	grace, cancel := context.WithTimeout(stopping, cfg.StopTimeout/2)
	defer cancel()
	if httpServer.Shutdown(grace) != nil { // statements still run: end them
		stopStatements()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.StopTimeout/4)
		defer cancel()
		_ = httpServer.Shutdown(last) // the process ends next, whatever is left
	}
	s.close()
	anchor.close()
	if code := s.pool.lib.shutdown(); code != 0 {
		log.Debug("engine closed with threads left", "code", code) // seen whenever a MergeTree table exists; the data is whole
	}
	return nil
}

// lockPatiently waits a little for the lock: a predecessor that was killed may still be dying.
func lockPatiently(ctx context.Context, dir string) (unlock func() error, err error) {
	deadline := time.Now().Add(5 * time.Second)
	for {
		unlock, err = durable.LockDir(dir)
		if err == nil || errs.CodeOf(err) != "data_dir_in_use" || time.Now().After(deadline) || ctx.Err() != nil {
			return unlock, err
		}
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// openServer loads the library and opens the data. The anchor connection keeps the engine alive between statements.
func openServer(ctx context.Context, cfg childConfig, dir layout, log *slog.Logger) (*server, *session, error) {
	if err := dir.create(); err != nil {
		return nil, nil, err
	}
	lib, err := openLibrary(cfg.LibraryPath)
	if err != nil {
		return nil, nil, errs.Wrap(err, errs.Precondition, "engine_unusable", fmt.Sprintf(
			"The ClickHouse library cannot be loaded (%v); run `make engines`, %s", err, externalHint))
	}
	if err := dir.checkVersion(lib.version()); err != nil {
		return nil, nil, err
	}
	config, err := dir.writeEngineConfig(cfg)
	if err != nil {
		return nil, nil, err
	}
	args := []string{"--config-file=" + config, "--path=" + dir.store()}
	anchor, err := openSession(ctx, lib, args, []string{"CREATE DATABASE IF NOT EXISTS " + quoteIdentifier(DefaultDatabase)})
	if err != nil {
		return nil, nil, errs.Wrap(err, errs.Unavailable, "engine_start", fmt.Sprintf(
			"The ClickHouse engine could not open %s (%v); free memory or disk, or restore a backup", dir.store(), err))
	}
	s := &server{
		log: log, pool: &pool{lib: lib, args: args}, accounts: map[string]account{}, inflight: &inflight{byID: map[string]*running{}},
		classes: &classCache{known: map[string]analysis{}},
		slots:   make(chan struct{}, cfg.MaxConcurrentQueries), queueTime: cfg.MaxQueueTime, buffer: cfg.ResponseBufferBytes, tempDir: dir.temp(),
	}
	for name, user := range cfg.Accounts {
		r := roleReader
		if user.Owner {
			r = roleOwner
		}
		s.accounts[name] = newAccount(user.Password, r)
	}
	if err := s.learn(anchor); err != nil {
		anchor.close()
		return nil, nil, err
	}
	return s, anchor, nil
}

// learn asks the engine for the names that the guard works with.
func (s *server) learn(anchor *session) (err error) {
	names := func(c *connection, sql string) nameSet {
		r, queryErr := c.query(sql, "TSVRaw", params{})
		if queryErr != nil {
			err = errors.Join(err, queryErr)
			return nil
		}
		defer r.free()
		return newNameSet(string(r.bytes()))
	}
	anchor.do(func(c *connection) {
		s.guard.tableFunctions = names(c, "SELECT name FROM system.table_functions")
		s.knownSettings = names(c, "SELECT name FROM system.settings")
		version := names(c, "SELECT version()")
		if err == nil && !version.has(serverVersion) {
			err = fmt.Errorf("the engine is %s, not %s", strings.Join(keys(version), " "), serverVersion)
		}
	})
	if err != nil {
		return errs.Wrap(err, errs.Precondition, "engine_unusable", "The ClickHouse engine does not answer as the pinned version does; run `make engines`")
	}
	return nil
}

func keys(set nameSet) (names []string) {
	for name := range set {
		names = append(names, name)
	}
	return names
}

func (s *server) close() {
	s.pool.close()
	s.killMu.Lock()
	defer s.killMu.Unlock()
	if s.control != nil {
		s.control.close()
		s.control = nil
	}
}
