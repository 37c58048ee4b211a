package storagetest

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// addUp is a naive Usage over a list of entries, in UTC.
func addUp(q logbuf.UsageQuery, entries ...logbuf.Entry) []logbuf.Usage {
	start := func(t time.Time) time.Time {
		t = t.UTC()
		first := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
		if q.Interval == logbuf.Hour {
			first = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), 0, 0, 0, time.UTC)
		}
		if first.Before(q.Since) {
			return q.Since.UTC()
		}
		return first
	}
	var usage []logbuf.Usage
	for _, e := range entries {
		at := start(e.Time)
		if e.Time.Before(q.Since) || !e.Time.Before(q.Until) || len(q.KeyIDs) > 0 && !slices.Contains(q.KeyIDs, e.KeyID) {
			continue
		}
		u := logbuf.Usage{Start: at}
		for _, d := range q.GroupBy {
			switch d {
			case logbuf.ByKey:
				u.KeyID = e.KeyID
			case logbuf.ByProject:
				u.Project = e.Project
			case logbuf.ByProvider:
				u.ProviderID = e.ProviderID
			case logbuf.ByNamespace:
				u.Namespace = e.Namespace
			case logbuf.ByModel:
				u.Model = e.Model
			case logbuf.ByGroup:
				u.Group = e.Group
			}
		}
		same := func(o logbuf.Usage) bool { return orderUsage(o, u) == 0 }
		i := slices.IndexFunc(usage, same)
		if i < 0 {
			i = len(usage)
			usage = append(usage, u)
		}
		sum := &usage[i]
		sum.Requests++
		if e.Failed() {
			sum.Errors++
		}
		sum.InputTokens += e.InputTokens
		sum.CacheReadTokens += e.CacheReadTokens
		sum.CacheWriteTokens += e.CacheWriteTokens
		sum.OutputTokens += e.OutputTokens
		if e.CostNanoUSD == nil {
			sum.Unpriced++
		} else {
			sum.CostNanoUSD += *e.CostNanoUSD
		}
	}
	slices.SortFunc(usage, orderUsage)
	return usage
}

func orderUsage(a, b logbuf.Usage) int {
	return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.KeyID, b.KeyID), strings.Compare(a.Project, b.Project),
		cmp.Compare(a.ProviderID, b.ProviderID), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Model, b.Model),
		strings.Compare(a.Group, b.Group))
}

// used are entries of every combination of two values a dimension, over two days.
func used() []logbuf.Entry {
	entries := logEntries(0, 192)
	for n := range entries {
		e := &entries[n]
		e.Time = logDay.Add(time.Duration(n) * 15 * time.Minute)
		e.KeyID, e.ProviderID = int64(20-n&1*18), int64(1+n>>1&1) // 2 comes before 20, as a number
		e.Namespace = [...]string{"default", "Team"}[n>>2&1]      // upper case first, by its bytes
		e.Model = [...]string{"m", "m-2"}[n>>3&1]
		e.Group = [...]string{"a", "é"}[n>>4&1]
		e.Project = [...]string{"acme", "acme/search"}[n>>5&1]
		e.InputTokens, e.CacheReadTokens, e.CacheWriteTokens, e.OutputTokens = int64(n), int64(10*n), int64(100*n),
			int64(1000*n)
	}
	return entries
}

func testUsageGroups(t testing.TB, h SinkHarness) {
	entries := used()
	mustStore(t, h.Sink, entries[:100]...)
	mustStore(t, h.Sink, entries[100:]...)
	all := logbuf.Dimensions()
	for set := range 1 << len(all) {
		var by []logbuf.Dimension
		for i, d := range all {
			if set>>i&1 == 1 {
				by = append(by, d)
			}
		}
		q := allUsage([]logbuf.Interval{logbuf.Hour, logbuf.Day}[bits.OnesCount(uint(set))%2], by...)
		q.Since, q.Until = logDay.AddDate(0, 0, -3), logDay.AddDate(0, 0, 5)
		wantUsage(t, h.Archive, q, addUp(q, entries...)...)
		if len(by) == 2 { // the order of dimensions in the query means nothing, nor a repetition
			q.GroupBy = []logbuf.Dimension{by[1], by[0], by[1]}
			wantUsage(t, h.Archive, q, addUp(q, entries...)...)
		}
	}
}

