package ezapi_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/clocks"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// watchedSink is a sink in memory that notes how it is maintained, and can fail.
type watchedSink struct {
	*memstore.Sink
	writesFail   atomic.Bool
	maintainFail atomic.Bool

	mu     sync.Mutex
	calls  []time.Time // when
	before []time.Time // what each call was to forget
}

func (s *watchedSink) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
	if s.writesFail.Load() {
		return logbuf.Result{}, errors.New("down")
	}
	return s.Sink.Write(ctx, b)
}

func (s *watchedSink) Tasks() []logbuf.Task {
	return []logbuf.Task{{Name: "all",
		Run: func(ctx context.Context, o logbuf.MaintenanceOptions) (r logbuf.TaskReport, err error) {
			s.mu.Lock()
			s.calls, s.before = append(s.calls, time.Now()), append(s.before, o.Before)
			s.mu.Unlock()
			if s.maintainFail.Load() {
				return r, errors.New("down")
			}
			return r, logbuf.MaintenanceError(logbuf.Maintain(ctx, s.Sink, o))
		}}}
}

// seen returns the runs of maintenance since the last time.
func (s *watchedSink) seen() (calls, before []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls, before = s.calls, s.before
	s.calls, s.before = nil, nil
	return calls, before
}

// travel is a clock that may be ahead.
type travel struct{ ahead atomic.Int64 }

func (c *travel) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// runPlane runs a plane until the test ends.
func runPlane(t *testing.T, config ezapi.Config) *ezapi.Plane {
	t.Helper()
	plane := newPlane(t, config)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- plane.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return plane
}

func appendLogs(t *testing.T, plane *ezapi.Plane, times ...time.Time) {
	t.Helper()
	for _, at := range times {
		if err := plane.AppendLogs(t.Context(), ezapi.LogEntry{ID: uuid.New(), Time: at, Namespace: "default",
			KeyID: 1}); err != nil {
			t.Fatal(err)
		}
	}
}

// wantKept compares how many entries are kept, and how many were ever used.
func wantKept(t *testing.T, plane *ezapi.Plane, kept, used int) {
	t.Helper()
	ever := time.Unix(0, 0)
	page, err := plane.Archive().Logs(t.Context(), logbuf.LogQuery{Since: ever, Limit: 1000})
	if err != nil || len(page.Entries) != kept {
		t.Errorf("%d entries are kept, %v; want %d", len(page.Entries), err, kept)
	}
	usage, err := plane.Archive().Usage(t.Context(), logbuf.UsageQuery{Since: ever})
	var requests int64
	for _, u := range usage.Rows {
		requests += u.Requests
	}
	if err != nil || requests != int64(used) {
		t.Errorf("usage counts %d requests, %v; want %d", requests, err, used)
	}
}

const day = 24 * time.Hour

func TestLogsAreForgotten(t *testing.T) {
	for _, c := range []struct {
		name      string
		retention time.Duration
		kept      int // of entries of 1, 3, 89 and 92 days ago
	}{
		{"after 90 days by default", 0, 3},
		{"after two days", 48 * time.Hour, 1},
		{"never", -1, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink := &watchedSink{Sink: memstore.NewSink(nil)}
				var stored []logbuf.Entry
				for _, days := range []int{1, 3, 89, 92} {
					stored = append(stored, logbuf.Entry{ID: uuid.New(), Time: time.Now().AddDate(0, 0, -days)})
				}
				if _, err := sink.Sink.Write(t.Context(), logbuf.Batch{Entries: stored}); err != nil {
					t.Fatal(err)
				}
				plane := runPlane(t, ezapi.Config{LogSink: sink, LogRetention: c.retention})
				synctest.Wait() // no time passes: it happens on start
				wantKept(t, plane, c.kept, 4)
			})
		})
	}
}

func TestLogsAreMaintainedRegularly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var clock travel
		sink := &watchedSink{Sink: memstore.NewSink(nil)}
		sink.maintainFail.Store(true) // and whether it works or not
		plane := runPlane(t, ezapi.Config{LogSink: sink, LogRetention: 2 * day, Clock: clock.now})
		time.Sleep(10*time.Minute + time.Second)
		calls, _ := sink.seen()
		if len(calls) != 11 {
			t.Errorf("maintained %d times in ten minutes; want on start and once a minute", len(calls))
		}
		sink.maintainFail.Store(false)
		appendLogs(t, plane, time.Now())
		clock.ahead.Store(int64(2 * day))
		time.Sleep(2 * time.Minute)
		wantKept(t, plane, 1, 1) // its day has not ended by then
		clock.ahead.Store(int64(3 * day))
		time.Sleep(2 * time.Minute)
		wantKept(t, plane, 0, 1)
	})
}

