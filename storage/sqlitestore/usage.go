package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/gate"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

const (
	usageKey    = `starts, key_id, project, provider_id, namespace, model, route_group`
	usageCounts = `requests, errors, unpriced, input_tokens_high, input_tokens_low, cache_read_tokens_high, cache_read_tokens_low,
    cache_write_tokens_high, cache_write_tokens_low, output_tokens_high, output_tokens_low, cost_nano_usd_high, cost_nano_usd_low`

	// usageSums add up halves apart: SQLite fails when no integer holds a sum.
	usageSums = `sum(requests), sum(errors), sum(unpriced), sum(input_tokens_high), sum(input_tokens_low),
    sum(cache_read_tokens_high), sum(cache_read_tokens_low), sum(cache_write_tokens_high), sum(cache_write_tokens_low),
    sum(output_tokens_high), sum(output_tokens_low), sum(cost_nano_usd_high), sum(cost_nano_usd_low)`

	sqlAddUsage = `
insert into %s (` + usageKey + `, ` + usageCounts + `, last_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (` + usageKey + `) do update set
    requests                = requests + excluded.requests,
    errors                  = errors + excluded.errors,
    unpriced                = unpriced + excluded.unpriced,
    input_tokens_high       = input_tokens_high + excluded.input_tokens_high,
    input_tokens_low        = input_tokens_low + excluded.input_tokens_low,
    cache_read_tokens_high  = cache_read_tokens_high + excluded.cache_read_tokens_high,
    cache_read_tokens_low   = cache_read_tokens_low + excluded.cache_read_tokens_low,
    cache_write_tokens_high = cache_write_tokens_high + excluded.cache_write_tokens_high,
    cache_write_tokens_low  = cache_write_tokens_low + excluded.cache_write_tokens_low,
    output_tokens_high      = output_tokens_high + excluded.output_tokens_high,
    output_tokens_low       = output_tokens_low + excluded.output_tokens_low,
    cost_nano_usd_high      = cost_nano_usd_high + excluded.cost_nano_usd_high,
    cost_nano_usd_low       = cost_nano_usd_low + excluded.cost_nano_usd_low,
    last_at                 = max(last_at, excluded.last_at)`

	sqlUsageState   = `select zone, closed_until, quarters_from from usage_state`
	sqlChooseZone   = `update usage_state set zone = ? where zone = ''`
	sqlFirstUsage   = `select min(starts) from usage_quarters`
	sqlClosed       = `update usage_state set closed_until = ?`
	sqlQuartersFrom = `update usage_state set quarters_from = ?1 where quarters_from < ?1`

	sqlCloseDay = `
insert into usage_days (` + usageKey + `, ` + usageCounts + `, last_at)
select ?1, key_id, project, provider_id, namespace, model, route_group, ` + usageSums + `, max(last_at)
from usage_quarters where starts >= ?1 and starts < ?2
group by key_id, project, provider_id, namespace, model, route_group`

	// sqlUsage adds up days and quarters of some spans, each of which belongs to an interval.
	sqlUsage = `
with recursive quarters (interval, since, until) as (select value ->> 0, value ->> 1, value ->> 2 from json_each(%[1]s)),
days (interval, since, until) as (select value ->> 0, value ->> 1, value ->> 2 from json_each(%[2]s))%[3]s
select interval, %[4]s, ` + usageSums + `
from (
    select interval, %[4]s, ` + usageCounts + ` from quarters cross join usage_quarters %[5]s
    where starts >= since and starts < until and %[7]s
    union all
    select interval, %[4]s, ` + usageCounts + ` from days cross join usage_days %[6]s
    where starts >= since and starts < until and %[7]s
)
group by %[8]s %[9]s
order by %[8]s limit %[10]s`

	// sqlProjects finds the projects at and below a path that have usage, one after the other
	// through the indexes.
	sqlProjects = `,
found (project) as (
    select min(project) from (
        select min(project) as project from usage_quarters where project >= %[1]s and project < %[3]s
        union all
        select min(project) from usage_days where project >= %[1]s and project < %[3]s)
    union all
    select (select min(project) from (
        select min(q.project) as project from usage_quarters q
        where q.project > found.project and q.project >= %[2]s and q.project < %[3]s
        union all
        select min(d.project) from usage_days d
        where d.project > found.project and d.project >= %[2]s and d.project < %[3]s))
    from found where project is not null
),
projects as (select project from found where project = %[1]s or project >= %[2]s)`

	// sqlKeyUsage looks at each key's last quarter and day, and at its days and quarters since the time
	// asked for.
	sqlKeyUsage = `
with asked (id, nth, since, days_from, days_until) as (
    select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 from json_each(?))
select id, nth, max(last), sum(high), sum(low), sum(unpriced) from (
    select id, nth, (select max(last_at) from usage_quarters where key_id = id
            and starts = (select max(starts) from usage_quarters where key_id = id)) as last,
        0 as high, 0 as low, 0 as unpriced from asked
    union all
    select id, nth, (select max(last_at) from usage_days where key_id = id
        and starts = (select max(starts) from usage_days where key_id = id)), 0, 0, 0 from asked
    union all
    select id, nth, null, cost_nano_usd_high, cost_nano_usd_low, unpriced from asked
        cross join usage_days indexed by usage_days_by_key on key_id = id and starts >= days_from and starts < days_until
    union all
    select id, nth, null, cost_nano_usd_high, cost_nano_usd_low, unpriced from asked
        cross join usage_quarters indexed by usage_quarters_by_key on key_id = id and starts >= since and starts < days_from
    union all
    select id, nth, null, cost_nano_usd_high, cost_nano_usd_low, unpriced from asked
        cross join usage_quarters indexed by usage_quarters_by_key on key_id = id and starts >= days_until
) group by id, nth having max(last) is not null`
)

