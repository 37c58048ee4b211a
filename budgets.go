package ezapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/budgets"
	"github.com/ez-api/ez-api/logbuf"
)

// BudgetWindow returns when the window of a budget that a time lies in begins, and when it ends.
// The window total begins at the zero time, and ends at none, which is the zero time, too.
func BudgetWindow(b catalog.Budget, now time.Time) (begins, ends time.Time, err error) {
	w, err := budgets.WindowOf(b, now)
	return w.Begins, w.Ends, err
}

// BudgetStatus says how budgets are judged.
type BudgetStatus struct {
	Accounts  int       // keys and projects that have budgets
	Holds     int64     // that this process has made, changed or ended
	Summed    int64     // how often all sums were read anew: at the start, and after gaps
	Waiting   int       // keys and projects that could not be judged yet
	JudgedAt  time.Time // when everything that was spent was judged last; zero before
	LastError string    // empty when the last round worked
	FailsFrom time.Time // when it began to fail; zero when the last round worked

	err error
}

const (
	defaultBudgetInterval = time.Second

	judgeTimeout = time.Minute // for a round
	holdsAtOnce  = 100         // in a commit
	foldPages    = 1000        // that one round reads
)

// errNoSums says that the log sink cannot be asked what was spent.
var errNoSums = fmt.Errorf("%w: tell what is spent, so budgets hold nothing", logbuf.ErrUnsupported)

// A judge makes and ends holds as budgets are used up. Each control plane has one, and they agree:
// from what was spent and from the limit follows the hold that there should be, and it is made in a
// transaction that reads both the limit and the hold again.
type judge struct {
	plane *Plane
	spent budgets.Spending
	book  *budgets.Book

	open   map[catalog.HoldTarget]bool // who is to be judged; belongs to the one that runs
	raised map[string]time.Time        // when alerts that were raised may be forgotten; likewise

	turn     sync.Mutex // held by the one that judges
	followed time.Time  // when everything that was spent was known last

	mu     sync.Mutex
	status BudgetStatus
}

func newJudge(p *Plane) *judge {
	return &judge{plane: p, spent: budgets.SpendingOf(p.config.LogSink, errNoSums), book: budgets.NewBook(),
		open: map[catalog.HoldTarget]bool{}, raised: map[string]time.Time{}}
}

// run judges at intervals, and at once when a limit or a hold has changed, until ctx ends.
func (j *judge) run(ctx context.Context) error {
	tick := time.NewTicker(j.plane.config.BudgetInterval)
	defer tick.Stop()
	for {
		err := j.round(ctx)
		if before := j.note(ctx, err); err != nil && before == "" && ctx.Err() == nil {
			j.plane.config.Logger.WarnContext(ctx, "budgets cannot be judged, will try again: nothing new is held",
				"error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-j.plane.accounts.Changed():
		}
	}
}

// note keeps what became of a round, and returns the error of the one before.
func (j *judge) note(ctx context.Context, err error) (before string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	before = j.status.LastError
	switch {
	case err == nil:
		j.status.LastError, j.status.err, j.status.FailsFrom, j.status.JudgedAt = "", nil, time.Time{}, j.plane.Now()
	case ctx.Err() == nil:
		j.status.LastError, j.status.err = err.Error(), err
		if j.status.FailsFrom.IsZero() {
			j.status.FailsFrom = j.plane.Now()
		}
	}
	return before
}

func (j *judge) reading() BudgetStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.status
}

func (j *judge) count(edit func(*BudgetStatus)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	edit(&j.status)
}

// round takes what was spent and what was changed since the last, and judges whom that touches.
func (j *judge) round(ctx context.Context) error {
	j.turn.Lock()
	defer j.turn.Unlock()
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	accounts := j.plane.accounts
	for _, t := range accounts.TakeChanged() {
		j.open[t] = true
		j.book.Retain(t, accounts.Budgets(t))
	}
	defer func() {
		j.count(func(s *BudgetStatus) { s.Accounts, s.Waiting = accounts.Len(), len(j.open) })
	}()
	if accounts.Len() == 0 && len(j.open) == 0 {
		j.book.Reset() // what is spent meanwhile need not be known
		return nil
	}
	now := j.plane.LogTime()
	if err := j.follow(ctx, now); err != nil {
		return err
	}
	for _, t := range j.book.Due(now) {
		j.open[t] = true
	}
	return j.judge(ctx, now)
}

