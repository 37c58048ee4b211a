package logbuf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// fileSystem is what the spool needs of a directory. Tests have one that tears,
// flips, fills and fails.
type fileSystem interface {
	// Lock makes the directory if need be and keeps other queues out until the
	// result is closed or the process ends. It locks the directory itself, whatever
	// is deleted in it.
	Lock(dir string) (io.Closer, error)
	List(dir string) (names []string, err error)
	// Create makes a file that must not exist yet.
	Create(name string) (file, error)
	// Open opens a file that exists.
	Open(name string) (file, error)
	Remove(name string) error
	Rename(from, to string) error
	// SyncDir makes what was created in a directory survive a power loss.
	SyncDir(dir string) error
	// Room is how many bytes of zeros to write ahead of the entries, because
	// writing over them is cheaper to flush than growing the file; 0 for none.
	Room() int
}

// file is what the spool needs of a file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync returns when the content, and the size needed to read it, survive a
	// power loss.
	Sync() error
	// Unlinked reports whether the file is known to have no name any more.
	Unlinked() bool
}

// osFS is the file system of the operating system.
type osFS struct{}

var (
	_ fileSystem = osFS{}
	_ file       = osFile{}
)

func (osFS) Lock(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(dir) //nolint:gosec // the operator names the directory
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.IsDir() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a directory", dir), f.Close())
	}
	if err := lockDir(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (osFS) List(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	names := make([]string, 0, len(list))
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names, err
}

func (osFS) Create(name string) (file, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // as above
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Open(name string) (file, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0) //nolint:gosec // as above
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		f, err = os.Open(name) //nolint:gosec // as above; to read is enough for what is there
	}
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // as above
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) Room() int { return roomAhead }

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Sync() error { return syncData(f.File) }

func (f osFile) Unlinked() bool { return unlinked(f.File) }
