package storagetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

func aPipeliner(h SinkHarness) string {
	if _, ok := h.Sink.(logbuf.Pipeliner); !ok {
		return "writes one batch at a time"
	}
	return ""
}

// outcome is what became of a write in the background.
type outcome struct {
	result logbuf.Result
	err    error
}

// beside begins to write a batch whose turn comes when the channel returned is
// given nil, and never with an error.
func beside(t testing.TB, h SinkHarness, b logbuf.Batch) (asked <-chan struct{}, turn chan<- error,
	done <-chan outcome) {
	t.Helper()
	asking, answer, ended := make(chan struct{}, 100), make(chan error), make(chan outcome, 1)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		r, err := h.Sink.(logbuf.Pipeliner).WriteAfter(ctx, b, func(ctx context.Context) error {
			asking <- struct{}{}
			select {
			case err := <-answer:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		ended <- outcome{r, err}
	}()
	return asking, answer, ended
}

// testSinkBeside: of a batch that is written beside the one before there is nothing
// until its turn has come.
func testSinkBeside(t testing.TB, h SinkHarness) {
	for _, segment := range []uuid.UUID{uuid.Nil, uuid.New()} {
		first, second := logEntries(0, 10), logEntries(10, 20)
		if segment == uuid.Nil {
			first, second = logEntries(100, 110), logEntries(110, 120)
		}
		asked, turn, done := beside(t, h, logbuf.Batch{Segment: segment, From: 10, To: 20, Entries: second})
		select {
		case <-asked:
		case o := <-done:
			t.Fatalf("WriteAfter did not wait for its turn: %+v", o)
		}
		q := everything()
		q.RequestID = second[0].RequestID
		wantLogs(t, h.Archive, q)
		wantWrite(t, h.Sink, logbuf.Batch{Segment: segment, From: 0, To: 10, Entries: first}, logbuf.Result{Stored: 10})
		wantLogs(t, h.Archive, q)
		turn <- nil
		if o := <-done; o.err != nil || o.result != (logbuf.Result{Stored: 10}) {
			t.Errorf("WriteAfter: %+v; want 10 stored", o)
		}
		wantLogs(t, h.Archive, q, second[0])
		if segment != uuid.Nil {
			wantWrite(t, h.Second, logbuf.Batch{Segment: segment, From: 10, To: 20, Entries: second},
				logbuf.Result{Duplicate: 10})
		}
	}
}

// testSinkBesideFailure: nothing is left of a batch whose turn does not come.
func testSinkBesideFailure(t testing.TB, h SinkHarness) {
	failed := errors.New("the batch before failed")
	segment := uuid.New()
	for _, b := range []logbuf.Batch{spooled(segment, 0, 10), memory(logEntries(10, 20)...)} {
		_, turn, done := beside(t, h, b)
		turn <- failed
		if o := <-done; !errors.Is(o.err, failed) || o.result != (logbuf.Result{}) {
			t.Errorf("WriteAfter: %+v; want the error of its turn", o)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err := h.Sink.(logbuf.Pipeliner).WriteAfter(ctx, b, func(ctx context.Context) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		if err == nil {
			t.Error("WriteAfter with an ended context: no error")
		}
		wantLogs(t, h.Archive, everything())
	}
	wantWrite(t, h.Sink, spooled(segment, 0, 10), logbuf.Result{Stored: 10}) // the checkpoint is where it was
}

// testSinkBesideDuplicates: two batches of the same entries do not wait for each other
// for ever, and store them once.
func testSinkBesideDuplicates(t testing.TB, h SinkHarness) {
	segment := uuid.New()
	second := logbuf.Batch{Segment: segment, From: 10, To: 25, Entries: logEntries(5, 20)}
	asked, turn, done := beside(t, h, second)
	<-asked
	first, err := writeAgain(t, h.Sink, spooled(segment, 0, 10))
	if err != nil {
		t.Fatalf("Write beside a batch of the same: %v", err)
	}
	var o outcome
	select {
	case turn <- nil:
		o = <-done
	case o = <-done: // it has given up
	}
	if o.err != nil {
		o.result, o.err = writeAgain(t, h.Sink, second)
	}
	if want := (logbuf.Result{Stored: 20, Duplicate: 5}); o.err != nil || first.Stored+o.result.Stored != want.Stored ||
		first.Duplicate+o.result.Duplicate != want.Duplicate {
		t.Errorf("%+v and then %+v; want %+v in all", first, o, want)
	}
	wantLogs(t, h.Archive, everything(), newest(logEntries(0, 20)...)...)

	// The same batch again, whose answer was lost.
	_, turn, done = beside(t, h, second)
	for o = (outcome{err: errors.New("none")}); o.err != nil; {
		select {
		case turn <- nil:
		case o = <-done:
			if o.err != nil || o.result != (logbuf.Result{Duplicate: 15}) {
				t.Fatalf("WriteAfter of what is stored: %+v; want 15 duplicates", o)
			}
		case <-time.After(time.Minute):
			t.Fatal("WriteAfter of what is stored hangs")
		}
	}
}
