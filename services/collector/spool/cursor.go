package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const (
	cursorFile  = "CURSOR"
	cursorMagic = "MKCURS01"
	cursorLen   = 28
	versionFile = "VERSION"
	version     = "1"
)

// cursor is what must survive besides the segments: up to where all is forwarded, and an end that was durable then.
type cursor struct {
	trimmed Position
	end     Position
}

func (c cursor) write(dir string) error {
	b := append(make([]byte, 0, cursorLen), cursorMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.trimmed))
	b = binary.LittleEndian.AppendUint64(b, uint64(c.end))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crcTable))
	path := filepath.Join(dir, cursorFile)
	err := durable.WriteFileAtomic(path, b, 0o600)
	if errs.CodeOf(err) == "disk_full" {
		// Without a cursor no segment could be deleted to make room. In place it needs no room, and one sector is whole or not.
		if inPlace := overwrite(path, b); inPlace == nil {
			return nil
		}
	}
	return err
}

func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func readCursor(dir string) (c cursor, found bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, cursorFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return cursor{}, false, nil
	case err != nil:
		return cursor{}, false, openError(err)
	case len(b) != cursorLen || string(b[:8]) != cursorMagic ||
		crc32.Checksum(b[:24], crcTable) != binary.LittleEndian.Uint32(b[24:]):
		return cursor{}, false, errs.New(errs.Precondition, "spool_damaged",
			"The file "+filepath.Join(dir, cursorFile)+" is damaged; delete it to forward again everything that the spool still holds")
	}
	c = cursor{trimmed: Position(binary.LittleEndian.Uint64(b[8:])), end: Position(binary.LittleEndian.Uint64(b[16:]))}
	return c, true, nil
}

// prepareDir checks the version of the directory, writes it in a new one, and removes what an interrupted write left.
func prepareDir(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, versionFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := durable.WriteFileAtomic(filepath.Join(dir, versionFile), []byte(version+"\n"), 0o600); err != nil {
			return err
		}
	case err != nil:
		return openError(err)
	case strings.TrimSpace(string(b)) != version:
		return errs.New(errs.Precondition, "spool_version_unknown",
			"The spool in "+dir+" was written by another version of Mekong; start that version, or move the directory away")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return openError(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+cursorFile+".") || strings.HasPrefix(e.Name(), "."+versionFile+".") {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return openError(err)
			}
		}
	}
	return nil
}

func openError(err error) error {
	return errs.Wrap(err, errs.Unavailable, "spool_unreadable", "The spool's directory cannot be read or written; check the disk and its permissions")
}

func damaged(path, what string) error {
	return errs.New(errs.Precondition, "spool_damaged",
		"The spool file "+path+" "+what+"; restore it from a backup, or move the whole directory away to start without the events in it")
}
