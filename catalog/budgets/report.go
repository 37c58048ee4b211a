package budgets

import (
	"context"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// A Query selects budgets. Zero fields do not restrict.
type Query struct {
	KeyID   int64  // of this key
	Project string // of this project and all below it, and of their keys
	Over    int64  // of which at least so many hundredths are spent

	After catalog.HoldTarget // only those after this key or project, in the order of the answer
	Limit int                // keys and projects; 0: no limit
}

// A Report says how a budget stands.
type Report struct {
	Of      catalog.HoldTarget // a key or a project
	Project string             // it, or the one that the key is in; "" for none
	Budget  catalog.Budget
	Begins  time.Time // of the window that lasts now; zero for total
	Ends    time.Time // zero for total
	Spent   logbuf.Sum
	Percent int64 // of the limit, in whole hundredths; 100 of a limit of 0
	Holds   bool  // whether it is used up, and the key or the project is held for that
}

const (
	// freshSums is how old what was spent may be in an answer, beside what is not folded yet, and
	// freshCopies how old the budgets may be.
	freshSums   = 5 * time.Second
	freshCopies = 500 * time.Millisecond
)

// Reports says how budgets stand: those of projects, by path, then those of keys, by id; each with
// its budgets together, in their order. Next is where to go on, zero after the last. It goes by the
// sums that are kept in memory, and reads those that are not, with one question for each window. The
// error wraps that of the log store when it cannot be asked.
func (e *Enforcer) Reports(ctx context.Context, q Query) (
	reports []Report, next catalog.HoldTarget, err error,
) {
	if err := e.o.Copies.Renew(ctx, freshCopies); err != nil {
		return nil, next, err
	}
	if err := e.freshen(ctx); err != nil {
		return nil, next, err
	}
	now := e.o.LogTime()
	selected := slices.DeleteFunc(e.o.Accounts.Budgeted(), func(t catalog.HoldTarget) bool { return !q.selects(e, t) })
	if q.Limit > 0 && q.Over <= 0 && len(selected) > q.Limit {
		selected = selected[:q.Limit+1] // the others need not be summed up
	}
	if err := e.read(ctx, selected, now); err != nil {
		return nil, next, err
	}
	var last catalog.HoldTarget
	of := 0
	for _, t := range selected {
		some := e.report(t, q.Over, now)
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
func (q *Query) selects(e *Enforcer, t catalog.HoldTarget) bool {
	return len(e.o.Accounts.Budgets(t)) > 0 && (q.KeyID == 0 || q.KeyID == t.KeyID) &&
		(q.Project == "" || catalog.InProject(e.projectOf(t), q.Project)) &&
		(q.After == catalog.HoldTarget{} || catalog.CompareAccounts(t, q.After) > 0)
}

// projectOf returns a project, or the one that a key is in.
func (e *Enforcer) projectOf(t catalog.HoldTarget) string {
	if t.KeyID != 0 {
		return e.o.Accounts.Project(t.KeyID)
	}
	return t.Project
}

func (e *Enforcer) report(t catalog.HoldTarget, over int64, now time.Time) (reports []Report) {
	standings, _ := e.book.Standings(t, e.o.Accounts.Budgets(t), now)
	hold, held := e.o.Accounts.Hold(t)
	held = held && hold.Status == catalog.Active && (hold.Until.IsZero() || now.Before(hold.Until))
	for i := range standings {
		s := &standings[i]
		if over > 0 && !s.Reached(over) {
			continue
		}
		reports = append(reports, Report{
			Of: t, Project: e.projectOf(t), Budget: s.Budget, Begins: s.Window.Begins, Ends: s.Window.Ends,
			Spent: s.Spent, Percent: s.Percent(),
			Holds: held && Judge(standings[i:i+1]).Held,
		})
	}
	return reports
}

// freshen sees to it that what is kept in memory is not too old, where Run does not.
func (e *Enforcer) freshen(ctx context.Context) error {
	e.turn.Lock()
	defer e.turn.Unlock()
	if time.Since(e.followed) <= freshSums {
		return nil
	}
	return e.follow(ctx, e.o.LogTime())
}
