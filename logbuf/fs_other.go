//go:build !unix

package logbuf

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock that ends with the process, two queues could
// write one spool. Memory mode works everywhere.
func lockFile(*os.File) error {
	return errors.New("the disk spool needs a Unix system: leave Options.Dir empty")
}

func isFull(error) bool { return false }
