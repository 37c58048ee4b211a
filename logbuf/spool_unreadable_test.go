package logbuf_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/logbuf"
)

var errNoSpace = syscall.ENOSPC

// badDisk is a disk of which some bytes of some files cannot be read.
type badDisk struct {
	*memFS
	bad func(name string, off int64) error // nil error: it can
	no  func(name string) error            // why a file cannot be opened
}

func (d *badDisk) Open(name string) (logbuf.File, error) {
	if d.no != nil {
		if err := d.no(name); err != nil {
			return nil, err
		}
	}
	f, err := d.memFS.Open(name)
	if err != nil {
		return nil, err
	}
	return badFile{f, name, d}, nil
}

type badFile struct {
	logbuf.File
	name string
	disk *badDisk
}

func (f badFile) ReadAt(b []byte, off int64) (int, error) {
	for at := off; f.disk.bad != nil && at < off+int64(len(b)); at += 512 {
		if err := f.disk.bad(f.name, at); err != nil {
			n, _ := f.File.ReadAt(b[:max(0, at-off)], off)
			return n, err
		}
	}
	return f.File.ReadAt(b, off)
}

// threeSegments leaves three segments of 100 entries each.
func threeSegments(t *testing.T) *memFS {
	t.Helper()
	fs := newMemFS()
	for n := range 3 {
		o := disk("spool")
		q := mustOpen(t, asleep(), o.On(fs))
		for i := range 10 {
			mustAppend(t, q, entries(100*n+10*i, 10)...)
		}
		kill(t, q)
	}
	if n := len(fs.segments()); n != 3 {
		t.Fatalf("%d segments", n)
	}
	return fs
}

