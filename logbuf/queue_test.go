package logbuf_test

import (
	"context"
	"errors"
	"fmt"
	"math"
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

var errDown = errors.New("database is down")

// entries returns n entries with ids and request ids from first on.
func entries(first, n int) []logbuf.Entry {
	list := make([]logbuf.Entry, n)
	for i := range list {
		list[i] = logbuf.Entry{RequestID: fmt.Sprint(first + i), Model: "m", InputTokens: int64(i)}
	}
	return list
}

// requestIDs returns the request ids of entries(first, n).
func requestIDs(first, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint(first + i)
	}
	return ids
}

func TestQueueWritesFullBatchesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := newLedger()
		q := mustOpen(t, sink, &logbuf.Options{BatchSize: 10})
		defer mustClose(t, q)
		start := time.Now()
		mustAppend(t, q, entries(0, 25)...)
		synctest.Wait()
		if diff := cmp.Diff([]int{10, 10}, sink.sizes()); diff != "" {
			t.Errorf("batches at once (-want +got):\n%s", diff)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if diff := cmp.Diff([]int{10, 10, 5}, sink.sizes()); diff != "" {
			t.Errorf("batches after %v (-want +got):\n%s", time.Since(start), diff)
		}
		if diff := cmp.Diff(requestIDs(0, 25), sink.requests()); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		s := q.Stats()
		checkIdentity(t, s)
		if s.Accepted != 25 || s.Stored != 25 || s.Batches != 3 || s.Durability != logbuf.Memory {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestQueueWaitsNoLongerThanTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := newLedger()
		q := mustOpen(t, sink, &logbuf.Options{FlushInterval: time.Minute})
		defer mustClose(t, q)
		start := time.Now()
		for range 3 { // later entries do not put the first one off
			mustAppend(t, q, entries(0, 1)...)
			time.Sleep(25 * time.Second)
		}
		synctest.Wait()
		if diff := cmp.Diff([]int{3}, sink.sizes()); diff != "" {
			t.Errorf("batches after %v (-want +got):\n%s", time.Since(start), diff)
		}
	})
}

func TestQueueTakesAllOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		sink := newLedger()
		sink.before = func(context.Context, logbuf.Batch) error { <-release; return nil }
		q := mustOpen(t, sink, &logbuf.Options{Capacity: 10, BatchSize: 4})
		mustAppend(t, q, entries(0, 9)...) // the sink has the first 4, and they count
		if err := q.Ready(); err != nil {
			t.Errorf("Ready with room for one: %v", err)
		}
		if err := q.Append(t.Context(), entries(9, 2)...); !errors.Is(err, logbuf.ErrFull) {
			t.Errorf("Append of 2 with room for one: %v, want ErrFull", err)
		}
		if err := q.Append(t.Context(), entries(9, 11)...); !errors.Is(err, logbuf.ErrTooMany) ||
			errors.Is(err, logbuf.ErrFull) {
			t.Errorf("Append of 11 to a queue of 10: %v, want ErrTooMany", err)
		}
		mustAppend(t, q, entries(9, 1)...)
		if err := q.Ready(); !errors.Is(err, logbuf.ErrFull) {
			t.Errorf("Ready when full: %v, want ErrFull", err)
		}
		close(release)
		if err := q.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, q, entries(10, 10)...)
		mustClose(t, q)
		if diff := cmp.Diff(requestIDs(0, 20), sink.requests()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		s := q.Stats()
		checkIdentity(t, s)
		if s.Refused != 2 {
			t.Errorf("refused %d, want 2", s.Refused)
		}
	})
}

