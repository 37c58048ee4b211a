package ezapi_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api"
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
