package pgstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

const (
	// Who looks for a key or a request looks back so far at first, and at so
	// many times at once at most.
	firstWindow = 4 * time.Minute
	manyTimes   = 4000

	sqlLogs = `select ` + logColumns + ` from access_logs where %s order by ts desc, id desc limit %s`

	sqlInProject = `(project = %s or starts_with(project, %s))`

	// sqlUsage adds up what is folded and what is not yet, as of one moment.
	sqlUsage = `
select %[1]s, sum(requests)::bigint, sum(errors)::bigint,
    least(sum(input_tokens), 9223372036854775807)::bigint,
    least(sum(cache_read_tokens), 9223372036854775807)::bigint,
    least(sum(cache_write_tokens), 9223372036854775807)::bigint,
    least(sum(output_tokens), 9223372036854775807)::bigint,
    least(sum(cost_nano_usd), 9223372036854775807)::bigint,
    sum(unpriced)::bigint
from (
    select ` + usageColumns + ` from usage_hourly where %[2]s
    union all
    select ` + usageColumns + ` from usage_pending where %[2]s
) as used
group by %[3]s`

	sqlKeyUsage = `
select key_id, max(hour), least(coalesce(sum(cost_nano_usd) filter (where hour >= since), 0), 9223372036854775807)::bigint,
    coalesce(sum(unpriced) filter (where hour >= since), 0)::bigint
from unnest($1::bigint[], $2::timestamptz[]) as asked (key_id, since) join (
    select key_id, hour, cost_nano_usd, unpriced from usage_hourly where key_id = any ($1::bigint[])
    union all
    select key_id, hour, cost_nano_usd, unpriced from usage_pending where key_id = any ($1::bigint[])
) as used using (key_id)
group by key_id`
)

// where collects conditions and their arguments. Queries are planned each time
// with these: what is best for one key is not for another, and the statement
// needs no session.
type where struct {
	conditions []string
	args       []any
}

// add adds a condition; each %s in it stands for one of the values.
func (w *where) add(condition string, values ...any) {
	marks := make([]any, len(values))
	for i, v := range values {
		marks[i] = w.arg(v)
	}
	w.conditions = append(w.conditions, fmt.Sprintf(condition, marks...))
}

// arg adds an argument and returns its mark.
func (w *where) arg(v any) string {
	w.args = append(w.args, v)
	return fmt.Sprint("$", len(w.args))
}

func (w *where) String() string { return strings.Join(w.conditions, " and ") }

// all returns the arguments as pgx takes them.
func (w *where) all() []any { return append([]any{pgx.QueryExecModeExec}, w.args...) }

// Logs returns a page of entries; see [logbuf.Archive].
func (s *Sink) Logs(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
	r, err := q.Resolve(s.clock())
	if err != nil {
		return logbuf.LogPage{}, fmt.Errorf("pgstore: read logs: %w", err)
	}
	var entries []logbuf.Entry
	if q.KeyID == 0 && q.RequestID == "" {
		entries, err = s.search(ctx, &q, &r, span{r.Since, r.Before}, nil, r.Limit+1)
	} else {
		entries, err = s.searchBlocks(ctx, &q, &r)
	}
	if err != nil {
		return logbuf.LogPage{}, explainSink(ctx, "read logs", err)
	}
	return r.Page(entries), nil
}

// searchBlocks looks for the entries of a key or a request, window by window
// into the past: who has many is found in the first.
func (s *Sink) searchBlocks(ctx context.Context, q *logbuf.LogQuery, r *logbuf.LogRange) (entries []logbuf.Entry, err error) {
	window := span{until: r.Before}
	begin := earliest(r.Before, s.clock()).UTC().Truncate(time.Microsecond)
	for width := firstWindow; len(entries) <= r.Limit && !window.until.Before(r.Since); width *= 4 {
		begin = latest(begin.Add(-width), r.Since)
		window.since = begin
		times, err := s.times(ctx, q.KeyID, q.RequestID, window)
		if err != nil {
			return nil, err
		}
		// Other conditions may leave few: then more are looked at at once.
		for some := r.Limit + 1; len(times) > 0 && len(entries) <= r.Limit; some = min(4*some, manyTimes) {
			some := times[:min(some, len(times))]
			times = times[len(some):]
			found, err := s.search(ctx, q, r, span{some[len(some)-1], some[0]}, some, r.Limit+1-len(entries))
			if err != nil {
				return nil, err
			}
			entries = append(entries, found...)
		}
		window.until = begin.Add(-time.Microsecond)
	}
	return entries, nil
}