// What is refused for want of room is not read the next time, although there is
// room for something smaller, but neither does one large body keep all others out.
func TestReadyKnowsWhatFoundNoRoom(t *testing.T) {
	spooled := disk("spool")
	spooled.SpoolMax = 1 << 20
	for name, o := range map[string]*logbuf.Options{
		"memory": {Capacity: 10_000},
		"disk":   spooled.On(newMemFS()),
	} {
		t.Run(name, func(t *testing.T) {
			sink := newLedger()
			var down atomic.Bool
			down.Store(true)
			sink.before = func(context.Context, logbuf.Batch) error {
				if down.Load() {
					return errDown
				}
				return nil
			}
			q := mustOpen(t, sink, o)
			defer mustClose(t, q)
			refused := func(n int) bool {
				err := q.Append(t.Context(), entries(0, n)...)
				if err != nil && !errors.Is(err, logbuf.ErrFull) {
					t.Fatal(err)
				}
				return err != nil
			}
			for !refused(3000) {
			}
			if err := q.Ready(); err != nil {
				t.Errorf("Ready when only a large body found no room: %v", err)
			}
			for !refused(70) {
			}
			if err := q.Ready(); !errors.Is(err, logbuf.ErrFull) {
				t.Errorf("Ready for as many as found no room: %v, want ErrFull", err)
			}
			if refused(1) {
				t.Error("there was room for one")
			}
			down.Store(false)
			if err := q.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := q.Ready(); err != nil {
				t.Errorf("Ready with room again: %v", err)
			}
		})
	}
}

func TestQueueBoundsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := newLedger()
		sink.before = func(context.Context, logbuf.Batch) error { return errDown }
		q := mustOpen(t, sink, &logbuf.Options{Capacity: 1000})
		long := logbuf.Entry{Error: strings.Repeat("x", 8<<10)}
		n := 0
		for ; n < 1000; n++ {
			if err := q.Append(t.Context(), long); err != nil {
				if !errors.Is(err, logbuf.ErrFull) {
					t.Fatal(err)
				}
				break
			}
		}
		if n < 100 || n > 200 {
			t.Errorf("%d entries of 8 KiB were taken; 1000 KiB hold 125", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = q.Close(ctx) // the entries are lost, which is not what is tested
	})
}

func TestQueueRetriesTheSameBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries [][]logbuf.Entry
		var times []time.Time
		sink := newLedger()
		sink.before = func(_ context.Context, b logbuf.Batch) error {
			tries = append(tries, append([]logbuf.Entry(nil), b.Entries...))
			times = append(times, time.Now())
			switch {
			case len(tries) <= 5:
				return errDown
			case len(tries) == 6:
				return fmt.Errorf("column is missing: %w", logbuf.ErrPaused)
			}
			return nil
		}
		q := mustOpen(t, sink, &logbuf.Options{BatchSize: 2, MinBackoff: time.Second, MaxBackoff: 4 * time.Second})
		defer mustClose(t, q)
		mustAppend(t, q, entries(0, 3)...)
		time.Sleep(time.Millisecond)
		if s := q.Stats(); s.Retries != 1 || s.Paused || s.LastError != errDown.Error() || s.Pending != 3 {
			t.Errorf("after one failure: %+v", s)
		}
		for q.Stats().Retries < 6 {
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if s := q.Stats(); !s.Paused {
			t.Errorf("not paused: %+v", s)
		}
		if err := q.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := q.Stats(); s.Paused || s.LastError != "" || s.Retries != 6 || s.Stored != 3 || s.Dead != 0 {
			t.Errorf("after the repair: %+v", s)
		}
		for i := 1; i < 7; i++ {
			if diff := cmp.Diff(tries[0], tries[i]); diff != "" {
				t.Errorf("try %d is another batch:\n%s", i, diff)
			}
			low := min(time.Second<<(i-1), 4*time.Second) / 2
			if pause := times[i].Sub(times[i-1]); pause < low || pause > 2*low {
				t.Errorf("pause %d is %v, want %v to %v", i, pause, low, 2*low)
			}
		}
	})
}

func TestQueueCountsWhatTheSinkSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		results := []logbuf.Result{{Stored: 1, Duplicate: 2, Dead: 3}, {Stored: 5}, {Stored: 7, Dead: -1}, {Duplicate: 6}}
		sink := sinkFunc(func(context.Context, logbuf.Batch) (logbuf.Result, error) {
			r := results[0]
			results = results[1:]
			return r, nil
		})
		q := mustOpen(t, sink, &logbuf.Options{BatchSize: 6})
		mustAppend(t, q, entries(0, 12)...)
		mustClose(t, q) // the second batch is written until its result adds up
		s := q.Stats()
		checkIdentity(t, s)
		if s.Stored != 1 || s.Duplicate != 8 || s.Dead != 3 || s.Retries != 2 {
			t.Errorf("stats %+v", s)
		}
	})
}

type sinkFunc func(context.Context, logbuf.Batch) (logbuf.Result, error)

func (f sinkFunc) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) { return f(ctx, b) }

func TestQueueGivesUpOnAWriteThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		sink := newLedger()
		sink.before = func(ctx context.Context, _ logbuf.Batch) error {
			if tries++; tries == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		q := mustOpen(t, sink, nil)
		mustAppend(t, q, entries(0, 1)...)
		time.Sleep(2 * time.Minute)
		if s := q.Stats(); s.Stored != 1 || s.Retries != 1 {
			t.Errorf("after two minutes: %+v", s)
		}
		mustClose(t, q)
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		var mu sync.Mutex
		sink := newLedger()
		sink.before = func(context.Context, logbuf.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			if down {
				return errDown
			}
			return nil
		}
		q := mustOpen(t, sink, &logbuf.Options{FlushInterval: time.Hour, MaxBackoff: time.Second})
		if err := q.Flush(t.Context()); err != nil {
			t.Errorf("Flush of nothing: %v", err)
		}
		mustAppend(t, q, entries(0, 3)...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := q.Flush(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "3 entries") ||
			!strings.Contains(err.Error(), errDown.Error()) {
			t.Errorf("Flush with the sink down: %v", err)
		}
		mu.Lock()
		down = false
		mu.Unlock()
		start := time.Now()
		if err := q.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("Flush took %v after the sink came back", took)
		}
		mustClose(t, q)
		if err := q.Flush(t.Context()); err != nil {
			t.Errorf("Flush after Close, with nothing left: %v", err)
		}
	})
}

func TestCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := newLedger()
		tries := 0
		sink.before = func(context.Context, logbuf.Batch) error {
			if tries++; tries%2 == 1 {
				return errDown
			}
			return nil
		}
		q := mustOpen(t, sink, &logbuf.Options{BatchSize: 10, FlushInterval: time.Hour})
		mustAppend(t, q, entries(0, 35)...)
		mustClose(t, q)
		if diff := cmp.Diff(requestIDs(0, 35), sink.requests()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		if err := q.Append(t.Context(), entries(0, 1)...); !errors.Is(err, logbuf.ErrClosed) {
			t.Errorf("Append after Close: %v", err)
		}
		if err := q.Ready(); !errors.Is(err, logbuf.ErrClosed) {
			t.Errorf("Ready after Close: %v", err)
		}
		if err := q.Close(t.Context()); err != nil {
			t.Errorf("second Close: %v", err)
		}
		checkIdentity(t, q.Stats())
	})
}

func TestCloseSaysHowManyAreLost(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprintf("deaf=%v", deaf), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink := newLedger()
				sink.before = func(ctx context.Context, b logbuf.Batch) error {
					if b.Entries[0].RequestID == "0" {
						return nil
					}
					if deaf {
						time.Sleep(10 * time.Second)
					} else {
						<-ctx.Done()
					}
					return errDown
				}
				q := mustOpen(t, sink, &logbuf.Options{BatchSize: 10})
				mustAppend(t, q, entries(0, 35)...)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				start := time.Now()
				err := q.Close(ctx)
				var unstored *logbuf.UnstoredError
				if !errors.As(err, &unstored) || unstored.Entries != 25 || unstored.Kept ||
					!errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Close: %v, want 25 entries lost", err)
				}
				if took := time.Since(start); took > 6*time.Second {
					t.Errorf("Close took %v, its context 5 s", took)
				}
				time.Sleep(10 * time.Second)
				checkIdentity(t, q.Stats())
			})
		})
	}
}

