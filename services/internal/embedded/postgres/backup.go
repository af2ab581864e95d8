package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/klauspost/compress/zstd"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// Files of a backup. The summary is written last: without it a backup is not one.
const (
	archiveFile  = "base.tar.zst"
	manifestFile = "backup_manifest"
	summaryFile  = "backup.json"
	backupFormat = 1
)

// BackupInfo describes a finished backup.
type BackupInfo struct {
	Format     int       `json:"format"`
	Major      int       `json:"postgres_major"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	StartLSN   string    `json:"start_lsn"`
	EndLSN     string    `json:"end_lsn"`
	// Bytes and SHA256 are of the archive as stored; ManifestSHA256 is of the server's list of files and checksums.
	Bytes          int64  `json:"bytes"`
	SHA256         string `json:"sha256"`
	ManifestSHA256 string `json:"manifest_sha256"`
}

// Backup copies the running server to dir, which must be empty or absent; writers need not stop. Passwords are not in it.
func (s *Server) Backup(ctx context.Context, dir string) (BackupInfo, error) {
	address, err := AdminURL(s.cfg)
	if err != nil {
		return BackupInfo{}, err
	}
	return Backup(ctx, address, dir)
}

// Backup copies the server at url, whose role must have REPLICATION, to dir. It speaks the replication protocol, as
// PostgreSQL's own tool does: the copy holds the write-ahead log that makes it consistent as of its end.
func Backup(ctx context.Context, url, dir string) (info BackupInfo, err error) {
	if err := emptyDir(dir); err != nil {
		return BackupInfo{}, err
	}
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		return BackupInfo{}, errs.New(errs.Invalid, "postgres_url_invalid", "the address of the server to back up is not valid")
	}
	cfg.RuntimeParams["replication"] = "true"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return BackupInfo{}, errs.Wrap(err, errs.Unavailable, "postgres_unavailable", "the server to back up does not answer or refuses the role")
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // drops the temporary slot; nothing else is pending

	info = BackupInfo{Format: backupFormat, Major: majorVersion, StartedAt: time.Now().UTC()}
	if version := conn.ParameterStatus("server_version"); len(version) < 2 || version[:2] != fmt.Sprint(majorVersion) {
		return BackupInfo{}, precondition(nil, "postgres_version", fmt.Sprintf("only PostgreSQL %d can be backed up by this program; use pg_basebackup of your server", majorVersion))
	}
	// The slot keeps the log that the copy needs from being recycled; it goes with the connection.
	slot := "mekong_backup_" + ids.New()[24:]
	if _, err := conn.Exec(ctx, "CREATE_REPLICATION_SLOT "+slot+" TEMPORARY PHYSICAL (RESERVE_WAL true)").ReadAll(); err != nil {
		return BackupInfo{}, errs.Wrap(err, errs.Unavailable, "backup_failed", "the server has no room for a backup connection; try again")
	}
	if err := receive(ctx, conn, dir, &info); err != nil {
		return BackupInfo{}, err
	}
	info.FinishedAt = time.Now().UTC()
	summary, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return BackupInfo{}, err
	}
	return info, durable.WriteFileAtomic(filepath.Join(dir, summaryFile), append(summary, '\n'), 0o600)
}

func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		return precondition(nil, "backup_dir_not_empty", "the folder for the backup is not empty; name a new one")
	}
	return err
}

// receive runs BASE_BACKUP and stores its stream.
func receive(ctx context.Context, conn *pgconn.PgConn, dir string, info *BackupInfo) (err error) {
	archive, err := newArchive(filepath.Join(dir, archiveFile))
	if err != nil {
		return err
	}
	manifest, err := newPlain(filepath.Join(dir, manifestFile))
	if err != nil {
		return errors.Join(err, archive.close())
	}
	stream := &baseBackup{archive: archive, manifest: manifest}
	conn.Frontend().Send(&pgproto3.Query{
		String: "BASE_BACKUP (LABEL 'mekong', CHECKPOINT 'fast', WAL true, MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256')",
	})
	if err = conn.Frontend().Flush(); err == nil {
		err = stream.run(ctx, conn)
	}
	if err := errors.Join(err, archive.close(), manifest.close()); err != nil {
		return err
	}
	info.StartLSN, info.EndLSN = stream.start, stream.end
	info.Bytes, info.SHA256, info.ManifestSHA256 = archive.bytes, archive.sum(), manifest.sum()
	return durable.SyncDir(dir)
}

// baseBackup is the state of reading one BASE_BACKUP: two results, the copy, a last result.
type baseBackup struct {
	archive    *archive
	manifest   *plain
	target     io.Writer
	archives   int
	start, end string
}

func (b *baseBackup) run(ctx context.Context, conn *pgconn.PgConn) error {
	for {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return errs.Wrap(err, errs.Unavailable, "backup_failed", "the connection was lost during the backup; start it again into a new folder")
		}
		switch msg := msg.(type) {
		case *pgproto3.ErrorResponse:
			return errs.Wrap(pgconn.ErrorResponseToPgError(msg), errs.Unavailable, "backup_failed", "the server refused or broke off the backup; start it again into a new folder")
		case *pgproto3.DataRow:
			b.row(msg.Values)
		case *pgproto3.CopyData:
			if err := b.data(msg.Data); err != nil {
				return err
			}
		case *pgproto3.ReadyForQuery:
			if b.end == "" || b.archives == 0 || b.manifest.bytes == 0 {
				return errs.New(errs.Unavailable, "backup_failed", "the server ended the backup early; start it again into a new folder")
			}
			return nil
		}
	}
}

// row notes the first position and the last; the row about tablespaces between them holds nulls first.
func (b *baseBackup) row(values [][]byte) {
	if len(values) != 2 || values[0] == nil {
		return
	}
	if b.start == "" {
		b.start = string(values[0])
	} else {
		b.end = string(values[0])
	}
}

// data handles one message of the copy: its first byte says what it is.
func (b *baseBackup) data(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	switch p[0] {
	case 'n':
		if b.archives++; b.archives > 1 {
			return precondition(nil, "backup_tablespaces", "the server has tablespaces of its own, which this backup does not cover; use pg_basebackup")
		}
		b.target = b.archive
	case 'm':
		b.target = b.manifest
	case 'd':
		if b.target == nil {
			return errs.New(errs.Internal, "backup_failed", "the server sent data of no file")
		}
		_, err := b.target.Write(p[1:])
		return err
	}
	return nil
}

// plain is a file that counts and hashes what is written to it.
type plain struct {
	file  *os.File
	hash  hash.Hash
	bytes int64
}

func newPlain(path string) (*plain, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &plain{file: file, hash: sha256.New()}, nil
}

func (p *plain) Write(data []byte) (int, error) {
	n, err := p.file.Write(data)
	p.hash.Write(data[:n])
	p.bytes += int64(n)
	return n, err
}

func (p *plain) close() error { return errors.Join(p.file.Sync(), p.file.Close()) }

func (p *plain) sum() string { return hex.EncodeToString(p.hash.Sum(nil)) }

// archive compresses into a plain file.
type archive struct {
	*plain
	zstd *zstd.Encoder
}

func newArchive(path string) (*archive, error) {
	file, err := newPlain(path)
	if err != nil {
		return nil, err
	}
	encoder, err := zstd.NewWriter(file, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, errors.Join(err, file.close())
	}
	return &archive{plain: file, zstd: encoder}, nil
}

func (a *archive) Write(data []byte) (int, error) { return a.zstd.Write(data) }

func (a *archive) close() error { return errors.Join(a.zstd.Close(), a.plain.close()) }
