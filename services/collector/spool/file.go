package spool

import (
	"os"
)

// File is a segment that is being written. Writes go to its end.
type File interface {
	Write(p []byte) (int, error)
	// Sync returns after all written bytes, and the size, are on the disk.
	Sync() error
	Truncate(size int64) error
	Close() error
}

// CreateFile makes the file of a new segment; tests put a failing one in its place.
type CreateFile func(path string) (File, error)

func createOSFile(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

type osFile struct{ *os.File }

// Sync implements File.
func (f osFile) Sync() error { return dataSync(f.File) }
