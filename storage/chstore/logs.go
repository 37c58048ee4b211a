package chstore

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// A page is looked for in spans of time, newest first: FINAL cannot read backwards, and most pages
// are found in the first minutes. Each span is so much wider than the one before.
const (
	firstSpan = time.Minute
	widening  = 4
	widest    = 50 * 365 * 24 * time.Hour
)

// conditions collects what rows have to be.
type conditions []string

func (c *conditions) add(format string, args ...any) { *c = append(*c, fmt.Sprintf(format, args...)) }

// equal adds a condition on a column of text, unless the text is empty.
func (c *conditions) equal(column, text string) {
	if text != "" {
		c.add("%s = %s", column, quote(text))
	}
}

// number adds a condition on a column of numbers, unless the number is zero.
func (c *conditions) number(column string, n int64) {
	if n != 0 {
		c.add("%s = %d", column, n)
	}
}

// project adds that a row is of a project or one below it, unless the path is empty.
func (c *conditions) project(path string) {
	if path != "" {
		c.add("(project = %s OR startsWith(project, %s))", quote(path), quote(path+"/"))
	}
}

func (c conditions) String() string {
	if len(c) == 0 {
		return "true"
	}
	return strings.Join(c, " AND ")
}

// filters are the conditions of a query, but those on time and page.
func filters(q *logbuf.LogQuery) (c conditions) {
	c.number("key_id", q.KeyID)
	c.project(q.Project)
	c.number("provider_id", q.ProviderID)
	c.number("status", int64(q.Status))
	for _, f := range []struct{ column, value string }{
		{"namespace", q.Namespace}, {"model", q.Model}, {"upstream_model", q.UpstreamModel},
		{"route_group", q.Group},
		{"balancer", q.Balancer}, {"end_user", q.User}, {"request_id", q.RequestID},
	} {
		c.equal(f.column, f.value)
	}
	for tag, value := range q.Tags {
		c.add("mapContains(tags, %s) AND tags[%s] = %s", quote(tag), quote(tag), quote(value))
	}
	if q.Errors {
		c.add("(status >= 400 OR error != '')")
	}
	if q.Unpriced {
		c.add("cost_nano_usd IS NULL")
	}
	return c
}

// bytes16 writes an id as a literal.
func bytes16(id uuid.UUID) string {
	return "toFixedString(unhex('" + hex.EncodeToString(id[:]) + "'), 16)"
}

// span adds where in time a page lies. It is false where nothing can be.
func (c *conditions) span(r *logbuf.LogRange) bool {
	since, before := r.Since, r.Before
	if since.Before(minTime()) {
		since = minTime()
	}
	if since.After(maxTime()) {
		return false
	}
	c.add("ts >= %s", micros(since.UnixMicro()))
	switch {
	case before.After(maxTime()):
	case r.BeforeID == uuid.Nil:
		c.add("ts < %s", micros(before.UnixMicro()))
	default: // the first half is what the index understands
		c.add("ts <= %[1]s AND (ts < %[1]s OR id < %[2]s)", micros(before.UnixMicro()), bytes16(r.BeforeID))
	}
	return true
}

// Logs returns a page of entries; see [logbuf.Archive].
func (s *Sink) Logs(ctx context.Context, q logbuf.LogQuery) (page logbuf.LogPage, err error) {
	r, err := q.Resolve(time.Now())
	if err != nil {
		return page, fmt.Errorf("chstore: read logs: %w", err)
	}
	var entries []logbuf.Entry
	err = s.guarded(ctx, s.queries, "read logs", func(ctx context.Context) error {
		now, err := s.now(ctx)
		if err != nil {
			return err
		}
		rest, where := r, filters(&q)
		end := r.Before
		if end.After(now) {
			end = now // whose clocks run ahead are in the first span
		}
		width := firstSpan
		if q.RequestID != "" { // has few entries, which its index finds in all of time as fast as in a part
			width = widest
		}
		for ; len(entries) <= r.Limit; width = min(widening*width, widest) {
			part := rest
			part.Limit = r.Limit - len(entries)
			if since := end.Add(-width); since.After(r.Since) {
				part.Since = since
			}
			found, _, err := s.entries(ctx, where, &part)
			if err != nil {
				return err
			}
			entries = append(entries, found...)
			if !part.Since.After(r.Since) {
				return nil
			}
			rest.Before, rest.BeforeID, end = part.Since, uuid.Nil, part.Since
		}
		return nil
	})
	if err != nil {
		return page, err
	}
	return r.Page(entries), nil
}

// entries returns the entries of a range that fulfil conditions, newest first, up to one more than
// its limit, and the versions of their rows. Which they are is found first, with no more columns
// than that takes.
func (s *Sink) entries(
	ctx context.Context, where conditions, r *logbuf.LogRange,
) ([]logbuf.Entry, []uint64, error) {
	var span conditions
	if !span.span(r) {
		return nil, nil, nil
	}
	limit := strconv.Itoa(r.Limit + 1)
	answer, err := s.ask(ctx, "SELECT "+logColumns+" FROM access_logs FINAL WHERE "+span.String()+
		" AND (ts, id) IN (SELECT ts, id FROM access_logs FINAL WHERE "+append(span, where...).String()+
		" ORDER BY ts DESC, id DESC LIMIT "+limit+") ORDER BY ts DESC, id DESC LIMIT "+limit)
	if err != nil {
		return nil, nil, err
	}
	return readLogs(answer)
}
