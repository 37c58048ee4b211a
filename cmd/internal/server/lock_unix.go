//go:build unix

package server

import (
	"errors"
	"os"
	"syscall"
)

// lockExclusive locks a file for this process. The lock ends with the process,
// so that a crash leaves none behind.
func lockExclusive(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:gosec // a descriptor fits an int
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errInUse
	}
	return err
}
