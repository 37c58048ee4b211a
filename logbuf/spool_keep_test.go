package logbuf_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
)

// backup is what a ledger held at a moment: a standby that takes over knows no more.
type backup struct {
	stored map[uuid.UUID]logbuf.Entry
	order  []string
	at     map[uuid.UUID]int64
}

func (l *ledger) backup() backup {
	l.mu.Lock()
	defer l.mu.Unlock()
	return backup{maps.Clone(l.stored), slices.Clone(l.order), maps.Clone(l.at)}
}

func (l *ledger) failOver(b backup) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored, l.order, l.at = maps.Clone(b.stored), slices.Clone(b.order), maps.Clone(b.at)
}

// keeping are options for a spool that keeps what is stored.
func keeping(dir string) logbuf.Options {
	o := disk(dir)
	o.SpoolKeep = 10 * time.Minute
	o.BatchSize = 10
	return o
}

// sorted returns the request ids that are stored, in the order of numbers.
func (l *ledger) sorted() []string {
	ids := l.requests()
	slices.SortFunc(ids, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return ids
}

// What a failover has lost is stored again, while the queue goes on; the counters say so and
// none goes back.
func TestSpoolStoresAgainWhatAFailoverLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, l := newMemFS(), newLedger()
		o := keeping("spool")
		q := mustOpen(t, checkpointer{l}, o.On(fs))
		defer mustClose(t, q)
		mustAppend(t, q, entries(0, 40)...)
		if err := q.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		standby := l.backup()
		mustAppend(t, q, entries(40, 35)...)
		if err := q.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.failOver(standby)
		mustAppend(t, q, entries(75, 5)...)
		time.Sleep(time.Minute)
		if diff := cmp.Diff(requestIDs(0, 80), l.sorted()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		s := q.Stats()
		checkIdentity(t, s)
		// Those that came after the failover were stored in time, and are duplicates now.
		if s.Again < 35 || s.Again > 40 || s.Accepted != 80+s.Again || s.Pending != 0 || s.Alarm == "" {
			t.Errorf("stats %+v", s)
		}
	})
}

// A sink that comes back from a failure is asked at once.
func TestSpoolAsksASinkThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, l := newMemFS(), newLedger()
		o := keeping("spool")
		q := mustOpen(t, checkpointer{l}, o.On(fs))
		defer mustClose(t, q)
		standby := l.backup()
		mustAppend(t, q, entries(0, 20)...)
		if err := q.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		var down atomic.Bool
		down.Store(true)
		l.mu.Lock()
		l.before = func(context.Context, logbuf.Batch) error {
			if down.Load() {
				return errDown
			}
			return nil
		}
		l.mu.Unlock()
		mustAppend(t, q, entries(20, 1)...)
		time.Sleep(100 * time.Millisecond)
		l.failOver(standby)
		down.Store(false)
		time.Sleep(100 * time.Millisecond) // far less than the interval
		if diff := cmp.Diff(requestIDs(0, 21), l.sorted()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		checkIdentity(t, q.Stats())
	})
}

// The failover comes while the process is not there: what an earlier queue has stored, and
// noted as stored, is checked when the spool is opened.
func TestSpoolStoresAgainAfterARestart(t *testing.T) {
	for _, killed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			fs, l := newMemFS(), newLedger()
			o := keeping("spool")
			q := mustOpen(t, checkpointer{l}, o.On(fs))
			mustAppend(t, q, entries(0, 20)...)
			if err := q.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			standby := l.backup()
			mustAppend(t, q, entries(20, 13)...)
			if err := q.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			left := fs
			if killed {
				left = fs.clone()
			}
			mustClose(t, q)
			if len(fs.segments()) != 1 {
				t.Fatalf("left %v; want what was stored, for a while", fs.segments())
			}
			l.failOver(standby)
			q = mustOpen(t, checkpointer{l}, o.On(left))
			if s := q.Stats(); !killed && s.Accepted != s.Again { // it may have asked the sink already
				t.Errorf("what is stored counts as accepted: %+v", s)
			}
			time.Sleep(time.Minute)
			if diff := cmp.Diff(requestIDs(0, 33), l.sorted()); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			checkIdentity(t, q.Stats())
			mustClose(t, q)
		})
	}
}

