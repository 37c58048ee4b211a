package logbuf

import (
	"errors"
	"os"
	"syscall"
)

// roomAhead is worth its while because fdatasync of bytes that were there before
// needs no write of the journal. Zeros have to be written: blocks that are
// merely allocated (fallocate) are marked as such, and each mark that goes is a
// write of the journal again.
const roomAhead = 1 << 20

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
