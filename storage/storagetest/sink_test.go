package storagetest

import (
	"context"
	"errors"
	"flag"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// brokenSinks are all ways in which the suite's own tests break a sink.
var brokenSinks = []struct {
	name   string // what is wrong
	caught string // by which test
	spoil  func(*fakeSink)
}{
	{"Write forgets a field", "every field", storeEdited(func(e *logbuf.Entry) { e.TTFTMS = 0 })},
	{"Write takes an unknown cost for nothing", "every field", storeEdited(func(e *logbuf.Entry) {
		if e.CostNanoUSD == nil {
			e.CostNanoUSD = new(int64(0))
		}
	})},
	{"Write trims texts", "every field", storeEdited(func(e *logbuf.Entry) { e.Error = strings.TrimSpace(e.Error) })},
	{"Write takes the first thousand", "results", storeShort},
	{"Write counts duplicates as stored", "duplicates",
		resultEdited(func(r *logbuf.Result) { r.Stored, r.Duplicate = r.Stored+r.Duplicate, 0 })},
	{"Write knows entries by their id alone", "identity", storeByID},
	{"Write tells nanoseconds apart", "identity",
		storeEdited(func(e *logbuf.Entry) { e.ID[1] ^= byte(e.Time.Nanosecond() % 1000) })},
	{"Write drops empty batches", "empty batches", storeNotEmpty},
	{"Write knows no checkpoints", "checkpoints", storeAnywhere},
	{"Checkpoint goes back", "checkpoints are told", checkpointLast},
	{"Checkpoint mixes segments", "checkpoints are told", checkpointShared},
	{"Write wants the batch at the checkpoint", "replays that overlap", storeInOrder},
	{"Write takes what is ahead of the checkpoint for stored", "checkpoints that are behind", storeBehind},
	{"Write hides that something is lost", "checkpoints that are behind", storeFromThere},
	{"Logs share memory with Write", "aliasing", logsShared},
	{"Write looks first and stores later", "writers at once", storeRacy},
	{"Write looks at the checkpoint first and stores later", "the same batch at once", storeRacy},
	{"WriteAfter stores at once", "beside the batch before", besideAtOnce},
	{"WriteAfter asks when it has stored", "beside a batch that fails", besideLate},
	{"WriteAfter keeps others out until its turn", "beside a batch of the same", besideLocked},
	{"Write outlives its context", "context", storeOutlives},
	{"closing does nothing", "closed", func(s *fakeSink) { s.close = func() {} }},
	{"what was stored ends with the sink", "opened again", func(s *fakeSink) {
		s.reopen = func() *fakeSink { return newFakeSink() }
	}},
	{"one refused entry fails its batch", "poison", deadFails},
	{"one refused entry takes its batch along", "poison", deadAll},
	{"dead letters are only counted", "poison", deadForgotten},
	{"dead letters come once for each try", "poison among duplicates", deadTwice},
	{"Write cuts the model at 255 bytes", "text at its limits", storeEdited(func(e *logbuf.Entry) {
		e.Model = e.Model[:min(255, len(e.Model))]
	})},

	{"Logs order equal times by their age", "newest first", logsTies},
	{"Logs filter pages, not entries", "pages", logsFilteredLate},
	{"Logs promise a page that is empty", "pages", logsAnother},
	{"Logs count offsets", "pages while others write", logsOffset},
	{"Logs ignore the status", "filters", logsEdited(func(q *logbuf.LogQuery) { q.Status = 0 })},
	{"Logs ignore tags", "more filters", logsEdited(func(q *logbuf.LogQuery) { q.Tags = nil })},
	{"Logs compare without case", "filters", logsEdited(func(q *logbuf.LogQuery) { q.Model = strings.ToLower(q.Model) })},
	{"Logs include until", "since and until",
		logsEdited(func(q *logbuf.LogQuery) { q.Until = q.Until.Add(time.Microsecond) })},
	{"Logs exclude since", "since and until",
		logsEdited(func(q *logbuf.LogQuery) { q.Since = q.Since.Add(time.Microsecond) })},
	{"Logs look back without end", "the last 24 hours", logsEdited(func(q *logbuf.LogQuery) {
		if q.Since.IsZero() {
			q.Since = time.Unix(0, 0)
		}
	})},
	{"Logs end now", "the last 24 hours", logsEdited(func(q *logbuf.LogQuery) {
		if q.Until.IsZero() {
			q.Until = time.Now()
		}
	})},
	{"Logs cut the limit", "bad queries", logsEdited(func(q *logbuf.LogQuery) { q.Limit = min(q.Limit, 1000) })},

	{"Usage sorts without case", "usage by every grouping", usageEdited(func(u []logbuf.Usage) {
		slices.SortStableFunc(u, func(a, b logbuf.Usage) int {
			if c := a.Start.Compare(b.Start); c != 0 {
				return c
			}
			return strings.Compare(strings.ToLower(a.Namespace), strings.ToLower(b.Namespace))
		})
	})},
	{"Usage has local days", "usage by hour and day", usageLocal},
	{"Usage is in a local time", "usage by hour and day", usageEdited(func(u []logbuf.Usage) {
		for i := range u {
			u[i].Start = u[i].Start.In(time.FixedZone("", 3600))
		}
	})},
	{"Usage counts free requests as unpriced", "usage counts", storeEdited(func(e *logbuf.Entry) {
		if e.CostNanoUSD != nil && *e.CostNanoUSD == 0 {
			e.CostNanoUSD = nil
		}
	})},
	{"Usage adds up floats", "usage is exact", usageEdited(func(u []logbuf.Usage) {
		for i := range u {
			u[i].CostNanoUSD = int64(math.Nextafter(float64(u[i].CostNanoUSD), 0))
		}
	})},
	{"Usage has no negative sums", "usage beyond the largest integer", usageEdited(func(u []logbuf.Usage) {
		for i := range u {
			u[i].CostNanoUSD = max(0, u[i].CostNanoUSD)
		}
	})},
	{"Usage loses a row at each page", "usage in pages", usageSkips},
	{"Usage has days of UTC in every zone", "usage in every time zone", usageInUTC},
	{"Usage is of all keys", "usage of keys", usageOfAll},
	{"Usage is of no time", "usage at the ends of time", usageOfNoTime},
	{"Usage counts what was sent", "usage counts once", usageOfSent},
	{"Logs goes on with any filter", "bad queries", logsAnyCursor},
	{"Usage goes on with any question", "bad usage queries", usageAnyCursor},
	{"KeyUsage knows one time for all", "what keys have used", keyUsageSinceFirst},
	{"KeyUsage knows the last quarter", "what keys have used", keyUsageEdited(func(_ int64, u *logbuf.KeyUsage) {
		u.LastUsed = u.LastUsed.Truncate(logbuf.Quarter)
	})},
	{"KeyUsage goes back with what comes late", "what keys have used", keyUsageOfLateEntries},
	{"Usage takes any interval", "bad usage queries", usageLenient},

	{"Tasks have a new name each time", "tasks", tasksAnonymous},
	{"Maintain loses usage with its quarters", "usage by closed days", pruneTooMuch},
	{"Reprice only looks", "prices anew", repriceNothing},
	{"Folds knows every fold", "what is spent, and gaps", foldsEdited(foldsWithoutGaps)},
	{"Folds leaves a row out", "what is spent", foldsEdited(foldsWithoutLast)},
	{"Folds takes nothing back", "what is spent", foldsEdited(foldsOnlyPositive)},
	{"Spent has no end", "what is spent", spentEdited(spentForEver)},
	{"Spent forgets a project", "what is spent", spentEdited(spentOfOneProject)},
	{"Maintain keeps all folds", "what is spent, and gaps", func(s *fakeSink) { s.maintain = maintainNothing }},
	{"Maintain counts usage again", "maintenance changes no answer", maintainTwice},
	{"Maintain without a time forgets all", "maintenance changes no answer", maintainZero},
	{"Maintain keeps all", "maintenance forgets whole days", func(s *fakeSink) { s.maintain = maintainNothing }},
	{"Maintain forgets a day that goes on", "maintenance forgets whole days", maintainEarly},
	{"usage is what entries are left", "maintenance forgets whole days", usageOfLeft},
	{"Maintain takes usage out before it puts it back", "maintenance while others write", maintainGap},

	{"KeepHealth replaces notes of other writers", "notes of health", healthShared},
	{"KeepHealth forgets nothing", "notes of health", healthKept},
	{"HealthNotes return all", "notes of health", healthOfAll},
	{"KeepHealth keeps one writer at a time", "notes of health by many", healthBusy},

	{"Write trusts whoever comes in order", "model of a sink", storeTrusting},
}

// TestSinkSuiteCatches runs single tests of the suite against sinks that are
// broken in one way each: the test must fail. Every test of the suite has a sink
// that it catches.
func TestSinkSuiteCatches(t *testing.T) {
	quickRapid(t)
	caught := make(map[string]bool)
	for _, c := range brokenSinks {
		caught[c.caught] = true
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newFakeSink()
			c.spoil(s)
			if !failsSinkTest(t, c.caught, s.harness()) {
				t.Errorf("the test %q does not notice", c.caught)
			}
		})
	}
	for _, c := range sinkCases {
		if !caught[c.name] {
			t.Errorf("no broken sink shows that the test %q can fail", c.name)
		}
	}
}

