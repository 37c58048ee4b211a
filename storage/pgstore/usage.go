package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

const (
	// Between these two stands a sum, which is answered as the nearest bigint.
	sqlNearest   = sqlNearestOf + `coalesce(sum(`
	sqlBigint    = `), 0)))::bigint`
	sqlNearestOf = `least(9223372036854775807, greatest(-9223372036854775808, `

	sqlSums = `sum(requests)::bigint, sum(errors)::bigint, sum(unpriced)::bigint,
    ` + sqlNearest + `input_tokens` + sqlBigint + `, ` + sqlNearest + `cache_read_tokens` + sqlBigint + `,
    ` + sqlNearest + `cache_write_tokens` + sqlBigint + `, ` + sqlNearest + `output_tokens` + sqlBigint + `,
    ` + sqlNearest + `cost_nano_usd` + sqlBigint

	// sqlUsage adds up closed days, quarters, and what is pending, as of one moment. Intervals are
	// told apart by the list of instants at which they begin.
	sqlUsage = `
%[1]sselect width_bucket(starts, %[2]s::timestamptz[]) - 1%[3]s, ` + sqlSums + `
from (
    %[4]s) as used
group by 1%[5]s %[6]s
order by 1%[5]s limit %[7]s`

	// sqlUsed are rows of a table of usage.
	sqlUsed = `select starts, %s, project, provider_id, namespace, model, route_group, requests, errors, unpriced,
        input_tokens::numeric, cache_read_tokens::numeric, cache_write_tokens::numeric, output_tokens::numeric,
        cost_nano_usd::numeric from %s where %s`

	sqlUsedSpans = `select used.* from unnest(%s::timestamptz[], %s::timestamptz[]) as s (since, until)
        cross join lateral (%s) as used`

	// sqlFirstKeys finds the first keys of a table.
	sqlFirstKeys = `(select distinct key_id from %s order by key_id limit %s)`

	// sqlFirstUsed finds when usage begins. Days of several zones begin at other times than intervals do; what
	// it finds is then too early, which does no harm.
	sqlFirstUsed = `
select min(starts) from (
    (select starts from usage_quarter_totals where starts >= $1 and starts < $2 order by starts limit 1) union all
    (select starts from usage_day_totals where starts >= $1 and starts < $2 order by starts limit 1) union all
    (select starts from usage_pending where starts >= $1 and starts < $2 order by starts limit 1) union all
    (select starts from usage_aside where starts >= $1 and starts < $2 order by starts limit 1)
) as first`

	// sqlProjects finds the projects at and below a path that have usage, one after the other
	// through the indexes. They are few, and for each of them an index has the rows of a time.
	sqlProjects = `with recursive found (project) as (
    select min(project) from (` + sqlFirstProjects + `) as first
    union all
    select (select min(project) from (` + sqlNextProjects + `) as next) from found where project is not null
), projects as materialized (
    select project from found where project = %[1]s or project >= %[2]s
)
`
	sqlFirstProjects = `
        (select project from usage_quarter_totals where project >= %[1]s and project < %[3]s order by project limit 1)
        union all
        (select project from usage_day_totals where project >= %[1]s and project < %[3]s order by project limit 1)`
	sqlNextProjects = `
        (select q.project from usage_quarter_totals q where q.project > found.project and q.project >= %[2]s
            and q.project < %[3]s order by q.project limit 1)
        union all
        (select d.project from usage_day_totals d where d.project > found.project and d.project >= %[2]s
            and d.project < %[3]s order by d.project limit 1)`
	sqlOfProjects = `project = any (array(select project from projects))`

	sqlUsageState = `
select coalesce(zone, ''), closed_until, nullif(quarters_from, '-infinity'), folded_at from usage_state`

	// sqlKeyUsage reads what keys have used, each key's rows once. What is pending has no index: it
	// is read once for all of them.
	sqlKeyUsage = `
with asked as materialized (
    select * from unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
        as a (key_id, nth, since, days_from, days_until)
), pending as materialized (
    select a.key_id, a.nth, max(p.last_at) as last_at,
        sum(p.cost_nano_usd) filter (where p.starts >= a.since) as cost,
        sum(p.unpriced) filter (where p.starts >= a.since) as unpriced
    from asked a join (
        select key_id, starts, last_at, cost_nano_usd, unpriced from usage_pending
        union all
        select key_id, starts, last_at, cost_nano_usd, unpriced from usage_aside
    ) as p on p.key_id = a.key_id
    group by 1, 2
), used as materialized (
    select a.key_id, a.nth, sum(u.cost) as cost, sum(u.unpriced) as unpriced
    from asked a cross join lateral (
        select cost_nano_usd as cost, unpriced from usage_days
        where key_id = a.key_id and starts >= a.days_from and starts < a.days_until
        union all
        select cost_nano_usd, unpriced from usage_quarters
        where key_id = a.key_id and starts >= a.since and starts < a.days_from
        union all
        select cost_nano_usd, unpriced from usage_quarters where key_id = a.key_id and starts >= a.days_until
    ) as u
    group by 1, 2
), last as materialized (
    select key_id, nth, greatest(
        (select max(q.last_at) from usage_quarters q where q.key_id = a.key_id
            and q.starts = (select max(starts) from usage_quarters where key_id = a.key_id)),
        (select max(d.last_at) from usage_days d where d.key_id = a.key_id
            and d.starts = (select max(starts) from usage_days where key_id = a.key_id))) as at
    from asked a
)
select key_id, nth, greatest(last.at, p.last_at),
    ` + sqlNearestOf + `coalesce(p.cost, 0) + coalesce(u.cost, 0)))::bigint,
    (coalesce(p.unpriced, 0) + coalesce(u.unpriced, 0))::bigint
from last left join pending p using (key_id, nth) left join used u using (key_id, nth)
where greatest(last.at, p.last_at) is not null`
)

