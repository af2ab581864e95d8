package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

// Engine is the embedded ClickHouse, seen from the process that supervises it.
type Engine struct {
	cfg      Config
	dir      layout
	password string
	log      *slog.Logger
	client   *http.Client
	address  atomic.Pointer[string]
	ready    atomic.Bool
}

// New checks the configuration and loads or makes the owner's password. Nothing runs before Runner's Run.
func New(cfg Config, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var err error
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return nil, fileError(err, cfg.DataDir)
	}
	if cfg.LibraryPath, err = filepath.Abs(cfg.LibraryPath); err != nil {
		return nil, fileError(err, cfg.LibraryPath)
	}
	if len(cfg.ChildCommand) == 0 {
		if cfg.ChildCommand, err = executable(); err != nil {
			return nil, err
		}
	}
	e := &Engine{
		cfg: cfg, dir: layout(cfg.DataDir), password: cfg.Password.Reveal(), log: log,
		// No timeout of its own: a backup takes as long as it takes, and every caller brings a context.
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	if e.password == "" {
		if e.password, err = e.dir.loadPassword(); err != nil {
			return nil, err
		}
	}
	e.address.Store(&cfg.Listen)
	return e, nil
}

// Runner supervises the child.
func (e *Engine) Runner() runtime.Runner {
	return runtime.Runner{Name: "clickhouse", Run: e.supervise, Ready: e.isReady}
}

func (e *Engine) isReady(context.Context) error {
	if !e.ready.Load() {
		return errs.New(errs.Unavailable, "engine_starting", "The embedded ClickHouse is starting")
	}
	return nil
}

// URL is the address of the HTTP interface with the owner's credentials. With port 0 it is known once the runner started.
func (e *Engine) URL() string { return e.url(DefaultDatabase) }

// DSN is URL in the form that clickhouse-go's ParseDSN takes.
func (e *Engine) DSN() string { return e.URL() }

func (e *Engine) url(database string) string {
	u := url.URL{Scheme: "http", User: url.UserPassword(OwnerUser, e.password), Host: *e.address.Load(), Path: "/" + database}
	return u.String()
}

func (e *Engine) childConfig() childConfig {
	c := childConfig{
		DataDir: e.cfg.DataDir, LibraryPath: e.cfg.LibraryPath, MaxMemoryBytes: e.cfg.MaxMemoryBytes,
		MaxQueryMemoryBytes: e.cfg.MaxQueryMemoryBytes, MaxThreads: e.cfg.threads(), MaxConcurrentQueries: e.cfg.MaxConcurrentQueries,
		MaxQueueTime: e.cfg.MaxQueueTime, MaxExecutionTime: e.cfg.MaxExecutionTime, ResponseBufferBytes: e.cfg.ResponseBufferBytes,
		StopTimeout: e.cfg.StopTimeout, Accounts: map[string]childUser{OwnerUser: {Password: e.password, Owner: true}},
	}
	for name, user := range e.cfg.Users {
		c.Accounts[name] = childUser{Password: user.Password.Reveal(), Owner: !user.ReadOnly}
	}
	return c
}

// ask runs one statement as the owner and returns the answer as tab-separated text.
func (e *Engine) ask(ctx context.Context, sql string) (string, error) {
	target := "http://" + *e.address.Load() + "/?wait_end_of_query=1&max_execution_time=0"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(sql))
	if err != nil {
		return "", err
	}
	req.Header.Set("X-ClickHouse-User", OwnerUser)
	req.Header.Set("X-ClickHouse-Key", e.password)
	resp, err := e.client.Do(req)
	if err != nil {
		return "", errs.Wrap(err, errs.Unavailable, "engine_away", "The embedded ClickHouse does not answer")
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return "", errs.Wrap(err, errs.Unavailable, "engine_away", "The embedded ClickHouse broke off its answer")
	}
	if resp.StatusCode != http.StatusOK {
		return "", errs.New(errs.Internal, "engine_refused", "The embedded ClickHouse refused a statement: "+strings.TrimSpace(string(body)))
	}
	return strings.TrimRight(string(body), "\n"), nil
}

// Facts are what a doctor shows: version, limits, size of the data, room on the disk.
func (e *Engine) Facts(ctx context.Context) (map[string]string, error) {
	facts := map[string]string{
		"address":            *e.address.Load(),
		"data_dir":           e.cfg.DataDir,
		"library":            e.cfg.LibraryPath,
		"library_version":    LibraryVersion,
		"max_memory":         fmt.Sprint(e.cfg.MaxMemoryBytes),
		"max_threads":        fmt.Sprint(e.cfg.threads()),
		"max_queries":        fmt.Sprint(e.cfg.MaxConcurrentQueries),
		"max_execution_time": e.cfg.MaxExecutionTime.String(),
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(e.cfg.DataDir, &fs); err == nil {
		facts["disk_free"] = fmt.Sprint(fs.Bavail * uint64(fs.Bsize)) //nolint:gosec // block sizes are positive
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	answer, err := e.ask(ctx, "SELECT version(), uptime(), (SELECT count() FROM system.tables WHERE database = "+quoteString(DefaultDatabase)+"), "+
		"(SELECT sum(rows) FROM system.parts WHERE active), (SELECT sum(bytes_on_disk) FROM system.parts WHERE active), "+
		"(SELECT count() FROM system.detached_parts)")
	if err != nil {
		return facts, err
	}
	names := []string{"version", "uptime_s", "tables", "rows", "bytes_on_disk", "detached_parts"}
	for i, value := range strings.Split(answer, "\t") {
		if i < len(names) {
			facts[names[i]] = value
		}
	}
	return facts, nil
}
