package pgstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	// Who looks for a key or a request looks back so far at first, and for so many times at once at
	// most.
	firstWindow = 4 * time.Minute
	lastWindow  = 400 * 24 * time.Hour
	manyTimes   = 4000

	// A window with so many matches is not followed by a longer one.
	manyMatches = 20_000

	// Of the matches of a window so many are kept, the newest; it ends there, and the next goes on.
	// They take some megabytes, however many entries a key has.
	keptTimes = 100_000

	// To look for an entry by its time costs as much as to pass over some thirty that are read in
	// the order of time. So a key that has more than one in thirty is looked for without the blocks
	// when there is another condition, which may leave few of its entries.
	denseShare = 30

	sqlLogs = `select ` + logColumns + ` from access_logs where %s order by ts desc, id desc limit %s`

	sqlInProject = `(project = %s or starts_with(project, %s))`
)

// Logs returns a page of entries; see [logbuf.Archive].
func (s *Sink) Logs(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
	r, err := q.Resolve(s.clock())
	if err != nil {
		return logbuf.LogPage{}, fmt.Errorf("pgstore: read logs: %w", err)
	}
	entries, err := s.search(ctx, newLogSearch(&q, &r))
	if err != nil {
		return logbuf.LogPage{}, explainSink(ctx, "read logs", err)
	}
	return r.Page(entries), nil
}

// search returns the entries of a page, and one more if there is.
func (s *Sink) search(ctx context.Context, l *logSearch) (entries []logbuf.Entry, err error) {
	err = s.read(ctx, s.queries, sqlReadBegin+sqlReadSettings, func(conn *pgx.Conn) (err error) {
		l.conn = conn
		entries, err = l.entries(ctx, s.clock())
		return err
	})
	return entries, err
}

// A logSearch looks for the entries of one page, or of one part of a run that prices entries anew.
type logSearch struct {
	conn *pgx.Conn
	q    *logbuf.LogQuery
	r    *logbuf.LogRange

	// notOwn leaves out entries whose cost the balancer brought.
	notOwn bool

	// isDense chooses between the two ways to look for entries of a key that pass another filter.
	isDense func(matches int, total int64) bool

	// kept is how many of the times at which a window may have entries are kept.
	kept int

	looked int  // entries that were looked up one by one
	passed bool // whether others were passed over
	held   int  // the most times that were held at once
}

// newLogSearch returns a search for the entries of a range.
func newLogSearch(q *logbuf.LogQuery, r *logbuf.LogRange) *logSearch {
	return &logSearch{q: q, r: r, isDense: isDense, kept: keptTimes}
}

// isDense reports whether so many matches among so many entries are better found by passing over all
// of them.
func isDense(matches int, total int64) bool { return int64(matches) > total/denseShare }

// entries returns the entries of the range, and one more than its limit if there is.
func (l *logSearch) entries(ctx context.Context, now time.Time) ([]logbuf.Entry, error) {
	if l.q.KeyID != 0 || l.q.RequestID != "" {
		return l.byBlocks(ctx, now)
	}
	return l.find(ctx, span{l.r.Since, l.r.Before}, nil, l.r.Limit+1)
}

// byBlocks looks for the entries of a key or a request, window by window into the past: who has
// many is found in the first.
func (l *logSearch) byBlocks(ctx context.Context, now time.Time) (entries []logbuf.Entry, err error) {
	more := hasOtherFilters(l.q) || l.notOwn
	window := span{until: l.r.Before}
	begin := earliest(l.r.Before, now).UTC().Truncate(time.Microsecond)
	width := firstWindow
	for len(entries) <= l.r.Limit && !window.until.Before(l.r.Since) {
		begin = latest(begin.Add(-width), l.r.Since)
		window.since = begin
		list := timeList{most: l.kept}
		if err := readTimes(ctx, l.conn, l.q.KeyID, l.q.RequestID, window, &list); err != nil {
			return nil, err
		}
		times := list.times
		if l.held = max(l.held, list.held); list.cut { // the window ends with the list, and the next is no wider
			begin, window.since = list.oldest, list.oldest
			width = max(times[0].Sub(begin), time.Microsecond)
		}
		if more && len(times) > l.r.Limit {
			total, err := countEntries(ctx, l.conn, window)
			if err != nil {
				return nil, err
			}
			if l.isDense(len(times), total) {
				rest, err := l.find(ctx, span{l.r.Since, window.until}, nil, l.r.Limit+1-len(entries))
				return append(entries, rest...), err
			}
		}
		// Other conditions may leave few: then more are looked at at once.
		matches := len(times)
		for some := l.r.Limit + 1; len(times) > 0 && len(entries) <= l.r.Limit; some = min(4*some, manyTimes) {
			some := times[:min(some, len(times))]
			times = times[len(some):]
			found, err := l.find(ctx, span{some[len(some)-1], some[0]}, some, l.r.Limit+1-len(entries))
			if err != nil {
				return nil, err
			}
			entries = append(entries, found...)
		}
		window.until = begin.Add(-time.Microsecond)
		if matches < manyMatches {
			width = min(4*width, lastWindow)
		}
	}
	return entries, nil
}

// hasOtherFilters reports whether a query has conditions besides those that blocks know of.
func hasOtherFilters(q *logbuf.LogQuery) bool {
	return q.ProviderID != 0 || q.Project != "" || q.Namespace != "" || q.Model != "" || q.UpstreamModel != "" ||
		q.Group != "" ||
		q.Balancer != "" || q.User != "" || len(q.Tags) > 0 || q.Status != 0 || q.Errors || q.Unpriced
}

// find returns entries of the page's range, newest first: those within a window and, unless times
// is nil, of those times.
func (l *logSearch) find(ctx context.Context, window span, times []time.Time, limit int) ([]logbuf.Entry, error) {
	var w where
	w.add("ts >= %s and ts <= %s", window.since, window.until) // for the choice of partitions
	w.add("(ts, id) < (%s, %s::uuid)", l.r.Before, l.r.BeforeID.String())
	l.looked += len(times)
	l.passed = l.passed || times == nil
	if times != nil {
		w.add("ts = any (%s::timestamptz[])", times)
	}
	filterLogs(&w, l.q)
	if l.notOwn {
		w.add("(cost_nano_usd is null or priced_revision <> 0)")
	}
	rows, err := query(ctx, l.conn, fmt.Sprintf(sqlLogs, &w, w.arg(int64(limit))), w.args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanLog)
}

// filterLogs adds the conditions of a query, but those of time and page.
func filterLogs(w *where, q *logbuf.LogQuery) {
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
	for _, name := range slices.Sorted(maps.Keys(q.Tags)) {
		w.add("tags ->> %s = %s", name, q.Tags[name])
	}
	if q.Errors {
		w.add("(status >= 400 or error <> '')")
	}
	if q.Unpriced {
		w.add("cost_nano_usd is null")
	}
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
