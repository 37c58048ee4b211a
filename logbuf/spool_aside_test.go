package logbuf_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/logbuf"
)

// frames leaves one segment of 60 frames, with 5 entries each, that takes more than two blocks.
func frames(t *testing.T) *memFS {
	t.Helper()
	fs := newMemFS()
	o := disk("spool")
	q := mustOpen(t, asleep(), o.On(fs))
	for n := range 60 {
		mustAppend(t, q, entries(5*n, 5)...)
	}
	kill(t, q)
	if size := fs.size(); size < 3*4096 {
		t.Fatalf("the segment takes %d bytes", size)
	}
	return fs
}

// aside returns the names of the segments that were set aside.
func (m *memFS) aside() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.files {
		if strings.HasSuffix(name, ".aside") {
			names = append(names, name)
		}
	}
	return names
}

// revive gives the only segment that was set aside its name back.
func (m *memFS) revive(t *testing.T) {
	t.Helper()
	names := m.aside()
	if len(names) != 1 {
		t.Fatalf("set aside: %v; want one", names)
	}
	if err := m.Rename(names[0], strings.TrimSuffix(names[0], ".aside")); err != nil {
		t.Fatal(err)
	}
}

// flip makes the only segment damaged at a byte, or sound again.
func (m *memFS) flip(t *testing.T, at int) {
	t.Helper()
	m.edit(t, func(b []byte) []byte { b[at] ^= 1; return b })
}

// What could not be read is stored as soon as it can be, also when that takes several repairs, and
// what was stored already is not stored again. The sink answers by its checkpoint, or by the
// identity of batches, that it has stored the whole segment.
func TestSpoolRevivesWhatWasSetAside(t *testing.T) {
	for _, c := range []struct {
		name string
		sink func(*ledger) logbuf.Sink
	}{
		{"a checkpointer", func(l *ledger) logbuf.Sink { return checkpointer{l} }},
		{"a sink by identity", func(l *ledger) logbuf.Sink { return identitySink{l, new([]logbuf.Batch)} }},
	} {
		for _, sector := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, sector %t", c.name, sector), func(t *testing.T) {
				fs, l := frames(t), newLedger()
				o := disk("spool")
				o.BatchSize = 1000
				var bad []int // blocks
				damage := func(block int) {
					bad = append(bad, block)
					if !sector {
						fs.flip(t, 4096*block+2048)
					}
				}
				disk1 := &badDisk{memFS: fs, bad: func(name string, off int64) error {
					for _, block := range bad {
						if sector && off/4096 == int64(block) && strings.HasSuffix(name, ".v1") {
							return syscall.EIO
						}
					}
					return nil
				}}
				damage(0)
				damage(1)
				for len(bad) > 0 {
					before := len(l.requests())
					q := mustOpen(t, c.sink(l), o.On(disk1))
					wait(t, "the entries are settled", func() bool { return q.Stats().Pending == 0 && q.Stats().Damaged > 0 })
					mustClose(t, q)
					s := q.Stats()
					checkIdentity(t, s)
					if got := len(l.requests()); s.SetAside != 1 || got <= before || got >= 300 {
						t.Fatalf("%d blocks are bad: %d entries are stored, after %d; stats %+v", len(bad), got, before, s)
					}
					fs.revive(t)
					if !sector {
						fs.flip(t, 4096*bad[0]+2048)
					}
					bad = bad[1:]
				}
				q := mustOpen(t, c.sink(l), o.On(disk1))
				mustClose(t, q)
				s := q.Stats()
				checkIdentity(t, s)
				if diff := cmp.Diff(requestIDs(0, 300), l.sorted()); diff != "" {
					t.Errorf("stored (-want +got):\n%s", diff)
				}
				if left := fs.segments(); s.Damaged != 0 || len(left)+len(fs.aside()) > 0 {
					t.Errorf("left %v and %v, stats %+v", left, fs.aside(), s)
				}
			})
		}
	}
}