// testUsageBounds: bounds at the ends of time are answered, or refused by name; nothing panics.
func testUsageBounds(t testing.TB, h SinkHarness) {
	mustStore(t, h.Sink, logEntry(1))
	first, last := time.Unix(0, 0), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	bounds := []time.Time{{}, first.Add(-time.Hour), first, first.Add(time.Hour), last.Add(-24 * time.Hour), last,
		last.AddDate(1, 0, 0)}
	for _, since := range bounds {
		for _, until := range bounds {
			for _, interval := range []logbuf.Interval{"", logbuf.Month} {
				page, err := h.Archive.Usage(t.Context(), logbuf.UsageQuery{Interval: interval, Since: since, Until: until})
				var field *logbuf.FieldError
				if err != nil && !errors.As(err, &field) {
					t.Errorf("Usage from %s until %s: %v; want an answer or a FieldError", since, until, err)
				}
				if err == nil && !page.Since.Before(page.Until) {
					t.Errorf("Usage from %s until %s is of %s until %s", since, until, page.Since, page.Until)
				}
			}
		}
		asked := []time.Time{since}
		ids := map[int64][]time.Time{1: asked, math.MinInt64: asked, math.MaxInt64: asked}
		if _, err := h.Archive.KeyUsage(t.Context(), ids); err != nil {
			t.Errorf("KeyUsage since %s: %v", since, err)
		}
	}
}

// testUsageIntervals: nothing outside the bounds counts, and intervals at the ends may be parts.
func testUsageIntervals(t testing.TB, h SinkHarness) {
	at := func(n int, d time.Duration) logbuf.Entry {
		return logEntry(n, func(e *logbuf.Entry) { e.Time = logDay.Add(d) })
	}
	entries := []logbuf.Entry{
		at(1, -time.Microsecond), at(2, 0), at(3, time.Hour-time.Microsecond), at(4, time.Hour),
		at(5, 24*time.Hour-time.Microsecond), at(6, 24*time.Hour), at(7, 48*time.Hour),
	}
	mustStore(t, h.Sink, entries...)
	zone := time.FixedZone("", 5*3600+1800)
	for _, c := range []struct {
		interval     logbuf.Interval
		since, until time.Duration
		want         map[time.Duration]int64 // requests by the start of the interval
	}{
		{logbuf.Hour, -time.Hour, 2 * time.Hour, map[time.Duration]int64{-time.Hour: 1, 0: 2, time.Hour: 1}},
		{logbuf.Hour, 30 * time.Minute, time.Hour, map[time.Duration]int64{30 * time.Minute: 1}},
		{logbuf.Hour, 0, 75 * time.Minute, map[time.Duration]int64{0: 2, time.Hour: 1}},
		{logbuf.Hour, 23 * time.Hour, 24 * time.Hour, map[time.Duration]int64{23 * time.Hour: 1}},
		{logbuf.Hour, 2 * time.Hour, 20 * time.Hour, nil},
		{logbuf.Day, 0, 24 * time.Hour, map[time.Duration]int64{0: 4}},
		{logbuf.Day, 5 * time.Hour, 24 * time.Hour, map[time.Duration]int64{5 * time.Hour: 1}},
		{logbuf.Day, -time.Hour, 24*time.Hour + logbuf.Quarter, map[time.Duration]int64{-time.Hour: 1, 0: 4,
			24 * time.Hour: 1}},
		{"", 0, 72 * time.Hour, map[time.Duration]int64{0: 4, 24 * time.Hour: 1, 48 * time.Hour: 1}},
	} {
		q := logbuf.UsageQuery{Interval: c.interval, Since: logDay.Add(c.since).In(zone), Until: logDay.Add(c.until).In(zone)}
		usage := readUsage(t, h.Archive, q)
		name := fmt.Sprintf("Usage by %q from %s to %s", c.interval, c.since, c.until)
		if len(usage) != len(c.want) {
			t.Errorf("%s: %d rows; want %d", name, len(usage), len(c.want))
		}
		for _, u := range usage {
			if want := c.want[u.Start.Sub(logDay)]; u.Requests != want || u.Start.Location() != time.UTC {
				t.Errorf("%s: %d requests from %s; want %d", name, u.Requests, u.Start, want)
			}
		}
	}

	// Without bounds: the 24 hours that end with the present quarter.
	now := time.Now().UTC()
	recent, old := logEntry(8), logEntry(9)
	recent.Time, old.Time = now.Add(-23*time.Hour), now.Add(-25*time.Hour)
	mustStore(t, h.Sink, recent, old)
	var sum int64
	for _, u := range readUsage(t, h.Archive, logbuf.UsageQuery{}) {
		sum += u.Requests
	}
	if sum != 1 {
		t.Errorf("Usage without bounds counts %d requests; want 1", sum)
	}
}

