package storagetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// zones are ordinary and not: half and quarters of an hour, midnights that do not exist or come twice, a summer time of
// half an hour.
func zones() []string {
	return []string{
		"UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "America/Havana", "America/Santiago",
		"Australia/Lord_Howe",
	}
}

// localDay returns the local date of a time, and of the beginnings of its week and month, as texts that sort by time.
func localDay(t time.Time, i logbuf.Interval) string {
	y, m, d := t.Date()
	switch i {
	case logbuf.Week:
		monday := time.Date(y, m, d-(int(t.Weekday())+6)%7, 12, 0, 0, 0, time.UTC)
		y, m, d = monday.Date()
	case logbuf.Month:
		d = 1
	}
	return fmt.Sprintf("%04d-%02d-%02d", y, m, d)
}

// singleDays returns the beginnings of a day in the middle and of those that are not as long as others,
// with the days beside them, all of them whole.
func singleDays(begin, end time.Time, zone *time.Location) (days []time.Time) {
	middle := begin.Add(end.Sub(begin) / 2)
	before, odd := logbuf.Day.Next(begin, zone), false
	for day := logbuf.Day.Next(before, zone); ; {
		next := logbuf.Day.Next(day, zone)
		if next.After(end) {
			return days
		}
		long := next.Sub(day) != 24*time.Hour
		if long && !odd {
			days = append(days, before)
		}
		if long || odd || !day.After(middle) && next.After(middle) {
			days = append(days, day)
		}
		before, day, odd = day, next, long
	}
}

// sparse is how many quarters of an hour lie between entries where no clock changes: within three
// weeks they have been at every quarter of a day.
const sparse = 21

// clockChanges reports whether a clock changes within two days of a time.
func clockChanges(t testing.TB, at time.Time) bool {
	for _, name := range zones() {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		_, before := at.AddDate(0, 0, -2).In(zone).Zone()
		if _, after := at.AddDate(0, 0, 2).In(zone).Zone(); before != after {
			return true
		}
	}
	return false
}

