package logbuf_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
)

// zones are those whose calendars are the hardest: offsets that are no full hours, changes
// of half an hour, midnights that do not exist or come twice, a day that was left out.
var zones = []string{
	"UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "America/Havana", "America/Santiago",
	"Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "Africa/Casablanca", "Asia/Tehran", "Pacific/Chatham",
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestIntervalsBeginWhereTheCalendarSays(t *testing.T) {
	for _, c := range []struct {
		interval       logbuf.Interval
		zone, at, want string
		next           string
	}{
		{logbuf.Day, "UTC", "2026-03-14T23:59:59Z", "2026-03-14T00:00:00Z", "2026-03-15T00:00:00Z"},
		{logbuf.Day, "Asia/Kolkata", "2026-03-14T20:00:00Z", "2026-03-14T18:30:00Z", "2026-03-15T18:30:00Z"},
		// Midnight does not exist: 8 March 2026 begins at 01:00 in Havana, 6 September at 01:00 in Santiago.
		{logbuf.Day, "America/Havana", "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"},
		{logbuf.Day, "America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"},
		// Midnight comes twice: the clock goes from 01:00 back to 00:00 in Havana on 1 November 2026.
		{logbuf.Day, "America/Havana", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"},
		// At midnight the clock goes back to 23:00 of the day before.
		{logbuf.Day, "America/Santiago", "2026-04-05T03:30:00Z", "2026-04-04T03:00:00Z", "2026-04-05T04:00:00Z"},
		// A minute after midnight it goes back to 23:01 of the day before, which had ended.
		{logbuf.Day, "America/St_Johns", "2006-10-29T02:45:00Z", "2006-10-29T02:30:00Z", "2006-10-30T03:30:00Z"},
		// 30 December 2011 was left out.
		{logbuf.Day, "Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"},
		{logbuf.Day, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
		{logbuf.Week, "America/New_York", "2026-03-08T12:00:00Z", "2026-03-02T05:00:00Z", "2026-03-09T04:00:00Z"},
		{logbuf.Month, "America/New_York", "2026-03-08T12:00:00Z", "2026-03-01T05:00:00Z", "2026-04-01T04:00:00Z"},
		{logbuf.Month, "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{logbuf.Hour, "Asia/Kathmandu", "2026-03-08T12:00:00Z", "2026-03-08T11:15:00Z", "2026-03-08T12:15:00Z"},
		// The hour that comes twice is two hours.
		{logbuf.Hour, "America/New_York", "2026-11-01T05:30:00Z", "2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z"},
		{logbuf.Hour, "America/New_York", "2026-11-01T06:30:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z"},
		// The clock goes forward by half an hour within an hour, and back.
		{logbuf.Hour, "Australia/Lord_Howe", "2026-10-03T15:45:00Z", "2026-10-03T15:30:00Z", "2026-10-03T16:00:00Z"},
		{logbuf.Hour, "Australia/Lord_Howe", "2026-04-04T15:15:00Z", "2026-04-04T14:00:00Z", "2026-04-04T15:30:00Z"},
		// The last day of a leap year beyond the zone's table.
		{logbuf.Hour, "Pacific/Chatham", "2040-12-31T00:05:00Z", "2040-12-30T23:15:00Z", "2040-12-31T00:15:00Z"},
		{logbuf.Day, "America/New_York", "2040-12-31T17:00:00Z", "2040-12-31T05:00:00Z", "2041-01-01T05:00:00Z"},
		{logbuf.Month, "America/New_York", "2040-12-31T17:00:00Z", "2040-12-01T05:00:00Z", "2041-01-01T05:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		loc := zone(t, c.zone)
		start, next := c.interval.Start(at, loc), c.interval.Next(at, loc)
		if got := start.Format(time.RFC3339); got != c.want {
			t.Errorf("the %s of %s in %s begins at %s; want %s", c.interval, c.at, c.zone, got, c.want)
		}
		if got := next.Format(time.RFC3339); got != c.next {
			t.Errorf("the %s after %s in %s begins at %s; want %s", c.interval, c.at, c.zone, got, c.next)
		}
	}
}

// Every instant lies in one interval, intervals follow each other without a gap, and their
// length is what such an interval may have.
func TestIntervalsCoverTime(t *testing.T) {
	lengths := map[logbuf.Interval][2]time.Duration{
		logbuf.Hour:  {15 * time.Minute, 2 * time.Hour},
		logbuf.Day:   {22 * time.Hour, 26 * time.Hour},
		logbuf.Week:  {5 * 24 * time.Hour, 8 * 24 * time.Hour},
		logbuf.Month: {27 * 24 * time.Hour, 32 * 24 * time.Hour},
	}
	rapid.Check(t, func(r *rapid.T) {
		loc := zone(t, rapid.SampledFrom(zones).Draw(r, "zone"))
		i := rapid.SampledFrom(logbuf.Intervals()).Draw(r, "interval")
		at := time.Unix(rapid.Int64Range(631152000, 4102444800).Draw(r, "at"), 0) // 1990 to 2100
		start, next := i.Start(at, loc), i.Next(at, loc)
		if start.After(at) || !next.After(at) {
			r.Fatalf("%s is not from %s to %s", at, start, next)
		}
		if again := i.Start(start, loc); !again.Equal(start) {
			r.Fatalf("the %s that begins at %s begins at %s", i, start, again)
		}
		if last := i.Start(next.Add(-1), loc); !last.Equal(start) {
			r.Fatalf("the %s from %s to %s ends before, at %s", i, start, next, last)
		}
		if following := i.Start(next, loc); !following.Equal(next) {
			r.Fatalf("the %s after %s begins at %s and at %s", i, start, next, following)
		}
		if d := next.Sub(start); d < lengths[i][0] || d > lengths[i][1] {
			r.Fatalf("a %s of %s from %s", i, d, start)
		}
	})
}

func TestUsageQueryResolves(t *testing.T) {
	now := time.Date(2026, 3, 14, 10, 20, 0, 0, time.UTC)
	at := func(s string) time.Time {
		if s == "" {
			return time.Time{}
		}
		parsed, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	kolkata := zone(t, "Asia/Kolkata")
	for _, c := range []struct {
		name         string
		query        logbuf.UsageQuery
		since, until string // of the query
		starts       string
		end          string
	}{
		{"24 hours end with the present quarter", logbuf.UsageQuery{}, "", "", "03-13 10:30, 03-14 00:00", "03-14 10:30"},
		{"whole days", logbuf.UsageQuery{Interval: logbuf.Day}, "", "", "03-13 00:00, 03-14 00:00", "03-15 00:00"},
		{"whole weeks", logbuf.UsageQuery{Interval: logbuf.Week}, "", "", "03-09 00:00", "03-16 00:00"},
		{"days of a zone", logbuf.UsageQuery{Interval: logbuf.Day, Zone: kolkata}, "", "",
			"03-12 18:30, 03-13 18:30", "03-14 18:30"},
		{"parts", logbuf.UsageQuery{}, "2026-03-01 05:15", "2026-03-02 01:45", "03-01 05:15, 03-02 00:00", "03-02 01:45"},
		{"without until", logbuf.UsageQuery{}, "2026-03-13 20:00", "", "03-13 20:00, 03-14 00:00", "03-14 10:30"},
		{"without since", logbuf.UsageQuery{}, "", "2026-03-02 00:00", "03-01 00:00", "03-02 00:00"},
		{"since in the future", logbuf.UsageQuery{}, "2026-03-20 00:00", "", "03-20 00:00", "03-21 00:00"},
	} {
		c.query.Since, c.query.Until = at(c.since), at(c.until)
		r, err := c.query.Resolve(now)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var starts []string
		for _, s := range r.Starts {
			starts = append(starts, s.Format("01-02 15:04"))
		}
		if got := strings.Join(starts, ", "); got != c.starts || r.Until.Format("01-02 15:04") != c.end {
			t.Errorf("%s: %s until %s; want %s until %s", c.name, got, r.Until.Format("01-02 15:04"), c.starts, c.end)
		}
	}
}

func TestUsageQueryNamesTheNearestQuarters(t *testing.T) {
	_, err := logbuf.UsageQuery{Since: time.Date(2026, 3, 14, 10, 20, 0, 0, time.UTC)}.Resolve(now)
	var field *logbuf.FieldError
	if !errors.As(err, &field) || field.Field != "since" ||
		!strings.Contains(field.Message, "2026-03-14T10:15:00Z and 2026-03-14T10:30:00Z") {
		t.Errorf("Resolve: %v", err)
	}
}

// A page ends where the next one begins, and later pages have the bounds of the first,
// however long reading them takes.
func TestUsagePages(t *testing.T) {
	query := logbuf.UsageQuery{GroupBy: []logbuf.Dimension{logbuf.ByKey}, Limit: 2}
	r, err := query.Resolve(now)
	if err != nil {
		t.Fatal(err)
	}
	rows := []logbuf.Usage{{Start: r.Starts[0], KeyID: 1}, {Start: r.Starts[0], KeyID: 2}, {Start: r.Starts[0], KeyID: 3}}
	page := r.Page(rows)
	if len(page.Rows) != 2 || page.Next == "" || !page.Since.Equal(r.Since()) || !page.Until.Equal(r.Until) {
		t.Fatalf("page %+v", page)
	}
	query.Cursor = page.Next
	second, err := query.Resolve(now.Add(10 * time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(second.Starts, r.Starts, time.Time.Equal) || !second.Until.Equal(r.Until) {
		t.Errorf("the second page is of %v until %s", second.Starts, second.Until)
	}
	if second.After == nil || logbuf.CompareUsage(second.After, &rows[1]) != 0 {
		t.Errorf("the second page begins after %+v", second.After)
	}
	if last := second.Page(rows[2:]); last.Next != "" {
		t.Errorf("the last page has another: %+v", last)
	}
}

// A caller may work out its bounds from the present time for every page, as for a span: those of the
// first page stay, of usage and of entries.
func TestPagesKeepTheBoundsOfTheFirst(t *testing.T) {
	begin := now.Truncate(logbuf.Quarter)
	query := logbuf.UsageQuery{Since: begin.Add(-time.Hour), Until: begin, Interval: logbuf.Hour}
	first, err := query.Resolve(now)
	if err != nil {
		t.Fatal(err)
	}
	first.Limit = 1
	query.Cursor = first.Page([]logbuf.Usage{{Start: first.Since(), KeyID: 1}, {Start: first.Since(), KeyID: 2}}).Next
	for _, moved := range []time.Duration{logbuf.Quarter, -logbuf.Quarter, 3 * time.Hour} {
		query.Since, query.Until = begin.Add(moved-time.Hour), begin.Add(moved)
		second, err := query.Resolve(now.Add(moved))
		if err != nil || !slices.EqualFunc(second.Starts, first.Starts, time.Time.Equal) || !second.Until.Equal(first.Until) {
			t.Errorf("bounds moved by %s: %v until %s, %v; want those of the first page", moved, second.Starts, second.Until,
				err)
		}
	}

	logs := logbuf.LogQuery{Since: now.Add(-time.Hour), Limit: 1}
	page, err := logs.Resolve(now)
	if err != nil {
		t.Fatal(err)
	}
	logs.Cursor = page.Page([]logbuf.Entry{{Time: now.Add(-time.Minute)}, {Time: now.Add(-2 * time.Minute)}}).Next
	for _, since := range []time.Time{{}, now.Add(-30 * time.Minute)} {
		logs.Since = since
		second, err := logs.Resolve(now.Add(24 * time.Hour))
		if err != nil || !second.Since.Equal(page.Since) {
			t.Errorf("the second page of entries looks back to %s, %v; want %s", second.Since, err, page.Since)
		}
	}
}

// Whatever the bounds, the clock and the zone: a query is refused by a field, or its range has an
// interval and lies within the times that can be written.
func TestUsageRangesAreBounded(t *testing.T) {
	edges := []string{
		"1970-01-01T00:00:00Z", "1970-01-01T00:15:00Z", "1970-01-02T00:00:00Z", "9999-12-30T00:00:00Z",
		"9999-12-30T00:15:00Z", "9999-12-31T00:00:00Z", "2026-03-14T00:00:00Z", "0001-01-01T00:00:00Z",
	}
	rapid.Check(t, func(r *rapid.T) {
		at := func(name string) time.Time {
			at, err := time.Parse(time.RFC3339, rapid.SampledFrom(edges).Draw(r, name))
			if err != nil {
				t.Fatal(err)
			}
			return at.Add(time.Duration(rapid.IntRange(-2, 2).Draw(r, name+" quarters")) * logbuf.Quarter)
		}
		q := logbuf.UsageQuery{Zone: zone(t, rapid.SampledFrom(zones).Draw(r, "zone"))}
		q.Interval = rapid.SampledFrom(append(logbuf.Intervals(), "")).Draw(r, "interval")
		if rapid.Bool().Draw(r, "has since") {
			q.Since = at("since")
		}
		if rapid.Bool().Draw(r, "has until") {
			q.Until = at("until")
		}
		u, err := q.Resolve(at("now"))
		var field *logbuf.FieldError
		switch {
		case errors.As(err, &field):
		case err != nil:
			r.Fatal(err)
		case len(u.Starts) == 0 || !u.Since().Before(u.Until):
			r.Fatalf("from %v until %s: an empty range", u.Starts, u.Until)
		case u.Since().Unix() < 0 || u.Until.Year() > 9999:
			r.Fatalf("from %s until %s", u.Since(), u.Until)
		}
	})
}

func TestUsageRangeFindsIntervals(t *testing.T) {
	r, err := logbuf.UsageQuery{Since: now.Truncate(logbuf.Quarter).Add(-30 * time.Hour)}.Resolve(now)
	if err != nil {
		t.Fatal(err)
	}
	for i, start := range r.Starts {
		end := r.Until
		if i+1 < len(r.Starts) {
			end = r.Starts[i+1]
		}
		for _, at := range []time.Time{start, end.Add(-1)} {
			if got, ok := r.Interval(at); !ok || got != i {
				t.Errorf("%s is in interval %d, %v; want %d", at, got, ok, i)
			}
		}
	}
	for _, outside := range []time.Time{r.Since().Add(-1), r.Until} {
		if _, ok := r.Interval(outside); ok {
			t.Errorf("%s is in an interval", outside)
		}
	}
}
