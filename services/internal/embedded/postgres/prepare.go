package postgres

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
)

// Files and folders below the data directory.
const (
	passwordFile      = "password"
	adminPasswordFile = "admin_password"
	pgFolder          = "pg"
	newFolder         = "pg.new"
	runFolder         = "run"
	hostRulesFile     = "pg_hba.conf"
	initPasswordFile  = "initial_password"
	// majorVersion is what the bundle reads and writes.
	majorVersion = 18
)

// installation is a data directory that is ready to be served, and by whom.
type installation struct {
	account               account
	binDir, pgDir, runDir string
}

// prepare brings the data directory into a state in which the server can start.
func prepare(ctx context.Context, cfg Config, log *slog.Logger) (installation, error) {
	in, err := open(cfg)
	if err != nil {
		return installation{}, err
	}
	version, err := os.ReadFile(filepath.Join(in.pgDir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if err := refuseForeign(in.pgDir); err != nil {
			return installation{}, err
		}
		log.InfoContext(ctx, "creating the postgres data directory")
		return in, create(ctx, cfg, in)
	}
	if err != nil {
		return installation{}, err
	}
	if err := checkVersion(string(version)); err != nil {
		return installation{}, err
	}
	if _, err := os.Stat(cfg.path(adminPasswordFile)); errors.Is(err, fs.ErrNotExist) {
		if err := settleOld(ctx, in.pgDir, log); err != nil {
			return installation{}, err
		}
		log.WarnContext(ctx, "the password of the postgres superuser is missing; setting a new one")
		return in, resetAdminPassword(ctx, cfg, in)
	}
	return in, nil
}

// open finds the account and its folders; it creates run/ only.
func open(cfg Config) (installation, error) {
	in := installation{binDir: cfg.BinDir, pgDir: cfg.path(pgFolder), runDir: cfg.path(runFolder)}
	var err error
	if in.account, err = chooseAccount(in.pgDir); err != nil {
		return installation{}, err
	}
	if in.account.switched {
		// Others may pass through, to the two folders that are the account's own, and read nothing.
		if err := os.Chmod(cfg.DataDir, 0o711); err != nil { //nolint:gosec // see above
			return installation{}, err
		}
	}
	if err := in.account.makeDir(in.runDir); err != nil {
		return installation{}, err
	}
	if !in.account.switched {
		return in, nil
	}
	for _, path := range []string{in.binDir, cfg.DataDir} {
		ok, err := in.account.canPass(path)
		if err != nil {
			return installation{}, err
		}
		in.account.needsPass = in.account.needsPass || !ok
	}
	return in, nil
}

// refuseForeign protects a folder pg that holds files but is no data directory.
func refuseForeign(pgDir string) error {
	entries, err := os.ReadDir(pgDir)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(entries) == 0) {
		return nil
	}
	if err != nil {
		return err
	}
	return precondition(nil, "postgres_data_damaged", "the PostgreSQL data directory holds files but no PG_VERSION; restore a backup into a new data directory")
}

func checkVersion(content string) error {
	version := strings.TrimSpace(content)
	if n, err := strconv.Atoi(version); err != nil || n != majorVersion {
		return precondition(err, "postgres_data_version",
			fmt.Sprintf("the data directory was made by PostgreSQL %q, this program runs %d; start the version of Mekong that made it, or restore a backup into a new data directory", version, majorVersion))
	}
	return nil
}

// create runs initdb beside the final place, so that a crash leaves nothing that looks complete.
func create(ctx context.Context, cfg Config, in installation) error {
	fresh := cfg.path(newFolder)
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := in.account.makeDir(fresh); err != nil {
		return err
	}
	password, err := createPassword(cfg.path(adminPasswordFile))
	if err != nil {
		return err
	}
	// The account cannot read our file; it gets a copy for as long as initdb runs.
	handed := filepath.Join(in.runDir, initPasswordFile)
	if err := os.WriteFile(handed, []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(handed) //nolint:errcheck // in a folder of the account's own, overwritten next time
	if err := in.account.own(handed); err != nil {
		return err
	}
	args := []string{
		"-D", fresh, "-U", adminRole, "--auth=scram-sha-256", "--pwfile=" + handed,
		"-E", "UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--data-checksums",
	}
	if cfg.UnsafeNoSync {
		args = append(args, "--no-sync")
	}
	if err := runToEnd(ctx, in, in.command("initdb", args...)); err != nil {
		return err
	}
	return publish(cfg, in)
}

// publish gives a complete pg.new its name.
func publish(cfg Config, in installation) error {
	if err := os.Remove(in.pgDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(cfg.path(newFolder), in.pgDir); err != nil {
		return err
	}
	return durable.SyncDir(cfg.DataDir)
}

// resetAdminPassword sets a new superuser password in single-user mode, which asks for none: after a restore, or when the
// file was lost.
func resetAdminPassword(ctx context.Context, cfg Config, in installation) error {
	password := newPassword()
	cmd := in.command("postgres", "--single", "-D", in.pgDir,
		"-c", "log_min_error_statement=panic", "-c", "log_statement=none", "-c", "exit_on_error=on", adminDB)
	cmd.Stdin = strings.NewReader("ALTER ROLE " + adminRole + " PASSWORD '" + password + "'\n")
	if err := runToEnd(ctx, in, cmd); err != nil {
		return err
	}
	return durable.WriteFileAtomic(cfg.path(adminPasswordFile), []byte(password), 0o600)
}

func newPassword() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func createPassword(path string) (string, error) {
	password := newPassword()
	return password, durable.WriteFileAtomic(path, []byte(password), 0o600)
}

func readPassword(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}

func notTraversable(cause error) error {
	return precondition(cause, "postgres_path_closed", "PostgreSQL cannot run as root, and the user it runs as may not enter the folders of its programs or data; run `chmod o+x` on the closed parent folders, or start as an ordinary user")
}