// columns are the columns of the dimensions, in order, and what stands for those that a query does
// not group by.
func columns() []column {
	return []column{
		{logbuf.ByKey, "key_id", "0", func(u *logbuf.Usage) any { return u.KeyID }},
		{logbuf.ByProject, "project", "''", func(u *logbuf.Usage) any { return u.Project }},
		{logbuf.ByProvider, "provider_id", "0", func(u *logbuf.Usage) any { return u.ProviderID }},
		{logbuf.ByNamespace, "namespace", "''", func(u *logbuf.Usage) any { return u.Namespace }},
		{logbuf.ByModel, "model", "''", func(u *logbuf.Usage) any { return u.Model }},
		{logbuf.ByGroup, "route_group", "''", func(u *logbuf.Usage) any { return u.Group }},
	}
}

type column struct {
	dimension  logbuf.Dimension
	name, zero string
	of         func(*logbuf.Usage) any
}

// usageState reads what is kept of usage.
func (s *Sink) usageState(ctx context.Context, db sqlx.QueryerContext) (st rollup.State, err error) {
	var zone string
	var closed, from int64
	if err := db.QueryRowxContext(ctx, sqlUsageState).Scan(&zone, &closed, &from); err != nil {
		return st, err
	}
	st.Zone = s.zone
	if zone != "" && zone != s.zone.String() {
		if st.Zone, err = time.LoadLocation(zone); err != nil {
			return st, fmt.Errorf("the zone %q, whose days usage is kept by, is not known here", zone)
		}
	}
	if closed != 0 {
		st.ClosedUntil = time.UnixMicro(closed).UTC()
	}
	if from != 0 {
		st.QuartersFrom = time.UnixMicro(from).UTC()
	}
	return st, nil
}

// addUsage adds rows to the quarters, and those of closed days to the days, too, and tells of it.
func (s *Sink) addUsage(ctx context.Context, tx *sqlx.Tx, rows []rollup.Row) error {
	if len(rows) == 0 {
		return nil
	}
	st, err := s.usageState(ctx, tx)
	if err != nil {
		return err
	}
	// Parsing costs more than running: the statements of a batch are prepared.
	quarters, err := tx.PrepareContext(ctx, fmt.Sprintf(sqlAddUsage, "usage_quarters"))
	if err != nil {
		return err
	}
	defer quarters.Close() //nolint:errcheck // with the transaction at the latest
	days, err := tx.PrepareContext(ctx, fmt.Sprintf(sqlAddUsage, "usage_days"))
	if err != nil {
		return err
	}
	defer days.Close() //nolint:errcheck // as above
	for i := range rows {
		r := rows[i]
		at := time.UnixMicro(r.Starts)
		if !at.Before(st.QuartersFrom) {
			if _, err := quarters.ExecContext(ctx, usageRow(&r)...); err != nil {
				return err
			}
		}
		if at.Before(st.ClosedUntil) {
			r.Starts = st.DayStart(at).UnixMicro()
			if _, err := days.ExecContext(ctx, usageRow(&r)...); err != nil {
				return err
			}
		}
	}
	return s.tell(ctx, tx, rows)
}

// usageRow returns the values of usageKey, usageCounts and last_at.
func usageRow(r *rollup.Row) []any {
	row := []any{r.Starts, r.KeyID, r.Project, r.ProviderID, r.Namespace, r.Model, r.Group, r.Requests, r.Errors,
		r.Unpriced}
	for _, w := range []rollup.Wide{r.InputTokens, r.CacheReadTokens, r.CacheWriteTokens, r.OutputTokens, r.CostNanoUSD} {
		high, low := w.Halves()
		row = append(row, high, low)
	}
	return append(row, r.Last)
}

