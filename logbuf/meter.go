package logbuf

import (
	"context"
	"errors"
	"math"
	"math/big"
	"time"

	"github.com/google/uuid"
)

// A Meter is a [Sink] that tells what is spent as it is added to usage, so that whoever has
// summed up once keeps the sum by adding what came since.
//
// Usage is added up in folds, which follow each other: all that a fold adds is in the sums of
// [Meter.Spent] from that fold on, and in none before it. A price that is computed anew is added
// as a difference, which may be negative. What was stored and is not folded yet is in no sum.
type Meter interface {
	// Fold adds up what was stored before the call. It MUST return an error that wraps [ErrBusy]
	// when another process is at it; engines that add up as they write have nothing to do.
	Fold(ctx context.Context) error

	// Folds returns what the folds after one have added, oldest first, and how far that goes. It
	// MUST return whole folds, at least one where there is one, and no more than it takes to reach
	// some thousand rows. It MUST keep what each added for an hour, and the newest fold for ever. It
	// MUST return an error that wraps [ErrGap] when it does not know the fold, or not all since.
	Folds(ctx context.Context, after FoldMark) (FoldPage, error)

	// Spent returns what keys and projects have spent, as of one fold. What is no more kept by the
	// quarter of an hour counts as from the beginning of its day.
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
