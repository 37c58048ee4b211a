package memstore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
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
	clock func() time.Time

	mu          sync.RWMutex
	entries     []logbuf.Entry // in order of time and id
	usage       rollup.Ledger
	folds       []fold // in order; never empty
	checkpoints map[uuid.UUID]int64
	repricing   repriceLease
	health      []logbuf.HealthNote
}

// A repriceLease is of the run that prices entries anew.
type repriceLease struct {
	run   uuid.UUID
	until time.Time
}

var (
	_ logbuf.Sink         = (*Sink)(nil)
	_ logbuf.Archive      = (*Sink)(nil)
	_ logbuf.Checkpointer = (*Sink)(nil)
	_ logbuf.Maintainer   = (*Sink)(nil)
	_ logbuf.Repricer     = (*Sink)(nil)
	_ logbuf.HealthKeeper = (*Sink)(nil)
)

// SinkOptions change how a [Sink] works. The zero value is fine, and so is nil.
type SinkOptions struct {
	// UsageZone is the time zone of the days by which usage is kept when its quarters of an hour
	// are too old. Defaults to UTC.
	UsageZone *time.Location

	// Clock tells what is now, where a query does not say. Defaults to time.Now.
	Clock func() time.Time
}

// NewSink returns an empty sink.
func NewSink(opts *SinkOptions) *Sink {
	s := &Sink{checkpoints: make(map[uuid.UUID]int64), clock: time.Now}
	s.folds = []fold{{FoldMark: logbuf.FoldMark{Mark: uuid.New()}}} // before the first
	s.usage.Zone = time.UTC
	if opts != nil && opts.UsageZone != nil {
		s.usage.Zone = opts.UsageZone
	}
	if opts != nil && opts.Clock != nil {
		s.clock = opts.Clock
	}
	return s
}

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
	var usage rollup.Table
	for _, e := range b.Entries {
		e = stored(&e)
		at, found := slices.BinarySearchFunc(s.entries, e, byTime)
		if found {
			result.Duplicate++
			continue
		}
		s.entries = slices.Insert(s.entries, at, e)
		usage.Add(&e)
		result.Stored++
	}
	s.add(&usage)
	return result, nil
}

// Checkpoint says how far a segment is stored; see [logbuf.Checkpointer].
func (s *Sink) Checkpoint(ctx context.Context, segment uuid.UUID) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.checkpoints[segment], ctx.Err()
}

// Tasks lists what there is to do; see [logbuf.Maintainer].
func (s *Sink) Tasks() []logbuf.Task {
	task := func(name string, do func(logbuf.MaintenanceOptions) int64) logbuf.Task {
		return logbuf.Task{Name: name, Run: func(ctx context.Context, o logbuf.MaintenanceOptions) (r logbuf.TaskReport,
			err error) {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			r.Done = do(o)
			return r, nil
		}}
	}
	return []logbuf.Task{
		task("drop", s.drop),
		task("folds", s.forgetFolds),
		task("days", func(o logbuf.MaintenanceOptions) int64 { return s.usage.Close(o.Now) }),
		task("prune", func(o logbuf.MaintenanceOptions) int64 { return s.usage.Prune(o.UsageBefore) }),
	}
}

// drop forgets entries of days that ended before a time.
func (s *Sink) drop(o logbuf.MaintenanceOptions) int64 {
	if o.Before.IsZero() {
		return 0
	}
	n, _ := slices.BinarySearchFunc(s.entries, logbuf.Entry{Time: o.Before.Truncate(24 * time.Hour)}, byTime)
	s.entries = slices.Delete(s.entries, 0, n)
	return int64(n)
}

// Reprice prices the next entries anew; see [logbuf.Repricer].
func (s *Sink) Reprice(ctx context.Context, b logbuf.RepriceBatch) (result logbuf.RepriceResult, err error) {
	if err := ctx.Err(); err != nil {
		return result, err
	}
	now := s.clock()
	r, err := b.Query.Resolve(now)
	if err != nil {
		return result, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !b.DryRun {
		if s.repricing.run != b.Run && now.Before(s.repricing.until) {
			return result, fmt.Errorf("memstore: another run prices entries anew: %w", logbuf.ErrBusy)
		}
		s.repricing = repriceLease{b.Run, now.Add(logbuf.RepriceLease)}
	}
	page := r.Page(s.find(&r, func(e *logbuf.Entry) bool { return rollup.Wants(&b, e) }))
	var p rollup.Repricing
	for i := range page.Entries {
		p.Price(&b, &page.Entries[i])
	}
	p.Result.Next = page.Next
	if b.DryRun {
		return p.Result, nil
	}
	for i := range p.Changed {
		at, _ := slices.BinarySearchFunc(s.entries, p.Changed[i], byTime)
		s.entries[at] = stored(&p.Changed[i])
	}
	s.add(&p.Usage)
	if p.Result.Next == "" {
		s.repricing = repriceLease{}
	}
	return p.Result, nil
}

// Logs returns a page of entries; see [logbuf.Archive].
func (s *Sink) Logs(ctx context.Context, q logbuf.LogQuery) (logbuf.LogPage, error) {
	if err := ctx.Err(); err != nil {
		return logbuf.LogPage{}, err
	}
	r, err := q.Resolve(s.clock())
	if err != nil {
		return logbuf.LogPage{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return r.Page(s.find(&r, q.Matches)), nil
}

// find returns copies of one entry more than a page holds, newest first.
func (s *Sink) find(r *logbuf.LogRange, wanted func(*logbuf.Entry) bool) (entries []logbuf.Entry) {
	first, _ := slices.BinarySearchFunc(s.entries, logbuf.Entry{Time: r.Since}, byTime)
	end, _ := slices.BinarySearchFunc(s.entries, logbuf.Entry{Time: r.Before, ID: r.BeforeID}, byTime)
	for i := end - 1; i >= first && len(entries) <= r.Limit; i-- {
		if e := &s.entries[i]; wanted(e) {
			entries = append(entries, stored(e))
		}
	}
	return entries
}

// Usage returns aggregates; see [logbuf.Archive].
func (s *Sink) Usage(ctx context.Context, q logbuf.UsageQuery) (logbuf.UsagePage, error) {
	if err := ctx.Err(); err != nil {
		return logbuf.UsagePage{}, err
	}
	r, err := q.Resolve(s.clock())
	if err != nil {
		return logbuf.UsagePage{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.usage.Answer(&r)
}

// KeyUsage returns what keys have used; see [logbuf.Archive].
func (s *Sink) KeyUsage(ctx context.Context, since map[int64][]time.Time) (map[int64]logbuf.KeyUsage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.usage.AnswerKeys(since), nil
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
