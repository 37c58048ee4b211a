package logbuf

import (
	"time"
	_ "time/tzdata" // zones must not depend on the machine
)

// Interval is the length of time one usage row covers.
type Interval string

// The intervals of usage.
const (
	Hour  Interval = "hour"
	Day   Interval = "day"
	Week  Interval = "week" // from Monday
	Month Interval = "month"
)

// Intervals lists all intervals.
func Intervals() []Interval { return []Interval{Hour, Day, Week, Month} }

// Quarter is the length of time by which usage is kept. Bounds of usage lie on quarters.
const Quarter = 15 * time.Minute

// Start returns the beginning of the interval that a time lies in, in UTC. A day, a week or a month
// begins at the first instant of its first local date. That need not be midnight: in some zones, on
// some days, midnight does not exist or comes twice. Hours begin at every full hour of the local
// clock, and where the clock jumps into another hour. The intervals of a zone follow each other
// without a gap.
func (i Interval) Start(t time.Time, zone *time.Location) time.Time {
	t = t.In(zone)
	if i == Hour {
		return hourStart(t)
	}
	d := i.floor(dateOf(t))
	// The clock may have gone back to the day before, after this day had begun.
	if next := i.following(d).begins(zone); !next.After(t) {
		return next
	}
	return d.begins(zone)
}

// Next returns the beginning of the interval after the one that a time lies in, in UTC.
func (i Interval) Next(t time.Time, zone *time.Location) time.Time {
	start := i.Start(t, zone)
	if i == Hour {
		return hourNext(start.In(zone))
	}
	for d := i.following(i.floor(dateOf(start.In(zone)))); ; d = i.following(d) {
		if next := d.begins(zone); next.After(start) { // not where a date was left out
			return next
		}
	}
}

// longest returns a length that no such interval exceeds, whatever the zone does.
func (i Interval) longest() time.Duration {
	const day = 24 * time.Hour
	switch i {
	case Hour:
		return 3 * time.Hour
	case Day:
		return 2 * day
	case Week:
		return 9 * day
	}
	return 33 * day
}

// A date is a day of the calendar; days beyond the month count on.
type date struct {
	year  int
	month time.Month
	day   int
}

func dateOf(t time.Time) date {
	y, m, d := t.Date()
	return date{y, m, d}
}

// noon returns a time in UTC by which to compute with dates.
func (d date) noon() time.Time { return time.Date(d.year, d.month, d.day, 12, 0, 0, 0, time.UTC) }

// floor returns the first day of the interval that a day is in.
func (i Interval) floor(d date) date {
	switch i {
	case Week:
		sinceMonday := (int(d.noon().Weekday()) + 6) % 7
		return dateOf(d.noon().AddDate(0, 0, -sinceMonday))
	case Month:
		return date{d.year, d.month, 1}
	}
	return d
}

// following returns the first day of the interval after the one that begins on a day.
func (i Interval) following(d date) date {
	switch i {
	case Week:
		return dateOf(d.noon().AddDate(0, 0, 7))
	case Month:
		return dateOf(d.noon().AddDate(0, 1, 0))
	}
	return dateOf(d.noon().AddDate(0, 0, 1))
}

// begins returns the first instant whose local date is d; where the zone left the date
// out, the first of a later one.
//
// Between two changes of the clock, local time runs evenly: there the date begins at its
// midnight, or with the change when that skips it.
func (d date) begins(zone *time.Location) time.Time {
	midnight := d.noon().Add(-12 * time.Hour)
	t := midnight.Add(-26 * time.Hour).In(zone) // no zone is so far ahead
	for {
		_, end := clockBounds(t)
		_, offset := t.Zone()
		at := midnight.Add(-time.Duration(offset) * time.Second)
		if at.Before(t) {
			at = t.UTC()
		}
		if end.IsZero() || at.Before(end) {
			return at
		}
		t = end.In(zone)
	}
}

// clockBounds returns from when until when the clock of a local time runs evenly, as
// ZoneBounds does; either may be zero. A bound need not be a change of the clock.
//
// After the last change in a zone's table (2037), time takes a year to have 365 days. On
// 31 December of leap years its end is therefore no later than t, and a search from bound
// to bound would stand still. Clocks run evenly through that day.
func clockBounds(t time.Time) (start, end time.Time) {
	const day = 24 * time.Hour
	start, end = t.ZoneBounds()
	if !end.IsZero() && !end.After(t) {
		end = t.Truncate(day).Add(day)
	}
	return start, end
}

// hourStart returns the beginning of the hour of a local time.
func hourStart(t time.Time) time.Time {
	start := t.Add(-intoHour(t))
	change, _ := clockBounds(t)
	if change.IsZero() || !start.Before(change) {
		return start.UTC()
	}
	// The clock was changed within this hour. Was it the same hour before?
	before := change.Add(-1).In(t.Location())
	if dateOf(before) == dateOf(change) && before.Hour() == change.Hour() {
		return hourStart(before)
	}
	return change.UTC()
}

// hourNext returns the beginning of the hour after the one that begins at a local time.
func hourNext(start time.Time) time.Time {
	for t := start; ; {
		next := t.Add(time.Hour - intoHour(t))
		_, change := clockBounds(t)
		if change.IsZero() || next.Before(change) {
			return next.UTC()
		}
		before := change.Add(-1).In(t.Location())
		if intoHour(change) == 0 || dateOf(before) != dateOf(change) || before.Hour() != change.Hour() {
			return change.UTC()
		}
		t = change
	}
}

// intoHour returns how much of its local hour has passed at a time.
func intoHour(t time.Time) time.Duration {
	seconds := 60*t.Minute() + t.Second()
	return time.Duration(seconds)*time.Second + time.Duration(t.Nanosecond())
}