// A segment with damaged entries is not deleted, whatever a later queue knows of the damage.
func TestSpoolKeepsDamageAcrossRestarts(t *testing.T) {
	for _, c := range []struct {
		name   string
		crash  bool // the process ends when the sink has stored the entries, and before it has answered
		healed bool // the segment is sound again: only the note tells of the damage
		noNote bool // there is only the segment to tell of it
	}{
		{"a restart", false, false, false},
		{"a restart, and only the note knows", false, true, false},
		{"a restart, and only the segment shows it", false, false, true},
		{"a crash", true, false, false},
		{"a crash, and only the note knows", true, true, false},
		{"a crash, and only the segment shows it", true, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs, l := frames(t), newLedger()
				fs.flip(t, 6000)
				o := keeping("spool")
				o.BatchSize = 1000
				var crashed *memFS
				l.before = func(context.Context, logbuf.Batch) error {
					crashed = fs.clone()
					return nil
				}
				q := mustOpen(t, checkpointer{l}, o.On(fs))
				if err := q.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				mustClose(t, q)
				if s := q.Stats(); s.Damaged != 5 || s.SetAside != 0 || len(l.requests()) != 295 {
					t.Fatalf("%d are stored, stats %+v", len(l.requests()), s)
				}
				left := fs
				if c.crash {
					left = crashed
				}
				if c.healed {
					left.flip(t, 6000)
				}
				if c.noNote {
					_ = left.Remove(left.segments()[0] + ".pos")
				}
				q = mustOpen(t, checkpointer{l}, o.On(left))
				time.Sleep(11 * time.Minute)
				mustClose(t, q)
				if s := q.Stats(); s.SetAside != 1 || len(left.aside()) != 1 || s.Alarm == "" {
					t.Errorf("set aside %v, stats %+v", left.aside(), s)
				}
			})
		})
	}
}

// A segment with damaged entries gives its room like others, and is set aside.
func TestSpoolSetsAsideWhenRoomIsNeeded(t *testing.T) {
	fs, l := frames(t), newLedger()
	fs.flip(t, 6000)
	damaged := fs.segments()[0]
	o := keeping("spool")
	o.BatchSize, o.SpoolMax = 1000, 1<<20
	q := mustOpen(t, checkpointer{l}, o.On(fs))
	for n := 6; q.Stats().SetAside == 0; n++ {
		mustAppend(t, q, entries(50*n, 50)...)
		if n%10 == 0 {
			if err := q.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n == 1000 {
			t.Fatalf("after so much: stats %+v", q.Stats())
		}
	}
	mustClose(t, q)
	if diff := cmp.Diff([]string{damaged + ".aside"}, fs.aside()); diff != "" {
		t.Errorf("set aside (-want +got):\n%s", diff)
	}
}

// A system that is short of something says nothing about a segment, however long that takes: nothing
// is given up, but for what cannot be read for another reason.
func TestSpoolWaitsForAShortSystem(t *testing.T) {
	const often = 20 // more than there are tries
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN, syscall.EINTR} {
		for _, c := range []struct {
			name, suffix string
			read         bool // it opens, and cannot be read
			sector       bool // one block cannot be read for another reason
		}{
			{"opening a segment", ".v1", false, false},
			{"opening a note", ".pos", false, false},
			{"reading", ".v1", true, false},
			{"reading around a bad sector", ".v1", true, true},
		} {
			t.Run(fmt.Sprintf("%s, %s", errno, c.name), func(t *testing.T) {
				fs, l := frames(t), newLedger()
				var failures atomic.Int64
				fails := func(name string) error {
					if strings.HasSuffix(name, c.suffix) && failures.Add(1) <= often {
						return errno
					}
					return nil
				}
				short := &badDisk{memFS: fs}
				if c.read {
					short.bad = func(name string, off int64) error {
						if c.sector && off/4096 == 1 {
							return syscall.EIO
						}
						if c.sector && off/4096 == 0 { // the failure is to be found behind the bad sector
							return nil
						}
						return fails(name)
					}
				} else {
					short.no = fails
				}
				o := disk("spool")
				q := mustOpen(t, checkpointer{l}, o.On(short))
				want := 300
				if c.sector {
					want = 170
				}
				wait(t, "the entries are stored", func() bool { return len(l.requests()) >= want })
				mustClose(t, q)
				s := q.Stats()
				checkIdentity(t, s)
				if failures.Load() < often || c.sector != (s.Damaged > 0) || int(s.Damaged) != 300-len(l.requests()) ||
					len(fs.aside()) != int(s.SetAside) || c.sector != (s.SetAside == 1) {
					t.Errorf("after %d failures: %d are stored, stats %+v", failures.Load(), len(l.requests()), s)
				}
			})
		}
	}
}
