package logbuf_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
)

// A write that was cut anywhere costs only what was in it, whether the file
// ends there or zeros follow.
func TestSpoolCutsATornTail(t *testing.T) {
	eachRoom(t, func(t *testing.T, fs *memFS) {
		o := disk("spool")
		q := mustOpen(t, asleep(), o.On(fs))
		var ends []int // of the frames
		for i := range 3 {
			mustAppend(t, q, entries(2*i, 2)...)
			ends = append(ends, int(q.Stats().SpoolBytes))
		}
		crashed := fs.clone()
		kill(t, q)
		for cut := range ends[2] {
			sound := slices.IndexFunc(ends, func(end int) bool { return cut < end })
			for _, zeros := range []bool{false, true} {
				torn := crashed.clone()
				torn.edit(t, func(b []byte) []byte {
					if !zeros {
						return b[:cut]
					}
					if len(bytes.Trim(b[cut:ends[sound]], "\x00")) == 0 {
						sound++ // the last bytes of the record are zero anyway
					}
					clear(b[cut:])
					return b
				})
				got, s := recovered(t, o.On(torn), newLedger())
				if diff := cmp.Diff(requestIDs(0, 2*sound), append([]string{}, got...)); diff != "" {
					t.Fatalf("cut at %d of %v, zeros %v (-want +got):\n%s", cut, ends, zeros, diff)
				}
				if few := zeros && sound < 3 && ends[sound]-cut < logbuf.TornZeros; s.Damaged != 0 && !few {
					t.Fatalf("cut at %d of %v, zeros %v: %d counted as damaged", cut, ends, zeros, s.Damaged)
				}
				if left := torn.segments(); len(left) > 0 {
					t.Fatalf("cut at %d: left %v", cut, left)
				}
			}
		}
	})
}

// Nothing that was acknowledged is taken for a torn tail: any bit that flips
// in the last frame is counted, with room behind it or without.
func TestSpoolCountsADamagedTail(t *testing.T) {
	eachRoom(t, func(t *testing.T, fs *memFS) {
		o := disk("spool")
		q := mustOpen(t, asleep(), o.On(fs))
		mustAppend(t, q, entries(0, 2)...)
		start := int(q.Stats().SpoolBytes)
		mustAppend(t, q, logbuf.Entry{ID: uuid.UUID{15: 1}, Time: time.UnixMicro(1)}) // hardly anything but zeros
		end := int(q.Stats().SpoolBytes)
		crashed := fs.clone()
		kill(t, q)
		for bit := 8 * start; bit < 8*end; bit++ {
			flipped := crashed.clone()
			flipped.edit(t, func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b })
			got, s := recovered(t, o.On(flipped), newLedger())
			if diff := cmp.Diff(requestIDs(0, 2), got); diff != "" || s.Damaged != 1 {
				t.Fatalf("bit %d of byte %d: %d counted as damaged, stored (-want +got):\n%s", bit%8, bit/8-start, s.Damaged, diff)
			}
			if s.SetAside != 1 || s.Alarm == "" {
				t.Fatalf("a damaged file is not set aside: %d, alarm %q", s.SetAside, s.Alarm)
			}
		}
		for bit := 8 * end; bit < 8*int(crashed.size()); bit += 997 { // in the room: nothing is lost
			flipped := crashed.clone()
			flipped.edit(t, func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b })
			if got, s := recovered(t, o.On(flipped), newLedger()); len(got) != 3 || s.Damaged > 1 {
				t.Fatalf("bit %d of byte %d behind the last: %d counted as damaged, stored %v", bit%8, bit/8-end, s.Damaged, got)
			}
		}
	})
}

// The room ahead is there while a queue writes groups that are small beside it,
// and goes with the queue.
func TestSpoolLeavesNoRoomBehind(t *testing.T) {
	fs := newMemFS()
	fs.room = 8 << 10
	o := disk("spool")
	q := mustOpen(t, asleep(), o.On(fs))
	mustAppend(t, q, entries(0, 50)...)
	if used := q.Stats().SpoolBytes; fs.size() != used {
		t.Errorf("a large group of %d bytes was written with %d bytes of room", used, fs.size()-used)
	}
	for i := range 200 {
		mustAppend(t, q, entries(50+i, 1)...)
		if used, room := q.Stats().SpoolBytes, fs.size(); room < used || room > used+8<<10 {
			t.Fatalf("after %d entries %d bytes are used and %d taken", i+1, used, room)
		}
	}
	used := q.Stats().SpoolBytes
	if fs.size() == used {
		t.Error("there is no room ahead")
	}
	kill(t, q)
	if fs.size() != used {
		t.Errorf("a stopped queue takes %d bytes for %d", fs.size(), used)
	}
}

// Whatever bits flip, what is served is what was appended, the frames that were
// not hit are served, and the others are counted.
func TestSpoolServesNothingDamaged(t *testing.T) {
	eachRoom(t, testServesNothingDamaged)
}

