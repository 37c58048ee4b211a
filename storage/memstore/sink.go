package memstore

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

// Sink keeps access logs in memory, all of them until maintenance forgets some.
// It is safe for concurrent use.
type Sink struct {
	mu          sync.RWMutex
	entries     []logbuf.Entry // in order of time and id
	usage       rollup.Table
	checkpoints map[uuid.UUID]int64
}

var (
	_ logbuf.Sink         = (*Sink)(nil)
	_ logbuf.Archive      = (*Sink)(nil)
	_ logbuf.Checkpointer = (*Sink)(nil)
	_ logbuf.Maintainer   = (*Sink)(nil)
)

// NewSink returns an empty sink.
func NewSink() *Sink { return &Sink{checkpoints: make(map[uuid.UUID]int64)} }

// Write stores a batch; see [logbuf.Sink]. Memory refuses no entry.
func (s *Sink) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
	if err := ctx.Err(); err != nil {
		return logbuf.Result{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.Segment != uuid.Nil {
		at := s.checkpoints[b.Segment]
		if at >= b.To {
			return logbuf.Result{Duplicate: len(b.Entries)}, nil
		}
		if at < b.From {
			return logbuf.Result{}, &logbuf.BehindError{Position: at}
		}
		s.checkpoints[b.Segment] = b.To
	}
	var result logbuf.Result
	for _, e := range b.Entries {
		e = stored(&e)
		at, found := slices.BinarySearchFunc(s.entries, e, byTime)
		if found {
			result.Duplicate++
			continue
		}
		s.entries = slices.Insert(s.entries, at, e)
		s.usage.Add(&e)
		result.Stored++
	}
	return result, nil
}

// Checkpoint says how far a segment is stored; see [logbuf.Checkpointer].
func (s *Sink) Checkpoint(ctx context.Context, segment uuid.UUID) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.checkpoints[segment], ctx.Err()
}

// Tasks lists what there is to do; see [logbuf.Maintainer].
func (s *Sink) Tasks() []logbuf.Task { return []logbuf.Task{{Name: "drop", Run: s.drop}} }

// drop forgets entries of days that ended before a time.
func (s *Sink) drop(ctx context.Context, o logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	if o.Before.IsZero() || ctx.Err() != nil {
		return report, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, _ := slices.BinarySearchFunc(s.entries, logbuf.Entry{Time: o.Before.Truncate(24 * time.Hour)}, byTime)
	s.entries = slices.Delete(s.entries, 0, n)
	return logbuf.TaskReport{Done: int64(n)}, nil
}

// Logs returns a page of entries; see [logbuf.Archive].
func (s *Sink) Logs(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
	if err := ctx.Err(); err != nil {
		return logbuf.LogPage{}, err
	}
	r, err := q.Resolve(time.Now())
	if err != nil {
		return logbuf.LogPage{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	first, _ := slices.BinarySearchFunc(s.entries, logbuf.Entry{Time: r.Since}, byTime)
	end, _ := slices.BinarySearchFunc(s.entries, logbuf.Entry{Time: r.Before, ID: r.BeforeID}, byTime)
	var entries []logbuf.Entry
	for i := end - 1; i >= first && len(entries) <= r.Limit; i-- {
		if e := &s.entries[i]; q.Matches(e) {
			entries = append(entries, stored(e))
		}
	}
	return r.Page(entries), nil
}

// Usage returns aggregates; see [logbuf.Archive].
func (s *Sink) Usage(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
	if err := ctx.Err(); err != nil {
		return logbuf.UsagePage{}, err
	}
	r, err := q.Resolve(time.Now())
	if err != nil {
		return logbuf.UsagePage{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return rollup.Answer(r, s.usage.Rows), nil
}

// KeyUsage returns what keys have used; see [logbuf.Archive].
func (s *Sink) KeyUsage(ctx context.Context, since map[int64]time.Time) (map[int64]logbuf.KeyUsage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return rollup.AnswerKeys(since, s.usage.Rows), nil
}

// stored returns the entry as it is kept: a copy, its time in microseconds.
func stored(e *logbuf.Entry) logbuf.Entry {
	c := e.Clone()
	c.Time = c.Time.UTC().Truncate(time.Microsecond)
	if len(c.Tags) == 0 {
		c.Tags = nil
	}
	if len(c.Failures) == 0 {
		c.Failures = nil
	}
	return c
}

// byTime orders entries by what identifies them.
func byTime(a, b logbuf.Entry) int {
	return cmp.Or(a.Time.Compare(b.Time), bytes.Compare(a.ID[:], b.ID[:]))
}