// closeDays adds up the days that ended an hour ago, each in a transaction. From then on what comes
// late is added to both tables.
func (s *Sink) closeDays(ctx context.Context, o logbuf.MaintenanceOptions) (r logbuf.TaskReport, err error) {
	for more := true; more; {
		more = false
		if err := s.inTx(ctx, "close a day of usage", func(tx *sqlx.Tx) error {
			if _, err := tx.ExecContext(ctx, sqlChooseZone, s.zone.String()); err != nil {
				return err
			}
			st, err := s.usageState(ctx, tx)
			if err != nil {
				return err
			}
			r.Warning = st.OtherZone(s.zone)
			first := o.Now
			if st.ClosedUntil.IsZero() {
				var earliest sql.NullInt64
				if err := tx.QueryRowxContext(ctx, sqlFirstUsage).Scan(&earliest); err != nil {
					return err
				}
				if at := time.UnixMicro(earliest.Int64); earliest.Valid && at.Before(first) {
					first = at
				}
			}
			day, ok := st.Closable(first, o.Now)
			if !ok {
				return nil
			}
			if _, err := tx.ExecContext(ctx, sqlCloseDay, day.From.UnixMicro(), day.Until.UnixMicro()); err != nil {
				return err
			}
			more = true
			_, err = tx.ExecContext(ctx, sqlClosed, day.Until.UnixMicro())
			return err
		}); err != nil {
			return r, err
		}
		if more {
			r.Done++
		}
	}
	return r, nil
}

// pruneQuarters forgets quarters that are too old, of days that are closed.
func (s *Sink) pruneQuarters(ctx context.Context, o logbuf.MaintenanceOptions) (r logbuf.TaskReport, err error) {
	if o.UsageBefore.IsZero() {
		return r, ctx.Err()
	}
	var from time.Time
	err = s.inTx(ctx, "forget quarters of usage", func(tx *sqlx.Tx) error {
		st, err := s.usageState(ctx, tx)
		if err != nil || st.ClosedUntil.IsZero() {
			return err
		}
		before := o.UsageBefore
		if st.ClosedUntil.Before(before) {
			before = st.ClosedUntil
		}
		from = st.DayStart(before)
		_, err = tx.ExecContext(ctx, sqlQuartersFrom, from.UnixMicro())
		return err
	})
	if err != nil || from.IsZero() {
		return r, err
	}
	return s.deleteSome(ctx, "forget quarters of usage", sqlForgetQuarters, from)
}

// Usage returns a page of aggregates; see [logbuf.Archive].
func (s *Sink) Usage(ctx context.Context, q logbuf.UsageQuery) (page logbuf.UsagePage, err error) {
	r, err := q.Resolve(s.clock())
	if err != nil {
		return page, fmt.Errorf("sqlitestore: read usage: %w", err)
	}
	var rows []logbuf.Usage
	err = s.inReadTx(ctx, s.queries, func(tx *sqlx.Tx) error {
		st, err := s.usageState(ctx, tx)
		if err != nil {
			return err
		}
		if _, _, err := st.Plan(&r, 0, len(r.Starts)); err != nil {
			return err
		}
		rows, err = rollup.Collect(&r, 0, func(first, end, limit int) ([]logbuf.Usage, error) {
			return sumIntervals(ctx, tx, &r, &st, first, end, limit)
		})
		return err
	})
	if err != nil {
		return page, s.fail(ctx, "read usage", err)
	}
	return r.Page(rows), nil
}

// inReadTx runs fn in a transaction that sees everything as of one moment.
func (s *Sink) inReadTx(ctx context.Context, g *gate.Gate, fn func(*sqlx.Tx) error) error {
	if err := g.Enter(ctx); err != nil {
		return err
	}
	defer g.Leave()
	tx, err := s.store.read.BeginTxx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // it has only read
	return fn(tx)
}

// sumIntervals adds up some of the intervals.
func sumIntervals(
	ctx context.Context, tx *sqlx.Tx, r *logbuf.UsageRange, st *rollup.State, first, end, limit int,
) (rows []logbuf.Usage, err error) {
	var spans [2][][3]int64 // quarters, days
	for i := first; i < end; i++ {
		days, quarters, err := st.Plan(r, i, i+1)
		if err != nil {
			return nil, err
		}
		for kind, some := range [2][]rollup.Span{quarters, days} {
			for _, s := range some {
				spans[kind] = append(spans[kind], [3]int64{int64(i), s.From.UnixMicro(), s.Until.UnixMicro()})
			}
		}
	}
	query, args := selectUsage(r, first, end, spans, limit)
	found, err := tx.QueryxContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer found.Close() //nolint:errcheck // Err says what there is to say
	for found.Next() {
		u, err := scanUsage(found, r)
		if err != nil {
			return nil, err
		}
		rows = append(rows, u)
	}
	return rows, found.Err()
}

