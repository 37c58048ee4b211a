package chstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

// An hour that is over is closed: its usage is summed from its entries, each once, into
// usage_quarters, under a number of its own, its build. Then a row of usage_builds says which build
// counts, and what it covers: everything that was marked before a time. So a build that was cut off
// counts for nothing, and any number of processes may build the same hour at the same time: each
// build is right, and one of them counts.
//
// Who writes into an hour that may be closed leaves a mark, before and after; see [Sink.marked]. An
// hour with a mark that its build does not cover is open again. It is built anew once the mark is
// older than Settle, and so is whatever might still have been under way. Where entries are forgotten,
// builds are for good: see forget.go.

// hoursAtOnce is how many hours one statement builds at most.
const hoursAtOnce = 24

const sqlClosedHours = `SELECT toInt64(toUnixTimestamp(hour)) FROM ` + sqlClosed + ` AND made <= %[3]s ORDER BY hour`

// sqlClosed are the builds of a span that count.
const sqlClosed = `usage_builds FINAL
LEFT JOIN (
    SELECT hour, max(at) AS marked FROM usage_marks WHERE hour >= %[1]s AND hour < %[2]s GROUP BY hour
) AS marks USING hour
WHERE hour >= %[1]s AND hour < %[2]s AND (marked < covered OR hour IN (` + sqlForGood + `))`

// sqlMarkedHours finds hours that are to be built again, and whether they have settled.
const sqlMarkedHours = `SELECT toInt64(toUnixTimestamp(hour)) AS start,
    toInt64(marked < %[2]s) FROM (SELECT hour, max(at) AS marked FROM usage_marks GROUP BY hour) AS marks
LEFT JOIN (SELECT hour, covered FROM usage_builds FINAL) AS builds USING hour
WHERE hour < %[1]s AND marked >= covered AND hour NOT IN (` + sqlForGood + `) ORDER BY start`

const sqlLastHour = `SELECT toInt64(toUnixTimestamp(max(hour))), toInt64(count()) FROM usage_builds`

const sqlFirstEntry = `SELECT toInt64(toUnixTimestamp64Micro(min(ts))), toInt64(count()) FROM access_logs`

// closedSpans returns the closed hours that lie in a span of time, in order, those that meet as one.
func (s *Sink) closedSpans(ctx context.Context, from, until time.Time) ([]rollup.Span, error) {
	return s.closedBefore(ctx, from, until, maxTime())
}

// closedBefore returns those that were built before a time.
func (s *Sink) closedBefore(
	ctx context.Context,
	from, until, made time.Time,
) (spans []rollup.Span, err error) {
	if from.Before(minTime()) {
		from = minTime()
	}
	if until.After(maxTime()) {
		until = maxTime()
	}
	if !from.Before(until) {
		return nil, nil
	}
	answer, err := s.ask(ctx, fmt.Sprintf(sqlClosedHours, micros(from.Truncate(time.Hour).UnixMicro()),
		micros(until.UnixMicro()), micros(made.UnixMicro())))
	if err != nil {
		return nil, err
	}
	r := rowReader{rest: answer}
	for r.more() {
		spans = appendHour(spans, time.Unix(r.int64(), 0).UTC())
	}
	return spans, r.err
}

// appendHour appends an hour, and joins it with the one before where they meet.
func appendHour(spans []rollup.Span, hour time.Time) []rollup.Span {
	if n := len(spans); n > 0 && spans[n-1].Until.Equal(hour) {
		spans[n-1].Until = hour.Add(time.Hour)
		return spans
	}
	return append(spans, rollup.Span{From: hour, Until: hour.Add(time.Hour)})
}

// closeHours builds the hours that are due, the oldest first.
func (s *Sink) closeHours(
	ctx context.Context,
	o logbuf.MaintenanceOptions,
) (report logbuf.TaskReport, err error) {
	now, err := s.readClock(ctx)
	if err != nil {
		return report, err
	}
	if o.Now.Before(now) {
		now = o.Now
	}
	horizon := now.Add(-closeAfter).UTC().Truncate(time.Hour)
	due, err := s.dueHours(ctx, horizon)
	if err != nil {
		return report, err
	}
	for i, hours := range due {
		for from := hours.From; from.Before(hours.Until); {
			until := from.Add(hoursAtOnce * time.Hour)
			if until.After(hours.Until) {
				until = hours.Until
			}
			if err := s.build(ctx, rollup.Span{From: from, Until: until}); err != nil {
				report.Behind = horizon.Sub(due[i].From)
				return report, err
			}
			report.Done += int64(until.Sub(from) / time.Hour)
			from = until
		}
	}
	return report, nil
}

