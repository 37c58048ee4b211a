package storagetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// laxSink is of the class ByIdentity: it appends whatever comes, as a column store does, counts all of it
// as stored, and tells entries apart only when it is asked.
type laxSink struct {
	mu   sync.Mutex
	rows []logbuf.Entry
	dead map[uuid.UUID]int
	seen *memstore.Sink // each of the rows once; nil after a change

	twice bool // broken: what came twice is answered twice
	short bool // broken: counts do not add up
}

func (*laxSink) Class() logbuf.Class { return logbuf.ByIdentity }

func (s *laxSink) Write(ctx context.Context, b logbuf.Batch) (r logbuf.Result, err error) {
	if err := ctx.Err(); err != nil {
		return r, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = nil
	for _, e := range b.Entries {
		if e.Model == poison {
			s.dead[e.ID] = 1
			r.Dead++
			continue
		}
		s.rows = append(s.rows, e.Clone())
		r.Stored++
	}
	if s.short {
		r.Stored--
	}
	return r, nil
}

// distinct returns a sink that has each entry once.
func (s *laxSink) distinct(ctx context.Context) (*memstore.Sink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen != nil {
		return s.seen, ctx.Err()
	}
	m := memstore.NewSink(nil)
	rows := s.rows
	if s.twice {
		rows = append([]logbuf.Entry{}, rows...)
		for i := range rows {
			rows[i].ID[0] = byte(i)
		}
	}
	if _, err := m.Write(ctx, logbuf.Batch{Entries: rows}); err != nil {
		return nil, err
	}
	s.seen = m
	return m, nil
}

func (s *laxSink) Logs(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
	m, err := s.distinct(ctx)
	if err != nil {
		return logbuf.LogPage{}, err
	}
	return m.Logs(ctx, q)
}

func (s *laxSink) Usage(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
	m, err := s.distinct(ctx)
	if err != nil {
		return logbuf.UsagePage{}, err
	}
	return m.Usage(ctx, q)
}

func (s *laxSink) KeyUsage(ctx context.Context, since map[int64][]time.Time) (map[int64]logbuf.KeyUsage, error) {
	m, err := s.distinct(ctx)
	if err != nil {
		return nil, err
	}
	return m.KeyUsage(ctx, since)
}

func (s *laxSink) Tasks() []logbuf.Task {
	return []logbuf.Task{{Name: "drop", Run: func(ctx context.Context,
		o logbuf.MaintenanceOptions) (r logbuf.TaskReport, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		var kept []logbuf.Entry
		for _, e := range s.rows {
			if o.Before.IsZero() || !e.Time.Before(o.Before.UTC().Truncate(24*time.Hour)) {
				kept = append(kept, e)
			}
		}
		s.rows, s.seen = kept, nil
		return r, ctx.Err()
	}}}
}

func (s *laxSink) harness() SinkHarness {
	return SinkHarness{
		Sink: s, Days: 10,
		Poison: func(_ testing.TB, e *logbuf.Entry) { e.Model = poison },
		Dead: func(_ testing.TB, id uuid.UUID) int {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.dead[id]
		},
	}
}

func newLaxSink() *laxSink { return &laxSink{dead: make(map[uuid.UUID]int)} }

// The suite has a profile for sinks without transactions.
func TestSinkSuitePassesByIdentity(t *testing.T) {
	RunSink(t, func(testing.TB) SinkHarness { return newLaxSink().harness() })
}

// What even such a sink must keep is noticed when it does not.
func TestSinkSuiteCatchesByIdentity(t *testing.T) {
	for _, c := range []struct {
		name, caught string
		spoil        func(*laxSink)
	}{
		{"Logs answer what came twice", "duplicates", func(s *laxSink) { s.twice = true }},
		{"Usage counts what came twice", "usage counts once", func(s *laxSink) { s.twice = true }},
		{"counts do not add up", "every field", func(s *laxSink) { s.short = true }},
	} {
		s := newLaxSink()
		c.spoil(s)
		if !failsSinkTest(t, c.caught, s.harness()) {
			t.Errorf("%s: the test %q does not notice", c.name, c.caught)
		}
	}
}
