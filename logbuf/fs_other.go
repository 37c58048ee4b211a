//go:build !unix

package logbuf

import (
	"errors"
	"os"
)

var errQuota = errors.New("disk quota exceeded")

// lockDir refuses: without a lock that ends with the process, two queues could
// write one spool. Memory mode works everywhere.
func lockDir(*os.File) error {
	return errors.New("the disk spool needs a Unix system: leave Options.Dir empty")
}

func unlinked(*os.File) bool { return false }