// selectUsage writes a query for the groups of some spans of time.
func selectUsage(r *logbuf.UsageRange, first, end int, spans [2][][3]int64, limit int) (query string, args []any) {
	var w where
	quarters, days := w.arg(asJSON(spans[0])), w.arg(asJSON(spans[1]))
	projects, index := "", ""
	switch {
	case len(r.KeyIDs) > 0:
		index = "_by_key"
		w.add("key_id in (select value from json_each(%s))", asJSON(r.KeyIDs))
	case r.Project != "":
		index = "_by_project"
	}
	if r.Project != "" {
		projects = fmt.Sprintf(sqlProjects, w.arg(r.Project), w.arg(r.Project+"/"), w.arg(r.Project+"0")) // 0 comes after /
		w.add("project in (select project from projects)")
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
	selected, groups := []string{}, []string{"interval"}
	for _, c := range columns() {
		if slices.Contains(r.GroupBy, c.dimension) {
			selected, groups = append(selected, c.name), append(groups, c.name)
		} else {
			selected = append(selected, c.zero)
		}
	}
	after := ""
	if r.After != nil {
		if i, ok := r.Interval(r.After.Start); ok && i >= first && i < end {
			marks := []string{w.arg(i)}
			for _, c := range columns() {
				if slices.Contains(r.GroupBy, c.dimension) {
					marks = append(marks, w.arg(c.of(r.After)))
				}
			}
			after = "having (" + strings.Join(groups, ", ") + ") > (" + strings.Join(marks, ", ") + ")"
		}
	}
	ofQuarters, ofDays := "", ""
	if index != "" {
		ofQuarters, ofDays = "indexed by usage_quarters"+index, "indexed by usage_days"+index
	}
	group := strings.Join(groups, ", ")
	query = fmt.Sprintf(sqlUsage, quarters, days, projects, strings.Join(selected, ", "), ofQuarters, ofDays,
		w.String(), group, after, w.arg(limit))
	return query, w.args
}

func scanUsage(rows *sqlx.Rows, r *logbuf.UsageRange) (u logbuf.Usage, err error) {
	var interval int
	var high, low [5]int64
	err = rows.Scan(&interval, &u.KeyID, &u.Project, &u.ProviderID, &u.Namespace, &u.Model, &u.Group,
		&u.Requests, &u.Errors, &u.Unpriced, &high[0], &low[0], &high[1], &low[1],
		&high[2], &low[2], &high[3], &low[3], &high[4], &low[4])
	if err != nil {
		return u, err
	}
	u.Start = r.Starts[interval]
	for i, into := range []*int64{&u.InputTokens, &u.CacheReadTokens, &u.CacheWriteTokens, &u.OutputTokens,
		&u.CostNanoUSD} {
		*into = rollup.FromHalves(high[i], low[i]).Int64()
	}
	return u, nil
}

// KeyUsage returns what keys have used; see [logbuf.Archive].
func (s *Sink) KeyUsage(ctx context.Context, since map[int64][]time.Time) (map[int64]logbuf.KeyUsage, error) {
	used := make(map[int64]logbuf.KeyUsage)
	err := s.inReadTx(ctx, s.keys, func(tx *sqlx.Tx) error {
		st, err := s.usageState(ctx, tx)
		if err != nil {
			return err
		}
		var asked [][5]int64
		for _, k := range st.PlanKeys(since) {
			asked = append(asked, [5]int64{
				k.KeyID, int64(k.Nth), k.Since.UnixMicro(), k.DaysFrom.UnixMicro(), k.DaysUntil.UnixMicro(),
			})
		}
		rows, err := tx.QueryxContext(ctx, sqlKeyUsage, asJSON(asked))
		if err != nil {
			return err
		}
		defer rows.Close() //nolint:errcheck // Err says what there is to say
		for rows.Next() {
			var id, nth, last, high, low, unpriced int64
			if err := rows.Scan(&id, &nth, &last, &high, &low, &unpriced); err != nil {
				return err
			}
			spent := logbuf.Spent{CostNanoUSD: rollup.FromHalves(high, low).Int64(), Unpriced: unpriced}
			rollup.NoteSpent(used, since, id, int(nth), time.UnixMicro(last), spent)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, s.fail(ctx, "read the usage of keys", err)
	}
	return used, nil
}

// asJSON writes numbers for json_each.
func asJSON(v any) string {
	text, _ := json.Marshal(v) // numbers, which cannot fail
	return string(text)
}