// TestSinkSuitePasses: what the broken sinks are made of is sound.
func TestSinkSuitePasses(t *testing.T) {
	RunSink(t, func(testing.TB) SinkHarness { return newFakeSink().harness() })
}

// failsSinkTest runs one test of the suite, and reports whether it fails.
func failsSinkTest(t *testing.T, name string, h SinkHarness) bool {
	t.Helper()
	i := slices.IndexFunc(sinkCases, func(c sinkCase) bool { return c.name == name })
	if i < 0 {
		t.Fatalf("the suite has no test %q", name)
	}
	h = h.withDefaults(t)
	if missing := sinkCases[i].needs(h); missing != "" {
		t.Fatalf("the test %q does not run: the engine %s", name, missing)
	}
	return failsAlone(t, func(tb testing.TB) { sinkCases[i].test(tb, h) })
}

// quickRapid keeps rapid from searching for the smallest example of a failure
// that is wanted, and from writing it down.
func quickRapid(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{"rapid.shrinktime": "0s", "rapid.nofailfile": "true"} {
		before := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := flag.Set(name, before); err != nil {
				t.Error(err)
			}
		})
	}
}

// poison is the model of entries that a fakeSink refuses.
const poison = "poison"

var errFakeClosed = errors.New("the sink is closed")

