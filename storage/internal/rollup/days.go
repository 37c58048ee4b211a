package rollup

import (
	"fmt"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// A Span is a time from, inclusive, until, exclusive.
type Span struct{ From, Until time.Time }

// State says what is kept of usage: all by the quarter of an hour, but what is from before
// QuartersFrom; and all from before ClosedUntil by the day, too. The zero state has quarters only.
type State struct {
	Zone         *time.Location // whose days are kept
	ClosedUntil  time.Time
	QuartersFrom time.Time
}

// OtherZone warns of a zone that was asked for and is not the one whose days are kept; it is empty when it is.
func (s *State) OtherZone(asked *time.Location) string {
	if s.Zone.String() == asked.String() {
		return ""
	}
	return fmt.Sprintf("usage is kept by the days of %s, which the first start has fixed; the zone %s that was asked for "+
		"does not count", s.Zone, asked)
}

// DayStart returns the beginning of the day that a time lies in.
func (s *State) DayStart(t time.Time) time.Time {
	return logbuf.Day.Start(t, s.Zone).Truncate(logbuf.Quarter)
}

// NextDay returns the beginning of the day after the one that a time lies in.
func (s *State) NextDay(t time.Time) time.Time {
	return logbuf.Day.Next(t, s.Zone).Truncate(logbuf.Quarter)
}

// Days returns the beginnings of the days from the one that a time lies in until another time.
func (s *State) Days(from, until time.Time) (days []time.Time) {
	for day := s.DayStart(from); day.Before(until); day = s.NextDay(day) {
		days = append(days, day)
	}
	return days
}

// Closable returns the day after the last that is closed: once it ended an hour ago, it can be. The
// first day to be closed is the one of a given time.
func (s *State) Closable(first, now time.Time) (day Span, ok bool) {
	day.From = s.ClosedUntil
	if day.From.IsZero() {
		day.From = s.DayStart(first)
	}
	day.Until = s.NextDay(day.From)
	return day, !now.Before(day.Until.Add(time.Hour))
}

// shortestDay is shorter than any day: one with a change of the clock may lack some hours.
const shortestDay = 20 * time.Hour

// Plan says where to look for the usage of some of a range's intervals: as whole days where those
// are closed, and in quarters for the rest. It returns a [logbuf.FieldError] when quarters are
// asked for that are not kept any more.
func (s *State) Plan(r *logbuf.UsageRange, first, end int) (days, quarters []Span, err error) {
	for i := first; i < end; i++ {
		a, b := r.Starts[i], r.Until
		if i+1 < len(r.Starts) {
			b = r.Starts[i+1]
		}
		lo, hi := a, a
		if b.Sub(a) > shortestDay && s.ClosedUntil.Sub(a) > shortestDay {
			lo, hi = s.within(a, b)
		}
		for _, q := range []Span{{a, lo}, {hi, b}} {
			if q.From.Before(q.Until) && q.From.Before(s.QuartersFrom) {
				return nil, nil, s.dropped(r, q)
			}
		}
		quarters = appendSpan(quarters, Span{a, lo})
		days = appendSpan(days, Span{lo, hi})
		quarters = appendSpan(quarters, Span{hi, b})
	}
	return days, quarters, nil
}

// within returns the closed days that lie wholly within a span; a twice when there is none.
func (s *State) within(a, b time.Time) (lo, hi time.Time) {
	lo = s.DayStart(a)
	if lo.Before(a) {
		lo = s.NextDay(a)
	}
	if s.ClosedUntil.Before(b) {
		b = s.ClosedUntil
	}
	if hi = s.DayStart(b); !lo.Before(hi) {
		return a, a
	}
	return lo, hi
}

// dropped names the bounds that can be answered.
func (s *State) dropped(r *logbuf.UsageRange, q Span) error {
	field, bound := "since", q.From
	if q.Until.Equal(r.Until) && !q.From.Equal(r.Since()) {
		field, bound = "until", q.Until
	}
	before, after := s.DayStart(bound), s.NextDay(bound)
	if before.Equal(bound) { // the intervals between the bounds are shorter than days, or of another zone
		return &logbuf.FieldError{Field: field, Message: fmt.Sprintf("must not be before %s with this interval and zone: "+
			"what was used before is kept only by the day, in the zone %s", s.QuartersFrom.UTC().Format(time.RFC3339), s.Zone)}
	}
	return &logbuf.FieldError{Field: field, Message: fmt.Sprintf("must begin a day of the zone %s, or not be before %s: "+
		"what was used before is kept only by the day; the nearest are %s and %s", s.Zone,
		s.QuartersFrom.UTC().Format(time.RFC3339), before.UTC().Format(time.RFC3339), after.UTC().Format(time.RFC3339))}
}

// appendSpan appends a span unless it is empty, and joins it with the last when they meet.
func appendSpan(spans []Span, s Span) []Span {
	if !s.From.Before(s.Until) {
		return spans
	}
	if n := len(spans); n > 0 && spans[n-1].Until.Equal(s.From) {
		spans[n-1].Until = s.Until
		return spans
	}
	return append(spans, s)
}

// A KeySpan says where to look for what one key has used since a time: in quarters from Since until
// DaysFrom and after DaysUntil, and between in days.
type KeySpan struct {
	KeyID                      int64
	Nth                        int // of the times that were asked for
	Since, DaysFrom, DaysUntil time.Time
}

// PlanKeys says where to look for what keys have used since their times. What is no more kept by
// the quarter counts from the beginning of its day.
func (s *State) PlanKeys(since map[int64][]time.Time) []KeySpan {
	spans := make([]KeySpan, 0, len(since))
	for id, times := range since {
		if len(times) == 0 { // when it was last used is asked for all the same
			end := endOfTime()
			spans = append(spans, KeySpan{KeyID: id, Since: end, DaysFrom: end, DaysUntil: end})
		}
		for n, from := range times {
			spans = append(spans, s.planKey(id, n, from))
		}
	}
	return spans
}

// endOfTime returns a time that is after all entries.
func endOfTime() time.Time { return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }

// NoteSpent notes what a key has used in a span, and when it was last used.
func NoteSpent(used map[int64]logbuf.KeyUsage, since map[int64][]time.Time, id int64, nth int, lastUsed time.Time,
	spent logbuf.Spent) {
	u, known := used[id]
	if !known {
		u = logbuf.KeyUsage{LastUsed: lastUsed.UTC().Truncate(time.Minute), Spent: make([]logbuf.Spent, len(since[id]))}
	}
	if nth < len(u.Spent) {
		u.Spent[nth] = spent
	}
	used[id] = u
}

func (s *State) planKey(id int64, nth int, from time.Time) KeySpan {
	if from.IsZero() || from.Unix() < 0 {
		from = time.Unix(0, 0)
	}
	from = from.UTC().Truncate(logbuf.Quarter)
	k := KeySpan{KeyID: id, Nth: nth, Since: from, DaysFrom: from, DaysUntil: from}
	if s.ClosedUntil.IsZero() || !from.Before(s.ClosedUntil) {
		return k
	}
	day := s.DayStart(from)
	if day.Before(from) && from.Before(s.QuartersFrom) {
		from = day
		k.Since = day
	}
	if day.Before(from) {
		day = s.NextDay(from)
	}
	if day.Before(s.ClosedUntil) {
		k.DaysFrom, k.DaysUntil = day, s.ClosedUntil
	}
	return k
}