func testUsageCounts(t testing.TB, h SinkHarness) {
	entries := []logbuf.Entry{
		logEntry(1, func(e *logbuf.Entry) { e.Status = 399 }),
		logEntry(2, func(e *logbuf.Entry) { e.Status = 400 }),
		logEntry(3, func(e *logbuf.Entry) { e.Status = 200; e.Error = "cut off" }),
		logEntry(4, func(e *logbuf.Entry) { e.Status = 502; e.Error = "no answer" }),
		logEntry(5, func(e *logbuf.Entry) { e.CostNanoUSD = nil }),
		logEntry(6, func(e *logbuf.Entry) { e.CostNanoUSD = new(int64(0)) }), // free is not unknown
	}
	for i := range entries {
		entries[i].InputTokens, entries[i].CacheReadTokens, entries[i].CacheWriteTokens,
			entries[i].OutputTokens = 1, 20, 300, 4000
	}
	mustStore(t, h.Sink, entries...)
	wantUsage(t, h.Archive, allUsage(logbuf.Day), logbuf.Usage{
		Start: logDay, Requests: 6, Errors: 3, InputTokens: 6, CacheReadTokens: 120, CacheWriteTokens: 1800,
		OutputTokens: 24000,
		CostNanoUSD:  1 + 2 + 3 + 4, Unpriced: 1,
	})
	wantUsage(t, h.Archive, logbuf.UsageQuery{Since: logDay.AddDate(0, 0, 1), Until: logDay.AddDate(0, 0, 2)})
}

// testUsageExact: sums are integers beyond what a float64 can hold.
func testUsageExact(t testing.TB, h SinkHarness) {
	const big = 1<<53 + 1
	var entries []logbuf.Entry
	for n := range 7 {
		entries = append(entries, logEntry(n, func(e *logbuf.Entry) {
			e.CostNanoUSD, e.InputTokens, e.OutputTokens = new(int64(big)), big, 1
		}))
	}
	for _, e := range entries {
		mustStore(t, h.Sink, e)
	}
	usage := readUsage(t, h.Archive, allUsage(logbuf.Day))
	if len(usage) != 1 {
		t.Fatalf("Usage: %d rows", len(usage))
	}
	if u := usage[0]; u.CostNanoUSD != 7*big || u.InputTokens != 7*big || u.OutputTokens != 7 {
		t.Errorf("cost %d and tokens %d; want %d", u.CostNanoUSD, u.InputTokens, 7*big)
	}

	// What no int64 can hold neither fails nor wraps around.
	mustStore(t, h.Sink, logEntry(8, func(e *logbuf.Entry) { e.CostNanoUSD = new(int64(math.MaxInt64 - 5)) }))
	usage = readUsage(t, h.Archive, allUsage(logbuf.Day))
	if len(usage) != 1 || usage[0].CostNanoUSD != math.MaxInt64 || usage[0].Requests != 8 {
		t.Errorf("Usage beyond an int64: %+v; want the largest", usage)
	}
}

func testUsageKeys(t testing.TB, h SinkHarness) {
	entries := used()
	for i := range entries {
		entries[i].KeyID = int64(i % 5)
	}
	mustStore(t, h.Sink, entries...)
	for _, keys := range [][]int64{{1}, {0}, {4, 2}, {3, 3}, {77}, {77, 1}} {
		q := allUsage(logbuf.Day, logbuf.ByKey, logbuf.ByModel)
		q.KeyIDs = keys
		wantUsage(t, h.Archive, q, addUp(q, entries...)...)
		q.GroupBy = nil
		wantUsage(t, h.Archive, q, addUp(q, entries...)...)
	}
}

