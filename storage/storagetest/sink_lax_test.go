package storagetest

import (
	"context"
	"slices"
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
	gone []logbuf.Entry // those that are forgotten, whose usage stays
	dead map[uuid.UUID]int
	seen map[bool]*memstore.Sink // see distinct; empty after a change

	twice bool // broken: what came twice is answered twice
	erase bool // broken: what comes late takes the place of what was forgotten of its hour
	short bool // broken: counts do not add up
}

func (*laxSink) Class() logbuf.Class { return logbuf.ByIdentity }

func (s *laxSink) Write(ctx context.Context, b logbuf.Batch) (r logbuf.Result, err error) {
	if err := ctx.Err(); err != nil {
		return r, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.seen)
	for _, e := range b.Entries {
		if e.Model == poison {
			s.dead[e.ID] = 1
			r.Dead++
			continue
		}
		s.rows = append(s.rows, e.Clone())
		s.gone = slices.DeleteFunc(s.gone, func(g logbuf.Entry) bool {
			return s.erase && g.Time.Truncate(time.Hour).Equal(e.Time.Truncate(time.Hour))
		})
		r.Stored++
	}
	if s.short {
		r.Stored--
	}
	return r, nil
}

// distinct returns a sink that has each entry once, those that are forgotten too where usage is asked for.
func (s *laxSink) distinct(ctx context.Context, usage bool) (*memstore.Sink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.seen[usage]; m != nil {
		return m, ctx.Err()
	}
	m := memstore.NewSink(nil)
	rows := slices.Clone(s.rows)
	if usage {
		rows = append(rows, s.gone...)
	}
	for i := range rows {
		if s.twice {
			rows[i].ID[0] = byte(i)
		}
	}
	if _, err := m.Write(ctx, logbuf.Batch{Entries: rows}); err != nil {
		return nil, err
	}
	s.seen[usage] = m
	return m, nil
}

func (s *laxSink) Logs(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
	m, err := s.distinct(ctx, false)
	if err != nil {
		return logbuf.LogPage{}, err
	}
	return m.Logs(ctx, q)
}

func (s *laxSink) Usage(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
	m, err := s.distinct(ctx, true)
	if err != nil {
		return logbuf.UsagePage{}, err
	}
	return m.Usage(ctx, q)
}

func (s *laxSink) KeyUsage(ctx context.Context, since map[int64][]time.Time) (map[int64]logbuf.KeyUsage, error) {
	m, err := s.distinct(ctx, true)
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
				continue
			}
			s.gone = append(s.gone, e)
		}
		s.rows = kept
		clear(s.seen)
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

func newLaxSink() *laxSink {
	return &laxSink{dead: map[uuid.UUID]int{}, seen: map[bool]*memstore.Sink{}}
}

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
		{"what comes late erases what was used", "maintenance forgets whole days", func(s *laxSink) { s.erase = true }},
		{"counts do not add up", "every field", func(s *laxSink) { s.short = true }},
	} {
		s := newLaxSink()
		c.spoil(s)
		if !failsSinkTest(t, c.caught, s.harness()) {
			t.Errorf("%s: the test %q does not notice", c.name, c.caught)
		}
	}
}