func testServesNothingDamaged(t *testing.T, fs *memFS) {
	const frames, each = 6, 4
	o := disk("spool")
	q := mustOpen(t, asleep(), o.On(fs))
	var ends []int // of the frames
	want := make(map[string]logbuf.Entry)
	for i := range frames {
		list := entries(i*each, each)
		for j := range list {
			list[j].ID, list[j].Time, list[j].Namespace = uuid.New(), now.Truncate(time.Microsecond), "n"
			list[j].Error = "EZf1" + strings.Repeat("EZf1 x", i) // looks like the start of a frame
			want[list[j].RequestID] = list[j]
		}
		mustAppend(t, q, list...)
		ends = append(ends, int(q.Stats().SpoolBytes))
	}
	crashed := fs.clone()
	kill(t, q)
	size := ends[frames-1]

	check := func(t *rapid.T, bits []int) {
		disk := crashed.clone()
		hit := make(map[int]bool)
		names := disk.segments()
		for _, bit := range bits {
			disk.files[names[0]].b[bit/8] ^= 1 << (bit % 8)
			hit[slices.IndexFunc(ends, func(end int) bool { return bit/8 < end })] = true
		}
		sink := newLedger()
		o := o
		o.BatchSize = rapid.IntRange(1, 30).Draw(t, "batch")
		q, err := logbuf.Open(rapid.SampledFrom([]logbuf.Sink{sink, beside{sink}}).Draw(t, "sink"), o.On(disk))
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		for _, e := range sink.stored {
			if diff := cmp.Diff(want[e.RequestID], e); diff != "" {
				t.Fatalf("a damaged entry was served (-want +got):\n%s", diff)
			}
		}
		for i := range frames {
			for j := range each {
				if id := fmt.Sprint(i*each + j); !hit[i] && !slices.Contains(sink.order, id) {
					t.Fatalf("bits %v: entry %s of the sound frame %d is missing", bits, id, i)
				}
			}
		}
		s := q.Stats()
		if s.Accepted != s.Stored+s.Damaged || s.Pending != 0 {
			t.Fatalf("stats %+v", s)
		}
		// Behind the last sound header nobody knows how many there were.
		if lost := frames*each - int64(len(sink.order)); s.Damaged > lost || lost > 0 && s.Damaged == 0 {
			t.Fatalf("bits %v: %d damaged of %d that are missing", bits, s.Damaged, lost)
		}
	}
	t.Run("one bit", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) { check(t, []int{rapid.IntRange(0, 8*size-1).Draw(t, "bit")}) })
	})
	t.Run("every bit of a header", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			start := rapid.SampledFrom(append([]int{0}, ends[:frames-1]...)).Draw(t, "frame")
			check(t, []int{8*start + rapid.IntRange(0, 8*logbuf.FrameHeader-1).Draw(t, "bit")})
		})
	})
	t.Run("many bits", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			check(t, rapid.SliceOfNDistinct(rapid.IntRange(0, 8*size-1), 1, 40, rapid.ID).Draw(t, "bits"))
		})
	})
}

// A full disk refuses, forgets nothing and goes on when there is room again.
func TestSpoolFullDisk(t *testing.T) {
	eachRoom(t, testFullDisk)
}

func testFullDisk(t *testing.T, empty *memFS) {
	for room := range 400 {
		fs := empty.clone()
		sink := asleep()
		o := disk("spool")
		q := mustOpen(t, sink, o.On(fs))
		mustAppend(t, q, entries(0, 2)...)
		fs.mu.Lock()
		fs.write = func(_ string, b []byte, _ int64) (int, error) {
			if len(b) > room {
				return room, syscall.ENOSPC
			}
			return len(b), nil
		}
		fs.mu.Unlock()
		err := q.Append(t.Context(), entries(2, 2)...)
		if err != nil && (!errors.Is(err, logbuf.ErrFull) || errors.Is(err, logbuf.ErrBroken)) {
			t.Fatalf("room for %d: %v, want ErrFull", room, err)
		}
		fs.mu.Lock()
		fs.write = nil
		fs.mu.Unlock()
		want := requestIDs(0, 2)
		if err == nil {
			want = requestIDs(0, 4)
		}
		mustAppend(t, q, entries(4, 1)...)
		want = append(want, "4")
		s := q.Stats()
		checkIdentity(t, s)
		if int(s.Accepted) != len(want) || s.Broken {
			t.Fatalf("room for %d: stats %+v", room, s)
		}
		if ahead := fs.size() - s.SpoolBytes; ahead > 0 != (fs.room > 0) {
			t.Fatalf("room for %d: %d bytes ahead of what is used, when there is room again", room, ahead)
		}
		kill(t, q)
		got, s := recovered(t, o.On(fs), newLedger())
		if diff := cmp.Diff(want, got); diff != "" || s.Damaged > 0 {
			t.Fatalf("room for %d: %d damaged, stored (-want +got):\n%s", room, s.Damaged, diff)
		}
		if err == nil {
			return // all larger rooms are the same
		}
	}
	t.Fatal("two entries did not fit 400 bytes: the test does not reach its end")
}