// A segment that cannot be read, from the start on or all of a sudden, in part or at all,
// keeps nobody from the others: what can be read is stored, the rest is counted as damaged,
// and the file is set aside under a name that the alarm says.
func TestSpoolOutlivesUnreadableSegments(t *testing.T) {
	for _, c := range []struct {
		name    string
		sector  bool // one block cannot be read; else nothing
		open    error
		from    string // since when: "start" or "later"
		passes  bool   // after a while it can be read again
		stored  int    // at least, of 301
		damaged int64  // at least
	}{
		{"a bad sector at the start", true, nil, "start", false, 251, 1},
		{"a bad sector later", true, nil, "later", false, 251, 1},
		{"unreadable at the start", false, nil, "start", false, 201, 1},
		{"unreadable later", false, nil, "later", false, 201, 100},
		{"no rights at the start", false, syscall.EACCES, "start", false, 201, 1},
		{"no rights later", false, syscall.EACCES, "later", false, 201, 100},
		{"deleted", false, os.ErrNotExist, "later", false, 201, 100},
		{"for a moment, at the start", false, syscall.EIO, "start", true, 301, 0},
		{"for a moment, later", false, syscall.EIO, "later", true, 301, 0},
		{"too many files for a moment", false, syscall.EMFILE, "later", true, 301, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk1 := &badDisk{memFS: threeSegments(t)}
			target := disk1.segments()[1]
			var on atomic.Bool
			if c.open != nil {
				disk1.no = func(name string) error {
					if on.Load() && name == target {
						return c.open
					}
					return nil
				}
			} else {
				disk1.bad = func(name string, off int64) error {
					if on.Load() && name == target && (!c.sector || off >= 4096 && off < 8192) {
						return syscall.EIO
					}
					return nil
				}
			}
			on.Store(c.from == "start")
			l := newLedger()
			hold := make(chan struct{})
			l.before = func(ctx context.Context, _ logbuf.Batch) error {
				select {
				case <-hold:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			o := disk("spool")
			q, err := logbuf.Open(l, o.On(disk1))
			if err != nil {
				t.Fatalf("the spool does not open: %v", err)
			}
			on.Store(true)
			close(hold)
			mustAppend(t, q, entries(300, 1)...)
			wait(t, "the new entry is stored", func() bool { return len(l.requests()) > 0 && contains(l.requests(), "300") })
			if c.passes {
				on.Store(false)
			}
			wait(t, "nothing is pending", func() bool {
				s := q.Stats()
				return s.Pending == 0 && len(l.requests()) >= c.stored && (c.passes || s.SetAside == 1)
			})
			s := q.Stats()
			checkIdentity(t, s)
			if s.Damaged < c.damaged || s.Damaged == 0 != c.passes || s.Broken {
				t.Errorf("stats %+v", s)
			}
			mustClose(t, q)
			s = q.Stats()
			if got := len(l.requests()); got < c.stored || c.from == "later" && got+int(s.Damaged) != 301 {
				t.Errorf("%d stored, %d damaged", got, s.Damaged)
			}
			if aside := s.SetAside; (aside == 1) == c.passes || !c.passes && !strings.Contains(s.Alarm, target) {
				t.Errorf("%d set aside, alarm %q", aside, s.Alarm)
			}
			if left := disk1.segments(); len(left) != 0 {
				t.Errorf("left %v", left)
			}
			disk1.mu.Lock()
			kept := disk1.files[target+".aside"] != nil
			disk1.mu.Unlock()
			if kept == c.passes {
				t.Errorf("set aside: %t", kept)
			}
			// The next queue finds nothing to stumble over.
			got, s := recovered(t, o.On(disk1.memFS), newLedger())
			if len(got) != 0 || s.Accepted != 0 {
				t.Errorf("another queue stores %d, stats %+v", len(got), s)
			}
		})
	}
}

func contains(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

// wait polls.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

// Every block that cannot be read costs the frames in it, and no other.
func TestSpoolServesAllAroundABadSector(t *testing.T) {
	for block := range int64(3) {
		fs := newMemFS()
		o := disk("spool")
		q := mustOpen(t, asleep(), o.On(fs))
		var ends []int64
		for n := range 60 {
			mustAppend(t, q, entries(5*n, 5)...)
			ends = append(ends, q.Stats().SpoolBytes)
		}
		kill(t, q)
		bad := &badDisk{memFS: fs, bad: func(name string, off int64) error {
			if off/4096 == block && strings.HasSuffix(name, ".v1") {
				return syscall.EIO
			}
			return nil
		}}
		l := newLedger()
		q = mustOpen(t, l, o.On(bad))
		wait(t, "all is stored", func() bool { return q.Stats().SetAside == 1 })
		mustClose(t, q)
		stored := l.requests()
		for n, end := range ends {
			start := int64(0)
			if n > 0 {
				start = ends[n-1]
			}
			hit := start < 4096*(block+1) && end > 4096*block
			if got := contains(stored, fmt.Sprint(5*n)); got == hit {
				t.Errorf("block %d: frame %d from %d to %d is stored: %t", block, n, start, end, got)
			}
		}
		if s := q.Stats(); s.Stored+s.Damaged < 300 || s.Damaged > 300-int64(len(stored)) && block < 2 {
			t.Errorf("block %d: stats %+v", block, s)
		}
	}
}

// The directory itself is locked: to delete what is in it lets nobody else in.
func TestSpoolStaysLocked(t *testing.T) {
	dir := t.TempDir()
	o := disk(dir)
	q := mustOpen(t, asleep(), &o)
	mustAppend(t, q, entries(0, 50)...)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f, ".v1") {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	if other, err := logbuf.Open(newLedger(), &o); err == nil {
		kill(t, other)
		t.Error("a second queue opened the same directory")
	}
	kill(t, q)
	l := newLedger()
	q = mustOpen(t, l, &o)
	mustClose(t, q)
	if diff := cmp.Diff(requestIDs(0, 50), l.requests()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// When the segment that is being written is deleted, the next entries go to another, what is
// in it is stored all the same, and an alarm says so.
func TestSpoolNoticesADeletedSegment(t *testing.T) {
	dir := t.TempDir()
	o := disk(dir)
	l := newLedger()
	hold := make(chan struct{})
	l.before = func(ctx context.Context, _ logbuf.Batch) error {
		select {
		case <-hold:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	q := mustOpen(t, l, &o)
	mustAppend(t, q, entries(0, 10)...)
	files, _ := filepath.Glob(filepath.Join(dir, "*.v1"))
	if len(files) != 1 {
		t.Fatalf("segments %v", files)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, q, entries(10, 10)...)
	if again, _ := filepath.Glob(filepath.Join(dir, "*.v1")); len(again) != 1 || again[0] == files[0] {
		t.Errorf("segments %v; want another", again)
	}
	if s := q.Stats(); !strings.Contains(s.Alarm, files[0]) {
		t.Errorf("alarm %q", s.Alarm)
	}
	close(hold)
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(requestIDs(0, 20), l.sorted()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	_ = q.Close(t.Context()) // it cannot remove what is not there
}

// Each error of the system has one meaning: full and later pass, everything else breaks.
func TestSpoolTellsErrorsOfTheDiskApart(t *testing.T) {
	for _, c := range []struct {
		err   error
		want  error
		where string
	}{
		{syscall.ENOSPC, logbuf.ErrFull, "write"}, {syscall.EDQUOT, logbuf.ErrFull, "write"},
		{syscall.EFBIG, logbuf.ErrFull, "write"},
		{syscall.EMFILE, logbuf.ErrFull, "create"}, {syscall.ENFILE, logbuf.ErrFull, "create"},
		{syscall.ENOMEM, logbuf.ErrFull, "create"},
		{syscall.ENOSPC, logbuf.ErrFull, "create"}, {syscall.EINTR, logbuf.ErrFull, "write"},
		{syscall.EIO, logbuf.ErrBroken, "write"}, {syscall.EROFS, logbuf.ErrBroken, "write"},
		{syscall.EROFS, logbuf.ErrBroken, "create"},
		{syscall.EACCES, logbuf.ErrBroken, "create"}, {syscall.ENOENT, logbuf.ErrBroken, "create"},
		{os.ErrClosed, logbuf.ErrBroken, "write"},
	} {
		t.Run(fmt.Sprint(c.where, " ", c.err), func(t *testing.T) {
			fs := newMemFS()
			var on atomic.Bool
			on.Store(true)
			if c.where == "write" {
				fs.write = func(_ string, b []byte, _ int64) (int, error) {
					if on.Load() {
						return len(b) / 2, c.err
					}
					return len(b), nil
				}
			} else {
				fs.make = func(string) error {
					if on.Load() {
						return c.err
					}
					return nil
				}
			}
			l := newLedger()
			o := disk("spool")
			q := mustOpen(t, l, o.On(fs))
			err := q.Append(t.Context(), entries(0, 2)...)
			if !errors.Is(err, c.want) || errors.Is(err, logbuf.ErrFull) == errors.Is(err, logbuf.ErrBroken) {
				t.Errorf("Append: %v; want %v", err, c.want)
			}
			on.Store(false)
			err = q.Append(t.Context(), entries(2, 2)...)
			if passes := err == nil; passes != (c.want == logbuf.ErrFull) {
				t.Errorf("Append after it has passed: %v", err)
			}
			want := []string(nil)
			if err == nil {
				want = requestIDs(2, 2)
			}
			mustClose(t, q)
			if diff := cmp.Diff(want, l.requests()); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
		})
	}
}

// On a real disk: full, drained, and then read-only.
func TestSpoolOnARealDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
		t.Skip("no right to mount a small disk, so a full disk is NOT TESTED: ", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH) //nolint:errcheck // the directory goes with the test
	var down atomic.Bool
	down.Store(true)
	l := newLedger()
	l.before = func(context.Context, logbuf.Batch) error {
		if down.Load() {
			return errDown
		}
		return nil
	}
	o := keeping(dir)
	q := mustOpen(t, checkpointer{l}, &o)
	n := 0
	var err error
	for err == nil {
		if err = q.Append(t.Context(), logbuf.Entry{RequestID: fmt.Sprint(n), Error: strings.Repeat("x", 8000)}); err == nil {
			n++
		}
	}
	if !errors.Is(err, logbuf.ErrFull) || q.Stats().Broken || n < 100 {
		t.Fatalf("after %d entries: %v", n, err)
	}
	down.Store(false)
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, q, logbuf.Entry{RequestID: fmt.Sprint(n)}) // what is kept gives way
	n++
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=3m"); err == nil {
		if err := q.Append(t.Context(), logbuf.Entry{}); !errors.Is(err, logbuf.ErrBroken) {
			t.Errorf("Append to a disk that is read-only: %v; want ErrBroken", err)
		}
	}
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkIdentity(t, q.Stats())
	if diff := cmp.Diff(requestIDs(0, n), l.sorted()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	kill(t, q)
}
