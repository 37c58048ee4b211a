package logbuf_test

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/ez-api/ez-api/logbuf"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// ledger is a sink that keeps what it is given, once, and fails as it is told.
type ledger struct {
	mu      sync.Mutex
	before  func(ctx context.Context, b logbuf.Batch) error // called first, without the lock
	after   func(b logbuf.Batch) error                      // called when the batch is stored: its answer is lost
	batches []int
	order   []string // request ids, as stored
	stored  map[uuid.UUID]logbuf.Entry
	at      map[uuid.UUID]int64 // checkpoints by segment
}

func newLedger() *ledger {
	return &ledger{stored: make(map[uuid.UUID]logbuf.Entry), at: make(map[uuid.UUID]int64)}
}

func (l *ledger) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
	if l.before != nil {
		if err := l.before(ctx, b); err != nil {
			return logbuf.Result{}, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var r logbuf.Result
	if b.Segment != uuid.Nil {
		if l.at[b.Segment] >= b.To {
			return logbuf.Result{Duplicate: len(b.Entries)}, nil
		}
		if at := l.at[b.Segment]; at < b.From {
			return logbuf.Result{}, &logbuf.BehindError{Position: at}
		}
		l.at[b.Segment] = b.To
	}
	for _, e := range b.Entries {
		if _, ok := l.stored[e.ID]; ok {
			r.Duplicate++
			continue
		}
		r.Stored++
		l.stored[e.ID] = e
		l.order = append(l.order, e.RequestID)
	}
	l.batches = append(l.batches, len(b.Entries))
	if l.after != nil {
		if err := l.after(b); err != nil {
			return logbuf.Result{}, err
		}
	}
	return r, nil
}

// beside is a ledger that is given two batches at once.
type beside struct{ *ledger }

func (l beside) WriteAfter(ctx context.Context, b logbuf.Batch,
	prior func(context.Context) error) (logbuf.Result, error) {
	if err := prior(ctx); err != nil {
		return logbuf.Result{}, err
	}
	return l.Write(ctx, b)
}

// sizes returns how many entries each stored batch had.
func (l *ledger) sizes() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.batches)
}

// requests returns the request ids in the order in which they were stored.
func (l *ledger) requests() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.order)
}

func mustOpen(t testing.TB, sink logbuf.Sink, opts *logbuf.Options) *logbuf.Queue {
	t.Helper()
	q, err := logbuf.Open(sink, opts)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func mustAppend(t testing.TB, q *logbuf.Queue, entries ...logbuf.Entry) {
	t.Helper()
	if err := q.Append(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
}

func mustClose(t testing.TB, q *logbuf.Queue) {
	t.Helper()
	if err := q.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// checkIdentity fails unless every accepted entry is accounted for.
func checkIdentity(t testing.TB, s logbuf.Stats) {
	t.Helper()
	if s.Accepted != s.Stored+s.Duplicate+s.Dead+s.Damaged+s.Pending {
		t.Errorf("accepted is not stored + duplicate + dead + damaged + pending: %+v", s)
	}
	if (s.Pending == 0) != s.OldestPending.IsZero() {
		t.Errorf("%d pending, the oldest from %v", s.Pending, s.OldestPending)
	}
}