// testUsageOnce: what is stored once counts once, however often it is sent.
func testUsageOnce(t testing.TB, h SinkHarness) {
	entries := used()
	segment := uuid.New()
	b := logbuf.Batch{Segment: segment, To: 60, Entries: entries[:60]}
	wantWrite(t, h.Sink, b, logbuf.Result{Stored: 60})
	wantWrite(t, h.Sink, b, logbuf.Result{Duplicate: 60})
	b = logbuf.Batch{Segment: segment, From: 50, To: 80, Entries: entries[50:80]}
	wantWrite(t, h.Sink, b, logbuf.Result{Stored: 20, Duplicate: 10})
	twice := slices.Concat(entries[70:], entries[70:])
	wantWrite(t, h.Second, memory(twice...), logbuf.Result{Stored: 112, Duplicate: 132})
	q := allUsage(logbuf.Hour, logbuf.Dimensions()...)
	wantUsage(t, h.Archive, q, addUp(q, entries...)...)
}

func testUsageInvalid(t testing.TB, h SinkHarness) {
	mustStore(t, h.Sink, logEntry(1, func(e *logbuf.Entry) { e.KeyID = 1 }),
		logEntry(2, func(e *logbuf.Entry) { e.KeyID = 2 }))
	byKey := allUsage(logbuf.Day, logbuf.ByKey)
	byKey.Limit = 1
	page, err := h.Archive.Usage(t.Context(), byKey)
	if err != nil || page.Next == "" {
		t.Fatalf("the first page: next %q, %v", page.Next, err)
	}
	another := func(edit func(*logbuf.UsageQuery)) logbuf.UsageQuery {
		q := byKey
		q.Cursor = page.Next
		edit(&q)
		return q
	}
	for _, c := range []struct {
		field string
		query logbuf.UsageQuery
	}{
		{"interval", logbuf.UsageQuery{Interval: "year"}},
		{"group_by", logbuf.UsageQuery{GroupBy: []logbuf.Dimension{logbuf.ByKey, "status"}}},
		{"group_by", logbuf.UsageQuery{GroupBy: []logbuf.Dimension{""}}},
		{"since", logbuf.UsageQuery{Since: logDay, Until: logDay}},
		{"since", logbuf.UsageQuery{Since: logDay.Add(logbuf.Quarter), Until: logDay}},
		{"since", logbuf.UsageQuery{Since: logDay.Add(time.Minute)}},
		{"until", logbuf.UsageQuery{Since: logDay, Until: logDay.Add(time.Minute)}},
		{"since", logbuf.UsageQuery{Since: time.Unix(-900, 0), Until: logDay}},
		{"since", logbuf.UsageQuery{Interval: logbuf.Hour, Since: time.Unix(0, 0), Until: logDay}},
		{"cursor", logbuf.UsageQuery{Cursor: "e30"}},
		{"cursor", another(func(q *logbuf.UsageQuery) { q.GroupBy = []logbuf.Dimension{logbuf.ByModel} })},
		{"cursor", another(func(q *logbuf.UsageQuery) { q.Interval = logbuf.Hour })},
		{"cursor", another(func(q *logbuf.UsageQuery) { q.KeyIDs = []int64{2} })},
		{"cursor", another(func(q *logbuf.UsageQuery) { q.Zone = time.FixedZone("Etc/GMT-9", 9*60*60) })},
		{"limit", logbuf.UsageQuery{Limit: 1001}},
	} {
		_, err := h.Archive.Usage(t.Context(), c.query)
		wantInvalid(t, err, c.field)
	}
}

// testMaintainUsage: nothing that can be asked changes.
func testMaintainUsage(t testing.TB, h SinkHarness) {
	entries := used()
	maintainer := h.Sink.(logbuf.Maintainer)
	q := allUsage(logbuf.Hour, logbuf.Dimensions()...)
	for from := 0; from < len(entries); from += 32 {
		mustStore(t, h.Sink, entries[from:from+32]...)
		for range 2 {
			if err := maintain(t.Context(), maintainer, time.Time{}); err != nil {
				t.Fatalf("Maintain: %v", err)
			}
			wantUsage(t, h.Archive, q, addUp(q, entries[:from+32]...)...)
			wantLogs(t, h.Archive, everything(), newest(entries[:from+32]...)...)
		}
	}
	wantWrite(t, h.Sink, memory(entries...), logbuf.Result{Duplicate: len(entries)})
	wantUsage(t, h.Archive, q, addUp(q, entries...)...)
}

