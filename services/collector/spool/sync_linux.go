package spool

import (
	"errors"
	"os"
	"syscall"
)

// dataSync is fdatasync: it writes the size but not the times of the file.
func dataSync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
