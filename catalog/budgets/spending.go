package budgets

import (
	"context"
	"errors"
	"math/big"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// Spending tells what is spent. It is for one goroutine at a time.
type Spending interface {
	// Follow adds to a book what was spent since it was called last, and returns whom that touches. The
	// error wraps logbuf.ErrGap when the sums have to be read anew.
	Follow(ctx context.Context, book *Book, accounts Accounts, now time.Time) (
		touched []catalog.HoldTarget, more bool, err error)

	// Sums returns what was spent.
	Sums(ctx context.Context, q logbuf.SpentQuery) (logbuf.SpentSums, error)
}

// SpendingOf returns the Spending of a sink: a logbuf.Meter is followed, a logbuf.Archive is asked
// every 15 s. For any other sink, both methods return the given error.
func SpendingOf(sink logbuf.Sink, otherwise error) Spending {
	if meter, ok := sink.(logbuf.Meter); ok {
		return metered{meter}
	}
	if archive, ok := sink.(logbuf.Archive); ok {
		return &polled{archive: archive}
	}
	return unknown{otherwise}
}

// metered is of a sink that tells what each fold has added.
type metered struct{ meter logbuf.Meter }

func (m metered) Follow(ctx context.Context, book *Book, accounts Accounts, now time.Time) (
	touched []catalog.HoldTarget, more bool, err error,
) {
	after, ok := book.At()
	if !ok {
		return nil, false, logbuf.ErrGap
	}
	if err := m.meter.Fold(ctx); err != nil && !errors.Is(err, logbuf.ErrBusy) {
		return nil, false, err
	}
	page, err := m.meter.Folds(ctx, after)
	if err != nil {
		return nil, false, err
	}
	return book.Add(page, accounts, now), page.More, nil
}

func (m metered) Sums(ctx context.Context, q logbuf.SpentQuery) (logbuf.SpentSums, error) {
	return m.meter.Spent(ctx, q)
}

const (
	// pollInterval is how often a sink that does not tell of what is spent is asked who has been
	// active, whose sums are then read anew; pollSpan is how far that looks back. All sums are read
	// anew each resumInterval, for entries that come late.
	pollInterval  = 15 * time.Second
	pollSpan      = 30 * time.Minute
	resumInterval = time.Hour

	pollRows    = 1000 // of a page
	maxPolled   = 100  // pages
	polledAhead = 2 * time.Hour
)

// polled is of a sink that only answers questions about usage.
type polled struct {
	archive      logbuf.Archive
	asked, whole time.Time // when it was asked last
}

func (p *polled) Follow(ctx context.Context, book *Book, accounts Accounts, now time.Time) (
	touched []catalog.HoldTarget, more bool, err error,
) {
	if _, ok := book.At(); !ok || now.Sub(p.whole) >= resumInterval {
		p.whole, p.asked = now, now
		return nil, false, logbuf.ErrGap
	}
	if now.Sub(p.asked) < pollInterval {
		return nil, false, nil
	}
	active := map[catalog.HoldTarget]bool{}
	err = p.each(ctx, logbuf.UsageQuery{
		GroupBy: []logbuf.Dimension{logbuf.ByKey, logbuf.ByProject}, Interval: logbuf.Month,
		Since: now.Add(-pollSpan).UTC().Truncate(logbuf.Quarter), Until: now.Add(polledAhead).UTC().Truncate(logbuf.Quarter),
	}, func(u *logbuf.Usage) {
		active[catalog.HoldTarget{KeyID: u.KeyID}] = true
		for path := u.Project; path != ""; path = catalog.ParentProject(path) {
			active[catalog.HoldTarget{Project: path}] = true
		}
	})
	if err != nil {
		return nil, false, err
	}
	p.asked = now
	for t := range active {
		if len(accounts.Budgets(t)) > 0 {
			book.Retain(t, nil)
			touched = append(touched, t)
		}
	}
	return touched, false, nil
}

// each calls do with every row of usage.
func (p *polled) each(ctx context.Context, q logbuf.UsageQuery, do func(*logbuf.Usage)) error {
	q.Limit = pollRows
	for range maxPolled {
		page, err := p.archive.Usage(ctx, q)
		if err != nil {
			return err
		}
		for i := range page.Rows {
			do(&page.Rows[i])
		}
		if q.Cursor = page.Next; page.Next == "" {
			return nil
		}
	}
	return errors.New("usage has too many rows")
}

// mostKeys is how many keys one question about usage names.
const mostKeys = 1000

func (p *polled) Sums(ctx context.Context, q logbuf.SpentQuery) (logbuf.SpentSums, error) {
	sums := logbuf.SpentSums{Keys: map[int64]logbuf.Sum{}, Projects: map[string]logbuf.Sum{}}
	usage := logbuf.UsageQuery{Interval: logbuf.Month, Since: q.Since.UTC().Truncate(logbuf.Quarter), Until: q.Until}
	if q.Since.IsZero() {
		usage.Since = time.Unix(0, 0)
	}
	if q.Until.IsZero() {
		usage.Until = time.Now().Add(polledAhead)
	}
	usage.Until = usage.Until.UTC().Truncate(logbuf.Quarter)
	for first := 0; first < len(q.Keys); first += mostKeys {
		byKey := usage
		byKey.GroupBy = []logbuf.Dimension{logbuf.ByKey}
		byKey.KeyIDs = q.Keys[first:min(first+mostKeys, len(q.Keys))]
		if err := p.each(ctx, byKey, func(u *logbuf.Usage) { addUsage(sums.Keys, u.KeyID, u) }); err != nil {
			return sums, err
		}
	}
	for _, path := range q.Projects {
		of := usage
		of.Project = path
		if err := p.each(ctx, of, func(u *logbuf.Usage) { addUsage(sums.Projects, path, u) }); err != nil {
			return sums, err
		}
	}
	return sums, nil
}

func addUsage[K comparable](sums map[K]logbuf.Sum, of K, u *logbuf.Usage) {
	s := logbuf.Sum{CostNanoUSD: *big.NewInt(u.CostNanoUSD), Unpriced: u.Unpriced}
	before := sums[of]
	s.Add(&before)
	sums[of] = s
}

// unknown is of a sink that tells nothing.
type unknown struct{ err error }

func (u unknown) Follow(context.Context, *Book, Accounts, time.Time) (
	[]catalog.HoldTarget, bool, error,
) {
	return nil, false, u.err
}

func (u unknown) Sums(context.Context, logbuf.SpentQuery) (logbuf.SpentSums, error) {
	return logbuf.SpentSums{}, u.err
}
