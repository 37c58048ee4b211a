package storagetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// longText returns text of so many bytes that no engine can compress or index by a part of.
func longText(random *rand.Rand, size int) string {
	var b strings.Builder
	for b.Len() < size {
		if left := size - b.Len(); left < 3 || random.IntN(4) > 0 {
			b.WriteByte(byte('!' + random.IntN('~'-'!')))
		} else {
			b.WriteRune(rune(0x4e00 + random.IntN(0x5000))) // three bytes
		}
	}
	return b.String()
}

// longest returns an entry in which every text is as long as may be.
func longest(n int) logbuf.Entry {
	random := rand.New(rand.NewPCG(uint64(n), 7))
	text := func(size int) string { return longText(random, size) }
	return logEntry(n, func(e *logbuf.Entry) {
		e.Project, e.Namespace = text(logbuf.MaxDimension), text(logbuf.MaxDimension)
		e.Model, e.Group = text(logbuf.MaxDimension), text(logbuf.MaxDimension)
		e.Error = text(logbuf.MaxError)
		for _, s := range []*string{
			&e.RequestID, &e.Balancer, &e.UpstreamModel, &e.Endpoint, &e.ClientIP, &e.UserAgent, &e.User, &e.Revision,
		} {
			*s = text(logbuf.MaxString)
		}
		e.Tags = make(map[string]string)
		for len(e.Tags) < 8 {
			e.Tags[text(logbuf.MaxTagName)] = text(logbuf.MaxTagValue)
		}
		for range 8 {
			e.Failures = append(e.Failures, logbuf.Failure{
				ProviderID: math.MaxInt64, UpstreamModel: text(logbuf.MaxString), Status: 599, Class: logbuf.FailedCanceled,
				LatencyMS: logbuf.MaxMillis, RetryAfterMS: logbuf.MaxMillis,
			})
		}
	})
}

// testSinkLimits: what is derived from an entry is as strict as the entry. Text at its limits is
// stored, found, counted, maintained and forgotten.
func testSinkLimits(t testing.TB, h SinkHarness) {
	entries := []logbuf.Entry{longest(1), longest(2), longest(3)}
	mustStore(t, h.Sink, entries...)
	query := allUsage(logbuf.Day, logbuf.Dimensions()...)
	check := func(when string, left ...logbuf.Entry) {
		t.Helper()
		for _, e := range entries {
			var want []logbuf.Entry
			if slices.ContainsFunc(left, func(o logbuf.Entry) bool { return o.ID == e.ID }) {
				want = append(want, e)
			}
			for name, filter := range filtersOf(e) {
				got := readLogs(t, h.Archive, everything(filter))
				if diff := differ(logIDs(want), logIDs(got)); diff != "" {
					t.Errorf("%s: Logs by %s (-want +got):\n%s", when, name, diff)
				}
			}
		}
		wantUsage(t, h.Archive, query, addUp(query, entries...)...)
		byProject := query
		byProject.Project, byProject.Model, byProject.Group = entries[1].Project, entries[1].Model, entries[1].Group
		wantUsage(t, h.Archive, byProject, addUp(query, entries[1])...)
	}
	check("at first", entries...)
	maintainer, ok := h.Sink.(logbuf.Maintainer)
	if !ok {
		return
	}
	for _, now := range []time.Time{logDay.Add(12 * time.Hour), logDay.AddDate(0, 0, 2)} { // the day is open, then closed
		maintainAt(t, maintainer, logbuf.MaintenanceOptions{Now: now})
		check("after maintenance", entries...)
	}
	if logbuf.ClassOf(h.Sink) == logbuf.Transactional {
		maintainAt(t, maintainer, logbuf.MaintenanceOptions{Now: logDay.AddDate(0, 0, 9), Before: logDay.AddDate(0, 0, 8)})
		check("after all was forgotten")
	}
}

// filtersOf are all filters that an entry passes.
func filtersOf(e logbuf.Entry) map[string]func(*logbuf.LogQuery) {
	filters := map[string]func(*logbuf.LogQuery){
		"project":        func(q *logbuf.LogQuery) { q.Project = e.Project },
		"namespace":      func(q *logbuf.LogQuery) { q.Namespace = e.Namespace },
		"model":          func(q *logbuf.LogQuery) { q.Model = e.Model },
		"upstream model": func(q *logbuf.LogQuery) { q.UpstreamModel = e.UpstreamModel },
		"group":          func(q *logbuf.LogQuery) { q.Group = e.Group },
		"balancer":       func(q *logbuf.LogQuery) { q.Balancer = e.Balancer },
		"user":           func(q *logbuf.LogQuery) { q.User = e.User },
		"request":        func(q *logbuf.LogQuery) { q.RequestID = e.RequestID },
		"tags":           func(q *logbuf.LogQuery) { q.Tags = e.Tags },
	}
	filters["all of these"] = func(q *logbuf.LogQuery) {
		for name, filter := range filters {
			if name != "all of these" {
				filter(q)
			}
		}
		q.KeyID, q.ProviderID, q.Status = e.KeyID, e.ProviderID, e.Status
	}
	return filters
}

// maintainAt runs all tasks of a sink, none of which may fail.
func maintainAt(t testing.TB, m logbuf.Maintainer, o logbuf.MaintenanceOptions) {
	t.Helper()
	results := logbuf.Maintain(t.Context(), m, o)
	if err := logbuf.MaintenanceError(results); err != nil {
		t.Fatalf("maintenance: %v", err)
	}
}

