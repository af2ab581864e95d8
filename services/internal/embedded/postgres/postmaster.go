package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const (
	readyPause    = 20 * time.Millisecond
	quitTimeout   = 5 * time.Second
	maxSocketPath = 107 // sun_path, with its final zero
)

// postmaster is one running server process.
type postmaster struct {
	cmd    *exec.Cmd
	out    *serverLog
	exited chan struct{}
	err    error // of Wait; set before exited closes
}

func startPostmaster(ctx context.Context, cfg Config, in installation, log *slog.Logger) (*postmaster, error) {
	if err := checkPort(ctx, cfg.Listen); err != nil {
		return nil, err
	}
	if err := writeHostRules(in); err != nil {
		return nil, err
	}
	args := []string{"-D", in.pgDir}
	for _, setting := range settings(cfg, in) {
		args = append(args, "-c", setting)
	}
	cmd := in.command("postgres", args...)
	out := &serverLog{ctx: context.WithoutCancel(ctx), log: log}
	cmd.Stdout, cmd.Stderr = out, out
	done, err := spawn(cmd, in.account)
	if err != nil {
		return nil, precondition(err, "postgres_not_startable", "the program postgres cannot be started; run `make engines` again")
	}
	p := &postmaster{cmd: cmd, out: out, exited: make(chan struct{})}
	go func() {
		p.err = <-done
		close(p.exited)
	}()
	return p, nil
}

// settings are given on the command line, where they win over everything in the data directory: a start never depends
// on what an earlier one or ALTER SYSTEM left there.
func settings(cfg Config, in installation) []string {
	host, port, _ := net.SplitHostPort(cfg.Listen) // validated
	socketDir := ""
	if len(filepath.Join(in.runDir, ".s.PGSQL.65535")) < maxSocketPath && !strings.Contains(in.runDir, `"`) {
		socketDir = `"` + in.runDir + `"`
	}
	list := []string{
		"listen_addresses=" + host,
		"port=" + port,
		"unix_socket_directories=" + socketDir,
		"unix_socket_permissions=0700",
		"hba_file=" + filepath.Join(in.runDir, hostRulesFile),
		fmt.Sprintf("max_connections=%d", cfg.MaxConnections),
		fmt.Sprintf("shared_buffers=%dMB", cfg.SharedBuffersMB),
		"work_mem=8MB", "maintenance_work_mem=64MB", "effective_cache_size=512MB",
		"jit=off", "max_parallel_workers_per_gather=0", "max_worker_processes=4",
		"fsync=on", "synchronous_commit=on", "full_page_writes=on",
		"wal_level=replica", "wal_compression=pglz", "max_wal_size=512MB", "max_wal_senders=3", "max_replication_slots=3",
		"autovacuum=on", "autovacuum_naptime=15s",
		"restart_after_crash=on",
		"logging_collector=off", "log_destination=stderr", "log_line_prefix=" + linePrefix,
		"log_statement=none", "log_min_error_statement=panic", "log_min_duration_statement=-1", "log_error_verbosity=terse",
		"log_connections=", "log_disconnections=off", "log_checkpoints=off",
		"TimeZone=UTC", "log_timezone=UTC", "lc_messages=C", "cluster_name=mekong",
	}
	if cfg.UnsafeNoSync {
		list = append(list, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	return list
}

func checkPort(ctx context.Context, listen string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return portTaken(err, listen)
	}
	return listener.Close()
}

func portTaken(cause error, listen string) error {
	return precondition(cause, "postgres_port_taken",
		fmt.Sprintf("the address %s for PostgreSQL is taken or not usable; free it or set MEKONG_EMBEDDED__POSTGRES__LISTEN to another", listen))
}

// writeHostRules asks for a password everywhere: the socket's folder is closed to others, but not to everything that
// runs as the same user.
func writeHostRules(in installation) error {
	rules := strings.Join([]string{
		"local all,replication all scram-sha-256",
		"host all,replication all 127.0.0.0/8 scram-sha-256",
		"host all,replication all ::1/128 scram-sha-256",
		"",
	}, "\n")
	path := filepath.Join(in.runDir, hostRulesFile)
	if err := durable.WriteFileAtomic(path, []byte(rules), 0o600); err != nil {
		return err
	}
	return in.account.own(path)
}

// waitReady waits until the superuser can log in.
func (p *postmaster) waitReady(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, cfg.StartTimeout)
	defer cancel()
	tick := time.NewTicker(readyPause)
	defer tick.Stop()
	for {
		conn, err := connectAdmin(ctx, cfg)
		if err == nil {
			return conn.Close(ctx)
		}
		var pg *pgconn.PgError
		if errors.As(err, &pg) && strings.HasPrefix(pg.Code, "28") {
			return errs.Wrap(pg, errs.Unauthenticated, "postgres_login_refused",
				"PostgreSQL refuses the password in "+adminPasswordFile+" of its data directory; put the right file back, or remove it to have a new password set")
		}
		select {
		case <-p.exited:
			return p.diagnose()
		case <-ctx.Done():
			return errs.Wrap(ctx.Err(), errs.Unavailable, "postgres_start_slow", "PostgreSQL did not answer in time; raise embedded.postgres.start_timeout or look at its log")
		case <-tick.C:
		}
	}
}

