package memstore

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

var _ logbuf.Meter = (*Sink)(nil)

// A fold is what a batch has added to what was spent.
type fold struct {
	logbuf.FoldMark
	at   time.Time
	rows []logbuf.FoldRow
}

// add adds to usage, and tells of it. It needs the lock.
func (s *Sink) add(usage *rollup.Table) {
	s.usage.Merge(usage)
	next := s.folds[len(s.folds)-1].Number + 1
	if rows := rollup.Spent(next, usage.Rows); len(rows) > 0 {
		s.folds = append(s.folds, fold{logbuf.FoldMark{Number: next, Mark: uuid.New()}, s.clock(), rows})
	}
}

// Fold has nothing to do, because usage is added up as it is written; see [logbuf.Meter].
func (s *Sink) Fold(ctx context.Context) error { return ctx.Err() }

// Folds returns what batches have added; see [logbuf.Meter].
func (s *Sink) Folds(ctx context.Context, after logbuf.FoldMark) (page logbuf.FoldPage, err error) {
	if err := ctx.Err(); err != nil {
		return page, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	first, _ := slices.BinarySearchFunc(s.folds, after.Number, func(f fold, n int64) int { return int(f.Number - n) })
	var list rollup.FoldList
	for _, f := range s.folds[first:] {
		list.Add(f.FoldMark, int64(len(f.rows)))
	}
	if page.At, page.More, err = list.Page(after); err != nil {
		return page, err
	}
	for _, f := range s.folds[first:] {
		if f.Number > after.Number && f.Number <= page.At.Number {
			for _, r := range f.rows {
				row := r
				row.Sum = logbuf.Sum{} // with digits of its own
				row.Add(&r.Sum)
				page.Rows = append(page.Rows, row)
			}
		}
	}
	return page, nil
}

// Spent sums up what was spent; see [logbuf.Meter].
func (s *Sink) Spent(ctx context.Context, q logbuf.SpentQuery) (sums logbuf.SpentSums, err error) {
	if err := ctx.Err(); err != nil {
		return sums, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	sums.At = s.folds[len(s.folds)-1].FoldMark
	sums.Keys, sums.Projects = s.usage.Spent(&q)
	return sums, nil
}

// forgetFolds forgets what was added too long ago to be followed, but for the last.
func (s *Sink) forgetFolds(o logbuf.MaintenanceOptions) int64 {
	kept := slices.IndexFunc(s.folds, func(f fold) bool { return !f.at.Before(o.Now.Add(-logbuf.FoldsKept)) })
	if kept < 0 {
		kept = len(s.folds) - 1
	}
	s.folds = slices.Delete(s.folds, 0, kept)
	return int64(kept)
}
