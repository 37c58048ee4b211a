package logbuf_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/logbuf"
)

// gated is a ledger that is given two batches at once, and says when each of them
// begins and may end.
type gated struct {
	beside
	begun chan int // the batch's size
	end   chan error
}

func newGated() gated { return gated{beside{newLedger()}, make(chan int, 100), make(chan error)} }

func (g gated) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
	g.begun <- len(b.Entries)
	if err := <-g.end; err != nil {
		return logbuf.Result{}, err
	}
	return g.beside.Write(ctx, b)
}

func (g gated) WriteAfter(ctx context.Context, b logbuf.Batch,
	prior func(context.Context) error) (logbuf.Result, error) {
	g.begun <- -len(b.Entries)
	return g.beside.WriteAfter(ctx, b, prior)
}

// slow takes its time to notice that its turn will not come.
type slow struct{ gated }

const slowness = 100 * time.Millisecond

func (s slow) WriteAfter(ctx context.Context, b logbuf.Batch,
	prior func(context.Context) error) (logbuf.Result, error) {
	r, err := s.gated.WriteAfter(ctx, b, prior)
	time.Sleep(slowness)
	return r, err
}

// wantBegun compares which batches were begun, negative those beside another.
func (g gated) wantBegun(t *testing.T, want ...int) {
	t.Helper()
	synctest.Wait()
	var got []int
	for len(g.begun) > 0 {
		got = append(got, <-g.begun)
	}
	slices.SortFunc(got, func(a, b int) int { return b - a }) // they run at the same time
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("begun (-want +got):\n%s", diff)
	}
}

func TestQueueWritesTwoAtOnce(t *testing.T) {
	for name, dir := range map[string]string{"memory": "", "disk": "spool"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink := newGated()
				o := logbuf.Options{Dir: dir, BatchSize: 10}
				q := mustOpen(t, sink, o.On(newMemFS()))
				mustAppend(t, q, entries(0, 15)...)
				sink.wantBegun(t, 10) // alone: the next is not full
				mustAppend(t, q, entries(15, 4)...)
				sink.wantBegun(t)
				mustAppend(t, q, entries(19, 16)...)
				sink.wantBegun(t, -10) // and no third
				if got := sink.sizes(); len(got) > 0 {
					t.Errorf("stored %v before its turn", got)
				}
				sink.end <- nil
				sink.wantBegun(t, -10) // the third, as the second had its turn
				synctest.Wait()
				if diff := cmp.Diff([]int{10, 10, 10}, sink.sizes()); diff != "" {
					t.Errorf("stored (-want +got):\n%s", diff)
				}
				s := q.Stats()
				checkIdentity(t, s)
				if s.Pending != 5 || s.Batches != 3 {
					t.Errorf("stats %+v", s)
				}
				go func() { sink.end <- nil }()
				mustClose(t, q)
				if diff := cmp.Diff(requestIDs(0, 35), sink.requests()); diff != "" {
					t.Errorf("stored (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A batch whose predecessor fails waits until that is stored, and is nobody's failure.
func TestQueueKeepsTheOrderOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := newGated()
		q := mustOpen(t, sink, &logbuf.Options{BatchSize: 10, MinBackoff: time.Second})
		mustAppend(t, q, entries(0, 30)...)
		sink.wantBegun(t, 10, -10)
		sink.end <- errDown
		sink.wantBegun(t)
		if s := q.Stats(); s.Retries != 1 || s.LastError != errDown.Error() {
			t.Errorf("stats %+v", s)
		}
		time.Sleep(time.Second)
		sink.wantBegun(t, 10)
		if got := sink.sizes(); len(got) > 0 {
			t.Errorf("stored %v without the one before", got)
		}
		sink.end <- nil
		sink.wantBegun(t, 10, -10) // the second again, and the third beside it
		sink.end <- nil
		synctest.Wait()
		mustClose(t, q)
		if diff := cmp.Diff(requestIDs(0, 30), sink.requests()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		if s := q.Stats(); s.Retries != 1 || s.Stored != 30 {
			t.Errorf("stats %+v", s)
		}
	})
}

// A disk that fails while a batch is read ahead takes none of it away.
func TestSpoolReadsAheadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		var broken atomic.Bool
		fs.read = func() error {
			if broken.Load() {
				return errDown
			}
			return nil
		}
		o := logbuf.Options{Dir: "spool", BatchSize: 10}
		sink := newGated()
		q := mustOpen(t, sink, o.On(fs))
		mustAppend(t, q, entries(0, 15)...)
		sink.wantBegun(t, 10)
		broken.Store(true)
		mustAppend(t, q, entries(15, 10)...) // five more are known, and the others cannot be read
		sink.wantBegun(t)
		broken.Store(false)
		sink.end <- nil
		sink.wantBegun(t, 10)
		sink.end <- nil
		go func() { sink.end <- nil }()
		mustClose(t, q)
		if diff := cmp.Diff(requestIDs(0, 25), sink.requests()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		checkIdentity(t, q.Stats())
	})
}

// What waits for its turn when a queue is closed is stored after the next start, not
// before what it waits for.
func TestQueueClosesWithTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newMemFS()
		o := logbuf.Options{Dir: "spool", BatchSize: 10}
		sink := newGated()
		q := mustOpen(t, slow{sink}, o.On(fs))
		mustAppend(t, q, entries(0, 25)...)
		sink.wantBegun(t, 10, -10)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			<-ctx.Done()
			sink.end <- ctx.Err()
		}()
		var unstored *logbuf.UnstoredError
		if err := q.Close(ctx); !errors.As(err, &unstored) || unstored.Entries != 25 || !unstored.Kept {
			t.Fatalf("Close: %v", err)
		}
		if got := time.Since(start); got != time.Second+slowness {
			t.Errorf("Close returned after %v, with a write under way", got)
		}
		if got := sink.sizes(); len(got) > 0 {
			t.Errorf("stored %v", got)
		}
		got, s := recovered(t, o.On(fs), sink.ledger)
		if diff := cmp.Diff(requestIDs(0, 25), got); diff != "" || s.Stored != 25 {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
	})
}
