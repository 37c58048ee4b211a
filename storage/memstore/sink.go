package memstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// Sink keeps access logs in memory, all of them. It is safe for concurrent use.
type Sink struct {
	mu          sync.RWMutex
	entries     []logbuf.Entry // in order of time and id
	checkpoints map[uuid.UUID]int64
}

var (
	_ logbuf.Sink         = (*Sink)(nil)
	_ logbuf.Archive      = (*Sink)(nil)
	_ logbuf.Checkpointer = (*Sink)(nil)
)

// NewSink returns an empty sink.
func NewSink() *Sink { return &Sink{checkpoints: map[uuid.UUID]int64{}} }

// Write implements [logbuf.Sink].
func (s *Sink) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
	if err := ctx.Err(); err != nil {
		return logbuf.Result{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.Segment != uuid.Nil {
		if s.checkpoints[b.Segment] >= b.To {
			return logbuf.Result{Duplicate: len(b.Entries)}, nil
		}
		s.checkpoints[b.Segment] = b.To
	}
	var result logbuf.Result
	for _, e := range b.Entries {
		e = stored(e)
		at, found := slices.BinarySearchFunc(s.entries, e, byTime)
		if found {
			result.Duplicate++
			continue
		}
		s.entries = slices.Insert(s.entries, at, e)
		result.Stored++
	}
	return result, nil
}

// Checkpoint implements [logbuf.Checkpointer].
func (s *Sink) Checkpoint(ctx context.Context, segment uuid.UUID) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.checkpoints[segment], ctx.Err()
}

// stored returns the entry as it is kept: a copy, its time in microseconds.
func stored(e logbuf.Entry) logbuf.Entry {
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	if e.CostNanoUSD != nil {
		cost := *e.CostNanoUSD
		e.CostNanoUSD = &cost
	}
	return e
}

// byTime orders entries by what identifies them.
func byTime(a, b logbuf.Entry) int {
	return cmp.Or(a.Time.Compare(b.Time), bytes.Compare(a.ID[:], b.ID[:]))
}

const (
	defaultPage = 100
	maxPage     = 1000
	window      = 24 * time.Hour // that queries look back, unless told
)

// Logs implements [logbuf.Archive].
func (s *Sink) Logs(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
	if err := ctx.Err(); err != nil {
		return logbuf.LogPage{}, err
	}
	since, until := span(q.Since, q.Until)
	limit := min(cmp.Or(q.Limit, defaultPage), maxPage)
	var before *logbuf.Entry
	if q.Cursor != "" {
		c, err := parseCursor(q.Cursor)
		if err != nil {
			return logbuf.LogPage{}, err
		}
		before = &c
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var page logbuf.LogPage
	for _, e := range slices.Backward(s.entries) {
		if e.Time.Before(since) || !e.Time.Before(until) || before != nil && byTime(e, *before) >= 0 || !selects(q, e) {
			continue
		}
		if len(page.Entries) == limit {
			page.Next = cursor(page.Entries[limit-1])
			break
		}
		page.Entries = append(page.Entries, stored(e))
	}
	return page, nil
}

func selects(q logbuf.LogQuery, e logbuf.Entry) bool {
	return (q.KeyID == 0 || q.KeyID == e.KeyID) && (q.ProviderID == 0 || q.ProviderID == e.ProviderID) &&
		(q.Namespace == "" || q.Namespace == e.Namespace) && (q.Model == "" || q.Model == e.Model) &&
		(q.Status == 0 || q.Status == e.Status) && (q.RequestID == "" || q.RequestID == e.RequestID)
}

// span returns the time that a query covers.
func span(since, until time.Time) (time.Time, time.Time) {
	if until.IsZero() {
		until = time.Now().Add(time.Hour) // clocks may differ that much
		if since.IsZero() {
			return until.Add(-window - time.Hour), until
		}
	}
	if since.IsZero() {
		since = until.Add(-window)
	}
	return since, until
}

func cursor(e logbuf.Entry) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", e.Time.UnixMicro(), e.ID))
}

func parseCursor(s string) (e logbuf.Entry, err error) {
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		var micros int64
		var id string
		if _, err = fmt.Sscanf(string(text), "%d %s", &micros, &id); err == nil {
			e.Time = time.UnixMicro(micros).UTC()
			e.ID, err = uuid.Parse(id)
		}
	}
	if err != nil {
		return e, &logbuf.FieldError{Field: "cursor", Message: "must be the next_cursor of the page before"}
	}
	return e, nil
}

// Usage implements [logbuf.Archive].
func (s *Sink) Usage(ctx context.Context, q logbuf.UsageQuery) ([]logbuf.Usage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	step := 24 * time.Hour
	if q.Interval == logbuf.Hour {
		step = time.Hour
	}
	since, until := span(q.Since, q.Until)
	since = since.UTC().Truncate(step)
	groups := map[logbuf.Usage]*logbuf.Usage{}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.entries {
		if e.Time.Before(since) || !e.Time.Before(until) || len(q.KeyIDs) > 0 && !slices.Contains(q.KeyIDs, e.KeyID) {
			continue
		}
		group := groupOf(e, q.GroupBy)
		group.Start = e.Time.Truncate(step)
		sum, ok := groups[group]
		if !ok {
			sum = &group
			groups[group] = sum
		}
		count(sum, e)
	}
	usage := make([]logbuf.Usage, 0, len(groups))
	for _, sum := range groups {
		usage = append(usage, *sum)
	}
	slices.SortFunc(usage, func(a, b logbuf.Usage) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.ProviderID, b.ProviderID),
			strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Model, b.Model), strings.Compare(a.Group, b.Group))
	})
	return usage, nil
}

// groupOf returns the dimensions of an entry that a query groups by.
func groupOf(e logbuf.Entry, by []logbuf.Dimension) (u logbuf.Usage) {
	for _, d := range by {
		switch d {
		case logbuf.ByKey:
			u.KeyID = e.KeyID
		case logbuf.ByProvider:
			u.ProviderID = e.ProviderID
		case logbuf.ByNamespace:
			u.Namespace = e.Namespace
		case logbuf.ByModel:
			u.Model = e.Model
		case logbuf.ByGroup:
			u.Group = e.Group
		}
	}
	return u
}

func count(u *logbuf.Usage, e logbuf.Entry) {
	u.Requests++
	if e.Status >= 400 || e.Error != "" {
		u.Errors++
	}
	u.InputTokens += e.InputTokens
	u.CacheReadTokens += e.CacheReadTokens
	u.CacheWriteTokens += e.CacheWriteTokens
	u.OutputTokens += e.OutputTokens
	if e.CostNanoUSD == nil {
		u.Unpriced++
		return
	}
	u.CostNanoUSD += *e.CostNanoUSD
}