// What waits to be stored holds back what is forgotten.
func TestPendingLogsHoldRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var clock travel
		sink := &watchedSink{Sink: memstore.NewSink(nil)}
		plane := runPlane(t, ezapi.Config{
			LogSink: sink, LogRetention: 3 * day, Clock: clock.now, Logs: logbuf.Options{Dir: t.TempDir()},
		})
		sink.writesFail.Store(true)
		defer sink.writesFail.Store(false)
		arrived := time.Now()
		oldest := arrived.Add(-2 * day) // the oldest that the API takes
		appendLogs(t, plane, oldest, arrived)
		sink.seen()
		for days := range 5 {
			clock.ahead.Store(int64(days) * int64(day))
			time.Sleep(2 * time.Minute)
		}
		_, before := sink.seen()
		if len(before) < 9 {
			t.Errorf("maintained %d times in ten minutes; want it to go on", len(before))
		}
		for _, b := range before {
			if b.IsZero() || b.After(oldest) {
				t.Fatalf("entries before %s were forgotten, while one of %s was pending", b, oldest)
			}
		}
		sink.writesFail.Store(false)
		time.Sleep(2 * time.Minute)
		_, before = sink.seen()
		if last, want := before[len(before)-1], clock.now().Add(-3*day-time.Minute); last.Before(want) {
			t.Errorf("entries before %s are forgotten after all was stored; want about %s", last, want)
		}
		wantKept(t, plane, 0, 2)
	})
}

// A sink that needs no maintenance is none the worse.
func TestLogsWithoutMaintenance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := memstore.NewSink(nil)
		runPlane(t, ezapi.Config{LogSink: struct{ logbuf.Sink }{sink}})
		old := logbuf.Entry{ID: uuid.New(), Time: time.Now().AddDate(0, 0, -200)}
		if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: []logbuf.Entry{old}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		page, err := sink.Logs(t.Context(), logbuf.LogQuery{Since: time.Unix(0, 0)})
		if err != nil || len(page.Entries) != 1 {
			t.Errorf("%d entries, %v; want the one", len(page.Entries), err)
		}
	})
}

// timedSink is a sink with a clock of its own, which notes what maintenance may forget.
type timedSink struct {
	*memstore.Sink
	mu    sync.Mutex
	wrong error
	seen  []logbuf.MaintenanceOptions
}

func (s *timedSink) Clock(context.Context) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now(), s.wrong
}

func (s *timedSink) Tasks() []logbuf.Task {
	return []logbuf.Task{{Name: "note", Run: func(ctx context.Context,
		o logbuf.MaintenanceOptions) (r logbuf.TaskReport, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, o)
		return r, logbuf.MaintenanceError(logbuf.Maintain(ctx, s.Sink, o))
	}}}
}

func (s *timedSink) last() (logbuf.MaintenanceOptions, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) == 0 {
		return logbuf.MaintenanceOptions{}, 0
	}
	return s.seen[len(s.seen)-1], len(s.seen)
}

// prunedCatalog notes what is pruned.
type prunedCatalog struct {
	*memstore.Store
	mu     sync.Mutex
	before []time.Time
	thin   []time.Time // before which changes of machines are forgotten
}

func (c *prunedCatalog) PruneChanges(ctx context.Context, before time.Time) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = append(c.before, before)
	return c.Store.PruneChanges(ctx, before)
}

func (c *prunedCatalog) ThinChanges(ctx context.Context, before time.Time) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.thin = append(c.thin, before)
	return c.Store.ThinChanges(ctx, before)
}

// Changes of machines go after a week, whatever the retention of the others; where all is kept, so are they.
func TestThinning(t *testing.T) {
	for _, keep := range []time.Duration{0, -1} {
		synctest.Test(t, func(t *testing.T) {
			store := &prunedCatalog{Store: memstore.New(nil)}
			runPlane(t, ezapi.Config{Catalog: store, Keeper: catalog.NewRandomKeyRing(), ChangesRetention: keep})
			time.Sleep(time.Hour)
			store.mu.Lock()
			defer store.mu.Unlock()
			if keep < 0 {
				if len(store.thin)+len(store.before) > 0 {
					t.Errorf("pruned up to %v and %v", store.before, store.thin)
				}
				return
			}
			if len(store.thin) < 5 {
				t.Fatalf("thinned %d times in an hour", len(store.thin))
			}
			if age := time.Since(store.thin[len(store.thin)-1]); age < 7*day || age > 7*day+time.Hour {
				t.Errorf("thinned what is older than %v", age)
			}
		})
	}
}