// fakeSink is a sink in memory that has everything the suite can test: it
// refuses some entries, and can be closed. Its functions are there to be broken.
type fakeSink struct {
	write      func(context.Context, logbuf.Batch) (logbuf.Result, error)
	beside     func(context.Context, logbuf.Batch, func(context.Context) error) (logbuf.Result, error)
	checkpoint func(context.Context, uuid.UUID) (int64, error)
	logs       func(context.Context, logbuf.LogQuery) (logbuf.LogPage, error)
	usage      func(context.Context, logbuf.UsageQuery) (logbuf.UsagePage, error)
	keyUsage   func(context.Context, map[int64][]time.Time) (map[int64]logbuf.KeyUsage, error)
	maintain   func(context.Context, logbuf.MaintenanceOptions) error
	tasks      func() []logbuf.Task
	reprice    func(context.Context, logbuf.RepriceBatch) (logbuf.RepriceResult, error)
	folds      func(context.Context, logbuf.FoldMark) (logbuf.FoldPage, error)
	spent      func(context.Context, logbuf.SpentQuery) (logbuf.SpentSums, error)
	keep       func(context.Context, time.Time, ...logbuf.HealthNote) error
	notes      func(context.Context, time.Time) ([]logbuf.HealthNote, error)
	close      func()
	reopen     func() *fakeSink

	mu     sync.Mutex
	dead   map[uuid.UUID]int
	closed bool
}

