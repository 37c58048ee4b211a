package sqlitestore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

const (
	sqlLogs  = `select ` + logColumns + ` from access_logs where %s order by ts desc, id desc limit ?`
	sqlUsage = `select ` + usageColumns + ` from usage_hourly where %s`
)

// Logs returns a page of entries; see [logbuf.Archive].
func (s *Sink) Logs(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
	r, err := q.Resolve(time.Now())
	if err != nil {
		return logbuf.LogPage{}, fmt.Errorf("sqlitestore: read logs: %w", err)
	}
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
	if q.RequestID != "" {
		w.add("request_id = ? and request_id <> ''", q.RequestID) // the index is for these
	}
	var entries []logbuf.Entry
	err = s.query(ctx, "read logs", fmt.Sprintf(sqlLogs, &w), append(w.args, r.Limit+1), func(rows *sqlx.Rows) error {
		e, err := scanLog(rows)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return logbuf.LogPage{}, err
	}
	return r.Page(entries), nil
}

// scanLog reads a row of logColumns.
func scanLog(rows *sqlx.Rows) (e logbuf.Entry, err error) {
	var micros int64
	var id []byte
	err = rows.Scan(&micros, &id, &e.KeyID, &e.ProviderID, &e.LatencyMS, &e.TTFTMS,
		&e.InputTokens, &e.CacheReadTokens, &e.CacheWriteTokens, &e.OutputTokens, &e.CostNanoUSD, &e.PricedRevision,
		&e.Status, &e.Attempts, &e.Stream, &e.RequestID, &e.Balancer, &e.Namespace, &e.Model, &e.UpstreamModel,
		&e.Group, &e.Endpoint, &e.Error, &e.ClientIP, &e.UserAgent, &e.Revision)
	e.Time = time.UnixMicro(micros).UTC()
	copy(e.ID[:], id)
	return e, err
}

// Usage returns aggregates; see [logbuf.Archive].
func (s *Sink) Usage(ctx context.Context, q logbuf.UsageQuery) ([]logbuf.Usage, error) {
	q, err := q.Resolve(time.Now())
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: read usage: %w", err)
	}
	var w where
	w.add("hour >= ? and hour < ?", q.Since.UnixMicro(), q.Until.UnixMicro())
	if len(q.KeyIDs) > 0 {
		w.add("key_id in (select value from json_each(?))", list(q.KeyIDs))
	}
	found, err := s.usage(ctx, &w)
	if err != nil {
		return nil, err
	}
	return rollup.Answer(q, found), nil
}

// KeyUsage returns what keys have used; see [logbuf.Archive].
func (s *Sink) KeyUsage(ctx context.Context, since map[int64]time.Time) (map[int64]logbuf.KeyUsage, error) {
	var w where
	w.add("key_id in (select value from json_each(?))", list(slices.Collect(maps.Keys(since))))
	found, err := s.usage(ctx, &w)
	if err != nil {
		return nil, err
	}
	return rollup.AnswerKeys(since, found), nil
}

func (s *Sink) usage(ctx context.Context, w *where) (found []rollup.Row, err error) {
	err = s.query(ctx, "read usage", fmt.Sprintf(sqlUsage, w), w.args, func(rows *sqlx.Rows) error {
		var r rollup.Row
		err := rows.Scan(&r.Hour, &r.KeyID, &r.ProviderID, &r.Namespace, &r.Model, &r.Group, &r.Requests, &r.Errors,
			&r.InputTokens, &r.CacheReadTokens, &r.CacheWriteTokens, &r.OutputTokens, &r.CostNanoUSD, &r.Unpriced)
		found = append(found, r)
		return err
	})
	return found, err
}

// query calls scan for each row.
func (s *Sink) query(ctx context.Context, doing, query string, args []any, scan func(*sqlx.Rows) error) error {
	if err := s.store.alive(); err != nil {
		return err
	}
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
