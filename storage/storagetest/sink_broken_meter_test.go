package storagetest

import (
	"context"
	"errors"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// foldsEdited changes what Folds says.
func foldsEdited(edit func(*logbuf.FoldPage, *error)) func(*fakeSink) {
	return func(s *fakeSink) {
		folds := s.folds
		s.folds = func(ctx context.Context, after logbuf.FoldMark) (logbuf.FoldPage, error) {
			page, err := folds(ctx, after)
			edit(&page, &err)
			return page, err
		}
	}
}

// foldsWithoutGaps says of a fold that is not known that nothing came after it.
func foldsWithoutGaps(page *logbuf.FoldPage, err *error) {
	if errors.Is(*err, logbuf.ErrGap) {
		page.Rows, *err = nil, nil
	}
}

func foldsWithoutLast(page *logbuf.FoldPage, _ *error) {
	if n := len(page.Rows); n > 0 {
		page.Rows = page.Rows[:n-1]
	}
}

func foldsOnlyPositive(page *logbuf.FoldPage, _ *error) {
	for i := range page.Rows {
		if page.Rows[i].CostNanoUSD.Sign() < 0 {
			page.Rows[i].CostNanoUSD.SetInt64(0)
		}
	}
}

// spentEdited changes what Spent is asked for.
func spentEdited(edit func(*logbuf.SpentQuery)) func(*fakeSink) {
	return func(s *fakeSink) {
		spent := s.spent
		s.spent = func(ctx context.Context, q logbuf.SpentQuery) (logbuf.SpentSums, error) {
			edit(&q)
			return spent(ctx, q)
		}
	}
}

func spentForEver(q *logbuf.SpentQuery) { q.Until = time.Time{} }

func spentOfOneProject(q *logbuf.SpentQuery) { q.Projects = q.Projects[:min(len(q.Projects), 1)] }

// Fold adds up, as the sink in memory does at once.
func (s *fakeSink) Fold(ctx context.Context) error { return ctx.Err() }

// Folds answers as it is told to.
func (s *fakeSink) Folds(ctx context.Context, after logbuf.FoldMark) (logbuf.FoldPage, error) {
	return s.folds(ctx, after)
}

// Spent answers as it is told to.
func (s *fakeSink) Spent(ctx context.Context, q logbuf.SpentQuery) (logbuf.SpentSums, error) {
	return s.spent(ctx, q)
}
