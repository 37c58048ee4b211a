package logbuf

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// maxIntervals is how many intervals one query may span.
const maxIntervals = 50_000

// maxKeyIDs is how many keys one query may name.
const maxKeyIDs = 10_000

// Dimensions lists all that usage can be grouped by, in the order in which
// groups of one interval are sorted.
func Dimensions() []Dimension {
	return []Dimension{ByKey, ByProject, ByProvider, ByNamespace, ByModel, ByGroup}
}

// A UsageRange is what an [Archive] has to add up, the answer of [UsageQuery.Resolve].
// It has instants only: Resolve has already computed the days of the time zone.
type UsageRange struct {
	UsageFilter

	GroupBy []Dimension // in the order of Dimensions, without repetition

	// Starts are the beginnings of the intervals, ascending; the first is where the
	// query begins. Until is the end of the last. All lie on quarters, in UTC.
	Starts []time.Time
	Until  time.Time

	// After is the last row of the page before; nil on the first page. Only its Start
	// and dimensions count.
	After *Usage
	Limit int // of the page

	question question
}

// Since returns where the range begins. A range that Resolve has returned is never empty.
func (r *UsageRange) Since() time.Time { return r.Starts[0] }

// Interval returns the index in Starts of the interval that a time lies in; ok is false
// when it lies outside the range.
func (r *UsageRange) Interval(t time.Time) (index int, ok bool) {
	if t.Before(r.Starts[0]) || !t.Before(r.Until) {
		return 0, false
	}
	i, found := slices.BinarySearchFunc(r.Starts, t, time.Time.Compare)
	if !found {
		i--
	}
	return i, true
}

// Matches reports whether the usage of a group, with all its dimensions, is selected. It
// does not look at the time.
func (f *UsageFilter) Matches(u *Usage) bool {
	return (len(f.KeyIDs) == 0 || slices.Contains(f.KeyIDs, u.KeyID)) &&
		(f.Project == "" || InProject(u.Project, f.Project)) &&
		(f.ProviderID == 0 || f.ProviderID == u.ProviderID) &&
		(f.Namespace == "" || f.Namespace == u.Namespace) &&
		(f.Model == "" || f.Model == u.Model) &&
		(f.Group == "" || f.Group == u.Group)
}

// CompareUsage orders rows as an [Archive] answers them: by time, then by the dimensions
// in the order of [Dimensions], texts by their bytes.
func CompareUsage(a, b *Usage) int {
	return cmp.Or(
		a.Start.Compare(b.Start),
		cmp.Compare(a.KeyID, b.KeyID),
		strings.Compare(a.Project, b.Project),
		cmp.Compare(a.ProviderID, b.ProviderID),
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Model, b.Model),
		strings.Compare(a.Group, b.Group),
	)
}

// Resolve returns what an [Archive] has to add up, with every default in place. A query
// that cannot be answered is a [FieldError].
//
// Since and Until must lie on quarters of an hour; the first and the last interval may be partial.
// Without Until, the span ends with the present quarter of an hour, or 24 hours after a Since that
// is in the future. Without Since, the span begins 24 hours before its end. Without both, but with
// an Interval, it covers every interval that the last 24 hours touch, each as a whole, also the
// present one. With a Cursor, the bounds are those of the first page, and Since and Until are only
// checked.
//
// Read one row more than the limit, in the order of [CompareUsage] and after r.After,
// and let [UsageRange.Page] make the page.
func (q UsageQuery) Resolve(now time.Time) (UsageRange, error) {
	r := UsageRange{UsageFilter: q.UsageFilter, Limit: cmp.Or(q.Limit, defaultLimit)}
	r.KeyIDs = slices.Clone(q.KeyIDs)
	if q.Limit < 0 || q.Limit > maxLimit {
		return r, &FieldError{"limit", fmt.Sprintf("must be from 1 to %d", maxLimit)}
	}
	if len(q.KeyIDs) > maxKeyIDs {
		return r, &FieldError{"key_id", fmt.Sprintf("must not name more than %d keys", maxKeyIDs)}
	}
	if !slices.Contains(append(Intervals(), ""), q.Interval) {
		return r, &FieldError{"interval", "must be hour, day, week or month"}
	}
	var err error
	if r.GroupBy, err = groupBy(q.GroupBy); err != nil {
		return r, err
	}
	if q.Zone == nil {
		q.Zone = time.UTC
	}
	r.question = q.question(r.GroupBy)
	if err := checkQuarters(q.Since, q.Until); err != nil {
		return r, err
	}
	var cursor usageCursor
	if q.Cursor != "" {
		var ok bool
		if cursor, ok = parseUsageCursor(q.Cursor); !ok {
			return r, &FieldError{"cursor", "must be the next_cursor of the page before"}
		}
		if cursor.question != r.question {
			return r, &FieldError{"cursor", "is of a page with another group_by, interval or tz, or with other filters: " +
				"send the same ones again, or no cursor"}
		}
		after := cursor.After
		r.After = &after
	}
	since, until, err := q.span(now, cursor)
	if err != nil {
		return r, err
	}
	interval := cmp.Or(q.Interval, Day)
	tooMany := &FieldError{"since", fmt.Sprintf(
		"must be nearer to until, or interval longer: the answer may span %d intervals", maxIntervals)}
	if span := until.Unix() - since.Unix(); span/maxIntervals > int64(interval.longest()/time.Second) { // seen at once
		return r, tooMany
	}
	for at := since; at.Before(until); {
		if len(r.Starts) == maxIntervals {
			return r, tooMany
		}
		r.Starts = append(r.Starts, at)
		from := at
		// Where a zone's offset is no whole quarter, an interval begins with the quarter that it
		// begins in.
		for next := at; !at.After(from); at = quarterOf(next) {
			next = interval.Next(next, q.Zone)
		}
	}
	r.Until = until
	return r, nil
}

