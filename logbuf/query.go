package logbuf

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

const (
	defaultLimit = 100
	maxLimit     = 1000

	// defaultWindow is how far a query looks back that does not say.
	defaultWindow = 24 * time.Hour
)

// endOfTime is after every entry.
var endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// A LogRange is where a page of entries lies, the answer of [LogQuery.Resolve].
// An entry is in it when its time is at or after Since, and (Time, ID) is
// before (Before, BeforeID). Times are in UTC and whole microseconds.
type LogRange struct {
	Since    time.Time
	Before   time.Time
	BeforeID uuid.UUID
	Limit    int // of the page
}

// Resolve returns what an [Archive] has to look for, with every default in
// place. A query that cannot be answered is a [FieldError].
//
// Read one entry more than the limit, newest first, and let [LogRange.Page]
// make the page:
//
//	r, err := q.Resolve(time.Now())
//	…
//	entries := … // where time >= r.Since and (time, id) < (r.Before, r.BeforeID) limit r.Limit+1
//	return r.Page(entries), nil
func (q LogQuery) Resolve(now time.Time) (LogRange, error) {
	switch {
	case q.Limit < 0 || q.Limit > maxLimit:
		return LogRange{}, &FieldError{"limit", fmt.Sprintf("must be from 1 to %d", maxLimit)}
	case q.Since.IsZero() || q.Until.IsZero():
	case !q.Since.Before(q.Until):
		return LogRange{}, &FieldError{"since", "must be before until"}
	}
	since, until := timeSpan(q.Since, q.Until, now)
	// Entries have whole microseconds: the next one after a bound decides.
	r := LogRange{Since: raise(since, time.Microsecond), Before: raise(until, time.Microsecond), Limit: cmp.Or(q.Limit, defaultLimit)}
	if q.Cursor != "" {
		c, ok := parseCursor(q.Cursor)
		if !ok {
			return LogRange{}, &FieldError{"cursor", "must be the next_cursor of the page before"}
		}
		if cmp.Or(c.Before.Compare(r.Before), bytes.Compare(c.BeforeID[:], r.BeforeID[:])) < 0 {
			r.Before, r.BeforeID = c.Before, c.BeforeID
		}
		if q.Since.IsZero() {
			r.Since = c.Since // all pages look back equally far, however long reading them takes
		}
	}
	return r, nil
}

// Page makes a page of entries in the range, newest first. One more than the
// limit says that there is another page.
func (r LogRange) Page(entries []Entry) LogPage {
	if len(entries) <= r.Limit {
		return LogPage{Entries: entries}
	}
	entries = entries[:r.Limit:r.Limit]
	last := entries[r.Limit-1]
	next := LogRange{Since: r.Since, Before: last.Time, BeforeID: last.ID}
	return LogPage{Entries: entries, Next: next.cursor()}
}

// cursorVersion is the first byte of a cursor. Since, Before and BeforeID follow.
const (
	cursorVersion = 1
	cursorSize    = 1 + 8 + 8 + 16
)

func (r LogRange) cursor() string {
	c := make([]byte, 0, cursorSize)
	c = append(c, cursorVersion)
	c = binary.BigEndian.AppendUint64(c, uint64(r.Since.UnixMicro()))
	c = binary.BigEndian.AppendUint64(c, uint64(r.Before.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(c, r.BeforeID[:]...))
}

func parseCursor(s string) (r LogRange, ok bool) {
	c, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(c) != cursorSize || c[0] != cursorVersion {
		return r, false
	}
	r.Since = time.UnixMicro(int64(binary.BigEndian.Uint64(c[1:]))).UTC()
	r.Before = time.UnixMicro(int64(binary.BigEndian.Uint64(c[9:]))).UTC()
	copy(r.BeforeID[:], c[17:])
	return r, r.Before.Before(endOfTime) && r.Since.Before(endOfTime)
}

// timeSpan returns the time that a query covers, in UTC.
func timeSpan(since, until, now time.Time) (time.Time, time.Time) {
	end := until
	if until.IsZero() {
		until, end = endOfTime, now
	}
	if since.IsZero() {
		since = end.Add(-defaultWindow)
	}
	return since.UTC(), until.UTC()
}

// raise returns the first time at or after t that is a multiple of step.
func raise(t time.Time, step time.Duration) time.Time {
	cut := t.Truncate(step)
	if cut.Before(t) {
		return cut.Add(step)
	}
	return cut
}

// Dimensions lists all that usage can be grouped by, in the order in which
// groups of one interval are sorted.
func Dimensions() []Dimension {
	return []Dimension{ByKey, ByProvider, ByNamespace, ByModel, ByGroup}
}

// Length returns how long the interval is.
func (i Interval) Length() time.Duration {
	if i == Hour {
		return time.Hour
	}
	return 24 * time.Hour
}

// Resolve returns the query with every default in place: Interval is set,
// Since and Until are in UTC and on boundaries of the interval, GroupBy is
// in the order of [Dimensions] and without repetition. A query that cannot be
// answered is a [FieldError].
func (q UsageQuery) Resolve(now time.Time) (UsageQuery, error) {
	q.Interval = cmp.Or(q.Interval, Day)
	if q.Interval != Hour && q.Interval != Day {
		return q, &FieldError{"interval", "must be hour or day"}
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return q, &FieldError{"since", "must be before until"}
	}
	var groups []Dimension
	for _, d := range Dimensions() {
		if slices.Contains(q.GroupBy, d) {
			groups = append(groups, d)
		}
	}
	for _, d := range q.GroupBy {
		if !slices.Contains(groups, d) {
			return q, &FieldError{"group_by", "must be any of key, provider, namespace, model, group"}
		}
	}
	q.GroupBy = groups
	since, until := timeSpan(q.Since, q.Until, now)
	step := q.Interval.Length()
	q.Since, q.Until = since.Truncate(step), raise(until, step)
	q.KeyIDs = slices.Clone(q.KeyIDs)
	return q, nil
}