func connectAdmin(ctx context.Context, cfg Config) (*pgx.Conn, error) {
	address, err := AdminURL(cfg)
	if err != nil {
		return nil, err
	}
	return pgx.Connect(ctx, address)
}

// stop asks for a fast shutdown and insists step by step. It returns when the process is gone.
func (p *postmaster) stop(patience time.Duration) {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, patience}, {syscall.SIGQUIT, quitTimeout}} {
		_ = p.cmd.Process.Signal(step.signal) // fails only when it is already gone
		timer := time.NewTimer(step.wait)
		select {
		case <-p.exited:
			timer.Stop()
			return
		case <-timer.C:
		}
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

// diagnose says why a server that ended did so.
func (p *postmaster) diagnose() error { return diagnose(p.out.tail(), p.cmd) }

func diagnose(lines []string, cmd *exec.Cmd) error {
	text := strings.Join(lines, "\n")
	cause := errors.New("postgres: " + lastSevere(lines))
	for _, known := range []struct {
		sign, code, message string
	}{
		{"could not bind", "postgres_port_taken", "the address for PostgreSQL is taken; free it or set MEKONG_EMBEDDED__POSTGRES__LISTEN to another"},
		{"incompatible with server", "postgres_data_version", "the data directory was made by another version of PostgreSQL; start the version of Mekong that made it, or restore a backup into a new data directory"},
		{"pg_control", "postgres_control_corrupted", "the control file of the PostgreSQL data is corrupted; restore a backup into a new data directory"},
		{"control file", "postgres_control_corrupted", "the control file of the PostgreSQL data is corrupted; restore a backup into a new data directory"},
		{"could not locate a valid checkpoint record", "postgres_wal_corrupted", "the write-ahead log of the PostgreSQL data is corrupted; restore a backup into a new data directory"},
		{"could not create shared memory", "postgres_no_memory", "there is not enough memory for PostgreSQL; lower embedded.postgres.shared_buffers_mb"},
		{"Cannot allocate memory", "postgres_no_memory", "there is not enough memory for PostgreSQL; lower embedded.postgres.shared_buffers_mb"},
		{"error while loading shared libraries", "embedded_postgres_broken", "a library that PostgreSQL needs is missing; run `make engines` again"},
		{"invalid value for parameter", "postgres_setting_refused", "PostgreSQL refuses one of its settings; see its log"},
	} {
		if strings.Contains(text, known.sign) {
			return precondition(cause, known.code, known.message)
		}
	}
	if strings.Contains(text, "No space left on device") {
		return errs.Wrap(cause, errs.Unavailable, "disk_full", "the disk of the PostgreSQL data is full; make room")
	}
	if state := cmd.ProcessState; state != nil {
		cause = fmt.Errorf("%w (%s)", cause, state)
	}
	return errs.Wrap(cause, errs.Unavailable, "postgres_stopped", "PostgreSQL stopped; see its log")
}

func lastSevere(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], "FATAL") || strings.HasPrefix(lines[i], "PANIC") {
			return lines[i]
		}
	}
	if len(lines) > 0 {
		return lines[len(lines)-1]
	}
	return "it said nothing"
}

// ensureDatabase creates login role and database where missing and sets the login's password to the one in its file.
func ensureDatabase(ctx context.Context, cfg Config, password string) error {
	conn, err := connectAdmin(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is pending
	var hasRole, hasDatabase bool
	if err := conn.QueryRow(ctx,
		"SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1), EXISTS (SELECT FROM pg_database WHERE datname = $2)",
		loginRole, Database).Scan(&hasRole, &hasDatabase); err != nil {
		return err
	}
	if !hasRole {
		if _, err := conn.Exec(ctx, "CREATE ROLE "+loginRole+" LOGIN CREATEROLE"); err != nil {
			return err
		}
	}
	// The password is of base64 letters; a utility statement takes no parameters.
	if _, err := conn.Exec(ctx, "ALTER ROLE "+loginRole+" PASSWORD '"+password+"'"); err != nil {
		return err
	}
	if !hasDatabase {
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+Database+" OWNER "+loginRole); err != nil {
			return err
		}
	}
	return nil
}

// runToEnd runs a program of the bundle and returns what it said when it failed.
func runToEnd(ctx context.Context, in installation, cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	done, err := spawn(cmd, in.account)
	if err != nil {
		return precondition(err, "postgres_not_startable", "the programs of PostgreSQL cannot be started; run `make engines` again")
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		return errors.Join(ctx.Err(), <-done)
	}
	if err != nil {
		return diagnose(strings.Split(strings.TrimSpace(out.String()), "\n"), cmd)
	}
	return nil
}

// command prepares a program of the bundle with an environment that holds nothing of ours.
func (in installation) command(program string, args ...string) *exec.Cmd {
	// Stopping is by signals in order, not by a context that would kill at once.
	cmd := exec.Command(filepath.Join(in.binDir, program), args...) //nolint:gosec,noctx // fixed programs; see above
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + in.binDir + ":/usr/bin:/bin", "HOME=" + in.runDir}
	cmd.Dir = "/"
	return cmd
}

func (a account) own(path string) error {
	if !a.switched {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}
