package logbuf

import (
	"context"
	"errors"
	"math"
	"math/big"
	"time"

	"github.com/google/uuid"
)

// A Meter is a [Sink] that reports spending as it is added to usage. A caller that has read the
// sums once keeps them up to date by adding what came since.
//
// Usage is added up in folds, one after the other. What a fold adds is in the sums of [Meter.Spent]
// as of that fold and of later ones, and not in those as of earlier ones. When a cost is computed
// anew, the difference is added, which may be negative. Entries that are stored and not folded yet
// are in no sum.
type Meter interface {
	// Fold adds up what was stored before the call. It MUST return an error that wraps [ErrBusy]
	// when another process is at it; engines that add up as they write have nothing to do.
	Fold(ctx context.Context) error

	// Folds returns what the folds after the given one have added, oldest first, and which fold is
	// the last of them. It MUST return whole folds, at least one if there is one, and stop after
	// some thousand rows. It MUST keep what each fold has added for [FoldsKept], and the newest
	// fold for ever. It MUST return an error that wraps [ErrGap] when it does not know the given
	// fold, or not all folds since.
	Folds(ctx context.Context, after FoldMark) (FoldPage, error)

	// Spent returns what keys and projects have spent, as of one fold. Where usage is kept only by
	// the day, a bound within a day counts as the beginning of that day.
	Spent(ctx context.Context, q SpentQuery) (SpentSums, error)
}

// ErrGap says that a [Meter] does not know what was added since a fold: it was too long ago, or the
// store has lost what it had committed.
var ErrGap = errors.New("what was added to usage since then is not known")

// FoldsKept is how long a [Meter] keeps what each fold has added.
const FoldsKept = time.Hour

// A FoldMark names a fold. Numbers rise, and the mark is random: a store that was set back to a
// backup gives a number a second time, and never the mark.
type FoldMark struct {
	Number int64
	Mark   uuid.UUID
}

// A FoldPage is what some folds have added.
type FoldPage struct {
	Rows []FoldRow
	At   FoldMark // the last of them, or the one that was asked for
	More bool     // there were later ones
}

// A FoldRow is what one fold has added to what one key spent for one project in one quarter of an
// hour.
type FoldRow struct {
	Fold    int64 // the number
	Starts  time.Time
	KeyID   int64
	Project string
	Sum
}

// A Sum is what was spent. It is exact.
type Sum struct {
	CostNanoUSD big.Int // of the priced requests
	Unpriced    int64   // requests whose cost is not known
}

// Add adds another sum.
func (s *Sum) Add(o *Sum) {
	s.CostNanoUSD.Add(&s.CostNanoUSD, &o.CostNanoUSD)
	s.Unpriced += o.Unpriced
}

// Nearest returns the cost, or the nearest int64 where none holds it.
func (s *Sum) Nearest() int64 {
	switch {
	case s.CostNanoUSD.IsInt64():
		return s.CostNanoUSD.Int64()
	case s.CostNanoUSD.Sign() < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

// IsZero reports whether nothing was spent.
func (s *Sum) IsZero() bool { return s.Unpriced == 0 && s.CostNanoUSD.Sign() == 0 }

// A SpentQuery asks what keys and projects have spent in a span of time.
type SpentQuery struct {
	Since    time.Time // inclusive, cut to the quarter of an hour; zero is ever
	Until    time.Time // exclusive, cut likewise; zero has no end
	Keys     []int64   // in whatever project
	Projects []string  // each with all below it
}

// SpentSums are the answer: what has spent nothing is absent.
type SpentSums struct {
	At       FoldMark // the last fold that is in the sums
	Keys     map[int64]Sum
	Projects map[string]Sum
}
