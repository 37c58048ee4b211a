package chstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

// The usage of a day stays when its entries are forgotten. Before they are, forgotten_days says that
// they will be. Whoever writes after that does not write into the day any more: what comes late counts
// by itself in usage_late, which is kept, and is not shown, since it is as old as what is forgotten.
// Once Settle is over, nobody writes who has not seen that. The builds that begin then are for good:
// no mark opens their hours again, and no other build takes their place. Once these have settled, too,
// nobody reads the entries, and they go.
//
// An entry counts in one of two: in usage_late, if it is there, else in the sums of its hour. An entry that
// was stored before, and comes again when the sums are for good, is a new one: what is forgotten is not known.

// sqlForGood finds the hours whose builds are for good.
const sqlForGood = `SELECT hour FROM (SELECT hour, covered, toStartOfDay(hour) AS day FROM usage_builds FINAL) AS builds
INNER JOIN (SELECT day, min(at) AS said FROM forgotten_days GROUP BY day) AS days USING day WHERE covered >= said`

// sqlDays finds the days before one that may be forgotten, and whether they have entries: also those
// whose entries were removed by somebody else, whose usage has to stay, too.
const sqlDays = `SELECT day, max(has) FROM (
    SELECT partition AS day, 1 AS has FROM system.parts
    WHERE database = currentDatabase() AND table = 'access_logs' AND active AND partition < '%[1]s'
    UNION ALL
    SELECT toString(toYYYYMMDD(hour)) AS day, 0 AS has FROM usage_builds FINAL
    WHERE toString(toYYYYMMDD(hour)) < '%[1]s' AND hour NOT IN (` + sqlForGood + `)
) GROUP BY day ORDER BY day
FORMAT TabSeparated`

const sqlSaid = `SELECT toInt64(toUnixTimestamp64Micro(min(at))) FROM forgotten_days WHERE day = %s HAVING count() > 0`

const sqlForgottenDays = `SELECT toInt64(toUnixTimestamp(day) / 86400) FROM forgotten_days
WHERE toInt64(toUnixTimestamp(day) / 86400) IN (%s)`

// sqlKeep says of builds that count, and that nothing was written after, that they are as of a later time.
const sqlKeep = `INSERT INTO usage_builds (hour, build, covered, made)
SELECT hour, build, %[3]s, made FROM ` + sqlClosed + ` AND covered < %[3]s AND hour NOT IN (` + sqlForGood + `)`

// notLate is a condition on entries: that they do not count by themselves.
func notLate(hours rollup.Span) string {
	return fmt.Sprintf("(ts, id) NOT IN (SELECT ts, id FROM usage_late WHERE ts >= %s AND ts < %s)",
		micros(hours.From.UnixMicro()), micros(hours.Until.UnixMicro()))
}

// hull returns the span that spans lie in, which are in order.
func hull(spans []rollup.Span) (all rollup.Span) {
	if len(spans) > 0 {
		all = rollup.Span{From: spans[0].From, Until: spans[len(spans)-1].Until}
	}
	return all
}

// drop forgets the days that ended before a time, once the usage of all their hours is summed for good.
func (s *Sink) drop(ctx context.Context, o logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	if o.Before.IsZero() {
		return report, ctx.Err()
	}
	now, err := s.readClock(ctx)
	if err != nil {
		return report, err
	}
	end := o.Before
	if ended := now.Add(-closeAfter); ended.Before(end) { // see lateAfter
		end = ended
	}
	end = end.UTC().Truncate(24 * time.Hour)
	answer, err := s.client.run(ctx, statement{text: fmt.Sprintf(sqlDays, end.Format(partition))})
	if err != nil {
		return report, err
	}
	for line := range strings.Lines(string(answer)) {
		text, has, _ := strings.Cut(strings.TrimSpace(line), "\t")
		day, err := time.Parse(partition, text)
		if err != nil {
			return report, fmt.Errorf("access_logs has the partition %.20q, which is no day: "+
				"was the table made by somebody else? %w", text, logbuf.ErrPaused)
		}
		kept, err := s.keep(ctx, rollup.Span{From: day, Until: day.AddDate(0, 0, 1)})
		if err != nil {
			return report, err
		}
		if !kept {
			report.Behind = max(report.Behind, o.Before.Sub(day.AddDate(0, 0, 1))-2*s.settle)
		}
		if !kept || has == "0" {
			continue
		}
		err = s.do(ctx, "ALTER TABLE access_logs DROP PARTITION "+text+
			" SETTINGS max_partition_size_to_drop = 0")
		if err != nil {
			return report, err
		}
		report.Done++
	}
	return report, nil
}

