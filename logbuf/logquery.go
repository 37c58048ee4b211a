package logbuf

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
)

const (
	defaultLimit = 100
	maxLimit     = 1000

	// defaultWindow is how far a query looks back that does not say.
	defaultWindow = 24 * time.Hour
)

// minTime and endOfTime bound what a query may ask for. No entry lies outside: none is
// taken that is older than days. Without bounds, arithmetic with times overflows.
var (
	minTime   = time.Unix(0, 0).UTC()
	endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
)

// OutsideTime is what a [FieldError] says of a time that no entry can have. Times on the last day
// of 9999 are refused, because it is the year 10000 then in some time zones.
const OutsideTime = "must be from 1970-01-01T00:00:00Z to 9999-12-31T00:00:00Z"

// A LogRange is where a page of entries lies, the answer of [LogQuery.Resolve].
// An entry is in it when its time is at or after Since, and (Time, ID) is
// before (Before, BeforeID). Times are in UTC and whole microseconds.
type LogRange struct {
	Since    time.Time
	Before   time.Time
	BeforeID uuid.UUID
	Limit    int // of the page

	question question
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
	case len(q.Tags) > maxTags:
		return LogRange{}, &FieldError{"tag", fmt.Sprintf("must not be given more than %d times", maxTags)}
	}
	if err := checkSpan(q.Since, q.Until); err != nil {
		return LogRange{}, err
	}
	since, until := timeSpan(q.Since, q.Until, now)
	// Entries have whole microseconds: the next one after a bound decides.
	r := LogRange{
		Since:  raise(since, time.Microsecond),
		Before: raise(until, time.Microsecond),
		Limit:  cmp.Or(q.Limit, defaultLimit),

		question: q.question(),
	}
	if q.Cursor != "" {
		c, ok := parseCursor(q.Cursor)
		if !ok {
			return LogRange{}, &FieldError{"cursor", "must be the next_cursor of the page before"}
		}
		if c.question != r.question {
			return LogRange{}, &FieldError{"cursor",
				"is of a page with other filters: send the same ones again, or no cursor"}
		}
		if cmp.Or(c.Before.Compare(r.Before), bytes.Compare(c.BeforeID[:], r.BeforeID[:])) < 0 {
			r.Before, r.BeforeID = c.Before, c.BeforeID
		}
		r.Since = c.Since // all pages look back equally far, however long reading them takes
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
	r.Before, r.BeforeID = last.Time, last.ID
	return LogPage{Entries: entries, Next: r.Cursor()}
}

// cursorVersion is the first byte of a cursor. Since, Before, BeforeID and the question follow.
const (
	cursorVersion = 1
	cursorSize    = 1 + 8 + 8 + 16 + len(question{})
)

// Cursor returns the Cursor of a query that goes on with this range.
func (r LogRange) Cursor() string {
	c := make([]byte, 0, cursorSize)
	c = append(c, cursorVersion)
	c = binary.BigEndian.AppendUint64(c, uint64(r.Since.UnixMicro()))
	c = binary.BigEndian.AppendUint64(c, uint64(r.Before.UnixMicro()))
	c = append(c, r.BeforeID[:]...)
	return base64.RawURLEncoding.EncodeToString(append(c, r.question[:]...))
}

func parseCursor(s string) (r LogRange, ok bool) {
	c, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(c) != cursorSize || c[0] != cursorVersion {
		return r, false
	}
	r.Since = time.UnixMicro(int64(binary.BigEndian.Uint64(c[1:]))).UTC()
	r.Before = time.UnixMicro(int64(binary.BigEndian.Uint64(c[9:]))).UTC()
	copy(r.BeforeID[:], c[17:])
	copy(r.question[:], c[33:])
	return r, sane(r.Before) && sane(r.Since)
}

// sane reports whether a time is one that a query may ask for.
func sane(t time.Time) bool { return !t.Before(minTime) && !t.After(endOfTime) }

// checkSpan checks the bounds of a query; zero ones are not given.
func checkSpan(since, until time.Time) error {
	for _, b := range []struct {
		field string
		t     time.Time
	}{{"since", since}, {"until", until}} {
		if !b.t.IsZero() && !sane(b.t) {
			return &FieldError{b.field, OutsideTime}
		}
	}
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return &FieldError{"since", "must be before until"}
	}
	return nil
}

// timeSpan returns the time that a query covers, in UTC.
func timeSpan(since, until, now time.Time) (time.Time, time.Time) {
	end := until
	if until.IsZero() {
		until, end = endOfTime, now
	}
	if since.IsZero() {
		since = latest(end.Add(-defaultWindow), minTime)
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
