package logbuf_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
)

// disk are options for a spool that writes at once and never waits long.
func disk(dir string) logbuf.Options {
	return logbuf.Options{Dir: dir, FlushInterval: time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond}
}

// asleep is a sink that stores nothing until it is replaced by the next Open.
func asleep() *ledger {
	l := newLedger()
	l.before = func(ctx context.Context, _ logbuf.Batch) error { <-ctx.Done(); return ctx.Err() }
	return l
}

// kill closes a queue without letting it drain.
func kill(t testing.TB, q *logbuf.Queue) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := q.Close(ctx)
	var unstored *logbuf.UnstoredError
	if err != nil && (!errors.As(err, &unstored) || !unstored.Kept) {
		t.Fatal(err)
	}
}

// recovered opens a spool, drains it and returns the request ids and the counters.
func recovered(t testing.TB, o *logbuf.Options, sink *ledger) ([]string, logbuf.Stats) {
	t.Helper()
	q, err := logbuf.Open(sink, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	s := q.Stats()
	checkIdentity(t, s)
	if s.Pending != 0 {
		t.Fatalf("%d still pending", s.Pending)
	}
	return sink.requests(), s
}

func TestSpoolStoresAndCleansUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "spool")
	o := disk(dir)
	o.BatchSize = 7
	sink := newLedger()
	q := mustOpen(t, sink, &o)
	mustAppend(t, q, entries(0, 20)...)
	mustAppend(t, q, entries(20, 1)...)
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := q.Stats()
	checkIdentity(t, s)
	if s.Durability != logbuf.Disk || s.Stored != 21 || s.Syncs != 2 || s.Segments != 1 || s.SpoolBytes == 0 || s.SpoolMax != 1<<30 {
		t.Errorf("stats %+v", s)
	}
	mustClose(t, q)
	if diff := cmp.Diff(requestIDs(0, 21), sink.requests()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if f.Name() != "lock" {
			t.Errorf("%s is left behind", f.Name())
		}
	}
}

func TestSpoolIsLocked(t *testing.T) {
	o := disk(t.TempDir())
	q := mustOpen(t, newLedger(), &o)
	if other, err := logbuf.Open(newLedger(), &o); err == nil {
		mustClose(t, other)
		t.Error("a second queue opened the same directory")
	}
	mustClose(t, q)
	q = mustOpen(t, newLedger(), &o)
	mustClose(t, q)
}

func TestSpoolRefusesAnotherVersion(t *testing.T) {
	dir := t.TempDir()
	o := disk(dir)
	name := fmt.Sprintf("%016x-%s.v2", 1, uuid.New())
	if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if q, err := logbuf.Open(newLedger(), &o); err == nil {
		mustClose(t, q)
		t.Error("a segment of another version was ignored")
	} else if !strings.Contains(err.Error(), name) {
		t.Errorf("%v does not name the file", err)
	}
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	q := mustOpen(t, newLedger(), &o) // nothing stays locked
	mustClose(t, q)
}

