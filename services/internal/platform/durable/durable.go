package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// WriteFileAtomic replaces path by data: after a crash the file holds the old or the new content, never a mixture.
func WriteFileAtomic(path string, data []byte, perm os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return diskError(err, dir)
	}
	tmp := f.Name()
	if err := fill(f, data, perm); err != nil {
		return errors.Join(diskError(err, path), os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(diskError(err, path), os.Remove(tmp))
	}
	return SyncDir(dir)
}

func fill(f *os.File, data []byte, perm os.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// SyncDir makes creations, renames and removals in dir durable.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return diskError(err, dir)
	}
	return diskError(errors.Join(f.Sync(), f.Close()), dir)
}

// LockDir makes dir if needed and takes it for this process until unlock is called or the process ends.
// It returns Precondition "data_dir_in_use" when another process has it.
func LockDir(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, diskError(err, dir)
	}
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, diskError(err, dir)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		closeErr := f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errs.Wrap(closeErr, errs.Precondition, "data_dir_in_use",
				fmt.Sprintf("Another process uses %s; stop it, or give this one its own --data-dir", dir))
		}
		return nil, diskError(errors.Join(err, closeErr), dir)
	}
	return f.Close, nil
}

// diskError names the directory and, when the disk is full, says so.
func diskError(err error, path string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.Wrap(err, errs.Unavailable, "disk_full", fmt.Sprintf("The disk that holds %s is full; make room", path))
	case errors.Is(err, os.ErrPermission):
		return errs.Wrap(err, errs.Precondition, "no_permission", fmt.Sprintf("This user may not write %s; change its owner or choose another directory", path))
	default:
		return errs.Wrap(err, errs.Unavailable, "disk_error", fmt.Sprintf("Reading or writing %s failed", path))
	}
}