// testUsageZones: an entry every quarter of an hour, or every fifth hour where no clock changes. In every
// zone, days, weeks and months count the entries whose local date is theirs; each entry is in one of them,
// whatever maintenance has done.
func testUsageZones(t testing.TB, h SinkHarness) {
	days := cmp.Or(h.Days, 400)
	begin := time.Date(2025, 8, 28, 0, 0, 0, 0, time.UTC) // the clocks of all these zones are changed soon
	end := begin.AddDate(0, 0, days)
	var batch []logbuf.Entry
	var all []time.Time
	for at, n := begin, 0; at.Before(end); at, n = at.Add(logbuf.Quarter), n+1 {
		if h.Days == 0 && n%sparse != 0 && !clockChanges(t, at) {
			continue
		}
		e := logEntry(len(all), func(e *logbuf.Entry) { e.Time = at.Add(time.Duration(len(all)%900) * time.Second) })
		all = append(all, e.Time)
		if batch = append(batch, e); len(batch) == 4800 {
			mustStore(t, h.Sink, batch...)
			batch = nil
		}
	}
	if len(batch) > 0 {
		mustStore(t, h.Sink, batch...)
	}
	t.Logf("%d entries in %d days", len(all), days)
	counts := make(map[string]map[string]int64) // by zone and interval, then by day
	for _, name := range zones() {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, interval := range []logbuf.Interval{logbuf.Day, logbuf.Week, logbuf.Month} {
			count := make(map[string]int64)
			for _, at := range all {
				count[localDay(at.In(zone), interval)]++
			}
			counts[name+string(interval)] = count
		}
	}
	check := func(when string, zones ...string) {
		t.Helper()
		for _, name := range zones {
			zone, err := time.LoadLocation(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, interval := range []logbuf.Interval{logbuf.Day, logbuf.Week, logbuf.Month} {
				want := maps.Clone(counts[name+string(interval)])
				var sum int64
				q := logbuf.UsageQuery{Interval: interval, Zone: zone, Since: begin, Until: end, Limit: 1000}
				for _, u := range readUsage(t, h.Archive, q) {
					day := localDay(u.Start.In(zone), interval)
					if u.Requests != want[day] {
						t.Errorf("%s, %s: the %s of %s, from %s, counts %d; want %d", when, name, interval, day, u.Start,
							u.Requests, want[day])
					}
					delete(want, day)
					sum += u.Requests
				}
				if sum != int64(len(all)) || len(want) > 0 {
					t.Errorf("%s, %s: all %ss count %d of %d; %v are missing", when, name, interval, sum, len(all), want)
				}
			}
			for _, day := range singleDays(begin, end, zone) {
				// Asked for by its bounds, it counts what it does among the others.
				single := readUsage(t, h.Archive, logbuf.UsageQuery{Zone: zone, Since: day, Until: logbuf.Day.Next(day, zone)})
				want := counts[name+string(logbuf.Day)][localDay(day.In(zone), logbuf.Day)]
				if len(single) != 1 || single[0].Requests != want || !single[0].Start.Equal(day) {
					t.Errorf("%s, %s: the day from %s: %+v; want %d requests", when, name, day, single, want)
				}
			}
		}
	}
	m, ok := h.Sink.(logbuf.Maintainer)
	if !ok {
		check("at first", zones()...)
		return
	}
	check("at first", "America/Havana", "Australia/Lord_Howe") // no engine knows zones: two show the tables
	for range days/40 + 1 {                                    // tasks are bounded
		maintainAt(t, m, logbuf.MaintenanceOptions{Now: end.AddDate(0, 0, -3)})
	}
	check("after most days were closed", zones()...)
}

// testUsageDays: what is closed stays exact when entries come late, and when its quarters are gone; what cannot be
// answered any more is refused, and the message names what can.
func testUsageDays(t testing.TB, h SinkHarness) {
	m := h.Sink.(logbuf.Maintainer)
	at := func(n int, d time.Duration, key int64) logbuf.Entry {
		return logEntry(n, func(e *logbuf.Entry) { e.Time, e.KeyID = logDay.Add(d), key })
	}
	const day = 24 * time.Hour
	entries := []logbuf.Entry{
		at(1, time.Hour, 1), at(2, 20*time.Hour, 2), at(3, day, 1), at(4, 2*day+5*time.Hour, 1),
		at(5, 3*day+time.Hour, 2), at(6, 4*day, 1),
		at(12, day+2*time.Hour, 3), at(13, day+9*time.Hour+7*time.Minute, 3), // of a day whose quarters go
	}
	mustStore(t, h.Sink, entries...)
	o := logbuf.MaintenanceOptions{Now: logDay.Add(3*day + 59*time.Minute)} // the third day is not closed yet
	maintainAt(t, m, o)
	check := func(when string) {
		t.Helper()
		for _, by := range [][]logbuf.Dimension{nil, {logbuf.ByKey}, logbuf.Dimensions()} {
			q := allUsage(logbuf.Day, by...)
			wantUsage(t, h.Archive, q, addUp(q, entries...)...)
			q.KeyIDs = []int64{2}
			wantUsage(t, h.Archive, q, addUp(q, entries...)...)
		}
		used, err := h.Archive.KeyUsage(t.Context(), map[int64][]time.Time{1: {{}}, 2: {logDay.Add(day)}, 3: nil})
		if err != nil {
			t.Fatalf("KeyUsage: %v", err)
		}
		cost := map[int64]int64{}
		for _, e := range entries {
			if e.KeyID == 1 || !e.Time.Before(logDay.Add(day)) {
				cost[e.KeyID] += *e.CostNanoUSD
			}
		}
		if used[1].Spent[0].CostNanoUSD != cost[1] || used[2].Spent[0].CostNanoUSD != cost[2] {
			t.Errorf("%s: the keys have used %+v; want %v", when, used, cost)
		}
		last := map[int64]time.Time{}
		for _, e := range entries {
			if at := e.Time.Truncate(time.Minute); at.After(last[e.KeyID]) {
				last[e.KeyID] = at
			}
		}
		for id, at := range last {
			if !used[id].LastUsed.Equal(at) {
				t.Errorf("%s: key %d was last used at %s; want %s", when, id, used[id].LastUsed, at)
			}
		}
	}
	check("after two days were closed")
	late := []logbuf.Entry{
		at(7, 90*time.Minute, 2), at(8, -30*time.Hour, 1), at(9, 2*day, 1), // closed, before all, open
		at(14, day+9*time.Hour+3*time.Minute, 3),
	}
	mustStore(t, h.Sink, late...)
	entries = append(entries, late...)
	check("with late entries")
	maintainAt(t, m, o)
	check("after late entries were folded")

	// Quarters that are in no day yet stay, however old they are.
	early := o
	early.UsageBefore = logDay.Add(5 * day)
	for _, task := range m.Tasks() {
		if task.Name == "prune" {
			if _, err := task.Run(t.Context(), early); err != nil {
				t.Fatalf("prune: %v", err)
			}
		}
	}
	check("after days that are not closed were to be forgotten")

	o.Now = logDay.Add(5 * day)
	o.UsageBefore = logDay.Add(2*day + 7*time.Hour) // days go as a whole
	maintainAt(t, m, o)
	check("after quarters were forgotten")
	more := []logbuf.Entry{at(10, 3*time.Hour, 1), at(11, 4*time.Hour, 2)}
	mustStore(t, h.Sink, more...)
	entries = append(entries, more...)
	check("with entries of forgotten quarters")
	maintainAt(t, m, o)
	check("after these were folded")

	hours := allUsage(logbuf.Hour)
	hours.Since = logDay.Add(2 * day)
	wantUsage(t, h.Archive, hours, addUp(hours, entries...)...)
	parts := allUsage(logbuf.Day)
	parts.Since, parts.Until = logDay.Add(2*day+time.Hour), logDay.Add(4*day+3*time.Hour)
	wantUsage(t, h.Archive, parts, addUp(parts, entries...)...)

	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, field  string
		since, until time.Duration
		interval     logbuf.Interval
		zone         *time.Location
	}{
		{"from within a day", "since", time.Hour, 5 * day, logbuf.Day, nil},
		{"until within a day", "until", -5 * day, day + 15*time.Minute, logbuf.Day, nil},
		{"hours", "since", 0, 5 * day, logbuf.Hour, nil},
		{"days of another zone", "since", 0, 5 * day, logbuf.Day, tokyo},
	} {
		_, err := h.Archive.Usage(t.Context(), logbuf.UsageQuery{
			Interval: c.interval, Zone: c.zone, Since: logDay.Add(c.since), Until: logDay.Add(c.until),
		})
		wantInvalid(t, err, c.field)
	}
}

