package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// account is who the server runs as.
type account struct {
	uid, gid uint32
	// switched is set when we are root and the child must become someone else.
	switched bool
	// needsPass is set when a folder on the way shuts that user out.
	needsPass bool
}

// chooseAccount keeps the owner of an existing data directory, so that a user that appears later does not lock the
// server out of its own files.
func chooseAccount(pgDir string) (account, error) {
	owner, exists, err := ownerOf(pgDir)
	if err != nil {
		return account{}, err
	}
	if me := os.Geteuid(); me != 0 {
		if exists && owner.uid != uint32(me) {
			return account{}, precondition(nil, "data_dir_of_other_user",
				fmt.Sprintf("the PostgreSQL data belongs to user id %d; start as that user or as root, or choose another data directory", owner.uid))
		}
		return account{uid: uint32(me), gid: uint32(os.Getegid())}, nil
	}
	if exists && owner.uid != 0 {
		owner.switched = true
		return owner, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return account{}, err
		}
		if uid != 0 {
			return account{uid: uint32(uid), gid: uint32(gid), switched: true}, nil
		}
	}
	return account{}, precondition(nil, "no_unprivileged_user", "PostgreSQL refuses to run as root and there is no user postgres or nobody; create one or start as an ordinary user")
}

func ownerOf(path string) (account, bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return account{}, false, nil
	}
	if err != nil {
		return account{}, false, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return account{}, false, errs.New(errs.Internal, "no_file_owner", "this system does not tell who owns a file")
	}
	return account{uid: stat.Uid, gid: stat.Gid}, true, nil
}

// makeDir creates a folder that only the server's account may enter.
func (a account) makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	if !a.switched {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// canPass reports whether the account may enter every folder on the way to path.
func (a account) canPass(path string) (bool, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return false, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return false, err
	}
	for {
		info, err := os.Stat(path)
		if err != nil {
			return false, err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && info.IsDir() && !a.mayEnter(stat) {
			return false, nil
		}
		parent := filepath.Dir(path)
		if parent == path {
			return true, nil
		}
		path = parent
	}
}

func (a account) mayEnter(stat *syscall.Stat_t) bool {
	switch {
	case stat.Uid == a.uid:
		return stat.Mode&0o100 != 0
	case stat.Gid == a.gid:
		return stat.Mode&0o010 != 0
	default:
		return stat.Mode&0o001 != 0
	}
}