// follow brings the sums in memory up to date, and opens whom that touches.
func (j *judge) follow(ctx context.Context, now time.Time) error {
	for range foldPages {
		touched, more, err := j.spent.Follow(ctx, j.book, j.plane.accounts, now)
		if errors.Is(err, logbuf.ErrGap) { // at the start, too
			if err := j.begin(ctx); err != nil {
				return err
			}
			continue
		}
		for _, t := range touched {
			j.open[t] = true
		}
		if err == nil && !more {
			j.followed = time.Now()
		}
		if err != nil || !more {
			return err
		}
	}
	return nil // the rest is for the next round
}

// begin forgets all sums, and opens everybody.
func (j *judge) begin(ctx context.Context) error {
	sums, err := j.spent.Sums(ctx, logbuf.SpentQuery{})
	if err != nil {
		return err
	}
	j.book.Reset()
	j.book.Begin(sums.At)
	for _, t := range j.plane.accounts.Budgeted() {
		j.open[t] = true
	}
	j.count(func(s *BudgetStatus) { s.Summed++ })
	return nil
}

// read reads the sums that the budgets of some keys and projects need and that are not in memory.
func (j *judge) read(ctx context.Context, of []catalog.HoldTarget, now time.Time) error {
	for _, need := range j.book.Needs(of, j.plane.accounts, now) {
		sums, err := j.spent.Sums(ctx, need.Query)
		if err != nil {
			return fmt.Errorf("sum up what was spent: %w", err)
		}
		j.book.Put(need, sums)
	}
	return nil
}

// judge judges all that are open, and closes those for whom nothing is left to do.
func (j *judge) judge(ctx context.Context, now time.Time) error {
	open := slices.SortedFunc(maps.Keys(j.open), catalog.CompareAccounts)
	if len(open) == 0 {
		return nil
	}
	if err := j.read(ctx, open, now); err != nil {
		return err
	}
	var wrong []catalog.HoldTarget // their holds are not as they should be
	var news []alerts.Alert
	accounts := j.plane.accounts
	for _, t := range open {
		standings, known := j.book.Standings(t, accounts.Budgets(t), now)
		if !known {
			continue // a limit has changed meanwhile
		}
		news = append(news, j.alerts(t, standings)...)
		hold, there := accounts.Hold(t)
		if budgets.Next(budgets.Judge(standings), hold, there, j.plane.Now()) != budgets.Keep {
			wrong = append(wrong, t)
		} else if len(news) == 0 || news[len(news)-1].Subject != t.String() {
			delete(j.open, t)
		}
	}
	return errors.Join(j.settle(ctx, wrong, now), j.raise(ctx, news, now))
}

// settle brings holds into the state that they should have, many in a commit. One that cannot be
// committed holds up no other.
func (j *judge) settle(ctx context.Context, wrong []catalog.HoldTarget, now time.Time) error {
	ctx = catalog.WithMachine(ctx, "budgets", "what was spent, compared with the limits")
	var errs []error
	for some := range slices.Chunk(wrong, holdsAtOnce) {
		err := j.commit(ctx, some, now)
		if err != nil && len(some) > 1 && isRefused(err) {
			err = nil
			for _, t := range some {
				if e := j.commit(ctx, []catalog.HoldTarget{t}, now); e != nil && len(errs) < 10 {
					errs = append(errs, fmt.Errorf("hold %s: %w", t, e))
				}
			}
		}
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("commit holds: %w", err))...)
		}
	}
	return errors.Join(errs...)
}

// isRefused reports whether an error is about what was to be written, and not about the store.
func isRefused(err error) bool {
	return errors.Is(err, catalog.ErrInvalid) || errors.Is(err, catalog.ErrExists) ||
		errors.Is(err, catalog.ErrReferenced) || errors.Is(err, catalog.ErrConflict)
}

// commit settles the holds of some keys and projects in one commit, and closes them.
func (j *judge) commit(ctx context.Context, of []catalog.HoldTarget, now time.Time) error {
	var done []catalog.HoldTarget
	var written int64
	_, err := j.plane.Update(ctx, func(tx *catalog.Tx) error {
		done, written = nil, 0
		for _, t := range of {
			known, wrote, err := j.settleIn(ctx, tx, t, now)
			if err != nil {
				return err
			}
			if known {
				done = append(done, t)
			}
			written += wrote
		}
		return nil
	})
	if err != nil {
		return err
	}
	j.count(func(s *BudgetStatus) { s.Holds += written })
	for _, t := range done {
		delete(j.open, t)
	}
	return nil
}