// groupBy returns the dimensions in order.
func groupBy(asked []Dimension) (groups []Dimension, err error) {
	for _, d := range Dimensions() {
		if slices.Contains(asked, d) {
			groups = append(groups, d)
		}
	}
	for _, d := range asked {
		if !slices.Contains(groups, d) {
			return nil, &FieldError{"group_by", "must be any of key, project, provider, namespace, model, group"}
		}
	}
	return groups, nil
}

// checkQuarters checks bounds that are given.
func checkQuarters(since, until time.Time) error {
	if err := checkSpan(since, until); err != nil {
		return err
	}
	for _, b := range []struct {
		field string
		t     time.Time
	}{{"since", since}, {"until", until}} {
		if before := quarterOf(b.t); !b.t.IsZero() && !before.Equal(b.t) {
			return &FieldError{b.field, fmt.Sprintf("must lie on a quarter of an hour: the nearest are %s and %s",
				before.Format(time.RFC3339), before.Add(Quarter).Format(time.RFC3339))}
		}
	}
	return nil
}

// quarterOf returns the beginning of the quarter of an hour that a time lies in.
func quarterOf(t time.Time) time.Time { return t.UTC().Truncate(Quarter) }

// span returns the bounds of the query with their defaults, in UTC. Those of a cursor win: all
// pages have the bounds of the first, however long reading them takes, also where the caller
// works out the bounds from the present time again.
func (q *UsageQuery) span(now time.Time, c usageCursor) (since, until time.Time, err error) {
	if q.Cursor != "" {
		return time.Unix(c.Since, 0).UTC(), time.Unix(c.Until, 0).UTC(), nil
	}
	since, until = q.Since.UTC(), q.Until.UTC()
	present := quarterOf(now)
	switch {
	case !q.Until.IsZero():
	case q.Since.IsZero() && q.Interval != "":
		until = quarterOf(q.Interval.Next(present, q.Zone))
	case since.After(present): // clocks may run ahead
		until = since.Add(defaultWindow)
	default:
		until = present.Add(Quarter)
	}
	if q.Since.IsZero() {
		end := until
		if q.Until.IsZero() {
			end = present.Add(Quarter)
		}
		since = latest(end.Add(-defaultWindow), minTime)
		if q.Until.IsZero() && q.Interval != "" {
			since = latest(quarterOf(q.Interval.Start(since, q.Zone)), minTime)
		}
	}
	// What follows from bounds is bounded as they are.
	if !sane(until) {
		return since, until, &FieldError{"since", "must be at least 24 hours before the end of 9999, or until be given"}
	}
	if !sane(since) || !since.Before(until) {
		return since, until, &FieldError{"until", "must be after the beginning of 1970"}
	}
	return since, until, nil
}

// latest returns the later of two times.
func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// Page makes a page of rows in the range, in order. One more than the limit says that
// there is another page.
func (r *UsageRange) Page(rows []Usage) UsagePage {
	p := UsagePage{Rows: rows, Since: r.Since(), Until: r.Until}
	if len(rows) > r.Limit {
		p.Rows = rows[:r.Limit:r.Limit]
		p.Next = usageCursor{r.Since().Unix(), r.Until.Unix(), r.question, p.Rows[r.Limit-1]}.String()
	}
	return p
}

// usageCursor is where a page ends. In text it is JSON in base64, so that a new dimension
// breaks none.
type usageCursor struct {
	Since    int64 // Unix seconds
	Until    int64
	question question
	After    Usage
}

type usageCursorText struct {
	Since      int64  `json:"s"`
	Until      int64  `json:"u"`
	Question   []byte `json:"q"`
	Start      int64  `json:"t"`
	KeyID      int64  `json:"k,omitempty"`
	Project    string `json:"j,omitempty"`
	ProviderID int64  `json:"p,omitempty"`
	Namespace  string `json:"n,omitempty"`
	Model      string `json:"m,omitempty"`
	Group      string `json:"g,omitempty"`
}

// maxCursor is how long the text of a cursor may be, before it is decoded.
const maxCursor = 8 << 10

func (c usageCursor) String() string {
	a := c.After
	text, _ := json.Marshal(usageCursorText{ // it holds nothing that could fail
		c.Since, c.Until, c.question[:], a.Start.Unix(), a.KeyID, a.Project, a.ProviderID, a.Namespace, a.Model, a.Group,
	})
	return base64.RawURLEncoding.EncodeToString(text)
}

func parseUsageCursor(s string) (c usageCursor, ok bool) {
	if len(s) > maxCursor {
		return c, false
	}
	text, err := base64.RawURLEncoding.DecodeString(s)
	var t usageCursorText
	if err != nil || json.Unmarshal(text, &t) != nil {
		return c, false
	}
	c = usageCursor{Since: t.Since, Until: t.Until, After: Usage{
		Start: time.Unix(t.Start, 0).UTC(), KeyID: t.KeyID, Project: t.Project, ProviderID: t.ProviderID,
		Namespace: t.Namespace, Model: t.Model, Group: t.Group,
	}}
	if copy(c.question[:], t.Question) != len(t.Question) {
		return c, false
	}
	for _, at := range []int64{t.Since, t.Until, t.Start} {
		if !sane(time.Unix(at, 0)) || at%int64(Quarter/time.Second) != 0 {
			return c, false
		}
	}
	for _, text := range []string{t.Project, t.Namespace, t.Model, t.Group} {
		if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return c, false
		}
	}
	return c, t.Since < t.Until
}