// A disk of any size takes what fits it: that there is no room ahead is no failure.
func TestSpoolFullDiskAhead(t *testing.T) {
	const arrays = 4
	for limit := 0; ; limit++ {
		fs := newMemFS()
		fs.room = 4 << 10
		zeros := 0
		fs.write = func(_ string, b []byte, off int64) (int, error) {
			if len(bytes.Trim(b, "\x00")) == 0 {
				zeros++
			}
			if n := max(0, limit-int(off)); n < len(b) {
				return n, syscall.ENOSPC
			}
			return len(b), nil
		}
		o := disk("spool")
		q := mustOpen(t, asleep(), o.On(fs))
		want := []string{}
		for i := range arrays {
			err := q.Append(t.Context(), entries(2*i, 2)...)
			if err == nil {
				want = append(want, requestIDs(2*i, 2)...)
			} else if !errors.Is(err, logbuf.ErrFull) || errors.Is(err, logbuf.ErrBroken) {
				t.Fatalf("a disk of %d bytes: %v, want ErrFull", limit, err)
			}
			if used := q.Stats().SpoolBytes; fs.size() != used {
				t.Fatalf("a disk of %d bytes: %d are taken and %d used after %v", limit, fs.size(), used, err)
			}
		}
		used := q.Stats().SpoolBytes
		crashed := fs.clone()
		kill(t, q)
		for _, left := range []*memFS{crashed, fs} {
			got, s := recovered(t, o.On(left.clone()), newLedger())
			if diff := cmp.Diff(want, append([]string{}, got...)); diff != "" || s.Damaged > 0 {
				t.Fatalf("a disk of %d bytes: %d damaged, stored (-want +got):\n%s", limit, s.Damaged, diff)
			}
		}
		if len(want) == 2*arrays {
			if int64(limit) != used || zeros != 1 {
				t.Errorf("a disk of %d bytes: %d are used, zeros were tried %d times", limit, used, zeros)
			}
			return
		}
	}
}

func TestSpoolFullDiskAtANewSegment(t *testing.T) {
	fs := newMemFS()
	fs.make = func(string) error { return syscall.ENOSPC }
	o := disk("spool")
	sink := newLedger()
	q := mustOpen(t, sink, o.On(fs))
	if err := q.Append(t.Context(), entries(0, 1)...); !errors.Is(err, logbuf.ErrFull) {
		t.Errorf("Append: %v, want ErrFull", err)
	}
	fs.mu.Lock()
	fs.make = nil
	fs.mu.Unlock()
	mustAppend(t, q, entries(1, 1)...)
	mustClose(t, q)
	if diff := cmp.Diff([]string{"1"}, sink.requests()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// After one failed fsync nothing is acknowledged, though the next would work.
func TestSpoolFailedSyncIsForGood(t *testing.T) {
	eachRoom(t, testFailedSyncIsForGood)
}

func testFailedSyncIsForGood(t *testing.T, empty *memFS) {
	for _, tt := range []struct {
		name string
		what func(name string) bool
	}{
		{"of a segment", func(name string) bool { return strings.HasSuffix(name, ".v1") }},
		{"of the directory", func(name string) bool { return name == "spool" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fs := empty.clone()
			o := disk("spool")
			sink := newLedger()
			q := mustOpen(t, sink, o.On(fs))
			want := []string(nil)
			if tt.name == "of a segment" {
				mustAppend(t, q, entries(0, 2)...)
				want = requestIDs(0, 2)
			}
			failed := false
			fs.mu.Lock()
			fs.sync = func(name string) error {
				if tt.what(name) && !failed {
					failed = true
					return syscall.EIO
				}
				return nil
			}
			fs.mu.Unlock()
			for range 3 {
				err := q.Append(t.Context(), entries(2, 2)...)
				if !errors.Is(err, logbuf.ErrBroken) || errors.Is(err, logbuf.ErrFull) {
					t.Fatalf("Append: %v, want ErrBroken", err)
				}
			}
			if err := q.Ready(); !errors.Is(err, logbuf.ErrBroken) {
				t.Errorf("Ready: %v, want ErrBroken", err)
			}
			if s := q.Stats(); !s.Broken || s.Accepted != int64(len(want)) {
				t.Errorf("stats %+v", s)
			}
			mustClose(t, q) // what was acknowledged is still stored
			if diff := cmp.Diff(want, sink.requests()); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			q = mustOpen(t, sink, o.On(fs))
			mustAppend(t, q, entries(4, 1)...)
			mustClose(t, q)
			if got := sink.requests(); got[len(got)-1] != "4" {
				t.Errorf("stored %v, want 4 at the end", got)
			}
		})
	}
}
