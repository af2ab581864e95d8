package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Names within the directory of a backup.
const (
	backupVersion = "VERSION"
	backupData    = "clickhouse"
)

// Backup writes all databases into dir, which must be empty or absent. When it returns without an error the backup is
// on the disk. The engine may write only below its own data directory, so the files are moved from there.
func (e *Engine) Backup(ctx context.Context, dir string) (err error) {
	if err := emptyDir(dir); err != nil {
		return err
	}
	databases, err := e.databases(ctx)
	if err != nil {
		return err
	}
	staged := filepath.Join(e.dir.backups(), "backup-"+newQueryID())
	defer func() { err = errors.Join(err, os.RemoveAll(staged)) }()
	if _, err := e.ask(ctx, "BACKUP "+databases+" TO File("+quoteString(staged)+")"); err != nil {
		return err
	}
	if err := copyTree(ctx, staged, filepath.Join(dir, backupData)); err != nil {
		return err
	}
	if err := durable.WriteFileAtomic(filepath.Join(dir, backupVersion), []byte(LibraryVersion+"\n"), 0o600); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// Restore reads a backup of Backup into this engine, whose databases must hold no tables.
func (e *Engine) Restore(ctx context.Context, dir string) (err error) {
	version, err := os.ReadFile(filepath.Join(dir, backupVersion))
	if err != nil {
		return errs.Wrap(err, errs.NotFound, "no_backup", fmt.Sprintf("%s holds no ClickHouse backup", dir))
	}
	if v := strings.TrimSpace(string(version)); newer(v, LibraryVersion) {
		return errs.New(errs.Precondition, "data_too_new", fmt.Sprintf("The backup was written by engine %s and this one is %s; install the newer engine", v, LibraryVersion))
	}
	tables, err := e.ask(ctx, "SELECT count() FROM system.tables WHERE database NOT IN ("+systemDatabases+")")
	if err != nil {
		return err
	}
	if tables != "0" {
		return errs.New(errs.Precondition, "not_empty", "The embedded ClickHouse already holds tables; restore into an empty data directory")
	}
	staged := filepath.Join(e.dir.backups(), "restore-"+newQueryID())
	defer func() { err = errors.Join(err, os.RemoveAll(staged)) }()
	if err := copyTree(ctx, filepath.Join(dir, backupData), staged); err != nil {
		return err
	}
	_, err = e.ask(ctx, "RESTORE ALL FROM File("+quoteString(staged)+")")
	return err
}

const systemDatabases = "'system', 'information_schema', 'INFORMATION_SCHEMA', '_temporary_and_external_tables'"

// databases lists what there is to back up as BACKUP takes it.
func (e *Engine) databases(ctx context.Context) (string, error) {
	answer, err := e.ask(ctx, "SELECT name FROM system.databases WHERE name NOT IN ("+systemDatabases+") AND "+
		"(name != 'default' OR name IN (SELECT database FROM system.tables)) ORDER BY name FORMAT TSVRaw")
	if err != nil {
		return "", err
	}
	var list []string
	for name := range strings.SplitSeq(answer, "\n") {
		list = append(list, "DATABASE "+quoteIdentifier(name))
	}
	return strings.Join(list, ", "), nil
}

func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fileError(err, dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fileError(err, dir)
	}
	if len(entries) > 0 {
		return errs.New(errs.Precondition, "not_empty", fmt.Sprintf("The backup directory %s is not empty; name a new one", dir))
	}
	return nil
}

// copyTree copies files durably: contents and directories are synced before it returns.
func copyTree(ctx context.Context, from, to string) error {
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		return copyFile(path, target)
	})
	if err == nil {
		err = filepath.WalkDir(to, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return err
			}
			return durable.SyncDir(path)
		})
	}
	if err != nil {
		return fileError(err, to)
	}
	return nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}
