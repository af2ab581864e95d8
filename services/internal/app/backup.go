package app

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const (
	manifestFile  = "MANIFEST.json"
	backupDataDir = "data"
)

// Manifest describes a backup: every file with its size and SHA-256.
type Manifest struct {
	CreatedAt   time.Time      `json:"created_at"`
	Version     string         `json:"version"`
	DataVersion int            `json:"data_version"`
	Files       []ManifestFile `json:"files"`
}

// ManifestFile is one file, a directory when Dir is set, or a symbolic link when Link is.
type ManifestFile struct {
	Path   string      `json:"path"`
	Mode   fs.FileMode `json:"mode"`
	UID    int         `json:"uid"`
	GID    int         `json:"gid"`
	Dir    bool        `json:"dir,omitempty"`
	Link   string      `json:"link,omitempty"`
	Size   int64       `json:"size,omitempty"`
	SHA256 string      `json:"sha256,omitempty"`
}

// Bytes is the size of all files.
func (m Manifest) Bytes() int64 {
	var total int64
	for _, f := range m.Files {
		total += f.Size
	}
	return total
}

// Backup copies the data directory of a stopped system into the new directory target. Spool, Kafka, PostgreSQL and
// ClickHouse are copied at one moment, the only way in which offsets, watermarks and rows fit together without a word
// between them; senders retry while the door is closed. It returns Precondition "data_dir_in_use" while the system runs.
func Backup(cfg Config, target, version string) (manifest Manifest, err error) {
	if _, err := os.Stat(filepath.Join(cfg.DataDir, versionFile)); err != nil {
		return Manifest{}, errs.Wrap(err, errs.Precondition, "no_installation", "There is no installation in "+cfg.DataDir+"; name its --data-dir")
	}
	unlock, err := durable.LockDir(cfg.DataDir)
	if err != nil {
		return Manifest{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := os.Mkdir(target, 0o700); err != nil {
		return Manifest{}, errs.Wrap(err, errs.Invalid, "backup_target", "The target must be a new directory that can be made: "+target)
	}
	manifest = Manifest{CreatedAt: time.Now().UTC(), Version: version, DataVersion: dataVersion}
	err = filepath.WalkDir(cfg.DataDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(cfg.DataDir, path)
		if err != nil || rel == "." || leftOut(entry) {
			return err
		}
		file, err := copyInto(cfg.DataDir, rel, filepath.Join(target, backupDataDir, rel), entry)
		if err != nil {
			return err
		}
		file.Path = rel
		manifest.Files = append(manifest.Files, file)
		return nil
	})
	if err != nil {
		return Manifest{}, errs.Wrap(err, errs.Unavailable, "backup_failed", "The backup could not be written; what was written is in "+target)
	}
	data, err := json.MarshalIndent(manifest, "", " ")
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	// The manifest comes last: a folder without one is not a backup.
	return manifest, durable.WriteFileAtomic(filepath.Join(target, manifestFile), data, 0o600)
}

// leftOut are files that belong to a running process only.
func leftOut(entry fs.DirEntry) bool {
	switch {
	case entry.Name() == "LOCK", entry.Name() == "postmaster.pid", entry.Name() == "postmaster.opts":
		return true
	default:
		return entry.Type()&(fs.ModeSocket|fs.ModeNamedPipe|fs.ModeDevice) != 0
	}
}

func copyInto(root, rel, target string, entry fs.DirEntry) (ManifestFile, error) {
	source := filepath.Join(root, rel)
	info, err := entry.Info()
	if err != nil {
		return ManifestFile{}, err
	}
	file := ManifestFile{Mode: info.Mode().Perm(), Dir: entry.IsDir()}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		file.UID, file.GID = int(owner.Uid), int(owner.Gid)
	}
	if entry.IsDir() {
		return file, os.MkdirAll(target, 0o700)
	}
	if entry.Type()&fs.ModeSymlink != 0 {
		// ClickHouse names its tables' folders this way. The manifest holds the link; there is nothing to copy.
		if file.Link, err = os.Readlink(source); err != nil {
			return ManifestFile{}, err
		}
		if !staysInside(rel, file.Link) {
			return ManifestFile{}, errs.New(errs.Precondition, "backup_symlink",
				"The symbolic link "+source+" leads out of the data directory; replace it by what it leads to")
		}
		return file, nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return ManifestFile{}, err
	}
	file.Size, file.SHA256, err = copyFile(source, target)
	return file, err
}

