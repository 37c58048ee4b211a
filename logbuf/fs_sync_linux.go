package logbuf

import (
	"errors"
	"os"
	"syscall"
)

// syncData flushes the content and the size, not the times, which saves a write
// of the journal.
func syncData(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd())) //nolint:gosec // a descriptor fits an int
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
