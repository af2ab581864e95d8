package postgres

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
)

// Restore unpacks a backup into the data directory of cfg, which must hold no server yet, and verifies every file. The
// next start recovers to the end of the backup and sets new passwords.
func Restore(ctx context.Context, cfg Config, backup string) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	unlock, err := durable.LockDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	info, files, err := readBackup(backup)
	if err != nil {
		return err
	}
	in, err := open(cfg)
	if err != nil {
		return err
	}
	if _, err := os.Stat(in.pgDir); !errors.Is(err, fs.ErrNotExist) {
		return precondition(err, "data_dir_not_empty", "the data directory already holds a PostgreSQL server; restore into a new one")
	}
	fresh := cfg.path(newFolder)
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := in.account.makeDir(fresh); err != nil {
		return err
	}
	if err := unpack(ctx, filepath.Join(backup, archiveFile), info.SHA256, fresh, files, in.account); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	// A password without its server would make the next start trust it.
	if err := os.Remove(cfg.path(adminPasswordFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return publish(cfg, in)
}

// listed is a file in the server's manifest.
type listed struct {
	Path      string
	Size      int64
	Algorithm string `json:"Checksum-Algorithm"`
	Checksum  string
}

func damaged(cause error) error {
	return precondition(cause, "backup_damaged", "the backup is incomplete or damaged; use another one")
}

func readBackup(dir string) (BackupInfo, map[string]listed, error) {
	var info BackupInfo
	summary, err := os.ReadFile(filepath.Join(dir, summaryFile))
	if err != nil {
		return info, nil, damaged(err)
	}
	if err := json.Unmarshal(summary, &info); err != nil {
		return info, nil, damaged(err)
	}
	if info.Format != backupFormat || info.Major != majorVersion {
		return info, nil, precondition(nil, "backup_version", "the backup was made by another version of Mekong; restore it with that version")
	}
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return info, nil, damaged(err)
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != info.ManifestSHA256 {
		return info, nil, damaged(nil)
	}
	var manifest struct{ Files []listed }
	if err := json.Unmarshal(text, &manifest); err != nil {
		return info, nil, damaged(err)
	}
	files := make(map[string]listed, len(manifest.Files))
	for _, file := range manifest.Files {
		if file.Algorithm != "SHA256" {
			return info, nil, damaged(nil)
		}
		files[file.Path] = file
	}
	return info, files, nil
}

// unpack extracts the archive into dir. Every file of the manifest must be there, whole; the write-ahead log, which is not
// in it, is covered by the archive's own checksum.
func unpack(ctx context.Context, path, sum, dir string, files map[string]listed, who account) error {
	source, err := os.Open(path)
	if err != nil {
		return damaged(err)
	}
	defer source.Close() //nolint:errcheck // only read
	hashed := sha256.New()
	stored := io.TeeReader(source, hashed)
	decoder, err := zstd.NewReader(stored, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer decoder.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // holds no data of its own

	reader := tar.NewReader(decoder)
	for ctx.Err() == nil {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return damaged(err)
		}
		if err := extract(root, header, reader, files, who); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// The padding after the last entry belongs to the checksum, too.
	if _, err := io.Copy(io.Discard, decoder); err != nil {
		return damaged(err)
	}
	if _, err := io.Copy(io.Discard, stored); err != nil {
		return damaged(err)
	}
	if hex.EncodeToString(hashed.Sum(nil)) != sum || len(files) > 0 {
		return damaged(nil)
	}
	return syncTree(dir)
}

// extract writes one entry and strikes it from the list of files that are still missing.
func extract(root *os.Root, header *tar.Header, content io.Reader, files map[string]listed, who account) error {
	name := strings.TrimSuffix(strings.TrimPrefix(header.Name, "./"), "/")
	if name == "" || name == "." {
		return nil
	}
	switch header.Typeflag {
	case tar.TypeDir:
		if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case tar.TypeReg:
		if err := extractFile(root, name, content, files); err != nil {
			return err
		}
	default:
		return damaged(nil)
	}
	if !who.switched {
		return nil
	}
	return root.Chown(name, int(who.uid), int(who.gid))
}

func extractFile(root *os.Root, name string, content io.Reader, files map[string]listed) error {
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	hashed := sha256.New()
	source := &watchedReader{from: content}
	size, err := io.Copy(io.MultiWriter(file, hashed), source)
	err = errors.Join(err, file.Sync(), file.Close())
	switch {
	case source.err != nil:
		return damaged(source.err)
	case err != nil:
		return err
	}
	want, ok := files[name]
	if !ok {
		if strings.HasPrefix(name, "pg_wal/") {
			return nil
		}
		return damaged(nil)
	}
	checksum, err := hex.DecodeString(want.Checksum)
	if err != nil || size != want.Size || !bytes.Equal(checksum, hashed.Sum(nil)) {
		return damaged(err)
	}
	delete(files, name)
	return nil
}

// watchedReader remembers its own failure, which speaks of the backup; a failing write speaks of the disk.
type watchedReader struct {
	from io.Reader
	err  error
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// syncTree makes the folders durable; the files are already.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return durable.SyncDir(path)
	})
}
