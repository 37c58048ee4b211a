package logbuf_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	return logbuf.Options{
		Dir: dir, FlushInterval: time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond, SpoolKeep: -1,
	}
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
	if s.Durability != logbuf.Disk || s.Stored != 21 || s.Syncs != 2 || s.Segments != 1 || s.SpoolBytes == 0 ||
		s.SpoolMax != 1<<30 {
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
		t.Errorf("%s is left behind", f.Name())
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

func TestSpoolCapacity(t *testing.T) {
	eachRoom(t, testCapacity)
}

func testCapacity(t *testing.T, fs *memFS) {
	o := disk("spool")
	o.SpoolMax = 1 << 20
	fs.write = func(name string, b []byte, off int64) (int, error) {
		if !strings.HasSuffix(name, ".v1") {
			return len(b), nil
		}
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
	if err := q.Append(t.Context(), entries(0, 50_000)...); !errors.Is(err, logbuf.ErrTooMany) {
		t.Errorf("more than the spool ever holds: %v, want ErrTooMany", err)
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
		sink := rapid.SampledFrom([]logbuf.Sink{l, beside{l}, checkpointer{l}, struct {
			checkpointer
			logbuf.Pipeliner
		}{checkpointer{l}, beside{l}}}).Draw(t, "sink")
		n := 0
		for range rapid.IntRange(1, 5).Draw(t, "lives") {
			o := disk("spool")
			o.SpoolMax = 1 << 20
			o.BatchSize = rapid.IntRange(1, 50).Draw(t, "batch")
			fails := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 10).Draw(t, "fails")
			fails = append(fails, 0)
			var tries atomic.Int64
			l.before = func(context.Context, logbuf.Batch) error {
				if fails[int(tries.Add(1))%len(fails)] == 1 {
					return errDown
				}
				return nil
			}
			l.after = func(logbuf.Batch) error {
				if fails[int(tries.Load())%len(fails)] == 2 {
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
			ctx, cancel := context.WithTimeout(context.Background(),
				time.Duration(rapid.IntRange(0, 3).Draw(t, "patience"))*time.Millisecond)
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