// staysInside reports whether a link at rel leads to a place in the same tree, wherever that tree lies.
func staysInside(rel, link string) bool {
	return !filepath.IsAbs(link) && filepath.IsLocal(filepath.Join(filepath.Dir(rel), link))
}

// copyFile copies durably and returns what it read.
func copyFile(source, target string) (size int64, sum string, err error) {
	in, err := os.Open(source)
	if err != nil {
		return 0, "", err
	}
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, "", errors.Join(err, in.Close())
	}
	hash := sha256.New()
	size, err = io.Copy(io.MultiWriter(out, hash), in)
	if err == nil {
		err = out.Sync()
	}
	return size, hex.EncodeToString(hash.Sum(nil)), errors.Join(err, out.Close(), in.Close())
}

// Restore makes cfg.DataDir, which must not exist or be empty, from the backup in source. Every file is checked against
// the manifest before the data directory gets its name.
func Restore(cfg Config, source string) (Manifest, error) {
	manifest, err := readManifest(source)
	if err != nil {
		return Manifest{}, err
	}
	if entries, err := os.ReadDir(cfg.DataDir); err == nil && len(entries) > 0 {
		return Manifest{}, errs.New(errs.Precondition, "data_dir_not_empty",
			cfg.DataDir+" is not empty; restore into a new --data-dir, or move the old one away first")
	}
	temp := cfg.DataDir + ".restoring"
	if err := os.RemoveAll(temp); err != nil {
		return Manifest{}, fmt.Errorf("restore: %w", err)
	}
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return Manifest{}, errs.Wrap(err, errs.Invalid, "restore_target", "The data directory cannot be made: "+cfg.DataDir)
	}
	for _, file := range manifest.Files {
		if err := restoreFile(source, temp, file); err != nil {
			return Manifest{}, err
		}
	}
	// Backwards, so that a directory gets its rights after what lies in it was written.
	for i := len(manifest.Files) - 1; i >= 0; i-- {
		if err := restoreRights(temp, manifest.Files[i]); err != nil {
			return Manifest{}, err
		}
	}
	if err := os.RemoveAll(cfg.DataDir); err != nil {
		return Manifest{}, fmt.Errorf("restore: %w", err)
	}
	if err := os.Rename(temp, cfg.DataDir); err != nil {
		return Manifest{}, fmt.Errorf("restore: %w", err)
	}
	return manifest, durable.SyncDir(filepath.Dir(cfg.DataDir))
}

func readManifest(source string) (Manifest, error) {
	data, err := os.ReadFile(filepath.Join(source, manifestFile))
	if err != nil {
		return Manifest{}, errs.Wrap(err, errs.Invalid, "no_backup", source+" holds no complete backup: it has no "+manifestFile)
	}
	var manifest Manifest
	if err := json.Unmarshal(data, &manifest); err != nil {
		return Manifest{}, errs.Wrap(err, errs.Invalid, "backup_damaged", "The manifest of the backup is damaged")
	}
	if manifest.DataVersion > dataVersion {
		return Manifest{}, errs.New(errs.Precondition, "data_dir_newer", "The backup was made by a newer version of Mekong; restore with that version")
	}
	return manifest, nil
}

func restoreFile(source, target string, file ManifestFile) error {
	if !filepath.IsLocal(file.Path) || file.Link != "" && !staysInside(file.Path, file.Link) {
		return errs.New(errs.Invalid, "backup_damaged", "The manifest of the backup names a path outside of it")
	}
	path := filepath.Join(target, file.Path)
	switch {
	case file.Dir:
		return os.MkdirAll(path, 0o700)
	case file.Link != "":
		return os.Symlink(file.Link, path)
	}
	size, sum, err := copyFile(filepath.Join(source, backupDataDir, file.Path), path)
	if err != nil {
		return errs.Wrap(err, errs.Unavailable, "restore_failed", "The file "+file.Path+" of the backup could not be copied")
	}
	if size != file.Size || sum != file.SHA256 {
		return errs.New(errs.Invalid, "backup_damaged", "The file "+file.Path+" of the backup is damaged; use another backup")
	}
	return nil
}

func restoreRights(target string, file ManifestFile) error {
	path := filepath.Join(target, file.Path)
	// Only root can give files away; an ordinary user owns all of them anyway.
	if os.Geteuid() == 0 {
		if err := os.Lchown(path, file.UID, file.GID); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	if file.Link != "" {
		return nil // a link has no rights of its own
	}
	return os.Chmod(path, file.Mode)
}