// partition is how the partitions of access_logs are called: by their day.
const partition = "20060102"

// keep reports whether all usage of a day is in usage_quarters for good, for so long that nobody reads it
// from the entries any more. It says that the day is forgotten, and sums what is missing, hours without
// entries too.
func (s *Sink) keep(ctx context.Context, day rollup.Span) (bool, error) {
	said, err := s.forget(ctx, day.From)
	if err != nil {
		return false, err
	}
	now, err := s.readClock(ctx)
	if err != nil || now.Add(-s.settle).Before(said) {
		return false, err
	}
	from, until := micros(day.From.UnixMicro()), micros(day.Until.UnixMicro())
	if err := s.do(ctx, fmt.Sprintf(sqlKeep, from, until, micros(now.Add(-s.settle).UnixMicro()))); err != nil {
		return false, err
	}
	closed, err := s.closedSpans(ctx, day.From, day.Until)
	if err != nil {
		return false, err
	}
	_, open := split(closed, day)
	for _, hours := range open {
		if err := s.build(ctx, hours); err != nil {
			return false, err
		}
	}
	if now, err = s.readClock(ctx); err != nil {
		return false, err
	}
	settled, err := s.closedBefore(ctx, day.From, day.Until, now.Add(-s.settle))
	_, open = split(settled, day)
	return len(open) == 0, err
}

// forget says that a day is forgotten, and returns when that was said first.
func (s *Sink) forget(ctx context.Context, day time.Time) (said time.Time, err error) {
	at := micros(day.UnixMicro())
	for range 2 {
		answer, err := s.ask(ctx, fmt.Sprintf(sqlSaid, at))
		if err != nil {
			return said, err
		}
		if r := (rowReader{rest: answer}); r.more() {
			return time.UnixMicro(r.int64()).UTC(), r.err
		}
		if err := s.do(ctx, "INSERT INTO forgotten_days (day) SELECT "+at); err != nil {
			return said, err
		}
	}
	return said, fmt.Errorf("what was written to forgotten_days cannot be read: %w", logbuf.ErrUnavailable)
}

// late parts entries whose day is forgotten from others.
func (s *Sink) late(
	ctx context.Context, entries []*logbuf.Entry, now time.Time,
) (late, others []*logbuf.Entry, err error) {
	days := make(map[int64]bool) // since 1970
	var asked []int64
	for _, h := range closedHours(entries, now) {
		if day := h / 24; !days[day] {
			days[day], asked = true, append(asked, day)
		}
	}
	if len(asked) == 0 {
		return nil, entries, nil
	}
	answer, err := s.ask(ctx, fmt.Sprintf(sqlForgottenDays, list(asked, number)))
	if err != nil {
		return nil, nil, err
	}
	clear(days)
	r := rowReader{rest: answer}
	for r.more() {
		days[r.int64()] = true
	}
	for _, e := range entries {
		if days[e.Time.Unix()/(24*3600)] {
			late = append(late, e)
		} else {
			others = append(others, e)
		}
	}
	return late, others, r.err
}

// insertLate stores what entries use whose day is forgotten.
func (w *writer) insertLate(ctx context.Context, entries []*logbuf.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	columns := "ts, id, version"
	for _, d := range dimensions() {
		columns += ", " + d.column
	}
	for _, c := range counts() {
		columns += ", " + c.name[1:]
	}
	var rows []byte
	for _, e := range entries {
		rows = appendLate(rows, e, firstVersion(w.now))
	}
	return w.sink.insert(ctx, "usage_late ("+columns+")", rows, "")
}