// usageState is what usage_state says.
type usageState struct {
	rollup.State
	foldedAt time.Time
}

// errUnknownZone says that a zone was chosen which this program does not know.
var errUnknownZone = errors.New("the zone whose days usage is kept by is not known here")

// readUsageState reads what is kept of usage.
func (s *Sink) readUsageState(ctx context.Context, conn *pgx.Conn) (st usageState, err error) {
	var name string
	var closed, from, folded *time.Time
	if err := queryRow(ctx, conn, sqlUsageState, nil, &name, &closed, &from, &folded); err != nil {
		return st, err
	}
	st.Zone = s.zone
	if name != "" && name != s.zone.String() {
		if st.Zone, err = time.LoadLocation(name); err != nil {
			return st, fmt.Errorf("%w: %q", errUnknownZone, name)
		}
	}
	for _, t := range []struct {
		from *time.Time
		into *time.Time
	}{{closed, &st.ClosedUntil}, {from, &st.QuartersFrom}, {folded, &st.foldedAt}} {
		if t.from != nil {
			*t.into = t.from.UTC()
		}
	}
	return st, nil
}

// Usage returns a page of aggregates; see [logbuf.Archive].
func (s *Sink) Usage(ctx context.Context, q logbuf.UsageQuery) (page logbuf.UsagePage, err error) {
	r, err := q.Resolve(s.clock())
	if err != nil {
		return page, fmt.Errorf("pgstore: read usage: %w", err)
	}
	var rows []logbuf.Usage
	err = s.read(ctx, s.queries, sqlReadBegin+sqlReadUsage+sqlReadSettings, func(conn *pgx.Conn) error {
		st, err := s.readUsageState(ctx, conn)
		if err != nil {
			return err
		}
		if _, _, err := st.Plan(&r, 0, len(r.Starts)); err != nil {
			return err
		}
		from, err := firstUsed(ctx, conn, &r)
		if err != nil {
			return err
		}
		rows, err = rollup.Collect(&r, from, func(first, end, limit int) ([]logbuf.Usage, error) {
			return sumIntervals(ctx, conn, &r, &st.State, first, end, limit)
		})
		return err
	})
	if err != nil {
		return page, explainSink(ctx, "read usage", err)
	}
	return r.Page(rows), nil
}

// firstUsed returns the first interval that has usage, for questions by keys: an interval may have a row for each
// of 100,000 keys, so they are looked at one by one, and empty ones would make it many at once.
func firstUsed(ctx context.Context, conn *pgx.Conn, r *logbuf.UsageRange) (int, error) {
	if !startsWithKeys(r) || r.After != nil {
		return 0, nil
	}
	var first *time.Time
	if err := queryRow(ctx, conn, sqlFirstUsed, []any{r.Since(), r.Until}, &first); err != nil || first == nil {
		return 0, err
	}
	i, _ := r.Interval(*first)
	return i, nil
}

// startsWithKeys reports whether the rows of an interval are in the order of all keys.
func startsWithKeys(r *logbuf.UsageRange) bool {
	return len(r.GroupBy) > 0 && r.GroupBy[0] == logbuf.ByKey && len(r.KeyIDs) == 0
}