// What is stored goes after its time, and not before the sink was asked.
func TestSpoolLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, l := newMemFS(), newLedger()
		o := keeping("spool")
		o.SpoolMax = 1 << 20 // segments of 64 KiB
		var away atomic.Bool
		q := mustOpen(t, awayCheckpointer{checkpointer{l}, &away}, o.On(fs))
		defer mustClose(t, q)
		for n := range 60 {
			mustAppend(t, q, entries(100*n, 100)...)
		}
		if err := q.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		stored := q.Stats()
		if stored.Segments < 3 || stored.SpoolKept == 0 || stored.SpoolBytes > 128<<10 {
			t.Errorf("after all is stored: %+v", stored)
		}
		time.Sleep(9 * time.Minute)
		if s := q.Stats(); s.Segments != stored.Segments {
			t.Errorf("%d of %d segments are there after 9 minutes", s.Segments, stored.Segments)
		}
		away.Store(true)
		time.Sleep(5 * time.Minute)
		if s := q.Stats(); s.Segments != stored.Segments {
			t.Errorf("%d of %d segments are there though nobody could be asked", s.Segments, stored.Segments)
		}
		away.Store(false)
		time.Sleep(time.Minute)
		if s := q.Stats(); s.Segments > 1 || s.SpoolKept != 0 {
			t.Errorf("after 15 minutes: %+v", s)
		}
		if n := len(fs.segments()); n > 1 {
			t.Errorf("%d files are left", n)
		}
	})
}

// awayCheckpointer cannot be asked now and then.
type awayCheckpointer struct {
	checkpointer
	away *atomic.Bool
}

func (a awayCheckpointer) Checkpoint(ctx context.Context, id uuid.UUID) (int64, error) {
	if a.away.Load() {
		return 0, errDown
	}
	return a.checkpointer.Checkpoint(ctx, id)
}

// What is only kept never keeps new entries out: it goes when the room is needed, also when
// the disk has less than SpoolMax.
func TestSpoolGivesRoom(t *testing.T) {
	for _, small := range []bool{false, true} {
		fs, l := newMemFS(), newLedger()
		o := keeping("spool")
		o.BatchSize = 1000
		o.SpoolMax = 1 << 20
		limit := o.SpoolMax
		if small {
			limit = o.SpoolMax / 2
		}
		fs.write = func(name string, b []byte, off int64) (int, error) {
			total := max(0, off+int64(len(b))-int64(len(fs.files[name].b)))
			for name, d := range fs.files {
				if strings.HasSuffix(name, ".v1") {
					total += int64(len(d.b))
				}
			}
			if total > limit {
				if !small {
					t.Errorf("the segments take %d bytes", total)
				}
				return 0, errNoSpace
			}
			return len(b), nil
		}
		q := mustOpen(t, checkpointer{l}, o.On(fs))
		for n := range 400 {
			if n%20 == 0 {
				if err := q.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			mustAppend(t, q, entries(50*n, 50)...)
		}
		mustClose(t, q)
		if diff := cmp.Diff(requestIDs(0, 20_000), l.sorted()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
	}
}

// Whatever is lost when: as long as the spool holds it, every acknowledged entry is stored in
// the end, and the counters add up.
func TestSpoolOutlivesFailovers(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			fs, l := newMemFS(), newLedger()
			o := keeping("spool")
			o.SpoolMax = 1 << 20
			o.BatchSize = rapid.IntRange(1, 30).Draw(r, "batch")
			sink := rapid.SampledFrom([]logbuf.Sink{checkpointer{l}, struct {
				checkpointer
				logbuf.Pipeliner
			}{checkpointer{l}, beside{l}}}).Draw(r, "sink")
			q := mustOpen(t, sink, o.On(fs))
			backups := []backup{l.backup()}
			n := 0
			for range rapid.IntRange(1, 20).Draw(r, "steps") {
				switch rapid.SampledFrom([]string{"append", "append", "flush", "back up", "fail over", "restart", "crash",
					"wait"}).Draw(r, "step") {
				case "append":
					size := rapid.IntRange(1, 100).Draw(r, "size")
					mustAppend(t, q, entries(n, size)...)
					n += size
				case "flush":
					if err := q.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
				case "back up":
					backups = append(backups, l.backup())
				case "fail over":
					l.failOver(rapid.SampledFrom(backups).Draw(r, "backup"))
				case "restart":
					mustClose(t, q)
					checkIdentity(t, q.Stats())
					q = mustOpen(t, sink, o.On(fs))
				case "crash":
					crashed := fs.clone()
					kill(t, q)
					fs = crashed
					q = mustOpen(t, sink, o.On(fs))
				case "wait":
					time.Sleep(time.Duration(rapid.IntRange(1, 120).Draw(r, "seconds")) * time.Second)
				}
			}
			time.Sleep(time.Minute)
			if err := q.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			s := q.Stats()
			checkIdentity(t, s)
			mustClose(t, q)
			if diff := cmp.Diff(requestIDs(0, n), append([]string{}, l.sorted()...)); diff != "" || s.Damaged > 0 {
				r.Fatalf("stored (-want +got):\n%s\nstats %+v", diff, s)
			}
		})
	})
}

// identitySink is a sink without transactions that tells of each batch it is given.
type identitySink struct {
	*ledger
	given *[]logbuf.Batch
}

func (identitySink) Class() logbuf.Class { return logbuf.ByIdentity }

func (s identitySink) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
	s.mu.Lock()
	b.Entries = slices.Clone(b.Entries)
	*s.given = append(*s.given, b)
	s.mu.Unlock()
	return s.ledger.Write(ctx, b)
}