// testUsageWide: no number of entries makes a sum overflow, and what is beyond the largest integer
// can be taken back.
func testUsageWide(t testing.TB, h SinkHarness) {
	amount := func(n int, of int64) logbuf.Entry {
		return logEntry(n, func(e *logbuf.Entry) {
			e.Time = logDay.Add(time.Duration(n%3) * time.Hour)
			e.InputTokens, e.CacheReadTokens, e.CacheWriteTokens, e.OutputTokens = of, of, of, of
			e.CostNanoUSD = &of
		})
	}
	clamp := func(high int, low int64) int64 { // high × 2⁶² + low
		switch {
		case high >= 2:
			return math.MaxInt64
		case high < -2, high == -2 && low < 0:
			return math.MinInt64
		}
		return int64(high)<<62 + low
	}
	maintainer, maintains := h.Sink.(logbuf.Maintainer)
	high, n := 0, int64(0)
	for step, amounts := range [][]int64{
		{1 << 62, 1 << 62, 1 << 62}, {1 << 62}, // one batch, then another
		{-1 << 62, -1 << 62}, {-1 << 62, -1 << 62},
		{-1 << 62, -1 << 62, -1 << 62}, {1 << 62, 1 << 62, 1 << 62},
	} {
		var entries []logbuf.Entry
		for _, a := range amounts {
			entries = append(entries, amount(int(n), a))
			high += int(a >> 62)
			n++
		}
		mustStore(t, h.Sink, entries...)
		want := clamp(high, 0)
		for _, when := range []string{"at first", "after maintenance", "after the day was closed"} {
			if when != "at first" && !maintains {
				continue
			}
			switch when {
			case "after maintenance":
				maintainAt(t, maintainer, logbuf.MaintenanceOptions{Now: logDay.Add(5 * time.Hour)})
			case "after the day was closed":
				maintainAt(t, maintainer, logbuf.MaintenanceOptions{Now: logDay.AddDate(0, 0, 2)})
			}
			usage := readUsage(t, h.Archive, allUsage(logbuf.Day))
			if len(usage) != 1 {
				t.Fatalf("step %d, %s: %d rows of usage; want one", step, when, len(usage))
			}
			u := usage[0]
			for i, got := range []int64{u.InputTokens, u.CacheReadTokens, u.CacheWriteTokens, u.OutputTokens, u.CostNanoUSD} {
				if got != want || u.Requests != n {
					t.Errorf("step %d, %s: sum %d of %d requests is %d; want %d of %d", step, when, i, u.Requests, got, want, n)
				}
			}
			used, err := h.Archive.KeyUsage(t.Context(), map[int64][]time.Time{1: {{}}})
			if err != nil || used[1].Spent[0].CostNanoUSD != want {
				t.Errorf("step %d, %s: the key has used %+v, %v; want %d", step, when, used[1], err, want)
			}
		}
	}
}

// testLogsMoreFilters: each filter alone, and projects with all below them.
func testLogsMoreFilters(t testing.TB, h SinkHarness) {
	var entries []logbuf.Entry
	projects := []string{"", "acme", "acme/search", "acme/search/eu", "acme-2", "acmes", "b"}
	for n := range 2 * len(projects) * 3 {
		entries = append(entries, logEntry(n, func(e *logbuf.Entry) {
			e.Project = projects[n%len(projects)]
			e.UpstreamModel, e.Group = fmt.Sprint("up-", n%2), fmt.Sprint("group-", n%3)
			e.Balancer, e.User = fmt.Sprint("lb-", n%2), fmt.Sprint("user-", n%3)
			e.Tags = map[string]string{"env": fmt.Sprint("e", n%2), "a b": `"x", {}`, "n": fmt.Sprint(n % 3)}
			if n%5 == 0 {
				e.Tags = nil
			}
			switch n % 4 {
			case 1:
				e.Status = 400
			case 2:
				e.Error = "cut off"
			case 3:
				e.CostNanoUSD = nil
			}
		}))
	}
	mustStore(t, h.Sink, entries...)
	queries := []logbuf.LogQuery{
		{UpstreamModel: "up-1"}, {Group: "group-2"}, {Balancer: "lb-0"}, {User: "user-1"}, {User: "user"},
		{Errors: true}, {Unpriced: true},
		{Tags: map[string]string{"env": "e1"}}, {Tags: map[string]string{"a b": `"x", {}`, "n": "2"}}, {Tags: map[string]string{"env": ""}},
		{Tags: map[string]string{"no such": "e1"}}, {Errors: true, Project: "acme", Tags: map[string]string{"env": "e0"}},
		{KeyID: 1, Project: "acme/search"}, {RequestID: "request-9", Project: "acme/search"}, {Errors: true, Unpriced: true},
	}
	for _, p := range append(projects[1:], "acme/", "ac") {
		queries = append(queries, logbuf.LogQuery{Project: p})
	}
	for _, q := range queries {
		var want []logbuf.Entry
		for _, e := range newest(entries...) {
			if q.Matches(&e) {
				want = append(want, e)
			}
		}
		for _, limit := range []int{3, 1000} {
			page := everything()
			q.Since, q.Until, q.Limit = page.Since, page.Until, limit
			if diff := differ(logIDs(want), logIDs(readLogs(t, h.Archive, q))); diff != "" {
				t.Errorf("Logs by %+v (-want +got):\n%s", q, diff)
			}
		}
	}
}
