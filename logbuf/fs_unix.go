//go:build unix

package logbuf

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFile locks a file for this process; the lock ends with the process, so
// that none is left behind by a crash.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:gosec // a descriptor fits an int
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%s is in use by another queue", f.Name())
	}
	return err
}

// isFull reports whether an error says that the disk is full.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