func newFakeSink() *fakeSink {
	memory := memstore.NewSink(nil)
	s := &fakeSink{
		checkpoint: memory.Checkpoint, logs: memory.Logs, usage: memory.Usage, keyUsage: memory.KeyUsage,
		maintain: func(ctx context.Context, o logbuf.MaintenanceOptions) error {
			if err := logbuf.MaintenanceError(logbuf.Maintain(ctx, memory, o)); err != nil {
				return err
			}
			return ctx.Err()
		},
		reprice: memory.Reprice, folds: memory.Folds, spent: memory.Spent,
		keep: memory.KeepHealth, notes: memory.HealthNotes,
		dead: make(map[uuid.UUID]int),
	}
	s.reopen = func() *fakeSink { return s }
	s.tasks = func() []logbuf.Task {
		return []logbuf.Task{{Name: "all",
			Run: func(ctx context.Context, o logbuf.MaintenanceOptions) (r logbuf.TaskReport, err error) {
				return r, s.maintain(ctx, o)
			}}}
	}
	s.write = func(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) { return s.bury(ctx, memory, b) }
	s.beside = func(ctx context.Context, b logbuf.Batch, prior func(context.Context) error) (logbuf.Result, error) {
		if err := prior(ctx); err != nil {
			return logbuf.Result{}, err
		}
		return s.write(ctx, b)
	}
	s.close = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.closed = true
	}
	return s
}

// bury writes a batch without what is poisoned.
func (s *fakeSink) bury(ctx context.Context, memory *memstore.Sink, b logbuf.Batch) (logbuf.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, err := memory.Checkpoint(ctx, b.Segment); err != nil || b.Segment != uuid.Nil && at >= b.To {
		return logbuf.Result{Duplicate: len(b.Entries)}, err
	}
	sound := b
	sound.Entries = nil
	for _, e := range b.Entries {
		if e.Model == poison {
			s.dead[e.ID] = 1
		} else {
			sound.Entries = append(sound.Entries, e)
		}
	}
	r, err := memory.Write(ctx, sound)
	r.Dead = len(b.Entries) - len(sound.Entries)
	return r, err
}

func (s *fakeSink) harness() SinkHarness {
	return SinkHarness{
		Sink:   s,
		Days:   60,
		Poison: func(_ testing.TB, e *logbuf.Entry) { e.Model = poison },
		Dead: func(_ testing.TB, id uuid.UUID) int {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.dead[id]
		},
		Close: func(testing.TB) { s.close() },
		Reopen: func(testing.TB) (logbuf.Sink, logbuf.Archive) {
			again := s.reopen()
			return again, again
		},
	}
}

func (s *fakeSink) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errFakeClosed
	}
	return nil
}

func (s *fakeSink) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
	if err := s.open(); err != nil {
		return logbuf.Result{}, err
	}
	return s.write(ctx, b)
}

func (s *fakeSink) WriteAfter(ctx context.Context, b logbuf.Batch,
	prior func(context.Context) error) (logbuf.Result, error) {
	if err := s.open(); err != nil {
		return logbuf.Result{}, err
	}
	return s.beside(ctx, b, prior)
}

func (s *fakeSink) Logs(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
	if err := s.open(); err != nil {
		return logbuf.LogPage{}, err
	}
	return s.logs(ctx, q)
}

func (s *fakeSink) Usage(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
	if err := s.open(); err != nil {
		return logbuf.UsagePage{}, err
	}
	return s.usage(ctx, q)
}

func (s *fakeSink) KeyUsage(ctx context.Context, since map[int64][]time.Time) (map[int64]logbuf.KeyUsage, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	return s.keyUsage(ctx, since)
}

func (s *fakeSink) Checkpoint(ctx context.Context, segment uuid.UUID) (int64, error) {
	return s.checkpoint(ctx, segment)
}

func (s *fakeSink) Tasks() []logbuf.Task { return s.tasks() }

func (s *fakeSink) Reprice(ctx context.Context, b logbuf.RepriceBatch) (logbuf.RepriceResult, error) {
	return s.reprice(ctx, b)
}

func (s *fakeSink) KeepHealth(ctx context.Context, before time.Time, notes ...logbuf.HealthNote) error {
	return s.keep(ctx, before, notes...)
}

func (s *fakeSink) HealthNotes(ctx context.Context, since time.Time) ([]logbuf.HealthNote, error) {
	return s.notes(ctx, since)
}
