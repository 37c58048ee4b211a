package logbuf

import "syscall"

// diskFaults says which errors of the system mean what. All others are diskBroken; those that
// are listed as such are here to be seen.
var diskFaults = []struct {
	errno error
	fault diskFault
}{
	{syscall.ENOSPC, diskFull}, // the file system
	{errQuota, diskFull},       // the user
	{syscall.EFBIG, diskFull},  // the file: the next segment may be smaller

	{syscall.EMFILE, diskLater}, // file descriptors of the process
	{syscall.ENFILE, diskLater}, // file descriptors of the machine
	{syscall.ENOMEM, diskLater},
	{syscall.EAGAIN, diskLater},
	{syscall.EINTR, diskLater},

	{syscall.EIO, diskBroken},
	{syscall.EROFS, diskBroken}, // a file system that was made read-only after an error
	{syscall.EACCES, diskBroken},
	{syscall.EPERM, diskBroken},
	{syscall.ENOENT, diskBroken}, // the directory was deleted
	{syscall.ENOTDIR, diskBroken},
	{syscall.ENXIO, diskBroken},
	{syscall.ENODEV, diskBroken},
}
