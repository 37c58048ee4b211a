package sqlitestore

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

const (
	sqlLogs = `select ` + logColumns + ` from access_logs where %s order by ts desc, id desc limit ?`

	// sqlUsage adds up what may be large in two halves: SQLite fails when no
	// integer holds a sum.
	sqlUsage = `
select %s, sum(requests), sum(errors),
    sum(input_tokens >> 32), sum(input_tokens & 0xffffffff),
    sum(cache_read_tokens >> 32), sum(cache_read_tokens & 0xffffffff),
    sum(cache_write_tokens >> 32), sum(cache_write_tokens & 0xffffffff),
    sum(output_tokens >> 32), sum(output_tokens & 0xffffffff),
    sum(cost_nano_usd >> 32), sum(cost_nano_usd & 0xffffffff),
    sum(unpriced)
from usage_hourly where %s group by %s`

	// sqlKeyUsage looks at each key's last hour, and at its hours since the
	// time asked for.
	sqlKeyUsage = `
with asked (id, since) as (select cast(key as integer), value from json_each(?))
select id, (select max(hour) from usage_hourly where key_id = id) as last,
    coalesce(sum(cost_nano_usd >> 32), 0), coalesce(sum(cost_nano_usd & 0xffffffff), 0), coalesce(sum(unpriced), 0)
from asked left join usage_hourly on key_id = id and hour >= since
group by id having last is not null`
)

// columns are the columns of the dimensions, in order, and what stands for
// those that a query does not group by.
var columns = []struct {
	dimension    logbuf.Dimension
	column, zero string
}{
	{logbuf.ByKey, "key_id", "0"},
	{logbuf.ByProject, "project", "''"},
	{logbuf.ByProvider, "provider_id", "0"},
	{logbuf.ByNamespace, "namespace", "''"},
	{logbuf.ByModel, "model", "''"},
	{logbuf.ByGroup, "route_group", "''"},
}

// where collects conditions and their arguments.
type where struct {
	conditions []string
	args       []any
}

