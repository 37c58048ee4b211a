package chstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

// quarterOf is the beginning of the quarter of an hour that an entry lies in, in seconds since 1970.
const quarterOf = "toInt64(intDiv(toUnixTimestamp64Micro(ts), 900000000) * 900)"

// startOf is the same of a row of usage_quarters.
const startOf = "toInt64(toUnixTimestamp(starts))"

// lastOfEntries and lastOfSums are when the latest request was, in seconds since 1970.
const (
	lastOfEntries = "intDiv(max(toUnixTimestamp64Micro(ts)), 1000000)"
	lastOfSums    = "max(toInt64(toUnixTimestamp(last_at)))"
)

// counts are what is added up, of entries and of sums. Sums are 128 bits wide: no number of entries
// is too much for them. The names with an underscore keep a sum from being taken for the column
// that it is of.
func counts() []count {
	wide := func(column string) count {
		return count{"_" + column, "sum(toInt128(" + column + "))", "sum(" + column + ")"}
	}
	return []count{
		{"_requests", "toInt64(count())", "sum(requests)"},
		{"_errors", "toInt64(countIf(status >= 400 OR error != ''))", "sum(errors)"},
		{"_unpriced", "toInt64(countIf(cost_nano_usd IS NULL))", "sum(unpriced)"},
		wide("input_tokens"), wide("cache_read_tokens"), wide("cache_write_tokens"), wide("output_tokens"),
		{"_cost_nano_usd", "ifNull(sum(toInt128(cost_nano_usd)), toInt128(0))", "sum(cost_nano_usd)"},
	}
}

type count struct{ name, ofEntries, ofSums string }

// dimensions are the columns of what usage can be grouped by, in order.
func dimensions() []dimension {
	return []dimension{
		{logbuf.ByKey, "key_id", func(u *logbuf.Usage) string { return number(u.KeyID) },
			func(r *rowReader, u *logbuf.Usage) { u.KeyID = r.int64() }},
		{logbuf.ByProject, "project", func(u *logbuf.Usage) string { return quote(u.Project) },
			func(r *rowReader, u *logbuf.Usage) { u.Project = r.string() }},
		{logbuf.ByProvider, "provider_id", func(u *logbuf.Usage) string { return number(u.ProviderID) },
			func(r *rowReader, u *logbuf.Usage) { u.ProviderID = r.int64() }},
		{logbuf.ByNamespace, "namespace", func(u *logbuf.Usage) string { return quote(u.Namespace) },
			func(r *rowReader, u *logbuf.Usage) { u.Namespace = r.string() }},
		{logbuf.ByModel, "model", func(u *logbuf.Usage) string { return quote(u.Model) },
			func(r *rowReader, u *logbuf.Usage) { u.Model = r.string() }},
		{logbuf.ByGroup, "route_group", func(u *logbuf.Usage) string { return quote(u.Group) },
			func(r *rowReader, u *logbuf.Usage) { u.Group = r.string() }},
	}
}

type dimension struct {
	by      logbuf.Dimension
	column  string
	literal func(*logbuf.Usage) string
	read    func(*rowReader, *logbuf.Usage)
}

// number writes an int64 as a literal of that type, the smallest too.
func number(n int64) string { return "toInt64('" + strconv.FormatInt(n, 10) + "')" }

// usageFilters are the conditions of a filter.
func usageFilters(f *logbuf.UsageFilter) (c conditions) {
	if len(f.KeyIDs) > 0 {
		c.add("key_id IN (%s)", list(f.KeyIDs, number))
	}
	c.project(f.Project)
	c.number("provider_id", f.ProviderID)
	c.equal("namespace", f.Namespace)
	c.equal("model", f.Model)
	c.equal("route_group", f.Group)
	return c
}

// Usage returns a page of aggregates; see [logbuf.Archive].
func (s *Sink) Usage(ctx context.Context, q logbuf.UsageQuery) (page logbuf.UsagePage, err error) {
	r, err := q.Resolve(time.Now())
	if err != nil {
		return page, fmt.Errorf("chstore: read usage: %w", err)
	}
	var rows []logbuf.Usage
	err = s.guarded(ctx, s.queries, "read usage", func(ctx context.Context) error {
		closed, err := s.closedSpans(ctx, r.Since(), r.Until)
		if err != nil {
			return err
		}
		rows, err = rollup.Collect(&r, 0, func(first, end, limit int) ([]logbuf.Usage, error) {
			return s.sumIntervals(ctx, &r, closed, first, end, limit)
		})
		return err
	})
	if err != nil {
		return page, err
	}
	return r.Page(rows), nil
}