func TestAppendHeedsTheContext(t *testing.T) {
	q := mustOpen(t, newLedger(), nil)
	defer mustClose(t, q)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Append(ctx, entries(0, 1)...); !errors.Is(err, context.Canceled) {
		t.Errorf("Append: %v, want context.Canceled", err)
	}
	if s := q.Stats(); s.Accepted != 0 {
		t.Errorf("accepted %d", s.Accepted)
	}
}

func TestAppendCompletesEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := newLedger()
		q := mustOpen(t, sink, nil)
		id := uuid.MustParse(v7(now))
		given := []logbuf.Entry{
			{RequestID: "bare"},
			{RequestID: "v7", ID: id},
			{RequestID: "dirty", Model: "a\x00b\xff", UserAgent: strings.Repeat("x", 2000), Namespace: "ns", Time: now},
		}
		before := append([]logbuf.Entry(nil), given...)
		mustAppend(t, q, given...)
		if diff := cmp.Diff(before, given); diff != "" {
			t.Errorf("the caller's entries changed:\n%s", diff)
		}
		start := time.Now().UTC()
		mustClose(t, q)
		got := make(map[string]logbuf.Entry)
		for _, e := range sink.stored {
			got[e.RequestID] = e
		}
		if e := got["bare"]; e.ID.Version() != 7 || !e.Time.Equal(start) || e.Namespace != "default" {
			t.Errorf("bare: %+v", e)
		}
		if e := got["v7"]; e.ID != id || !e.Time.Equal(now.Truncate(time.Millisecond)) {
			t.Errorf("v7: %+v", e)
		}
		if e := got["dirty"]; e.Model != "a\uFFFDb\uFFFD" || len(e.UserAgent) != 1024 || e.Namespace != "ns" ||
			!e.Time.Equal(now.Truncate(time.Microsecond)) {
			t.Errorf("dirty: %+v", e)
		}
		if s := q.Stats(); s.Cut != 1 || s.Replaced != 1 {
			t.Errorf("cut %d, replaced %d; want 1 and 1", s.Cut, s.Replaced)
		}
	})
}

func TestOpenRefusesNonsense(t *testing.T) {
	if _, err := logbuf.Open(nil, nil); err == nil {
		t.Error("Open without a sink works")
	}
	if _, err := logbuf.Open(newLedger(), &logbuf.Options{BatchSize: -1}); err == nil ||
		!strings.Contains(err.Error(), "BatchSize") {
		t.Errorf("Open with a negative BatchSize: %v", err)
	}
}

// anyEntry draws an entry that a queue hands on unchanged.
func anyEntry() *rapid.Generator[logbuf.Entry] {
	return rapid.Custom(func(t *rapid.T) logbuf.Entry {
		text := func(name string) string { return rapid.StringMatching(`[a-zé/0-9 ]{0,40}`).Draw(t, name) }
		upTo := func(name string, most int64) int64 { return rapid.Int64Range(0, most).Draw(t, name) }
		num := func(name string) int64 { return upTo(name, math.MaxInt64) }
		tokens := func(name string) int64 { return upTo(name, logbuf.MaxTokens) }
		millis := func(name string) int64 { return upTo(name, logbuf.MaxMillis) }
		e := logbuf.Entry{
			ID: uuid.New(), Time: time.UnixMicro(rapid.Int64Range(1, 4e15).Draw(t, "time")).UTC(),
			RequestID: text("request"), Balancer: text("balancer"), KeyID: num("key"), ProviderID: num("provider"),
			Namespace: "n" + text("namespace"), Model: text("model"), UpstreamModel: text("upstream"), Group: text("group"),
			Endpoint: text("endpoint"), Status: int(upTo("status", logbuf.MaxStatus)), Error: text("error"),
			Attempts: int(upTo("attempts", logbuf.MaxAttempts)),
			Stream:   rapid.Bool().Draw(t, "stream"), LatencyMS: millis("latency"), TTFTMS: millis("ttft"),
			InputTokens:     tokens("input"),
			CacheReadTokens: tokens("read"), CacheWriteTokens: tokens("write"), OutputTokens: tokens("output"),
			PricedRevision: num("priced"), ClientIP: text("ip"), UserAgent: text("agent"), User: text("user"),
			Revision: text("revision"), Project: rapid.SampledFrom([]string{"", "a", "acme/search"}).Draw(t, "project"),
		}
		if rapid.Bool().Draw(t, "costed") {
			e.CostNanoUSD = new(upTo("cost", logbuf.MaxCost))
		}
		for range rapid.IntRange(0, 8).Draw(t, "tags") {
			if e.Tags == nil {
				e.Tags = make(map[string]string)
			}
			e.Tags["n"+text("tag")] = text("value")
		}
		for range rapid.IntRange(0, 8).Draw(t, "failures") {
			e.Failures = append(e.Failures, logbuf.Failure{
				ProviderID: num("failed provider"), UpstreamModel: text("failed model"), LatencyMS: millis("failed latency"),
				RetryAfterMS: millis("wait"), Status: int(upTo("failed status", logbuf.MaxStatus)), Class: rapid.SampledFrom(
					logbuf.FailureClasses()).
					Draw(t, "class"),
			})
		}
		return e
	})
}