func (w *where) add(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

func (w *where) String() string { return strings.Join(w.conditions, " and ") }

// Logs returns a page of entries; see [logbuf.Archive].
func (s *Sink) Logs(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
	r, err := q.Resolve(time.Now())
	if err != nil {
		return logbuf.LogPage{}, fmt.Errorf("sqlitestore: read logs: %w", err)
	}
	query, args := selectLogs(q, r)
	var entries []logbuf.Entry
	err = s.query(ctx, "read logs", query, args, func(rows *sqlx.Rows) error {
		e, err := scanLog(rows)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return logbuf.LogPage{}, err
	}
	return r.Page(entries), nil
}

// selectLogs writes a query for one entry more than a page holds.
func selectLogs(q logbuf.LogQuery, r logbuf.LogRange) (query string, args []any) {
	var w where
	w.add("ts >= ? and (ts, id) < (?, ?)", r.Since.UnixMicro(), r.Before.UnixMicro(), r.BeforeID[:])
	if q.KeyID != 0 {
		w.add("key_id = ?", q.KeyID)
	}
	if q.ProviderID != 0 {
		w.add("provider_id = ?", q.ProviderID)
	}
	if q.Namespace != "" {
		w.add("namespace = ?", q.Namespace)
	}
	if q.Model != "" {
		w.add("model = ?", q.Model)
	}
	if q.Status != 0 {
		w.add("status = ?", q.Status)
	}
	if q.Project != "" {
		w.add("(project = ? or substr(project, 1, length(?) + 1) = ? || '/')", q.Project, q.Project, q.Project)
	}
	for _, f := range []struct{ column, value string }{
		{"upstream_model", q.UpstreamModel}, {"route_group", q.Group}, {"balancer", q.Balancer}, {"end_user", q.User},
	} {
		if f.value != "" {
			w.add(f.column+" = ?", f.value)
		}
	}
	for name, value := range q.Tags {
		w.add("exists (select 1 from json_each(nullif(tags, '')) where key = ? and value = ?)", name, value)
	}
	if q.Errors {
		w.add("(status >= 400 or error <> '')")
	}
	if q.Unpriced {
		w.add("cost_nano_usd is null")
	}
	if q.RequestID != "" {
		w.add("request_id = ? and request_id <> ''", q.RequestID) // the index is for these
	}
	return fmt.Sprintf(sqlLogs, &w), append(w.args, r.Limit+1)
}

// scanLog reads a row of logColumns.
func scanLog(rows *sqlx.Rows) (e logbuf.Entry, err error) {
	var micros int64
	var id []byte
	var tags, failures string
	err = rows.Scan(&micros, &id, &e.KeyID, &e.ProviderID, &e.LatencyMS, &e.TTFTMS,
		&e.InputTokens, &e.CacheReadTokens, &e.CacheWriteTokens, &e.OutputTokens, &e.CostNanoUSD, &e.PricedRevision,
		&e.Status, &e.Attempts, &e.Stream, &e.RequestID, &e.Balancer, &e.Namespace, &e.Model, &e.UpstreamModel,
		&e.Group, &e.Endpoint, &e.Error, &e.ClientIP, &e.UserAgent, &e.Revision, &e.Project, &e.User, &tags, &failures)
	e.Time = time.UnixMicro(micros).UTC()
	copy(e.ID[:], id)
	if err == nil && tags != "" {
		err = json.Unmarshal([]byte(tags), &e.Tags)
	}
	if err == nil && failures != "" {
		err = json.Unmarshal([]byte(failures), &e.Failures)
	}
	return e, err
}

// Usage returns aggregates; see [logbuf.Archive].
func (s *Sink) Usage(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
	asked, err := q.Resolve(time.Now())
	if err != nil {
		return logbuf.UsagePage{}, fmt.Errorf("sqlitestore: read usage: %w", err)
	}
	query, args := selectUsage(&asked)
	var sums []rollup.Row
	err = s.query(ctx, "read usage", query, args, func(rows *sqlx.Rows) error {
		var r rollup.Row
		var input, cacheRead, cacheWrite, output, cost wide
		err := rows.Scan(&r.Quarter, &r.KeyID, &r.Project, &r.ProviderID, &r.Namespace, &r.Model, &r.Group, &r.Requests, &r.Errors,
			&input.high, &input.low, &cacheRead.high, &cacheRead.low, &cacheWrite.high, &cacheWrite.low,
			&output.high, &output.low, &cost.high, &cost.low, &r.Unpriced)
		r.InputTokens, r.CacheReadTokens, r.CacheWriteTokens = input.sum(), cacheRead.sum(), cacheWrite.sum()
		r.OutputTokens, r.CostNanoUSD = output.sum(), cost.sum()
		sums = append(sums, r)
		return err
	})
	if err != nil {
		return logbuf.UsagePage{}, err
	}
	asked.UsageFilter = logbuf.UsageFilter{} // the sums are of these alone, whether they say so or not
	return rollup.Answer(asked, sums), nil
}

// selectUsage writes a query for one row a group.
func selectUsage(q *logbuf.UsageRange) (query string, args []any) {
	var w where
	w.add("hour >= ? and hour < ?", q.Since().UnixMicro(), q.Until.UnixMicro())
	if len(q.KeyIDs) > 0 {
		w.add("key_id in (select value from json_each(?))", list(q.KeyIDs))
	}
	if q.Project != "" {
		w.add("(project = ? or substr(project, 1, length(?) + 1) = ? || '/')", q.Project, q.Project, q.Project)
	}
	if q.ProviderID != 0 {
		w.add("provider_id = ?", q.ProviderID)
	}
	for _, f := range []struct{ column, value string }{
		{"namespace", q.Namespace}, {"model", q.Model}, {"route_group", q.Group},
	} {
		if f.value != "" {
			w.add(f.column+" = ?", f.value)
		}
	}
	selected, groups := []string{"hour"}, []string{"hour"}
	for _, c := range columns {
		if slices.Contains(q.GroupBy, c.dimension) {
			selected, groups = append(selected, c.column), append(groups, c.column)
		} else {
			selected = append(selected, c.zero)
		}
	}
	return fmt.Sprintf(sqlUsage, strings.Join(selected, ", "), &w, strings.Join(groups, ", ")), w.args
}

// wide is a sum of integers whose halves of 32 bits were added up separately.
type wide struct{ high, low int64 }

// sum stops at the largest integer.
func (w wide) sum() int64 {
	high := w.high + w.low>>32
	if high > math.MaxInt32 {
		return math.MaxInt64
	}
	return high<<32 | w.low&math.MaxUint32
}

// KeyUsage returns what keys have used; see [logbuf.Archive].
func (s *Sink) KeyUsage(ctx context.Context, since map[int64]time.Time) (map[int64]logbuf.KeyUsage, error) {
	micros := make(map[int64]int64, len(since))
	for id, t := range since {
		micros[id] = t.UTC().Truncate(logbuf.Quarter).UnixMicro()
	}
	asked, err := json.Marshal(micros)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: read the usage of keys: %w", err)
	}
	used := make(map[int64]logbuf.KeyUsage)
	err = s.query(ctx, "read the usage of keys", sqlKeyUsage, []any{string(asked)}, func(rows *sqlx.Rows) error {
		var id, last int64
		var cost wide
		var unpriced int64
		err := rows.Scan(&id, &last, &cost.high, &cost.low, &unpriced)
		used[id] = logbuf.KeyUsage{LastUsed: time.UnixMicro(last).UTC(), CostNanoUSD: cost.sum(), Unpriced: unpriced}
		return err
	})
	if err != nil {
		return nil, err
	}
	return used, nil
}

// query calls scan for each row.
func (s *Sink) query(ctx context.Context, doing, query string, args []any, scan func(*sqlx.Rows) error) error {
	rows, err := s.store.read.QueryxContext(ctx, query, args...)
	if err != nil {
		return s.fail(ctx, doing, err)
	}
	defer rows.Close() //nolint:errcheck // Err says what there is to say
	for rows.Next() {
		if err := scan(rows); err != nil {
			return s.fail(ctx, doing, err)
		}
	}
	return s.fail(ctx, doing, rows.Err())
}
