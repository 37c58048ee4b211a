package ezapi_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/costs"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// One clock is honoured everywhere: entries, usage and keys go by Config.Clock, and the queue
// goes on although that stands still.
func TestPlaneHasOneClock(t *testing.T) {
	fixed := time.Date(2020, 5, 17, 10, 20, 0, 0, time.UTC)
	plane := newPlane(t, ezapi.Config{Clock: func() time.Time { return fixed }})
	key, err := plane.Keys.Create(t.Context(), ezapi.Key{Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.AppendLogs(t.Context(), ezapi.LogEntry{KeyID: key.ID, Model: "m"}); err != nil {
		t.Fatal(err)
	}
	if err := plane.Logs().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	page, err := plane.Archive().Logs(t.Context(), logbuf.LogQuery{})
	if err != nil || len(page.Entries) != 1 || !page.Entries[0].Time.Equal(key.CreatedAt) {
		t.Errorf("entries %+v, %v; want one of %s", page.Entries, err, key.CreatedAt)
	}
	usage, err := plane.Archive().Usage(t.Context(), logbuf.UsageQuery{})
	if err != nil || len(usage.Rows) != 1 || usage.Rows[0].Requests != 1 {
		t.Errorf("usage %+v, %v; want one request", usage.Rows, err)
	}
	if !plane.LogTime().Equal(fixed) {
		t.Errorf("the log time is %s", plane.LogTime())
	}
}

// What comes from Go has to lie as near to the present as what comes over HTTP.
func TestAppendLogsJudgesTimes(t *testing.T) {
	now := time.Date(2026, 5, 17, 10, 20, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	long := newPlane(t, ezapi.Config{Clock: clock, LogSink: memstore.NewSink(nil)})
	short := newPlane(t, ezapi.Config{Clock: clock, LogSink: memstore.NewSink(nil), LogRetention: 3 * 24 * time.Hour})
	const day = 24 * time.Hour
	v7 := func(at time.Time) (id uuid.UUID) {
		for i, ms := 5, at.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
			id[i] = byte(ms)
		}
		id[6], id[8] = 0x70, 0x80
		return id
	}
	for _, c := range []struct {
		plane *ezapi.Plane
		entry ezapi.LogEntry
		field string
	}{
		{long, ezapi.LogEntry{}, ""},
		{long, ezapi.LogEntry{ID: uuid.New()}, ""},
		{long, ezapi.LogEntry{Time: now.Add(-7 * day)}, ""},
		{long, ezapi.LogEntry{Time: now.Add(-7*day - time.Hour)}, "[1].ts"},
		{short, ezapi.LogEntry{Time: now.Add(-2 * day)}, ""},
		{short, ezapi.LogEntry{Time: now.Add(-2*day - time.Hour)}, "[1].ts"},
		{long, ezapi.LogEntry{Time: now.Add(time.Hour)}, ""},
		{long, ezapi.LogEntry{Time: now.Add(time.Hour + time.Millisecond)}, "[1].ts"},
		{long, ezapi.LogEntry{ID: v7(now.Add(-time.Hour))}, ""},
		{long, ezapi.LogEntry{ID: v7(now.Add(-8 * day))}, "[1].id"},
		{long, ezapi.LogEntry{ID: v7(now.Add(2 * time.Hour))}, "[1].id"},
	} {
		before := c.plane.Logs().Stats().Accepted
		err := c.plane.AppendLogs(t.Context(), ezapi.LogEntry{}, c.entry)
		field, _ := errors.AsType[*logbuf.FieldError](err)
		if c.field == "" && err != nil || c.field != "" && (field == nil || field.Field != c.field) {
			t.Errorf("%s, %s: %v; want %q", c.entry.ID, c.entry.Time, err, c.field)
		}
		if n := c.plane.Logs().Stats().Accepted - before; (n == 0) != (c.field != "") {
			t.Errorf("%s, %s: %d entries were taken", c.entry.ID, c.entry.Time, n)
		}
	}
}

// A logger that is given once hears of everything, the queue included.
func TestPlaneHasOneLogger(t *testing.T) {
	var text lines
	sink := &watchedSink{Sink: memstore.NewSink(nil)}
	sink.writesFail.Store(true)
	plane, err := ezapi.New(ezapi.Config{LogSink: sink, Logger: slog.New(slog.NewTextHandler(&text, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.AppendLogs(t.Context(), ezapi.LogEntry{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the queue complains", func() bool { return strings.Contains(text.String(), "to store a batch") })
	sink.writesFail.Store(false)
	if err := plane.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// distant is a sink whose store has a clock of its own.
type distant struct {
	*watchedSink
	ahead time.Duration
	asked atomic.Int64
}

func (d *distant) Clock(context.Context) (time.Time, error) {
	d.asked.Add(1)
	return time.Now().Add(d.ahead), nil
}

// Access logs go by the clock of their store: a server whose clock is wrong judges entries
// rightly, and forgets nothing while it differs by more than five minutes.
func TestLogsGoByTheClockOfTheStore(t *testing.T) {
	for name, c := range map[string]struct {
		ahead   time.Duration
		judged  time.Duration // ahead of this process
		forgets bool
	}{
		"the same":       {0, 0, true},
		"as good as it":  {200 * time.Millisecond, 0, true},
		"a little ahead": {4 * time.Minute, 4 * time.Minute, true},
		"far ahead":      {2 * time.Hour, 2 * time.Hour, false},
		"far behind":     {-100 * 24 * time.Hour, -100 * 24 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink := &distant{watchedSink: &watchedSink{Sink: memstore.NewSink(nil)}, ahead: c.ahead}
				plane := runPlane(t, ezapi.Config{LogSink: sink})
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := time.Until(plane.LogTime()); got != c.judged {
					t.Errorf("entries are judged by a clock that is %s ahead; want %s", got, c.judged)
				}
				_, before := sink.seen()
				if len(before) == 0 {
					t.Fatal("maintenance did not run")
				}
				for _, b := range before {
					if b.IsZero() == c.forgets {
						t.Errorf("forgets what is before %s", b)
					}
				}
				if err := plane.ClockReady(); (err == nil) != c.forgets {
					t.Errorf("ClockReady: %v", err)
				}
				if err := plane.AppendLogs(t.Context(), ezapi.LogEntry{RequestID: "r"}); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// A clock that is set right is believed at once, one that is set wrong is not, and neither waits for
// maintenance, a round of which may take long.
func TestLogTimeOutlivesASetClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		ahead.Store(int64(2 * time.Hour))
		clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		sink := &distant{watchedSink: &watchedSink{Sink: memstore.NewSink(nil)}}
		plane := runPlane(t, ezapi.Config{LogSink: sink, Clock: clock,
			Catalog: memstore.New(nil), Keeper: catalog.NewRandomKeyRing()}) // with clocks of their own
		time.Sleep(time.Second)
		for _, wrong := range []time.Duration{2 * time.Hour, 0, -3 * time.Hour, 10 * time.Minute, 0} {
			ahead.Store(int64(wrong))
			if off := time.Until(plane.LogTime()); off != 0 {
				t.Errorf("with a clock %s ahead, entries are judged by a time %s ahead", wrong, off)
			}
			if err := plane.ClockReady(); (err != nil) != (wrong != 0) {
				t.Errorf("with a clock %s ahead: %v", wrong, err)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		sink := &distant{watchedSink: &watchedSink{Sink: memstore.NewSink(nil)}}
		runPlane(t, ezapi.Config{LogSink: sink})
		time.Sleep(time.Second)
		asked := sink.asked.Load()
		time.Sleep(55 * time.Second)
		if n := sink.asked.Load() - asked; n < 5 {
			t.Errorf("in 55 s between two rounds of maintenance the store's clock was read %d times; want 5", n)
		}
	})
}

// A run that prices anew, and is not told where to end, ends at the store's time: what was stored just now is priced.
func TestRepriceEndsByTheClockOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &distant{watchedSink: &watchedSink{Sink: memstore.NewSink(nil)}, ahead: 2 * time.Hour}
		plane := newPlane(t, ezapi.Config{LogSink: sink})
		now := time.Now().Add(sink.ahead)
		entry := ezapi.LogEntry{ID: uuid.New(), Time: now.Add(-time.Minute), Model: "m"}
		if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: []ezapi.LogEntry{entry}}); err != nil {
			t.Fatal(err)
		}
		report, err := plane.Reprice(t.Context(), costs.RepriceRequest{Query: logbuf.LogQuery{Since: now.Add(-time.Hour)}})
		if err != nil || report.Read != 1 {
			t.Errorf("%d entries were looked at (%v), want the one", report.Read, err)
		}
	})
}

// Where the sink has no clock of its own, nothing is forgotten while ours is far from the catalog's.
func TestASinkWithoutAClockForgetsNothingByAWrongOne(t *testing.T) {
	for ahead, want := range map[time.Duration]int{0: 0, 100 * 24 * time.Hour: 1} {
		synctest.Test(t, func(t *testing.T) {
			sink := memstore.NewSink(nil)
			keys, err := catalog.NewKeyRing(catalog.NamedKey{ID: "a"})
			if err != nil {
				t.Fatal(err)
			}
			runPlane(t, ezapi.Config{Catalog: memstore.New(nil), Keeper: keys, LogSink: sink,
				Clock: func() time.Time { return time.Now().Add(ahead) }})
			old := ezapi.LogEntry{ID: uuid.New(), Time: time.Now().AddDate(0, 0, -200)}
			if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: []ezapi.LogEntry{old}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			page, err := sink.Logs(t.Context(), logbuf.LogQuery{Since: time.Unix(0, 0)})
			if err != nil || len(page.Entries) != want {
				t.Errorf("%s ahead: %d entries, %v; want %d", ahead, len(page.Entries), err, want)
			}
		})
	}
}