// What goes in comes out: every entry, once, unchanged and in order, whatever the
// sizes of arrays and batches, however often the sink fails or loses its answer.
func TestQueueHandsOnEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		arrays := rapid.SliceOfN(rapid.SliceOfN(anyEntry(), 0, 20), 0, 30).Draw(t, "arrays")
		failing := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 20).Draw(t, "failing")
		var tries atomic.Int64
		sink := newLedger()
		fail := func(when int) error {
			if failing[int(tries.Load())%len(failing)] == when {
				return errDown
			}
			return nil
		}
		sink.before = func(context.Context, logbuf.Batch) error {
			tries.Add(1)
			return fail(1)
		}
		sink.after = func(logbuf.Batch) error { return fail(2) }
		failing = append(failing, 0) // or it would never end
		var to logbuf.Sink = sink
		if rapid.Bool().Draw(t, "two at once") {
			to = beside{sink}
		}
		q, err := logbuf.Open(to, &logbuf.Options{
			BatchSize:  rapid.IntRange(1, 30).Draw(t, "batch"),
			MinBackoff: time.Microsecond, MaxBackoff: time.Microsecond, FlushInterval: time.Microsecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, a := range arrays {
			if err := q.Append(context.Background(), a...); err != nil {
				t.Fatal(err)
			}
			for _, e := range a {
				want = append(want, e.RequestID)
			}
		}
		if err := q.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, sink.requests()); diff != "" {
			t.Fatalf("order (-want +got):\n%s", diff)
		}
		for _, a := range arrays {
			for _, e := range a {
				if diff := cmp.Diff(e, sink.stored[e.ID]); diff != "" {
					t.Fatalf("an entry changed (-want +got):\n%s", diff)
				}
			}
		}
		if s := q.Stats(); s.Accepted != s.Stored+s.Duplicate || s.Pending != 0 {
			t.Fatalf("stats %+v", s)
		}
	})
}

// Nothing that was acknowledged is lost when Append and Close race.
func TestAppendRacesClose(t *testing.T) {
	for range 50 {
		sink := newLedger()
		q := mustOpen(t, sink, &logbuf.Options{BatchSize: 7})
		var taken [4]int
		var wg sync.WaitGroup
		for i := range taken {
			wg.Go(func() {
				for {
					err := q.Append(context.Background(), entries(0, 3)...)
					if errors.Is(err, logbuf.ErrClosed) {
						return
					}
					if err == nil {
						taken[i] += 3
					}
				}
			})
		}
		time.Sleep(time.Millisecond)
		mustClose(t, q)
		wg.Wait()
		want := taken[0] + taken[1] + taken[2] + taken[3]
		if got := len(sink.requests()); got != want {
			t.Fatalf("stored %d of %d acknowledged entries", got, want)
		}
		checkIdentity(t, q.Stats())
	}
}
