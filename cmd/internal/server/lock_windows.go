package server

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockExclusive locks a file for this process. The lock ends with the process,
// so that a crash leaves none behind.
func lockExclusive(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errInUse
	}
	return err
}