// dueHours returns the hours before a time that are to be built. Those in which something was written lately are
// not due: they settle first, and their usage is read from their entries meanwhile.
func (s *Sink) dueHours(ctx context.Context, horizon time.Time) (due []rollup.Span, err error) {
	numbers := func(text string) (r rowReader, err error) {
		answer, err := s.ask(ctx, text)
		return rowReader{rest: answer}, err
	}
	now, err := s.readClock(ctx)
	if err != nil {
		return nil, err
	}
	marked, err := numbers(
		fmt.Sprintf(sqlMarkedHours, micros(horizon.UnixMicro()), micros(now.Add(-s.settle).UnixMicro())),
	)
	if err != nil {
		return nil, err
	}
	unsettled := make(map[int64]bool)
	for marked.more() {
		hour, settled := time.Unix(marked.int64(), 0).UTC(), marked.int64() != 0
		if settled {
			due = appendHour(due, hour)
			continue
		}
		unsettled[hour.Unix()] = true
	}
	if marked.err != nil {
		return nil, marked.err
	}
	last, err := numbers(sqlLastHour)
	if err != nil {
		return nil, err
	}
	next, builds := time.Unix(last.int64(), 0).UTC().Add(time.Hour), last.int64()
	if builds == 0 {
		first, err := numbers(sqlFirstEntry)
		if err != nil {
			return nil, err
		}
		next = time.UnixMicro(first.int64()).UTC().Truncate(time.Hour)
		if entries := first.int64(); entries == 0 {
			return due, first.err
		}
	}
	// Marked ones are in due already, or not settled.
	known := due
	for hour := next; hour.Before(horizon); hour = hour.Add(time.Hour) {
		if in, _ := split(known, rollup.Span{From: hour, Until: hour.Add(time.Hour)}); len(in) == 0 &&
			!unsettled[hour.Unix()] {
			due = appendHour(due, hour)
		}
	}
	return due, last.err
}

// build sums the usage of some hours that follow each other.
func (s *Sink) build(ctx context.Context, hours rollup.Span) error {
	begun, err := s.readClock(ctx)
	if err != nil {
		return err
	}
	first, end := hours.From.Unix()/3600, hours.Until.Unix()/3600
	base := rand.Uint64()>>1 - uint64(first) //nolint:gosec // tells builds apart; an hour's is this and its number
	columns, sums := "", ""
	for _, d := range dimensions() {
		columns += ", " + d.column
	}
	names := columns
	for _, c := range counts() {
		names += ", " + c.name[1:]
		sums += ", " + c.ofEntries + " AS " + c.name
	}
	if err := s.do(ctx, fmt.Sprintf("INSERT INTO usage_quarters (starts%s, last_at, build) "+
		"SELECT toDateTime(%s, 'UTC') AS _starts%s%s, toDateTime(%s, 'UTC') AS _last, "+
		"toUInt64(%d) + intDiv(toUnixTimestamp(_starts), 3600) AS _build "+
		"FROM access_logs FINAL WHERE ts >= %s AND ts < %s AND %s GROUP BY _starts%s "+
		"SETTINGS do_not_merge_across_partitions_select_final = 1",
		names, quarterOf, columns, sums, lastOfEntries, base,
		micros(hours.From.UnixMicro()), micros(hours.Until.UnixMicro()), notLate(hours), columns,
	)); err != nil {
		return err
	}
	// The entries of an hour that is kept for good by now may have been gone before they were summed here.
	return s.do(ctx, fmt.Sprintf("INSERT INTO usage_builds (hour, build, covered) "+
		"SELECT toDateTime(number * 3600, 'UTC') AS hour, toUInt64(%d) + number, %s FROM numbers(%d, %d) "+
		"WHERE hour NOT IN (%s)", base, micros(begun.Add(-s.settle).UnixMicro()), first, end-first, sqlForGood))
}