// A server whose clock is wrong deletes nothing, neither entries nor the change feed, and says so;
// everything else goes by the stores' clocks. When the clock is right again, it goes on.
func TestWrongClockDeletesNothing(t *testing.T) {
	for _, off := range []time.Duration{100 * day, -2 * time.Hour, 6 * time.Minute} {
		t.Run(off.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var clock travel
				clock.ahead.Store(int64(off))
				sink := &timedSink{Sink: memstore.NewSink(nil)}
				store := &prunedCatalog{Store: memstore.New(nil)}
				var stored []logbuf.Entry
				for _, days := range []int{1, 50, 95} {
					stored = append(stored, logbuf.Entry{ID: uuid.New(), Time: time.Now().AddDate(0, 0, -days)})
				}
				if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: stored}); err != nil {
					t.Fatal(err)
				}
				plane := runPlane(t, ezapi.Config{
					Catalog: store, Keeper: catalog.NewRandomKeyRing(), LogSink: sink, Clock: clock.now,
				})
				time.Sleep(30 * time.Minute)
				wantKept(t, plane, 3, 3)
				o, runs := sink.last()
				if runs < 30 || !o.Before.IsZero() || !o.UsageBefore.IsZero() || time.Since(o.Now).Abs() > 2*time.Minute {
					t.Errorf("%d runs of maintenance, the last with %+v; want it to forget nothing, by the sink's clock", runs, o)
				}
				if len(store.before)+len(store.thin) > 0 {
					t.Errorf("the change feed was pruned up to %v, thinned up to %v", store.before, store.thin)
				}
				if err := plane.ClockReady(); !errors.Is(err, clocks.ErrWrong) {
					t.Errorf("ClockReady: %v; want ErrWrong", err)
				}
				if !slices.ContainsFunc(plane.Stats().Clocks,
					func(c clocks.Clock) bool { return c.Store == "logs" && c.Skew == off && c.Wrong() }) {
					t.Errorf("clocks %+v; want the skew of %v", plane.Stats().Clocks, off)
				}

				clock.ahead.Store(0)
				time.Sleep(2 * time.Minute)
				wantKept(t, plane, 2, 3)
				if err := plane.ClockReady(); err != nil {
					t.Errorf("ClockReady with the right clock: %v", err)
				}
				if len(store.before) == 0 {
					t.Error("the change feed is not pruned")
				}
			})
		})
	}
}

// Without the sink's time nothing is too old.
func TestUnknownClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &timedSink{Sink: memstore.NewSink(nil), wrong: errors.New("down")}
		runPlane(t, ezapi.Config{LogSink: sink})
		time.Sleep(5 * time.Minute)
		if _, runs := sink.last(); runs != 0 {
			t.Errorf("%d runs of maintenance; want none", runs)
		}
	})
}

// A clock that is far from the catalog's keeps what is old, and holds up nothing else: ended tokens go.
func TestAWrongClockHoldsUpNoOtherTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plane := runPlane(t, ezapi.Config{
			Catalog: memstore.New(nil), Keeper: catalog.NewRandomKeyRing(),
			Clock: func() time.Time { return time.Now().Add(-time.Hour) },
		})
		key, err := plane.Keys.Create(t.Context(), catalog.Key{Name: "k"})
		if err == nil {
			_, err = plane.Keys.Rotate(t.Context(), key.ID, time.Minute, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		if err := plane.ClockReady(); !errors.Is(err, clocks.ErrWrong) {
			t.Errorf("ClockReady: %v; want ErrWrong", err)
		}
		if key, err = plane.Keys.Get(t.Context(), key.ID); err != nil || len(key.Tokens) != 1 {
			t.Errorf("the key has %d tokens (%v), want the one that is valid", len(key.Tokens), err)
		}
	})
}

// A process with a wrong clock, which has not read the store's yet, takes what is right by it or says
// that it cannot tell. It refuses nothing for ever.
func TestTimesWithoutAClockToJudgeThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &timedSink{Sink: memstore.NewSink(nil), wrong: errors.New("down")}
		behind := func() time.Time { return time.Now().Add(-2 * time.Hour) }
		plane := newPlane(t, ezapi.Config{LogSink: sink, Clock: behind})
		now, past := ezapi.LogEntry{Time: time.Now()}, ezapi.LogEntry{Time: time.Now().Add(-3 * time.Hour)}
		wrong, undated := ezapi.LogEntry{Time: time.Now().Add(-9 * 24 * time.Hour)}, ezapi.LogEntry{Status: 200}
		for range 2 {
			if err := plane.AppendLogs(t.Context(), past); err != nil {
				t.Errorf("what is right by its own clock: %v", err)
			}
			for _, e := range []ezapi.LogEntry{now, wrong, undated} {
				if err := plane.AppendLogs(t.Context(), e); !errors.Is(err, clocks.ErrUnread) {
					t.Errorf("an entry of %s: %v; want ErrUnread", e.Time, err)
				}
			}
		}
		sink.mu.Lock()
		sink.wrong = nil
		sink.mu.Unlock()
		if err := plane.AppendLogs(t.Context(), now); !errors.Is(err, clocks.ErrUnread) {
			t.Errorf("it was asked a moment ago, and is asked again: %v", err)
		}
		time.Sleep(time.Second)
		if err := plane.AppendLogs(t.Context(), now); err != nil {
			t.Errorf("once the store says its time: %v", err)
		}
		if err := plane.AppendLogs(t.Context(), wrong); !errors.Is(err, logbuf.ErrInvalid) {
			t.Errorf("what is wrong by that: %v; want ErrInvalid", err)
		}
	})
}
