package rollup

import (
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// A Ledger keeps usage in memory, as engines keep it in tables: by the quarter of an hour, and by
// the day once a day is closed.
type Ledger struct {
	State
	quarters, days Table
	first          time.Time // of the earliest usage
}

// Merge adds usage.
func (l *Ledger) Merge(t *Table) {
	for i := range t.Rows {
		row := &t.Rows[i]
		at := time.UnixMicro(row.Starts).UTC()
		if l.first.IsZero() || at.Before(l.first) {
			l.first = at
		}
		if !at.Before(l.QuartersFrom) {
			l.quarters.At(&row.Key).Merge(&row.Counts)
		}
		if at.Before(l.ClosedUntil) {
			l.addDay(row)
		}
	}
}

func (l *Ledger) addDay(row *Row) {
	key := row.Key
	key.Starts = l.DayStart(time.UnixMicro(row.Starts)).UnixMicro()
	l.days.At(&key).Merge(&row.Counts)
}

// Close closes the days that ended an hour ago, and returns how many.
func (l *Ledger) Close(now time.Time) (closed int64) {
	first := now
	if !l.first.IsZero() {
		first = l.first
	}
	for {
		day, ok := l.Closable(first, now)
		if !ok {
			return closed
		}
		for i := range l.quarters.Rows {
			row := &l.quarters.Rows[i]
			if at := time.UnixMicro(row.Starts); !at.Before(day.From) && at.Before(day.Until) {
				l.addDay(row)
			}
		}
		l.ClosedUntil = day.Until
		closed++
	}
}

// Prune forgets the quarters of closed days from before a time, and returns how many rows.
func (l *Ledger) Prune(before time.Time) (pruned int64) {
	if l.ClosedUntil.Before(before) {
		before = l.ClosedUntil
	}
	if l.ClosedUntil.IsZero() || !l.QuartersFrom.Before(before) {
		return 0
	}
	l.QuartersFrom = l.DayStart(before)
	var kept Table
	for i := range l.quarters.Rows {
		row := &l.quarters.Rows[i]
		if time.UnixMicro(row.Starts).Before(l.QuartersFrom) {
			pruned++
			continue
		}
		*kept.At(&row.Key) = row.Counts
	}
	l.quarters = kept
	return pruned
}

// Answer adds up the rows that a range selects, and makes the page of them.
func (l *Ledger) Answer(r *logbuf.UsageRange) (logbuf.UsagePage, error) {
	days, quarters, err := l.Plan(r, 0, len(r.Starts))
	if err != nil {
		return logbuf.UsagePage{}, err
	}
	return Answer(r, append(l.days.in(days), l.quarters.in(quarters)...)), nil
}

// in returns the rows of some spans of time.
func (t *Table) in(spans []Span) (rows []Row) {
	for i := range t.Rows {
		at := time.UnixMicro(t.Rows[i].Starts)
		for _, s := range spans {
			if !at.Before(s.From) && at.Before(s.Until) {
				rows = append(rows, t.Rows[i])
				break
			}
		}
	}
	return rows
}

// AnswerKeys says what keys have used, each since its times.
func (l *Ledger) AnswerKeys(since map[int64][]time.Time) map[int64]logbuf.KeyUsage {
	used := make(map[int64]logbuf.KeyUsage)
	last := make(map[int64]int64)
	spans := l.PlanKeys(since)
	sums, unpriced := make([]Wide, len(spans)), make([]int64, len(spans))
	byKey := make(map[int64][]int, len(since))
	for i, s := range spans {
		byKey[s.KeyID] = append(byKey[s.KeyID], i)
	}
	count := func(t *Table, within func(KeySpan, time.Time) bool) {
		for i := range t.Rows {
			row := &t.Rows[i]
			at := time.UnixMicro(row.Starts).UTC()
			for _, n := range byKey[row.KeyID] {
				last[row.KeyID] = max(last[row.KeyID], row.Last)
				if within(spans[n], at) {
					sums[n].AddWide(row.CostNanoUSD)
					unpriced[n] += row.Unpriced
				}
			}
		}
	}
	count(&l.days, func(s KeySpan, at time.Time) bool { return !at.Before(s.DaysFrom) && at.Before(s.DaysUntil) })
	count(&l.quarters, func(s KeySpan, at time.Time) bool {
		return !at.Before(s.Since) && (at.Before(s.DaysFrom) || !at.Before(s.DaysUntil))
	})
	for i, s := range spans {
		if micros, ok := last[s.KeyID]; ok {
			spent := logbuf.Spent{CostNanoUSD: sums[i].Int64(), Unpriced: unpriced[i]}
			NoteSpent(used, since, s.KeyID, s.Nth, time.UnixMicro(micros), spent)
		}
	}
	return used
}