// Entries survive the process; the sink's checkpoint, or the hint beside the
// segment, or their ids keep them from being stored twice.
func TestSpoolSurvivesTheProcess(t *testing.T) {
	for _, tt := range []struct {
		name           string
		sink           func(*ledger) logbuf.Sink
		loseHint       bool
		wantDuplicates bool
	}{
		{"with checkpoints", func(l *ledger) logbuf.Sink { return checkpointer{l} }, true, true},
		{"with the hint", func(l *ledger) logbuf.Sink { return l }, false, false},
		{"with neither", func(l *ledger) logbuf.Sink { return l }, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fs := newMemFS()
			o := disk("spool")
			o.BatchSize = 10
			sink := newLedger()
			sink.before = func(ctx context.Context, b logbuf.Batch) error {
				if b.Entries[0].RequestID == "20" {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
			q := mustOpen(t, tt.sink(sink), o.On(fs))
			mustAppend(t, q, entries(0, 25)...)
			for q.Stats().Stored < 20 {
				time.Sleep(time.Millisecond)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			err := q.Close(ctx)
			var unstored *logbuf.UnstoredError
			if !errors.As(err, &unstored) || unstored.Entries != 5 || !unstored.Kept {
				t.Errorf("Close: %v, want 5 entries kept", err)
			}
			checkIdentity(t, q.Stats())

			if tt.loseHint {
				for _, name := range fs.segments() {
					_ = fs.Remove(name + ".pos")
				}
			}
			sink.before = nil
			q = mustOpen(t, tt.sink(sink), o.On(fs))
			if s := q.Stats(); s.Pending+s.Stored+s.Duplicate < 5 || s.Accepted < 5 {
				t.Errorf("after Open: %+v", s)
			}
			mustAppend(t, q, entries(25, 5)...)
			mustClose(t, q)
			if diff := cmp.Diff(requestIDs(0, 30), sink.requests()); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			s := q.Stats()
			checkIdentity(t, s)
			if s.Stored != 10 || s.Damaged != 0 || (s.Duplicate == 20) != tt.wantDuplicates {
				t.Errorf("stats %+v", s)
			}
			if left := fs.segments(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// checkpointer adds checkpoints to a ledger.
type checkpointer struct{ *ledger }

func (c checkpointer) Checkpoint(_ context.Context, segment uuid.UUID) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[segment], nil
}

var _ logbuf.Checkpointer = checkpointer{}

// A clock that was ahead in an earlier run must not keep what that run has left
// from being stored.
func TestSpoolOutlivesAClockThatWasAhead(t *testing.T) {
	fs := newMemFS()
	o := logbuf.Options{Dir: "spool"}
	q := mustOpen(t, asleep(), o.On(fs))
	mustAppend(t, q, entries(0, 3)...)
	kill(t, q)
	synctest.Test(t, func(t *testing.T) { // here it is the year 2000
		sink := newLedger()
		q := mustOpen(t, sink, o.On(fs))
		if oldest := q.Stats().OldestPending; oldest.After(time.Now()) {
			t.Errorf("the oldest pending entry has arrived at %s, which is still to come", oldest)
		}
		time.Sleep(2 * time.Second)
		if diff := cmp.Diff(requestIDs(0, 3), sink.requests()); diff != "" {
			t.Errorf("stored after two seconds (-want +got):\n%s", diff)
		}
		mustClose(t, q)
	})
}

func TestSpoolTakesEntriesWhileTheSinkIsDown(t *testing.T) {
	fs := newMemFS()
	sink := asleep()
	o := disk("spool")
	q := mustOpen(t, sink, o.On(fs))
	mustAppend(t, q, entries(0, 10)...)
	kill(t, q)
	// The checkpoint cannot be asked for either.
	down := downCheckpointer{asleep()}
	q = mustOpen(t, down, o.On(fs))
	mustAppend(t, q, entries(10, 10)...)
	if s := q.Stats(); s.Pending != 20 || s.Accepted != 20 {
		t.Errorf("stats %+v", s)
	}
	kill(t, q)
	got, _ := recovered(t, o.On(fs), newLedger())
	if diff := cmp.Diff(requestIDs(0, 20), got); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

type downCheckpointer struct{ *ledger }

func (downCheckpointer) Checkpoint(context.Context, uuid.UUID) (int64, error) { return 0, errDown }

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
		}
		for bit := 8 * end; bit < 8*int(crashed.size()); bit += 101 { // in the room: nothing is lost
			flipped := crashed.clone()
			flipped.edit(t, func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b })
			if got, s := recovered(t, o.On(flipped), newLedger()); len(got) != 3 || s.Damaged > 1 {
				t.Fatalf("bit %d of byte %d behind the last: %d counted as damaged, stored %v", bit%8, bit/8-end, s.Damaged, got)
			}
		}
	})
}

// The room ahead is there while a queue writes, costs no more than SpoolMax, and
// goes with the queue.
func TestSpoolLeavesNoRoomBehind(t *testing.T) {
	fs := newMemFS()
	fs.room = 8 << 10
	o := disk("spool")
	q := mustOpen(t, asleep(), o.On(fs))
	for i := range 200 {
		mustAppend(t, q, entries(i, 1)...)
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
		q, err := logbuf.Open(sink, o.On(disk))
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
			used := q.Stats().SpoolBytes
			switch err := q.Append(t.Context(), entries(2*i, 2)...); {
			case err == nil:
				want = append(want, requestIDs(2*i, 2)...)
			case !errors.Is(err, logbuf.ErrFull) || errors.Is(err, logbuf.ErrBroken):
				t.Fatalf("a disk of %d bytes: %v, want ErrFull", limit, err)
			case fs.size() != used:
				t.Fatalf("a disk of %d bytes: %d are taken and %d used after %v", limit, fs.size(), used, err)
			}
		}
		used, taken := q.Stats().SpoolBytes, fs.size()
		crashed := fs.clone()
		kill(t, q)
		for _, left := range []*memFS{crashed, fs} {
			got, s := recovered(t, o.On(left.clone()), newLedger())
			if diff := cmp.Diff(want, append([]string{}, got...)); diff != "" || s.Damaged > 0 {
				t.Fatalf("a disk of %d bytes: %d damaged, stored (-want +got):\n%s", limit, s.Damaged, diff)
			}
		}
		if len(want) == 2*arrays {
			if int64(limit) != used || taken != used || zeros != 1 {
				t.Errorf("a disk of %d bytes: %d are used, %d taken, zeros tried %d times", limit, used, taken, zeros)
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

func TestSpoolCapacity(t *testing.T) {
	eachRoom(t, testCapacity)
}

func testCapacity(t *testing.T, fs *memFS) {
	o := disk("spool")
	o.SpoolMax = 1 << 20
	fs.write = func(name string, b []byte, off int64) (int, error) {
		total := max(0, off+int64(len(b))-int64(len(fs.files[name].b)))
		for name, d := range fs.files {
			if strings.HasSuffix(name, ".v1") {
				total += int64(len(d.b))
			}
		}
		if total > o.SpoolMax {
			t.Errorf("the segments take %d bytes", total)
		}
		return len(b), nil
	}
	var mu sync.Mutex
	down := true
	sink := newLedger()
	sink.before = func(context.Context, logbuf.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		if down {
			return errDown
		}
		return nil
	}
	q := mustOpen(t, sink, o.On(fs))
	n := 0
	var err error
	for err == nil && n < 100_000 {
		if err = q.Append(t.Context(), entries(n, 50)...); err == nil {
			n += 50
		}
	}
	if !errors.Is(err, logbuf.ErrFull) || n < 5000 {
		t.Fatalf("after %d entries: %v, want ErrFull", n, err)
	}
	if s := q.Stats(); s.SpoolBytes > o.SpoolMax || s.SpoolBytes < o.SpoolMax*9/10 || s.Segments < 8 || s.Refused != 50 {
		t.Errorf("stats %+v", s)
	}
	mu.Lock()
	down = false
	mu.Unlock()
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := q.Stats(); s.SpoolBytes > o.SpoolMax/8 {
		t.Errorf("after the sink came back: %+v", s)
	}
	mustAppend(t, q, entries(n, 3000)...) // a large one fits again
	mustClose(t, q)
	if diff := cmp.Diff(requestIDs(0, n+3000), sink.requests()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// One flush serves everybody who came while the one before was under way.
func TestSpoolGroupsCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		release := make(chan struct{})
		fs.sync = func(name string) error {
			if strings.HasSuffix(name, ".v1") {
				fs.mu.Unlock()
				<-release
				fs.mu.Lock()
			}
			return nil
		}
		o := disk("spool")
		q := mustOpen(t, newLedger(), o.On(fs))
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() { mustAppend(t, q, entries(i, 1)...) })
			synctest.Wait()
		}
		if s := q.Stats(); s.Accepted != 0 {
			t.Errorf("%d entries are accepted before they are flushed", s.Accepted)
		}
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if err := q.Append(ctx, entries(64, 1)...); !errors.Is(err, context.Canceled) {
				t.Errorf("Append: %v, want context.Canceled", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(release)
		wg.Wait()
		if s := q.Stats(); s.Syncs != 2 || s.Accepted != 65 {
			t.Errorf("%d entries in %d flushes, want 65 in 2", s.Accepted, s.Syncs)
		}
		mustClose(t, q)
	})
}

// Whatever happens between, and however often the process dies: every
// acknowledged entry is stored once, in order.
func TestSpoolLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := newMemFS()
		fs.room = rapid.SampledFrom([]int{0, 500, 8 << 10, 1 << 20}).Draw(t, "room")
		l := newLedger()
		var sink logbuf.Sink = l
		if rapid.Bool().Draw(t, "checkpoints") {
			sink = checkpointer{l}
		}
		n := 0
		for range rapid.IntRange(1, 5).Draw(t, "lives") {
			o := disk("spool")
			o.SpoolMax = 1 << 20
			o.BatchSize = rapid.IntRange(1, 50).Draw(t, "batch")
			fails := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 10).Draw(t, "fails")
			fails = append(fails, 0)
			tries := 0
			l.before = func(context.Context, logbuf.Batch) error {
				if tries++; fails[tries%len(fails)] == 1 {
					return errDown
				}
				return nil
			}
			l.after = func(logbuf.Batch) error {
				if fails[tries%len(fails)] == 2 {
					return errDown
				}
				return nil
			}
			q, err := logbuf.Open(sink, o.On(fs))
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range rapid.SliceOfN(rapid.IntRange(1, 300), 0, 10).Draw(t, "arrays") {
				if err := q.Append(context.Background(), entries(n, size)...); err != nil {
					t.Fatal(err)
				}
				n += size
			}
			crashed := fs.clone()
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rapid.IntRange(0, 3).Draw(t, "patience"))*time.Millisecond)
			err = q.Close(ctx)
			cancel()
			var unstored *logbuf.UnstoredError
			if err != nil && !errors.As(err, &unstored) {
				t.Fatal(err)
			}
			if s := q.Stats(); s.Accepted != s.Stored+s.Duplicate+s.Pending || s.Pending > 0 != (unstored != nil) {
				t.Fatalf("stats %+v with %v", s, err)
			}
			if rapid.Bool().Draw(t, "crashes") {
				fs = crashed // what was stored since is offered again
			}
		}
		l.before, l.after = nil, nil
		o := disk("spool")
		q, err := logbuf.Open(sink, o.On(fs))
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(requestIDs(0, n), append([]string{}, l.order...)); diff != "" {
			t.Fatalf("stored (-want +got):\n%s", diff)
		}
		if left := fs.segments(); len(left) > 0 {
			t.Fatalf("left %v", left)
		}
	})
}

// Opening never fails, and never serves more than was written, whatever a
// segment holds.
func FuzzSpoolRecovery(f *testing.F) {
	fs := newMemFS()
	o := disk("spool")
	q := mustOpen(f, asleep(), o.On(fs))
	mustAppend(f, q, entries(0, 2)...)
	mustAppend(f, q, entries(2, 1)...)
	kill(f, q)
	name := fs.segments()[0]
	f.Add(fs.files[name].b)
	f.Add([]byte{})
	f.Add(make([]byte, 100))
	f.Add(append(slices.Clone(fs.files[name].b), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, content []byte) {
		d := newMemFS()
		d.files[name] = &memData{slices.Clone(content)}
		got, s := recovered(t, o.On(d), newLedger())
		if int64(len(got)) != s.Stored || s.Accepted != s.Stored+s.Duplicate+s.Damaged {
			t.Fatalf("stored %v, stats %+v", got, s)
		}
		for _, id := range got {
			if !slices.Contains([]string{"0", "1", "2"}, id) {
				t.Fatalf("served %q, which nobody appended", id)
			}
		}
	})
}