// testUsagePages: pages that follow each other hold every row once, in order, whatever is selected.
func testUsagePages(t testing.TB, h SinkHarness) {
	entries := used()
	mustStore(t, h.Sink, entries[:150]...)
	if m, ok := h.Sink.(logbuf.Maintainer); ok {
		maintainAt(t, m, logbuf.MaintenanceOptions{Now: logDay.Add(26 * time.Hour)})
	}
	mustStore(t, h.Sink, entries[150:]...)
	filters := []logbuf.UsageFilter{
		{}, {KeyIDs: []int64{20}}, {Project: "acme"}, {Project: "acme/search"}, {Project: "acme/s"},
		{ProviderID: 2}, {Namespace: "Team"},
		{Model: "m-2"}, {Group: "é"}, {KeyIDs: []int64{2, 20}, Project: "acme/search", Model: "m", Namespace: "default"},
	}
	limits := []int{1, 2, 7, 1000}
	for i, f := range filters {
		var selected []logbuf.Entry
		for _, e := range entries {
			u := logbuf.Usage{
				KeyID: e.KeyID, Project: e.Project, ProviderID: e.ProviderID, Namespace: e.Namespace, Model: e.Model,
				Group: e.Group,
			}
			r := logbuf.UsageRange{UsageFilter: f}
			if r.Matches(&u) {
				selected = append(selected, e)
			}
		}
		for j, by := range [][]logbuf.Dimension{nil, {logbuf.ByKey, logbuf.ByModel}, {logbuf.ByProject, logbuf.ByGroup}} {
			q := allUsage(logbuf.Hour, by...)
			q.Since, q.Until = logDay, logDay.AddDate(0, 0, 3)
			q.UsageFilter, q.Limit = f, limits[(i+j)%len(limits)]
			wantUsage(t, h.Archive, q, addUp(q, selected...)...)
		}
	}
}

// testTasks: tasks have names that stay, and do nothing under a context that has ended.
func testTasks(t testing.TB, h SinkHarness) {
	m := h.Sink.(logbuf.Maintainer)
	seen := make(map[string]bool)
	again := m.Tasks()
	for i, task := range m.Tasks() {
		if task.Name == "" || seen[task.Name] || again[i].Name != task.Name {
			t.Errorf("task %d is called %q, then %q; want names that differ and stay", i, task.Name, again[i].Name)
		}
		seen[task.Name] = true
		ctx, cancel := withCanceled(t)
		if _, err := task.Run(ctx, logbuf.MaintenanceOptions{Now: time.Now()}); err == nil {
			t.Errorf("task %s with an ended context: no error", task.Name)
		}
		cancel()
	}
}

