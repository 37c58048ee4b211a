package budgets

import (
	"cmp"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// A Book keeps in memory what was spent of budgets. A sum is read once from the log store, and what
// is spent afterwards is added to it. A new window gets a sum only when somebody asks for it, so
// keys and projects that spend nothing cost nothing. It is safe for concurrent use.
type Book struct {
	mu    sync.Mutex
	at    logbuf.FoldMark                  // up to which all was added
	reads bool                             // whether at is known
	sums  map[catalog.HoldTarget][]*sum    // of their budgets
	ahead map[catalog.HoldTarget]time.Time // who has spent something in a quarter that has not begun
}

// A sum is of one budget, which is known by its window and its time zone.
type sum struct {
	window, zone string
	Window
	spent logbuf.Sum
	asOf  int64 // the last fold that is in it
}

func (s *sum) of(b *catalog.Budget) bool { return s.window == b.Window && s.zone == b.Timezone }

// Accounts knows the budgets of keys and projects.
type Accounts interface {
	Budgets(of catalog.HoldTarget) []catalog.Budget
}

// NewBook returns a book without sums.
func NewBook() *Book {
	b := &Book{}
	b.Reset()
	return b
}

// Reset forgets everything.
func (b *Book) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at, b.reads = logbuf.FoldMark{}, false
	b.sums, b.ahead = map[catalog.HoldTarget][]*sum{}, map[catalog.HoldTarget]time.Time{}
}

// At returns the fold up to which everything was added; ok is false when it is not known.
func (b *Book) At() (at logbuf.FoldMark, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at, b.reads
}

// Begin says that what comes after a fold will be added.
func (b *Book) Begin(at logbuf.FoldMark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at, b.reads = at, true
}

// Add adds what some folds have spent, up to one, and returns the keys and projects with budgets
// that it touches.
func (b *Book) Add(page logbuf.FoldPage, accounts Accounts, now time.Time) (touched []catalog.HoldTarget) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range page.Rows {
		r := &page.Rows[i]
		if b.add(catalog.HoldTarget{KeyID: r.KeyID}, r, accounts, now) {
			touched = append(touched, catalog.HoldTarget{KeyID: r.KeyID})
		}
		for path := r.Project; path != ""; path = catalog.ParentProject(path) {
			if b.add(catalog.HoldTarget{Project: path}, r, accounts, now) {
				touched = append(touched, catalog.HoldTarget{Project: path})
			}
		}
	}
	b.at = page.At
	return touched
}

// add adds a row to the sums of one key or project. It needs the lock.
func (b *Book) add(of catalog.HoldTarget, r *logbuf.FoldRow, accounts Accounts, now time.Time) (touched bool) {
	touched = len(accounts.Budgets(of)) > 0
	for _, s := range b.sums[of] {
		if r.Fold > s.asOf && s.Has(r.Starts) { // else it has the row already, or is of another window
			s.spent.Add(&r.Sum)
		}
	}
	if touched && r.Starts.After(now) {
		if at, known := b.ahead[of]; !known || r.Starts.Before(at) {
			b.ahead[of] = r.Starts
		}
	}
	return touched
}

// find returns the sum of a budget; nil when it is not in memory. It needs the lock.
func (b *Book) find(of catalog.HoldTarget, budget *catalog.Budget) *sum {
	for _, s := range b.sums[of] {
		if s.of(budget) {
			return s
		}
	}
	return nil
}

// Due returns those that have spent something in a quarter of an hour that had not begun, and has
// now.
func (b *Book) Due(now time.Time) (due []catalog.HoldTarget) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for of, at := range b.ahead {
		if !at.After(now) {
			due = append(due, of)
			delete(b.ahead, of)
		}
	}
	return due
}

// Retain forgets the sums of a key or a project, but for those of some budgets.
func (b *Book) Retain(of catalog.HoldTarget, budgets []catalog.Budget) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := slices.DeleteFunc(b.sums[of], func(s *sum) bool {
		return !slices.ContainsFunc(budgets, func(budget catalog.Budget) bool { return s.of(&budget) })
	})
	if b.sums[of] = kept; len(kept) == 0 {
		delete(b.sums, of)
	}
}

// A Need is a question for sums that are not in memory: of one window.
type Need struct {
	Window Window
	Query  logbuf.SpentQuery
	lines  []line
}

type line struct {
	of     catalog.HoldTarget
	budget catalog.Budget
}

// maxAsked bounds the keys and projects that one question is about.
const maxAsked = 20_000

// Needs returns the questions whose answers the budgets of some keys and projects need: one for
// each window, or a few where it has very many.
func (b *Book) Needs(of []catalog.HoldTarget, accounts Accounts, now time.Time) []Need {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := map[Window]*Need{}
	var full []Need
	for _, t := range of {
		for _, budget := range accounts.Budgets(t) {
			w, err := WindowOf(budget, now)
			if s := b.find(t, &budget); err != nil || s != nil && s.Window == w {
				continue
			}
			n := open[w]
			if n == nil {
				n = &Need{Window: w, Query: logbuf.SpentQuery{Since: w.Begins, Until: w.Ends}}
				open[w] = n
			}
			n.lines = append(n.lines, line{t, budget})
			if t.KeyID != 0 {
				n.Query.Keys = append(n.Query.Keys, t.KeyID)
			} else {
				n.Query.Projects = append(n.Query.Projects, t.Project)
			}
			if len(n.lines) == maxAsked {
				full = append(full, *n)
				delete(open, w)
			}
		}
	}
	for _, n := range open {
		full = append(full, *n)
	}
	slices.SortFunc(full, func(a, b Need) int {
		return cmp.Or(a.Window.Begins.Compare(b.Window.Begins), a.Window.Ends.Compare(b.Window.Ends))
	})
	return full
}

// Put takes the answer to a question.
func (b *Book) Put(n Need, sums logbuf.SpentSums) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range n.lines {
		s := b.find(l.of, &l.budget)
		if s == nil {
			s = &sum{window: l.budget.Window, zone: l.budget.Timezone}
			b.sums[l.of] = append(b.sums[l.of], s)
		}
		s.Window, s.asOf = n.Window, sums.At.Number
		if l.of.KeyID != 0 {
			s.spent = copyOf(sums.Keys[l.of.KeyID])
		} else {
			s.spent = copyOf(sums.Projects[l.of.Project])
		}
	}
}

// copyOf returns a sum with digits of its own.
func copyOf(s logbuf.Sum) (c logbuf.Sum) {
	c.CostNanoUSD = *new(big.Int).Set(&s.CostNanoUSD)
	c.Unpriced = s.Unpriced
	return c
}

// Standings returns how some budgets of a key or a project stand; ok is false when a sum is not in
// memory. A budget whose time zone is not known here is left out.
func (b *Book) Standings(of catalog.HoldTarget, budgets []catalog.Budget, now time.Time) (all []Standing, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, budget := range budgets {
		w, err := WindowOf(budget, now)
		if err != nil {
			continue
		}
		s := b.find(of, &budget)
		if s == nil || s.Window != w {
			return nil, false
		}
		all = append(all, Standing{budget, w, copyOf(s.spent)})
	}
	return all, true
}

// Len returns how many keys and projects have sums in memory.
func (b *Book) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.sums)
}