func testMaintainForgets(t testing.TB, h SinkHarness) {
	maintainer := h.Sink.(logbuf.Maintainer)
	at := func(n int, d time.Duration) logbuf.Entry {
		return logEntry(n, func(e *logbuf.Entry) { e.Time = logDay.Add(d) })
	}
	entries := []logbuf.Entry{
		at(1, -25*time.Hour), at(2, -24*time.Hour), at(3, -time.Microsecond), at(4, 0),
		at(5, 12*time.Hour), at(6, 24*time.Hour-time.Microsecond), at(7, 24*time.Hour), at(8, 72*time.Hour),
	}
	mustStore(t, h.Sink, entries...)
	usage := allUsage(logbuf.Day)
	for _, c := range []struct {
		before time.Duration
		left   []logbuf.Entry
	}{
		{-25 * time.Hour, entries},                     // its day has not ended by then
		{-24 * time.Hour, entries[1:]},                 //
		{23 * time.Hour, entries[3:]},                  //
		{24*time.Hour - time.Microsecond, entries[3:]}, //
		{24 * time.Hour, entries[6:]},                  // exactly
		{-100 * time.Hour, entries[6:]},                // what is forgotten stays so
	} {
		before := logDay.Add(c.before).In(time.FixedZone("", 3*3600))
		if err := maintain(t.Context(), maintainer, before); err != nil {
			t.Fatalf("Maintain: %v", err)
		}
		wantLogs(t, h.Archive, everything(), newest(c.left...)...)
		wantUsage(t, h.Archive, usage, addUp(usage, entries...)...) // usage outlives entries
	}

	// There is room again for what comes late, beside entries that were forgotten and where there were none.
	// It is added to their usage, once, whatever maintenance does then. A sink by identity may forget it at once.
	late := []logbuf.Entry{at(9, time.Hour), at(10, 12*time.Hour+time.Second), at(11, -30*time.Hour), at(12, 0)}
	mustStore(t, h.Sink, late...)
	if logbuf.ClassOf(h.Sink) == logbuf.Transactional {
		wantLogs(t, h.Archive, everything(), newest(slices.Concat(entries[6:], late)...)...)
	}
	wantWrite(t, h.Second, memory(late...), logbuf.Result{Duplicate: len(late)})
	entries = append(entries, late...)
	for _, before := range []time.Time{{}, {}, logDay.Add(24 * time.Hour), {}} {
		wantUsage(t, h.Archive, usage, addUp(usage, entries...)...)
		exact := allUsage(logbuf.Hour, logbuf.Dimensions()...)
		wantUsage(t, h.Archive, exact, addUp(exact, entries...)...)
		if err := maintain(t.Context(), maintainer, before); err != nil {
			t.Fatalf("Maintain: %v", err)
		}
	}
	wantUsage(t, h.Archive, usage, addUp(usage, entries...)...)
	canceled, cancel := withCanceled(t)
	defer cancel()
	if err := maintain(canceled, maintainer, time.Time{}); err == nil {
		t.Error("Maintain with an ended context: no error")
	}
}

func testMaintainWhileWriting(t testing.TB, h SinkHarness) {
	maintainers := []logbuf.Maintainer{h.Sink.(logbuf.Maintainer)}
	if second, ok := h.Second.(logbuf.Maintainer); ok {
		maintainers = append(maintainers, second)
	}
	stop := make(chan struct{})
	var background sync.WaitGroup
	for _, m := range maintainers {
		background.Go(func() {
			for {
				if err := maintain(t.Context(), m, logDay); err != nil {
					t.Errorf("Maintain: %v", err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for n := range 40 {
		if _, err := writeAgain(t, h.Sink, memory(logEntries(n*20, n*20+20)...)); err != nil {
			t.Errorf("Write: %v", err)
		}
		if got := requests(t, t.Context(), h.Archive); got != int64(n*20+20) {
			t.Errorf("usage counts %d requests; want %d", got, n*20+20)
			break
		}
	}
	close(stop)
	background.Wait()
}