// testReprice: costs change, and usage by exactly as much, wherever it is kept; one run at a time.
func testReprice(t testing.TB, h SinkHarness) {
	repricer := h.Sink.(logbuf.Repricer)
	m, _ := h.Sink.(logbuf.Maintainer)
	maintain := func(o logbuf.MaintenanceOptions) {
		if m != nil {
			maintainAt(t, m, o)
		}
	}
	var entries []logbuf.Entry
	for n := range 40 {
		entries = append(entries, logEntry(n, func(e *logbuf.Entry) {
			e.Time = logDay.Add(time.Duration(n) * time.Hour)
			e.KeyID, e.PricedRevision = int64(1+n%3), int64(1+n%2)
			switch n % 4 {
			case 0:
				e.CostNanoUSD, e.PricedRevision = nil, 0
			case 1:
				e.PricedRevision = 0 // the balancer's
			}
		}))
	}
	mustStore(t, h.Sink, entries[:30]...)
	maintain(logbuf.MaintenanceOptions{Now: logDay.Add(26 * time.Hour)}) // folded, one day closed
	mustStore(t, h.Sink, entries[30:]...)

	// price changes costs so that they tell for which entry, and in which run.
	price := func(run int64) func(*logbuf.Entry) {
		return func(e *logbuf.Entry) {
			switch e.KeyID {
			case 1:
				e.CostNanoUSD, e.PricedRevision = new(run*1000+e.InputTokens), run
			case 2:
				e.CostNanoUSD, e.PricedRevision = nil, 0 // its price is not known any more
			}
		}
	}
	apply := func(b logbuf.RepriceBatch) (want logbuf.RepriceResult) {
		for i := range entries {
			e := &entries[i]
			if !b.Query.Matches(e) || !b.Own && e.CostNanoUSD != nil && e.PricedRevision == 0 {
				continue
			}
			after := e.Clone()
			b.Price(&after)
			want.Read++
			if after.CostNanoUSD == nil {
				want.Unpriced++
			} else if e.CostNanoUSD == nil {
				want.Priced++
			}
			if costOf(*e) != costOf(after) || (e.CostNanoUSD == nil) != (after.CostNanoUSD == nil) ||
				e.PricedRevision != after.PricedRevision {
				want.Changed++
				want.CostBefore += costOf(*e)
				want.CostAfter += costOf(after)
			}
			if !b.DryRun {
				*e = after
			}
		}
		return want
	}
	all := everything()
	for i, b := range []logbuf.RepriceBatch{
		{DryRun: true, Price: price(7)},
		{Query: logbuf.LogQuery{Unpriced: true}, Price: price(8)},
		{Query: logbuf.LogQuery{KeyID: 1}, Price: price(9)},
		{Price: price(10)},
		{Own: true, Price: price(11)},
		{Own: true, Query: logbuf.LogQuery{KeyID: 77}, Price: price(12)},
		{Own: true, Query: logbuf.LogQuery{RequestID: entries[3].RequestID}, Price: price(13)},
		{Query: logbuf.LogQuery{KeyID: 1, RequestID: entries[9].RequestID}, Price: price(14)},
	} {
		b.Run = uuid.New()
		b.Query.Since, b.Query.Until, b.Query.Limit = all.Since, all.Until, 7
		if i == 4 { // quarters are gone, and usage is changed by the day
			maintain(logbuf.MaintenanceOptions{Now: logDay.Add(80 * time.Hour), UsageBefore: logDay.Add(48 * time.Hour)})
		}
		want := apply(b)
		var got logbuf.RepriceResult
		for step := 0; ; step++ {
			r, err := repricer.Reprice(t.Context(), b)
			if err != nil {
				t.Fatalf("Reprice: %v", err)
			}
			got.Read, got.Changed, got.Priced, got.Unpriced = got.Read+r.Read, got.Changed+r.Changed,
				got.Priced+r.Priced, got.Unpriced+r.Unpriced
			got.CostBefore, got.CostAfter = got.CostBefore+r.CostBefore, got.CostAfter+r.CostAfter
			if r.Next == "" {
				break
			}
			if step == 0 && !b.DryRun {
				other := b
				other.Run = uuid.New()
				if _, err := repricer.Reprice(t.Context(), other); !errors.Is(err, logbuf.ErrBusy) {
					t.Errorf("Reprice by another run: %v; want ErrBusy", err)
				}
			}
			b.Query.Cursor = r.Next
		}
		if got != want {
			t.Errorf("run %d: %+v; want %+v", i, got, want)
		}
		q := allUsage(logbuf.Day, logbuf.ByKey)
		wantLogs(t, h.Archive, everything(), newest(entries...)...)
		wantUsage(t, h.Archive, q, addUp(q, entries...)...)
		maintain(logbuf.MaintenanceOptions{Now: logDay.Add(26 * time.Hour)})
		wantUsage(t, h.Archive, q, addUp(q, entries...)...)
	}
	_, err := repricer.Reprice(t.Context(), logbuf.RepriceBatch{Run: uuid.New(),
		Query: logbuf.LogQuery{Limit: -1}, Price: price(1)})
	wantInvalid(t, err, "limit")
}

func costOf(e logbuf.Entry) int64 {
	if e.CostNanoUSD == nil {
		return 0
	}
	return *e.CostNanoUSD
}
