package ezapi

import (
	"context"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/budgets"
	"github.com/ez-api/ez-api/catalog/costs"
	"github.com/ez-api/ez-api/logbuf"
)

// A BudgetQuery selects budgets. Zero fields do not restrict.
type BudgetQuery struct {
	KeyID   int64  // of this key
	Project string // of this project and all below it, and of their keys
	Over    int64  // of which at least so many hundredths are spent

	After catalog.HoldTarget // only those after this key or project, in the order of the answer
	Limit int                // keys and projects; 0: no limit
}

// A BudgetReport says how a budget stands.
type BudgetReport struct {
	Of      catalog.HoldTarget // a key or a project
	Project string             // it, or the one that the key is in; "" for none
	Budget  catalog.Budget
	Begins  time.Time // of the window that lasts now; zero for total
	Ends    time.Time // zero for total
	Spent   logbuf.Sum
	Percent int64 // of the limit, in whole hundredths; 100 of a limit of 0
	Holds   bool  // whether it is used up, and the key or the project is held for that
}

// freshBudgets is how old what was spent may be in an answer, beside what is not folded yet.
const freshBudgets = 5 * time.Second

// Budgets says how budgets stand: those of projects, by path, then those of keys, by id; each with
// its budgets together, in their order. Next is where to go on, zero after the last. It goes by the
// sums that are kept in memory, and reads those that are not, with one question for each window. The
// error wraps that of the log store when it cannot be asked.
func (p *Plane) Budgets(ctx context.Context, q BudgetQuery) (
	reports []BudgetReport, next catalog.HoldTarget, err error,
) {
	if err := p.copies.Renew(ctx, costs.CopyAge); err != nil {
		return nil, next, err
	}
	if err := p.judge.freshen(ctx); err != nil {
		return nil, next, err
	}
	now := p.LogTime()
	selected := slices.DeleteFunc(p.accounts.Budgeted(), func(t catalog.HoldTarget) bool { return !q.selects(p, t) })
	if q.Limit > 0 && q.Over <= 0 && len(selected) > q.Limit {
		selected = selected[:q.Limit+1] // the others need not be summed up
	}
	if err := p.judge.read(ctx, selected, now); err != nil {
		return nil, next, err
	}
	var last catalog.HoldTarget
	of := 0
	for _, t := range selected {
		some := p.report(t, q.Over, now)
		if len(some) == 0 {
			continue
		}
		if q.Limit > 0 && of == q.Limit {
			return reports, last, nil
		}
		of++
		last = t
		reports = append(reports, some...)
	}
	return reports, next, nil
}

// selects reports whether the budgets of a key or a project may be in the answer.
func (q *BudgetQuery) selects(p *Plane, t catalog.HoldTarget) bool {
	return len(p.accounts.Budgets(t)) > 0 && (q.KeyID == 0 || q.KeyID == t.KeyID) &&
		(q.Project == "" || catalog.InProject(p.projectOf(t), q.Project)) &&
		(q.After == catalog.HoldTarget{} || catalog.CompareAccounts(t, q.After) > 0)
}

// projectOf returns a project, or the one that a key is in.
func (p *Plane) projectOf(t catalog.HoldTarget) string {
	if t.KeyID != 0 {
		return p.accounts.Project(t.KeyID)
	}
	return t.Project
}

func (p *Plane) report(t catalog.HoldTarget, over int64, now time.Time) (reports []BudgetReport) {
	standings, _ := p.judge.book.Standings(t, p.accounts.Budgets(t), now)
	hold, held := p.accounts.Hold(t)
	held = held && hold.Status == catalog.Active && (hold.Until.IsZero() || now.Before(hold.Until))
	for i := range standings {
		s := &standings[i]
		if over > 0 && !s.Reached(over) {
			continue
		}
		reports = append(reports, BudgetReport{
			Of: t, Project: p.projectOf(t), Budget: s.Budget, Begins: s.Window.Begins, Ends: s.Window.Ends,
			Spent: s.Spent, Percent: s.Percent(),
			Holds: held && budgets.Judge(standings[i:i+1]).Held,
		})
	}
	return reports
}

// freshen sees to it that what is kept in memory is not too old, where run does not.
func (j *judge) freshen(ctx context.Context) error {
	j.turn.Lock()
	defer j.turn.Unlock()
	if time.Since(j.followed) <= freshBudgets {
		return nil
	}
	return j.follow(ctx, j.plane.LogTime())
}

// BudgetsReady returns nil, or why budgets that there are cannot be judged: then nothing new is held.
func (p *Plane) BudgetsReady() error {
	if s := p.judge.reading(); s.Accounts > 0 {
		return s.err
	}
	return nil
}