// settleIn reads the budgets and the hold of a key or a project again, and settles the hold. It is
// not known what to do when a limit is new, and what was spent of it is not in memory.
func (j *judge) settleIn(
	ctx context.Context, tx *catalog.Tx, of catalog.HoldTarget, now time.Time,
) (known bool, wrote int64, err error) {
	limits, err := budgetsIn(ctx, tx, of)
	if errors.Is(err, catalog.ErrNotFound) {
		return true, 0, nil // its holds are gone with it
	}
	if err != nil {
		return false, 0, err
	}
	standings, known := j.book.Standings(of, limits, now)
	if !known {
		return false, 0, nil
	}
	verdict := budgets.Judge(standings)
	hold, err := tx.Holds.Find(ctx, catalog.ByNaturalKey, catalog.HoldKey(of.String(), catalog.HoldBudget))
	there := err == nil
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return false, 0, err
	}
	present := catalog.BudgetHold{ID: hold.ID, Until: hold.Until, Status: hold.Status}
	switch budgets.Next(verdict, present, there, j.plane.Now()) {
	case budgets.Keep:
		return true, 0, nil
	case budgets.Make:
		_, err = tx.Holds.Create(ctx, catalog.Hold{
			Target: of.String(), Reason: catalog.HoldBudget, Until: verdict.Until, Message: verdict.Message,
		})
	case budgets.Change:
		_, err = tx.Holds.Edit(ctx, hold.ID, func(h *catalog.Hold) error {
			h.Until, h.Message, h.Status = verdict.Until, verdict.Message, catalog.Active
			return nil
		})
	case budgets.End:
		_, err = tx.Holds.Delete(ctx, hold.ID, 0)
	}
	return err == nil, 1, err
}

// budgetsIn reads the budgets of a key or a project.
func budgetsIn(ctx context.Context, tx *catalog.Tx, of catalog.HoldTarget) ([]catalog.Budget, error) {
	if of.KeyID != 0 {
		k, err := tx.Keys.Get(ctx, of.KeyID)
		return k.Budgets, err
	}
	p, err := tx.Projects.Find(ctx, catalog.ByNaturalKey, of.Project)
	return p.Budgets, err
}

// alerts returns those that the budgets of a key or a project call for and that were not raised yet:
// once in each window for a threshold of a limit.
func (j *judge) alerts(of catalog.HoldTarget, standings []budgets.Standing) (news []alerts.Alert) {
	for i := range standings {
		s := &standings[i]
		if s.Spent.CostNanoUSD.Sign() <= 0 {
			continue // a limit of 0 is no news
		}
		for _, percent := range append(slices.Clone(s.Budget.AlertAt), exhausted) {
			if percent == exhausted && !s.Exhausted() || percent != exhausted && !s.Reached(percent) {
				continue
			}
			if a := j.alert(of, s, percent); j.raised[a.Identity].IsZero() {
				news = append(news, a)
			}
		}
	}
	return news
}

// exhausted stands for no threshold: the budget is used up.
const exhausted = 0

// alert describes that a budget has reached a threshold.
func (j *judge) alert(of catalog.HoldTarget, s *budgets.Standing, percent int64) alerts.Alert {
	b := &s.Budget
	a := alerts.Alert{
		Kind: alerts.BudgetThreshold, Subject: of.String(), Project: j.plane.projectOf(of), At: j.plane.Now(),
		Identity: fmt.Sprintf("budget %s %s %s %s %d %d", of, b.Window, b.Timezone,
			s.Window.Begins.UTC().Format(time.RFC3339), int64(*b.Limit), percent),
		Lasting: s.Window.Ends.IsZero(),
	}
	what := fmt.Sprintf("%d%% of %s", percent, s)
	if percent == exhausted {
		a.Kind, what = alerts.BudgetExhausted, "All of "+s.String()
	}
	a.Message = fmt.Sprintf("%s of %s is spent: %s USD.", what, of, budgets.USD(&s.Spent.CostNanoUSD))
	return a
}

// raise raises alerts, and remembers it for a while.
func (j *judge) raise(ctx context.Context, news []alerts.Alert, now time.Time) error {
	for identity, end := range j.raised {
		if !end.After(now) {
			delete(j.raised, identity)
		}
	}
	if len(news) == 0 {
		return nil
	}
	if err := j.plane.RaiseAlerts(ctx, news...); err != nil {
		return fmt.Errorf("raise alerts: %w", err)
	}
	for i := range news {
		j.raised[news[i].Identity] = now.Add(raisedFor)
	}
	return nil
}

// raisedFor is how long it is remembered that an alert was raised. After that the outbox is asked
// again, which knows it.
const raisedFor = time.Hour
