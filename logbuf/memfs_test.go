package logbuf_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ez-api/ez-api/logbuf"
)

// memFS is a disk in memory that can be copied, looked into and made to fail.
type memFS struct {
	mu     sync.Mutex
	files  map[string]*memData
	locked bool
	room   int // wanted ahead

	write func(name string, b []byte, off int64) (n int, err error) // how much of a write arrives, and why no more
	sync  func(name string) error
	make  func(name string) error
	read  func() error
}

type memData struct{ b []byte }

var _ logbuf.FileSystem = (*memFS)(nil)

func newMemFS() *memFS { return &memFS{files: make(map[string]*memData)} }

// eachRoom runs a test on a disk where segments grow, and on one where zeros are
// written ahead.
func eachRoom(t *testing.T, test func(t *testing.T, fs *memFS)) {
	for _, room := range []int{0, 64 << 10} {
		t.Run(fmt.Sprintf("%d bytes ahead", room), func(t *testing.T) {
			fs := newMemFS()
			fs.room = room
			test(t, fs)
		})
	}
}

// size returns how many bytes the segments take.
func (m *memFS) size() (n int64) {
	for _, name := range m.segments() {
		m.mu.Lock()
		n += int64(len(m.files[name].b))
		m.mu.Unlock()
	}
	return n
}

// clone returns the disk as another machine would find it, unlocked and sound.
func (m *memFS) clone() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := newMemFS()
	c.room = m.room
	for name, d := range m.files {
		c.files[name] = &memData{bytes.Clone(d.b)}
	}
	return c
}

// segments returns the names of the segment files, in order.
func (m *memFS) segments() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := slices.Sorted(maps.Keys(m.files))
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".v1") })
}

// edit changes the content of the only segment.
func (m *memFS) edit(t testing.TB, change func(b []byte) []byte) {
	t.Helper()
	names := m.segments()
	if len(names) != 1 {
		t.Fatalf("segments %v, want one", names)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[names[0]].b = change(m.files[names[0]].b)
}

func (m *memFS) Lock(string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked {
		return nil, errors.New("locked")
	}
	m.locked = true
	return unlocker{m}, nil
}

type unlocker struct{ m *memFS }

func (u unlocker) Close() error {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	u.m.locked = false
	return nil
}

func (m *memFS) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.files {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	return names, nil
}

func (m *memFS) Create(name string) (logbuf.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.make != nil {
		if err := m.make(name); err != nil {
			return nil, err
		}
	}
	if m.files[name] != nil {
		return nil, fs.ErrExist
	}
	m.files[name] = &memData{}
	return &memFile{m, name, m.files[name]}, nil
}

func (m *memFS) Open(name string) (logbuf.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[name] == nil {
		return nil, fs.ErrNotExist
	}
	return &memFile{m, name, m.files[name]}, nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[name] == nil {
		return fs.ErrNotExist
	}
	delete(m.files, name)
	return nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[from] == nil {
		return fs.ErrNotExist
	}
	m.files[to] = m.files[from]
	delete(m.files, from)
	return nil
}

func (m *memFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sync != nil {
		return m.sync(dir)
	}
	return nil
}

func (m *memFS) Room() int { return m.room }

type memFile struct {
	m    *memFS
	name string
	d    *memData
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.m.read != nil {
		if err := f.m.read(); err != nil {
			return 0, err
		}
	}
	if off >= int64(len(f.d.b)) {
		return 0, io.EOF
	}
	n := copy(b, f.d.b[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	n, err := len(b), error(nil)
	if f.m.write != nil {
		n, err = f.m.write(f.name, b, off)
	}
	if grow := int(off) + n - len(f.d.b); grow > 0 {
		f.d.b = append(f.d.b, make([]byte, grow)...)
	}
	copy(f.d.b[off:], b[:n])
	return n, err
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.d.b)), nil
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.d.b = f.d.b[:size]
	return nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.m.sync != nil {
		return f.m.sync(f.name)
	}
	return nil
}

func (f *memFile) Unlinked() bool {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.m.files[f.name] != f.d
}

func (f *memFile) Close() error { return nil }
