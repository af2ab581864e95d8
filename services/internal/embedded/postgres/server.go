package postgres

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

// Names inside the server.
const (
	Database   = "mekong"
	loginRole  = "mekong"
	adminRole  = "mekong_admin"
	adminDB    = "postgres"
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second
	// steadyAfter is how long a server must run for its next crash to count as the first again.
	steadyAfter = time.Minute
)

// Server supervises one PostgreSQL server.
type Server struct {
	cfg      Config
	log      *slog.Logger
	password string
	up       atomic.Bool
	pid      atomic.Int64
}

// New checks configuration and programs and creates the password of the login role, so that URL is known before the
// server runs.
func New(cfg Config, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var err error
	if cfg.BinDir, err = filepath.Abs(cfg.BinDir); err != nil {
		return nil, err
	}
	if err := checkBundle(cfg.BinDir); err != nil {
		return nil, err
	}
	unlock, err := durable.LockDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	defer unlock() //nolint:errcheck // the lock is taken again by Run
	// The real path is what /proc shows of a running server.
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return nil, err
	}
	if cfg.DataDir, err = filepath.EvalSymlinks(cfg.DataDir); err != nil {
		return nil, err
	}
	password, err := readPassword(cfg.path(passwordFile))
	if errors.Is(err, os.ErrNotExist) {
		password, err = createPassword(cfg.path(passwordFile))
	}
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, log: log, password: password}, nil
}

// URL is the address for the services: a role that owns the database and is no superuser. It holds the password.
func (s *Server) URL() string {
	return s.cfg.url(loginRole, s.password, Database)
}

// ReadURL is URL for a server of another process: the password is read from its data directory.
func ReadURL(cfg Config) (string, error) {
	password, err := readPassword(cfg.path(passwordFile))
	if err != nil {
		return "", precondition(err, "password_missing", "there is no PostgreSQL here yet, or this user may not read its password")
	}
	return cfg.url(loginRole, password, Database), nil
}

// AdminURL is the superuser's address in the server of cfg, for backup and inspection. It holds the password. The server
// must have run once.
func AdminURL(cfg Config) (string, error) {
	password, err := readPassword(cfg.path(adminPasswordFile))
	if err != nil {
		return "", precondition(err, "admin_password_missing", "there is no PostgreSQL here yet; start it once")
	}
	return cfg.url(adminRole, password, adminDB), nil
}

// Runner runs the server until its context is done; it is started when the server answers and the database exists.
func (s *Server) Runner() runtime.Runner {
	return runtime.Runner{Name: "embedded.postgres", Run: s.run, Ready: s.ready}
}

func (s *Server) ready(context.Context) error {
	if s.up.Load() {
		return nil
	}
	return errs.New(errs.Unavailable, "postgres_starting", "the embedded PostgreSQL is starting; try again")
}

// PID is the process id of the running postmaster, 0 when there is none.
func (s *Server) PID() int { return int(s.pid.Load()) }

func (s *Server) run(ctx context.Context, started func()) (err error) {
	unlock, err := durable.LockDir(s.cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	in, err := prepare(ctx, s.cfg, s.log)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	pause := firstPause
	for first := true; ; first = false {
		began := time.Now()
		err := s.once(ctx, in, func() {
			if first {
				started()
			}
		})
		s.up.Store(false)
		s.pid.Store(0)
		switch {
		case ctx.Err() != nil:
			return nil
		case first && !errors.Is(err, errCrashed), isPermanent(err):
			return err
		}
		if time.Since(began) > steadyAfter {
			pause = firstPause
		}
		s.log.ErrorContext(ctx, "postgres stopped by itself; starting it again", "error", err, "pause", pause)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		pause = min(2*pause, maxPause)
	}
}

// errCrashed marks the end of a server that had been serving.
var errCrashed = errors.New("postgres crashed")

// isPermanent reports an error that another start would only repeat.
func isPermanent(err error) bool {
	kind := errs.KindOf(err)
	return kind == errs.Precondition || kind == errs.Unauthenticated || kind == errs.Invalid
}

// once runs one postmaster to its end.
func (s *Server) once(ctx context.Context, in installation, started func()) error {
	if err := settleOld(ctx, in.pgDir, s.log); err != nil {
		return err
	}
	p, err := startPostmaster(ctx, s.cfg, in, s.log)
	if err != nil {
		return err
	}
	s.pid.Store(int64(p.cmd.Process.Pid))
	if err := p.waitReady(ctx, s.cfg); err != nil {
		p.stop(s.cfg.StopTimeout)
		return err
	}
	if err := ensureDatabase(ctx, s.cfg, s.password); err != nil {
		p.stop(s.cfg.StopTimeout)
		return err
	}
	s.up.Store(true)
	s.log.InfoContext(ctx, "postgres serves", "listen", s.cfg.Listen, "pid", p.cmd.Process.Pid)
	started()
	select {
	case <-ctx.Done():
		s.up.Store(false)
		p.stop(s.cfg.StopTimeout)
		return nil
	case <-p.exited:
		return errors.Join(errCrashed, p.err, p.diagnose())
	}
}

func (c Config) path(name string) string { return filepath.Join(c.DataDir, name) }

func (c Config) url(user, password, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password), Host: c.Listen, Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}
