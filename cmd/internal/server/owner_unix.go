//go:build unix

package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ownerRemedy completes an error about a directory that may not be written: who owns it, who
// this process is, and what to do. It is empty for other errors. Mounted directories of
// containers are where this happens.
func ownerRemedy(path string, err error) string {
	if !errors.Is(err, fs.ErrPermission) {
		return ""
	}
	info, err := os.Stat(path)
	for err != nil && path != filepath.Dir(path) { // it does not exist, or is hidden: then who is above it
		path = filepath.Dir(path)
		info, err = os.Stat(path)
	}
	if err != nil {
		return ""
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	uid, gid := os.Getuid(), os.Getgid()
	return fmt.Sprintf(". %s belongs to uid %d and has mode %04o, this process runs as uid %d. "+
		"Run chown -R %d:%d on it (for a bind mount: on the directory of the host), "+
		"or run the container as its owner with --user %d:%d",
		path, owner.Uid, info.Mode().Perm(), uid, uid, gid, owner.Uid, owner.Gid)
}