// sumIntervals adds up some of the intervals.
func (s *Sink) sumIntervals(
	ctx context.Context, r *logbuf.UsageRange, closed []rollup.Span, first, end, limit int,
) (rows []logbuf.Usage, err error) {
	until := r.Until
	if end < len(r.Starts) {
		until = r.Starts[end]
	}
	starts := "[" + list(
		r.Starts[first:end],
		func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) },
	) + "]"
	groups, columns := []string{"_start"}, make([]string, 0, len(dimensions()))
	grouped := make([]dimension, 0, len(r.GroupBy))
	for _, d := range dimensions() {
		if slices.Contains(r.GroupBy, d.by) {
			groups, columns, grouped = append(groups, d.column), append(columns, d.column), append(grouped, d)
		}
	}
	source := usageSource(
		closed,
		rollup.Span{From: r.Starts[first], Until: until},
		usageFilters(&r.UsageFilter),
		func(quarter string) string { return "toInt64(roundDown(" + quarter + ", " + starts + "))" },
		columns,
	)
	if source == "" {
		return nil, nil
	}
	selected := slices.Clone(groups)
	for _, c := range counts() {
		selected = append(selected, "sum("+c.name+")")
	}
	after := ""
	if r.After != nil && !r.After.Start.Before(r.Starts[first]) && r.After.Start.Before(until) {
		marks := []string{number(r.After.Start.Unix())}
		for _, d := range grouped {
			marks = append(marks, d.literal(r.After))
		}
		after = " HAVING (" + strings.Join(groups, ", ") + ") > (" + strings.Join(marks, ", ") + ")"
		if len(groups) == 1 {
			after = " HAVING _start > " + marks[0]
		}
	}
	by := strings.Join(groups, ", ")
	answer, err := s.ask(ctx, "SELECT "+strings.Join(selected, ", ")+" FROM ("+source+") GROUP BY "+by+after+
		" ORDER BY "+by+" LIMIT "+strconv.Itoa(limit))
	if err != nil {
		return nil, err
	}
	reader := rowReader{rest: answer}
	for reader.more() {
		rows = append(rows, readUsage(&reader, grouped))
	}
	return rows, reader.err
}

func readUsage(r *rowReader, grouped []dimension) (u logbuf.Usage) {
	u.Start = time.Unix(r.int64(), 0).UTC()
	for _, d := range grouped {
		d.read(r, &u)
	}
	u.Requests, u.Errors, u.Unpriced = r.int64(), r.int64(), r.int64()
	for _, n := range []*int64{
		&u.InputTokens, &u.CacheReadTokens, &u.CacheWriteTokens, &u.OutputTokens, &u.CostNanoUSD,
	} {
		*n = r.int128()
	}
	return u
}

// usageSource writes a query for the usage of a span: the columns _start, which is made of the
// quarter's beginning, then some dimensions, then all counts and _last. It takes hours that are closed from
// usage_quarters, where each has one build that counts, and the rest from the entries; what came late, of all,
// is in usage_late. It is empty where the span is.
func usageSource(
	closed []rollup.Span,
	all rollup.Span,
	where conditions,
	start func(quarter string) string,
	columns []string,
) string {
	if all.From.Before(minTime()) {
		all.From = minTime()
	}
	if all.Until.After(maxTime()) {
		all.Until = maxTime()
	}
	if !all.From.Before(all.Until) {
		return ""
	}
	summed, open := split(closed, all)
	counting := fmt.Sprintf(" AND build IN (SELECT build FROM usage_builds FINAL WHERE hour >= %s AND hour < %s)",
		micros(all.From.Truncate(time.Hour).UnixMicro()), micros(all.Until.UnixMicro()))
	var parts []string
	for _, p := range []struct {
		spans               []rollup.Span
		from, time, quarter string
		also, last          string
		sum                 func(count) string
	}{
		{summed, "usage_quarters", "starts", startOf, counting, lastOfSums, func(c count) string { return c.ofSums }},
		{open, "access_logs FINAL", "ts", quarterOf, " AND " + notLate(hull(open)), lastOfEntries,
			func(c count) string { return c.ofEntries }},
		{[]rollup.Span{all}, "usage_late FINAL", "ts", quarterOf, "", lastOfEntries,
			func(c count) string { return c.ofSums }},
	} {
		if len(p.spans) == 0 {
			continue
		}
		selected := append([]string{start(p.quarter) + " AS _start"}, columns...)
		for _, c := range counts() {
			selected = append(selected, p.sum(c)+" AS "+c.name)
		}
		selected = append(selected, p.last+" AS _last")
		times := make([]string, len(p.spans))
		for i, s := range p.spans {
			times[i] = fmt.Sprintf(
				"%[1]s >= %[2]s AND %[1]s < %[3]s",
				p.time,
				micros(s.From.UnixMicro()),
				micros(s.Until.UnixMicro()),
			)
		}
		parts = append(parts, "SELECT "+strings.Join(selected, ", ")+" FROM "+p.from+
			" WHERE ("+strings.Join(times, " OR ")+")"+p.also+" AND "+where.String()+
			" GROUP BY "+strings.Join(append([]string{"_start"}, columns...), ", "))
	}
	return strings.Join(parts, " UNION ALL ")
}

// split returns which parts of a span lie in some others, which are in order, and which do not.
// What is outside all entries' times is in neither.
func split(closed []rollup.Span, all rollup.Span) (in, out []rollup.Span) {
	if all.From.Before(minTime()) {
		all.From = minTime()
	}
	if all.Until.After(maxTime()) {
		all.Until = maxTime()
	}
	keep := func(spans []rollup.Span, from, until time.Time) []rollup.Span {
		if from.Before(until) {
			return append(spans, rollup.Span{From: from, Until: until})
		}
		return spans
	}
	at := all.From
	for _, c := range closed {
		from, until := c.From, c.Until
		if from.Before(at) {
			from = at
		}
		if until.After(all.Until) {
			until = all.Until
		}
		if !from.Before(until) {
			continue
		}
		out = keep(out, at, from)
		in, at = keep(in, from, until), until
	}
	return in, keep(out, at, all.Until)
}