// search returns entries of a range, newest first: those within a window and,
// unless times is nil, of those times.
func (s *Sink) search(ctx context.Context, q *logbuf.LogQuery, r *logbuf.LogRange, window span, times []time.Time, limit int) ([]logbuf.Entry, error) {
	var w where
	w.add("ts >= %s and ts <= %s", window.since, window.until) // for the choice of partitions
	w.add("(ts, id) < (%s, %s::uuid)", r.Before, r.BeforeID.String())
	if times != nil {
		w.add("ts = any (%s::timestamptz[])", times)
	}
	if q.KeyID != 0 {
		w.add("key_id = %s", q.KeyID)
	}
	if q.ProviderID != 0 {
		w.add("provider_id = %s", q.ProviderID)
	}
	if q.Namespace != "" {
		w.add("namespace = %s", q.Namespace)
	}
	if q.Model != "" {
		w.add("model = %s", q.Model)
	}
	if q.Status != 0 {
		w.add("status = %s", int64(q.Status))
	}
	if q.RequestID != "" {
		w.add("request_id = %s", q.RequestID)
	}
	if q.Project != "" {
		w.add(sqlInProject, q.Project, q.Project+"/")
	}
	for _, f := range []struct{ column, value string }{
		{"upstream_model", q.UpstreamModel}, {"route_group", q.Group}, {"balancer", q.Balancer}, {"end_user", q.User},
	} {
		if f.value != "" {
			w.add(f.column+" = %s", f.value)
		}
	}
	for name, value := range q.Tags {
		w.add("tags ->> %s = %s", name, value)
	}
	if q.Errors {
		w.add("(status >= 400 or error <> '')")
	}
	if q.Unpriced {
		w.add("cost_nano_usd is null")
	}
	rows, err := s.pool.Query(ctx, fmt.Sprintf(sqlLogs, &w, w.arg(int64(limit))), w.all()...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanLog)
}

// scanLog reads a row of logColumns.
func scanLog(row pgx.CollectableRow) (e logbuf.Entry, err error) {
	err = row.Scan(&e.Time, &e.ID, &e.KeyID, &e.ProviderID, &e.LatencyMS, &e.TTFTMS,
		&e.InputTokens, &e.CacheReadTokens, &e.CacheWriteTokens, &e.OutputTokens, &e.CostNanoUSD, &e.PricedRevision,
		&e.Status, &e.Attempts, &e.Stream, &e.RequestID, &e.Balancer, &e.Namespace, &e.Model, &e.UpstreamModel,
		&e.Group, &e.Endpoint, &e.Error, &e.ClientIP, &e.UserAgent, &e.Revision, &e.Project, &e.User, &e.Tags, &e.Failures)
	e.Time = e.Time.UTC()
	return e, err
}

// Usage returns aggregates; see [logbuf.Archive].
func (s *Sink) Usage(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
	r, err := q.Resolve(s.clock())
	if err != nil {
		return logbuf.UsagePage{}, fmt.Errorf("pgstore: read usage: %w", err)
	}
	w := whereUsage(&r)
	columns, positions := "hour", "1"
	for i, d := range r.GroupBy {
		columns += ", " + usageColumn(d)
		positions += fmt.Sprint(", ", i+2)
	}
	rows, err := s.pool.Query(ctx, fmt.Sprintf(sqlUsage, columns, &w, positions), w.all()...)
	if err == nil {
		var sums []rollup.Row
		sums, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (rollup.Row, error) { return scanUsage(row, r.GroupBy) })
		if err == nil {
			r.UsageFilter = logbuf.UsageFilter{} // the sums are of these alone, whether they say so or not
			return rollup.Answer(r, sums), nil
		}
	}
	return logbuf.UsagePage{}, explainSink(ctx, "read usage", err)
}

func whereUsage(r *logbuf.UsageRange) (w where) {
	w.add("hour >= %s and hour < %s", r.Since(), r.Until)
	if len(r.KeyIDs) > 0 {
		w.add("key_id = any (%s::bigint[])", r.KeyIDs)
	}
	if r.Project != "" {
		w.add(sqlInProject, r.Project, r.Project+"/")
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
	return w
}

// KeyUsage returns what keys have used; see [logbuf.Archive].
func (s *Sink) KeyUsage(ctx context.Context, since map[int64]time.Time) (map[int64]logbuf.KeyUsage, error) {
	ids, times := make([]int64, 0, len(since)), make([]time.Time, 0, len(since))
	for id, t := range since {
		ids, times = append(ids, id), append(times, t.UTC().Truncate(logbuf.Quarter))
	}
	used := make(map[int64]logbuf.KeyUsage)
	rows, err := s.pool.Query(ctx, sqlKeyUsage, pgx.QueryExecModeExec, ids, times)
	if err == nil {
		var id int64
		var u logbuf.KeyUsage
		_, err = pgx.ForEachRow(rows, []any{&id, &u.LastUsed, &u.CostNanoUSD, &u.Unpriced}, func() error {
			u.LastUsed = u.LastUsed.UTC()
			used[id] = u
			return nil
		})
	}
	if err != nil {
		return nil, explainSink(ctx, "read the usage of keys", err)
	}
	return used, nil
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

// scanUsage reads a row that is grouped by dimensions.
func scanUsage(row pgx.CollectableRow, by []logbuf.Dimension) (r rollup.Row, err error) {
	var quarter time.Time
	into := []any{&quarter}
	for _, d := range by {
		switch d {
		case logbuf.ByKey:
			into = append(into, &r.KeyID)
		case logbuf.ByProject:
			into = append(into, &r.Project)
		case logbuf.ByProvider:
			into = append(into, &r.ProviderID)
		case logbuf.ByNamespace:
			into = append(into, &r.Namespace)
		case logbuf.ByModel:
			into = append(into, &r.Model)
		case logbuf.ByGroup:
			into = append(into, &r.Group)
		}
	}
	into = append(into, &r.Requests, &r.Errors,
		&r.InputTokens, &r.CacheReadTokens, &r.CacheWriteTokens, &r.OutputTokens, &r.CostNanoUSD, &r.Unpriced)
	err = row.Scan(into...)
	r.Quarter = quarter.UnixMicro()
	return r, err
}
