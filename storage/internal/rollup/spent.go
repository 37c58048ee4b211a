package rollup

import (
	"fmt"
	"math/big"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// Spent returns what rows of usage add to what keys spend for projects, a row for each quarter of
// an hour in which that is anything.
func Spent(fold int64, rows []Row) (spent []logbuf.FoldRow) {
	type account struct {
		starts, key int64
		project     string
	}
	index := map[account]int{}
	var sums []Counts
	for i := range rows {
		r := &rows[i]
		at := account{r.Starts, r.KeyID, r.Project}
		n, known := index[at]
		if !known {
			n = len(sums)
			index[at] = n
			sums = append(sums, Counts{})
			spent = append(spent, logbuf.FoldRow{
				Fold: fold, Starts: time.UnixMicro(r.Starts).UTC(), KeyID: r.KeyID, Project: r.Project,
			})
		}
		sums[n].Merge(&r.Counts)
	}
	kept := spent[:0]
	for i := range spent {
		if spent[i].Sum = sums[i].Sum(); !spent[i].IsZero() {
			kept = append(kept, spent[i])
		}
	}
	return kept
}

// Sum returns what was spent of the counts.
func (c *Counts) Sum() logbuf.Sum {
	return logbuf.Sum{CostNanoUSD: *c.CostNanoUSD.Big(), Unpriced: c.Unpriced}
}

// Big returns the sum.
func (w Wide) Big() *big.Int {
	n := new(big.Int).Lsh(big.NewInt(w.high), 64)
	return n.Add(n, new(big.Int).SetUint64(w.low))
}

// A SpentSpan says where to look for what was spent in a span of time: in quarters from Since until
// DaysFrom and from DaysUntil until Until, and between in days.
type SpentSpan struct{ Since, DaysFrom, DaysUntil, Until time.Time }

// PlanSpent says where to look for what a query asks for.
func (s *State) PlanSpent(q *logbuf.SpentQuery) (p SpentSpan) {
	k := s.planKey(0, 0, q.Since)
	p = SpentSpan{k.Since, k.DaysFrom, k.DaysUntil, endOfTime()}
	if q.Until.IsZero() {
		return p
	}
	if p.Until = q.Until.UTC().Truncate(logbuf.Quarter); p.Until.Before(p.DaysUntil) {
		p.DaysUntil = s.DayStart(p.Until)
	}
	if p.DaysUntil.Before(p.DaysFrom) {
		p.DaysFrom, p.DaysUntil = p.Since, p.Since
	}
	return p
}

// InDays and InQuarters report whether the row of a day, or of a quarter, that begins at a time is
// in the span.
func (p *SpentSpan) InDays(at time.Time) bool {
	return !at.Before(p.DaysFrom) && at.Before(p.DaysUntil)
}

// InQuarters is the other of the two.
func (p *SpentSpan) InQuarters(at time.Time) bool {
	return !at.Before(p.Since) && at.Before(p.Until) && (at.Before(p.DaysFrom) || !at.Before(p.DaysUntil))
}

// Spent says what keys and projects have spent.
func (l *Ledger) Spent(q *logbuf.SpentQuery) (keys map[int64]logbuf.Sum, projects map[string]logbuf.Sum) {
	p := l.PlanSpent(q)
	keys, projects = map[int64]logbuf.Sum{}, map[string]logbuf.Sum{}
	ids, paths := map[int64]bool{}, map[string]bool{}
	for _, id := range q.Keys {
		ids[id] = true
	}
	for _, path := range q.Projects {
		paths[path] = true
	}
	count := func(t *Table, within func(time.Time) bool) {
		for i := range t.Rows {
			row := &t.Rows[i]
			sum := row.Sum()
			if sum.IsZero() || !within(time.UnixMicro(row.Starts)) {
				continue
			}
			if ids[row.KeyID] {
				addTo(keys, row.KeyID, &sum)
			}
			for path := range paths {
				if logbuf.InProject(row.Project, path) {
					addTo(projects, path, &sum)
				}
			}
		}
	}
	count(&l.days, p.InDays)
	count(&l.quarters, p.InQuarters)
	return keys, projects
}

func addTo[K comparable](sums map[K]logbuf.Sum, k K, sum *logbuf.Sum) {
	s := sums[k]
	s.CostNanoUSD = *new(big.Int).Set(&s.CostNanoUSD) // the copy shares the digits
	s.Add(sum)
	sums[k] = s
}

const (
	// FoldsRead is how many folds an engine reads at once, in order, the one that is known already
	// included.
	FoldsRead = "1000"

	foldsRead = 1000
	foldPage  = 5000 // rows of a page, more where one fold has them
)

// A FoldList is of the folds from one that is known already on, in order, and picks those of a page.
type FoldList struct {
	first, last logbuf.FoldMark
	read        int
	rows        int64 // of those that come after the first, as far as the page goes
	full        bool
}

// Add adds a fold, with how many rows it has.
func (l *FoldList) Add(fold logbuf.FoldMark, rows int64) {
	switch l.read++; {
	case l.read == 1:
		l.first, l.last = fold, fold
	case l.full || l.rows > 0 && l.rows+rows > foldPage:
		l.full = true
	default:
		l.rows += rows
		l.last = fold
	}
}

// Page returns how far the page goes, and whether there is another; an error that wraps
// logbuf.ErrGap when the fold that is known is not there.
func (l *FoldList) Page(after logbuf.FoldMark) (at logbuf.FoldMark, more bool, err error) {
	if l.read == 0 || l.first != after {
		return after, false, fmt.Errorf("folds of usage: %w", logbuf.ErrGap)
	}
	return l.last, l.full || l.read == foldsRead, nil
}
