package client

import (
	"context"
	"iter"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// Logs returns a page of stored access logs, newest first. The API has no filter for
// q.Unpriced. The error matches catalog.ErrInvalid when a filter is not acceptable.
func (c *Client) Logs(ctx context.Context, q logbuf.LogQuery) (Page[logbuf.Entry], error) {
	v := url.Values{}
	setTexts(v, map[string]string{
		"project": q.Project, "namespace": q.Namespace, "model": q.Model, "upstream_model": q.UpstreamModel,
		"group": q.Group, "balancer": q.Balancer, "user": q.User, "request_id": q.RequestID, "cursor": q.Cursor,
		"since": timeText(q.Since), "until": timeText(q.Until),
	})
	setNumbers(v, map[string]int64{
		"key_id": q.KeyID, "provider_id": q.ProviderID, "status": int64(q.Status), "limit": int64(q.Limit),
	})
	for name, value := range q.Tags {
		v.Add("tag", name+"="+value)
	}
	if q.Errors {
		v.Set("errors", "true")
	}
	return getPage[logbuf.Entry](ctx, c, "logs", v)
}

// AllLogs iterates over all stored entries that q selects, newest first, page by page.
func (c *Client) AllLogs(ctx context.Context, q logbuf.LogQuery) iter.Seq2[logbuf.Entry, error] {
	return pages(func(cursor string) (Page[logbuf.Entry], error) {
		if cursor != "" {
			q.Cursor = cursor
		}
		return c.Logs(ctx, q)
	})
}

const (
	followPause = time.Second // between two looks at the logs
	followBack  = time.Minute // how late an entry may be stored and is still followed
	followPages = 50          // of 1000 entries that one look reads at most
)

// FollowLogs yields the entries that q selects, each once, as they are stored. It looks every
// second, and yields the entries that it finds together oldest first. It sees only entries whose
// time is not before the call, and which were stored at most a minute after their time. Of more
// than 50,000 entries within a minute it sees the newest. The bounds, the cursor and the limit of q
// are ignored. The iteration ends with an error, for example that of the context.
func (c *Client) FollowLogs(ctx context.Context, q logbuf.LogQuery) iter.Seq2[logbuf.Entry, error] {
	return func(yield func(logbuf.Entry, error) bool) {
		f := logFollower{client: c, query: q, start: time.Now(), seen: map[identity]struct{}{}}
		f.query.Until, f.query.Cursor, f.query.Limit = time.Time{}, "", 1000
		for {
			fresh, err := f.look(ctx)
			for _, e := range slices.Backward(fresh) {
				if !yield(e, nil) {
					return
				}
			}
			if err == nil {
				err = sleep(ctx, followPause)
			}
			if err != nil {
				yield(logbuf.Entry{}, err)
				return
			}
		}
	}
}

// logFollower remembers which entries it has seen of the span that it looks at.
type logFollower struct {
	client *Client
	query  logbuf.LogQuery
	start  time.Time
	seen   map[identity]struct{}
}

// An identity is what an entry is told apart by.
type identity struct {
	id     uuid.UUID
	micros int64
}

// look returns the entries that are new, newest first.
func (f *logFollower) look(ctx context.Context) (fresh []logbuf.Entry, err error) {
	since := time.Now().Add(-followBack)
	if since.Before(f.start) {
		since = f.start
	}
	f.query.Since, f.query.Cursor = since, ""
	for e := range f.seen {
		if e.micros < since.UnixMicro() {
			delete(f.seen, e)
		}
	}
	for range followPages {
		page, err := f.client.Logs(ctx, f.query)
		if err != nil {
			return fresh, err
		}
		for _, e := range page.Data {
			it := identity{e.ID, e.Time.UnixMicro()}
			if _, before := f.seen[it]; !before {
				f.seen[it] = struct{}{}
				fresh = append(fresh, e)
			}
		}
		if f.query.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	return fresh, nil
}