// sumIntervals adds up some of the intervals.
func sumIntervals(
	ctx context.Context, conn *pgx.Conn, r *logbuf.UsageRange, st *rollup.State, first, end, limit int,
) ([]logbuf.Usage, error) {
	days, quarters, err := st.Plan(r, first, end)
	if err != nil {
		return nil, err
	}
	until := r.Until
	if end < len(r.Starts) {
		until = r.Starts[end]
	}
	starts := r.Starts[first:end]
	var w where
	bucket := "width_bucket(starts, " + w.arg(starts) + "::timestamptz[]) - 1"
	columns, positions, after := "", "", ""
	for i, d := range r.GroupBy {
		columns += ", " + usageColumn(d)
		positions += fmt.Sprint(", ", i+2)
	}
	if i, ok := afterInterval(r); ok && i >= first && i < end {
		marks := w.arg(int64(i - first))
		for _, d := range r.GroupBy {
			marks += ", " + w.arg(dimensionOf(r.After, d))
		}
		after = "having (" + bucket + columns + ") > (" + marks + ")"
		if len(r.GroupBy) > 0 && r.GroupBy[0] == logbuf.ByKey && end == first+1 {
			w.add("key_id >= %s", r.After.KeyID)
		}
	}
	filterUsage(&w, r)
	projects, ofProjects, below := "", "", ""
	if r.Project != "" {
		path, from, to := w.arg(r.Project), w.arg(r.Project+"/"), w.arg(r.Project+"0") // 0 comes after /
		projects = fmt.Sprintf(sqlProjects, path, from, to)
		ofProjects = " and " + sqlOfProjects
		below = fmt.Sprintf(" and (project = %s or project >= %s and project < %s)", path, from, to)
	}
	filters := w.String()
	kept, key := keptFor(r)
	tables := append(usedSpans(&w, kept.days, key, days, filters+ofProjects),
		usedSpans(&w, kept.quarters, key, quarters, filters+ofProjects)...)
	span := fmt.Sprintf("starts >= %s and starts < %s and ", w.arg(starts[0]), w.arg(until))
	for _, table := range []string{"usage_pending", "usage_aside"} {
		tables = append(tables, fmt.Sprintf(sqlUsed, "key_id", table, span+filters+below))
	}
	if end == first+1 && startsWithKeys(r) {
		projects, tables = ofFirstKeys(projects, tables, w.arg(int64(limit)+1)) // one more: that of the page before
	}
	sql := fmt.Sprintf(sqlUsage, projects, "$1", columns, strings.Join(tables, "\n    union all\n    "),
		positions, after, w.arg(int64(limit)))
	rows, err := query(ctx, conn, sql, w.args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (logbuf.Usage,
		error) {
		return scanUsage(row, r.GroupBy, starts)
	})
}

// ofFirstKeys cuts down what is added up to so many keys, the first ones that have usage: a page has no
// more, and an interval may have 100,000. The indexes have the rows in the order of keys.
func ofFirstKeys(with string, tables []string, limit string) (string, []string) {
	firsts, cut := make([]string, len(tables)), make([]string, len(tables))
	for i, table := range tables {
		firsts[i] = fmt.Sprintf(sqlFirstKeys, "("+table+") as used", limit)
		cut[i] = fmt.Sprintf(`select * from (%s) as used where key_id = any (array(select key_id from first_keys))`, table)
	}
	of := fmt.Sprintf(sqlFirstKeys, "("+strings.Join(firsts, "\n    union all\n    ")+") as firsts", limit)
	keys := "first_keys as materialized (\n    " + of + "\n)\n"
	if with == "" {
		return "with " + keys, cut
	}
	return strings.TrimSuffix(with, "\n") + ", " + keys, cut
}

// keptFor returns the tables that answer a query: those with the keys only where it is about keys; key is
// what stands for the column that the others do not have.
func keptFor(r *logbuf.UsageRange) (t foldTarget, key string) {
	targets := foldTargets()
	if len(r.KeyIDs) > 0 || slices.Contains(r.GroupBy, logbuf.ByKey) {
		return targets[0], "key_id"
	}
	return targets[1], "0::bigint as key_id"
}

// fewSpans is how many spans of time a statement names one by one, so that the planner knows them.
const fewSpans = 8

// usedSpans returns statements for the rows of a table in some spans of time.
func usedSpans(w *where, table, key string, spans []rollup.Span, filters string) (statements []string) {
	if len(spans) > fewSpans {
		from, until := make([]time.Time, len(spans)), make([]time.Time, len(spans))
		for i, s := range spans {
			from[i], until[i] = s.From, s.Until
		}
		rows := fmt.Sprintf(sqlUsed, key, table, "starts >= since and starts < until and "+filters)
		return []string{fmt.Sprintf(sqlUsedSpans, w.arg(from), w.arg(until), rows)}
	}
	for _, s := range spans {
		span := fmt.Sprintf("starts >= %s and starts < %s and ", w.arg(s.From), w.arg(s.Until))
		statements = append(statements, fmt.Sprintf(sqlUsed, key, table, span+filters))
	}
	return statements
}

