package sqlitestore

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	sqlLogs = `select ` + logColumns + ` from access_logs where %s order by ts desc, id desc limit %s`
)

// where collects conditions and their arguments, which are numbered.
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
	return fmt.Sprint("?", len(w.args))
}

func (w *where) String() string {
	if len(w.conditions) == 0 {
		return "true"
	}
	return strings.Join(w.conditions, " and ")
}

// Logs returns a page of entries; see [logbuf.Archive].
func (s *Sink) Logs(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
	r, err := q.Resolve(s.clock())
	if err != nil {
		return logbuf.LogPage{}, fmt.Errorf("sqlitestore: read logs: %w", err)
	}
	query, args := selectLogs(&q, &r, "")
	var entries []logbuf.Entry
	err = s.inReadTx(ctx, s.queries, func(tx *sqlx.Tx) (err error) {
		entries, err = queryLogs(ctx, tx, query, args)
		return err
	})
	if err != nil {
		return logbuf.LogPage{}, s.fail(ctx, "read logs", err)
	}
	return r.Page(entries), nil
}

// selectLogs writes a query for one entry more than a page holds, with one more condition unless
// that is empty.
func selectLogs(q *logbuf.LogQuery, r *logbuf.LogRange, more string) (query string, args []any) {
	var w where
	if more != "" {
		w.add(more)
	}
	w.add("ts >= %s and (ts, id) < (%s, %s)", r.Since.UnixMicro(), r.Before.UnixMicro(), r.BeforeID[:])
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
		w.add("status = %s", q.Status)
	}
	if q.Project != "" {
		w.add("(project = %s or substr(project, 1, length(%s) + 1) = %s || '/')", q.Project, q.Project, q.Project)
	}
	for _, f := range []struct{ column, value string }{
		{"upstream_model", q.UpstreamModel}, {"route_group", q.Group}, {"balancer", q.Balancer}, {"end_user", q.User},
	} {
		if f.value != "" {
			w.add(f.column+" = %s", f.value)
		}
	}
	for name, value := range q.Tags {
		w.add("exists (select 1 from json_each(nullif(tags, '')) where key = %s and value = %s)", name, value)
	}
	if q.Errors {
		w.add("(status >= 400 or error <> '')")
	}
	if q.Unpriced {
		w.add("cost_nano_usd is null")
	}
	if q.RequestID != "" {
		w.add("request_id = %s and request_id <> ''", q.RequestID) // the index is for these
	}
	query = fmt.Sprintf(sqlLogs, &w, w.arg(r.Limit+1))
	return query, w.args
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

// queryLogs reads the entries that a query selects.
func queryLogs(ctx context.Context, db sqlx.QueryerContext, query string, args []any) (entries []logbuf.Entry,
	err error) {
	rows, err := db.QueryxContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err says what there is to say
	for rows.Next() {
		e, err := scanLog(rows)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}