// A sink that knows batches by their identity is never given two that overlap and differ,
// however often the process dies and whatever the size of a batch is then.
func TestBatchesAreTheSameInEveryProcess(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		fs, l := newMemFS(), newLedger()
		var given []logbuf.Batch
		sink := identitySink{l, &given}
		n := 0
		for range rapid.IntRange(1, 5).Draw(r, "lives") {
			o := disk("spool")
			o.BatchSize = rapid.IntRange(1, 50).Draw(r, "batch")
			fails := rapid.SliceOfN(rapid.IntRange(0, 2), 1, 10).Draw(r, "fails")
			var tries atomic.Int64
			l.mu.Lock()
			l.after = func(logbuf.Batch) error {
				if fails[int(tries.Add(1))%len(fails)] == 1 {
					return errDown // its answer is lost
				}
				return nil
			}
			l.mu.Unlock()
			q, err := logbuf.Open(sink, o.On(fs))
			if err != nil {
				r.Fatal(err)
			}
			for _, size := range rapid.SliceOfN(rapid.IntRange(1, 60), 0, 10).Draw(r, "arrays") {
				if err := q.Append(context.Background(), entries(n, size)...); err != nil {
					r.Fatal(err)
				}
				n += size
			}
			ctx, cancel := context.WithTimeout(context.Background(),
				time.Duration(rapid.IntRange(0, 3).Draw(r, "patience"))*time.Millisecond)
			err = q.Close(ctx)
			cancel()
			var unstored *logbuf.UnstoredError
			if err != nil && !errors.As(err, &unstored) {
				r.Fatal(err)
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		type key struct {
			segment  uuid.UUID
			from, to int64
		}
		seen := make(map[key][]string)
		for _, b := range given {
			var ids []string
			for _, e := range b.Entries {
				ids = append(ids, e.RequestID)
			}
			k := key{b.Segment, b.From, b.To}
			if before, ok := seen[k]; ok && !slices.Equal(before, ids) {
				r.Fatalf("batch %v held %v, and now %v", k, before, ids)
			}
			seen[k] = ids
			for other := range seen {
				if other.segment == k.segment && other != k && other.from < k.to && k.from < other.to {
					r.Fatalf("batches %v and %v overlap", other, k)
				}
			}
		}
	})
}

// A disk that is full for good, everything on which is stored, takes entries again: also the segment
// being written gives its room, however small it is. While the disk has no room, the counters say so.
func TestSpoolFullDiskOfStoredEntries(t *testing.T) {
	for _, keep := range []time.Duration{0, 10 * time.Minute} {
		fs, l := newMemFS(), newLedger()
		o := keeping("spool")
		o.SpoolKeep, o.BatchSize, o.SpoolMax = keep, 1000, 1<<30 // segments of 64 MiB
		const limit = 128 << 10
		fs.write = func(name string, b []byte, off int64) (int, error) {
			total := max(0, off+int64(len(b))-int64(len(fs.files[name].b)))
			for name, d := range fs.files {
				if strings.HasSuffix(name, ".v1") {
					total += int64(len(d.b))
				}
			}
			if total > limit {
				return 0, errNoSpace
			}
			return len(b), nil
		}
		q := mustOpen(t, checkpointer{l}, o.On(fs))
		refused := 0
		for n, deadline := 0, time.Now().Add(20*time.Second); n < 100; {
			err := q.Append(t.Context(), entries(50*n, 50)...)
			switch {
			case err == nil:
				n++
			case !errors.Is(err, logbuf.ErrFull) || time.Now().After(deadline):
				t.Fatalf("kept for %s: append %d: %v, after %d refusals", keep, n, err, refused)
			default:
				if refused++; !q.Stats().Full {
					t.Fatal("the counters do not say that the disk is full")
				}
				if err := q.Flush(t.Context()); err != nil { // from here on all is stored
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
		}
		if refused == 0 || q.Stats().Full {
			t.Errorf("refused %d times; full at the end: %t", refused, q.Stats().Full)
		}
		mustClose(t, q)
		if diff := cmp.Diff(requestIDs(0, 5000), l.sorted()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
	}
}

// Where a batch ends cannot always be noted, because the disk is full for a moment. Nothing is passed over then.
func TestSpoolNotesThatFail(t *testing.T) {
	fs, l := newMemFS(), newLedger()
	var given []logbuf.Batch
	o := disk("spool")
	o.BatchSize = 10
	var tries atomic.Int64
	fs.sync = func(name string) error {
		if strings.HasSuffix(name, ".pos") && tries.Add(1)%3 != 0 {
			return errNoSpace
		}
		return nil
	}
	q := mustOpen(t, identitySink{l, &given}, o.On(fs))
	for n := range 10 {
		mustAppend(t, q, entries(25*n, 25)...)
	}
	mustClose(t, q)
	if diff := cmp.Diff(requestIDs(0, 250), l.sorted()); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if tries.Load() < 20 {
		t.Errorf("%d notes were written", tries.Load())
	}
}