// afterInterval returns the interval of the last row of the page before.
func afterInterval(r *logbuf.UsageRange) (int, bool) {
	if r.After == nil {
		return 0, false
	}
	return r.Interval(r.After.Start)
}

// filterUsage adds the conditions of a query, but those of time and project.
func filterUsage(w *where, r *logbuf.UsageRange) {
	if len(r.KeyIDs) > 0 {
		w.add("key_id = any (%s::bigint[])", r.KeyIDs)
	}
	if r.ProviderID != 0 {
		w.add("provider_id = %s", r.ProviderID)
	}
	for _, f := range []struct{ column, value string }{
		{"namespace", r.Namespace}, {"model", r.Model}, {"route_group", r.Group},
	} {
		if f.value != "" {
			w.add(f.column+" = %s", f.value)
		}
	}
}

// usageColumn returns the column of a dimension.
func usageColumn(d logbuf.Dimension) string {
	switch d {
	case logbuf.ByKey:
		return "key_id"
	case logbuf.ByProject:
		return "project"
	case logbuf.ByProvider:
		return "provider_id"
	case logbuf.ByNamespace:
		return "namespace"
	case logbuf.ByModel:
		return "model"
	default:
		return "route_group"
	}
}

// dimensionOf returns the value of a dimension.
func dimensionOf(u *logbuf.Usage, d logbuf.Dimension) any {
	switch d {
	case logbuf.ByKey:
		return u.KeyID
	case logbuf.ByProject:
		return u.Project
	case logbuf.ByProvider:
		return u.ProviderID
	case logbuf.ByNamespace:
		return u.Namespace
	case logbuf.ByModel:
		return u.Model
	default:
		return u.Group
	}
}

// scanUsage reads a row that is grouped by dimensions.
func scanUsage(row pgx.CollectableRow, by []logbuf.Dimension, starts []time.Time) (u logbuf.Usage, err error) {
	var interval int64
	into := []any{&interval}
	for _, d := range by {
		switch d {
		case logbuf.ByKey:
			into = append(into, &u.KeyID)
		case logbuf.ByProject:
			into = append(into, &u.Project)
		case logbuf.ByProvider:
			into = append(into, &u.ProviderID)
		case logbuf.ByNamespace:
			into = append(into, &u.Namespace)
		case logbuf.ByModel:
			into = append(into, &u.Model)
		case logbuf.ByGroup:
			into = append(into, &u.Group)
		}
	}
	into = append(into, &u.Requests, &u.Errors, &u.Unpriced,
		&u.InputTokens, &u.CacheReadTokens, &u.CacheWriteTokens, &u.OutputTokens, &u.CostNanoUSD)
	if err := row.Scan(into...); err != nil {
		return u, err
	}
	u.Start = starts[interval]
	return u, nil
}

// KeyUsage returns what keys have used; see [logbuf.Archive].
func (s *Sink) KeyUsage(ctx context.Context, since map[int64][]time.Time) (map[int64]logbuf.KeyUsage, error) {
	used := make(map[int64]logbuf.KeyUsage, len(since))
	if len(since) == 0 {
		return used, ctx.Err()
	}
	err := s.read(ctx, s.keys, sqlReadBegin+sqlReadUsage+sqlReadSettings, func(conn *pgx.Conn) error {
		st, err := s.readUsageState(ctx, conn)
		if err != nil {
			return err
		}
		spans := st.PlanKeys(since)
		ids, nths := make([]int64, len(spans)), make([]int64, len(spans))
		times := [3][]time.Time{make([]time.Time, len(spans)), make([]time.Time, len(spans)), make([]time.Time, len(spans))}
		for i, k := range spans {
			ids[i], nths[i] = k.KeyID, int64(k.Nth)
			times[0][i], times[1][i], times[2][i] = k.Since, k.DaysFrom, k.DaysUntil
		}
		rows, err := query(ctx, conn, sqlKeyUsage, ids, nths, times[0], times[1], times[2])
		if err != nil {
			return err
		}
		var id, nth int64
		var last time.Time
		var spent logbuf.Spent
		_, err = pgx.ForEachRow(rows, []any{&id, &nth, &last, &spent.CostNanoUSD, &spent.Unpriced}, func() error {
			rollup.NoteSpent(used, since, id, int(nth), last, spent)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, explainSink(ctx, "read the usage of keys", err)
	}
	return used, nil
}
