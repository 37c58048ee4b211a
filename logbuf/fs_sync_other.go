//go:build !linux

package logbuf

import "os"

func syncData(f *os.File) error { return f.Sync() }
