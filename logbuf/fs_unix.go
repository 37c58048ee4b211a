//go:build unix

package logbuf

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// errQuota says that the user may not have more of the disk.
const errQuota = syscall.EDQUOT

// lockDir locks a directory for this process; the lock ends with the process, so
// that none is left behind by a crash.
func lockDir(d *os.File) error {
	err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:gosec // a descriptor fits an int
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%s is in use by another queue", d.Name())
	}
	return os.NewSyscallError("flock", err)
}

// unlinked reports whether a file has no name any more.
func unlinked(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}
