package budgets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/logbuf"
)

// Status says how budgets are judged.
type Status struct {
	Accounts  int       // keys and projects that have budgets
	Holds     int64     // that this process has made, changed or ended
	Summed    int64     // how often all sums were read anew: at the start, and after gaps
	Waiting   int       // keys and projects that could not be judged yet
	Unread    bool      // the catalog was not read since the start: nobody knows who has budgets
	JudgedAt  time.Time // when everything that was spent was judged last; zero before
	LastError string    // empty when the last round worked
	FailsFrom time.Time // when it began to fail; zero when the last round worked

	err error
}

const (
	judgeTimeout = time.Minute // for a round
	holdsAtOnce  = 100         // in a commit
	foldPages    = 1000        // that one round reads

	readWithin = 5 * time.Second // the catalog, after the start
)

// errUnread says that nobody knows who has budgets.
var errUnread = errors.New("the catalog was not read since the start")

// errNoSums says that the log sink cannot be asked what was spent.
var errNoSums = fmt.Errorf("%w: tell what is spent, so budgets hold nothing", logbuf.ErrUnsupported)

// Options is what an [Enforcer] works with. All of it is required.
type Options struct {
	Sink     logbuf.Sink       // of which it is asked what was spent
	Accounts *catalog.Accounts // who has which budgets
	Copies   Copies            // lead the accounts on
	Catalog  Catalog           // where holds are made
	Alarm    Alarm             // which thresholds are told to

	LogTime func() time.Time // by which entries are dated, and so windows begin and end
	Clock   func() time.Time // by which holds end
	Logger  *slog.Logger

	// Interval is how often what was spent is compared with budgets, where there are some.
	Interval time.Duration
}

// Copies of the catalog can be looked after; see [catalog.Follower].
type Copies interface {
	Renew(ctx context.Context, age time.Duration) error
}

// A Catalog is changed in transactions; see [catalog.Tables].
type Catalog interface {
	Update(ctx context.Context, fn func(*catalog.Tx) error) (catalog.Revision, error)
}

// An Alarm tells people; see [alerts.Alarm].
type Alarm interface {
	Raise(ctx context.Context, list ...alerts.Alert) error
}

// An Enforcer makes and ends holds as budgets are used up. Each control plane has one, and they
// agree: the hold depends only on what was spent and on the limit, and is made in a transaction
// that reads both the limit and the hold again. It is safe for concurrent use.
type Enforcer struct {
	o     Options
	spent Spending
	book  *Book

	open   map[catalog.HoldTarget]bool // who is to be judged; belongs to the one that runs
	raised map[string]time.Time        // when alerts that were raised may be forgotten; likewise

	turn     sync.Mutex // held by the one that judges
	followed time.Time  // when everything that was spent was known last

	mu     sync.Mutex
	status Status
}

// NewEnforcer returns an enforcer that has judged nothing yet.
func NewEnforcer(o Options) *Enforcer {
	return &Enforcer{o: o, spent: SpendingOf(o.Sink, errNoSums), book: NewBook(),
		open: map[catalog.HoldTarget]bool{}, raised: map[string]time.Time{}}
}

// Status says how budgets are judged.
func (e *Enforcer) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status
}

// Ready returns nil, or why budgets that there are cannot be judged: then nothing new is held.
func (e *Enforcer) Ready() error {
	if s := e.Status(); s.Accounts > 0 || s.Unread {
		return s.err
	}
	return nil
}

// awaitAccounts waits until it is known who has budgets, and after a while says that it is not. It
// returns false when ctx ends before.
func (e *Enforcer) awaitAccounts(ctx context.Context) bool {
	late := time.NewTimer(readWithin)
	defer late.Stop()
	for {
		select {
		case <-e.o.Accounts.Loaded():
			e.count(func(s *Status) { s.Unread = false })
			return true
		case <-ctx.Done():
			return false
		case <-late.C:
			e.count(func(s *Status) { s.Unread = true })
			e.note(ctx, errUnread)
			e.o.Logger.WarnContext(ctx, "budgets cannot be judged: nothing new is held", "error", errUnread)
		}
	}
}

// Run judges at intervals, and at once when a limit or a hold has changed, until ctx ends.
func (e *Enforcer) Run(ctx context.Context) error {
	if !e.awaitAccounts(ctx) {
		return nil
	}
	tick := time.NewTicker(e.o.Interval)
	defer tick.Stop()
	for {
		err := e.round(ctx)
		if before := e.note(ctx, err); err != nil && before == "" && ctx.Err() == nil {
			e.o.Logger.WarnContext(ctx, "budgets cannot be judged, will try again: nothing new is held",
				"error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-e.o.Accounts.Changed():
		}
	}
}

// note keeps what became of a round, and returns the error of the one before.
func (e *Enforcer) note(ctx context.Context, err error) (before string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before = e.status.LastError
	switch {
	case err == nil:
		e.status.LastError, e.status.err, e.status.FailsFrom, e.status.JudgedAt = "", nil, time.Time{}, e.o.Clock()
	case ctx.Err() == nil:
		e.status.LastError, e.status.err = err.Error(), err
		if e.status.FailsFrom.IsZero() {
			e.status.FailsFrom = e.o.Clock()
		}
	}
	return before
}

func (e *Enforcer) count(edit func(*Status)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	edit(&e.status)
}

// round takes what was spent and what was changed since the last, and judges whom that touches.
func (e *Enforcer) round(ctx context.Context) error {
	e.turn.Lock()
	defer e.turn.Unlock()
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	accounts := e.o.Accounts
	for _, t := range accounts.TakeChanged() {
		e.open[t] = true
		e.book.Retain(t, accounts.Budgets(t))
	}
	defer func() {
		e.count(func(s *Status) { s.Accounts, s.Waiting = accounts.Len(), len(e.open) })
	}()
	if accounts.Len() == 0 && len(e.open) == 0 {
		e.book.Reset() // what is spent meanwhile need not be known
		return nil
	}
	now := e.o.LogTime()
	if err := e.follow(ctx, now); err != nil {
		return err
	}
	for _, t := range e.book.Due(now) {
		e.open[t] = true
	}
	return e.judge(ctx, now)
}

// follow brings the sums in memory up to date, and opens whom that touches.
func (e *Enforcer) follow(ctx context.Context, now time.Time) error {
	for range foldPages {
		touched, more, err := e.spent.Follow(ctx, e.book, e.o.Accounts, now)
		if errors.Is(err, logbuf.ErrGap) { // at the start, too
			if err := e.begin(ctx); err != nil {
				return err
			}
			continue
		}
		for _, t := range touched {
			e.open[t] = true
		}
		if err == nil && !more {
			e.followed = time.Now()
		}
		if err != nil || !more {
			return err
		}
	}
	return nil // the rest is for the next round
}

// begin forgets all sums, and opens everybody.
func (e *Enforcer) begin(ctx context.Context) error {
	sums, err := e.spent.Sums(ctx, logbuf.SpentQuery{})
	if err != nil {
		return err
	}
	e.book.Reset()
	e.book.Begin(sums.At)
	for _, t := range e.o.Accounts.Budgeted() {
		e.open[t] = true
	}
	e.count(func(s *Status) { s.Summed++ })
	return nil
}

// read reads the sums that the budgets of some keys and projects need and that are not in memory.
func (e *Enforcer) read(ctx context.Context, of []catalog.HoldTarget, now time.Time) error {
	for _, need := range e.book.Needs(of, e.o.Accounts, now) {
		sums, err := e.spent.Sums(ctx, need.Query)
		if err != nil {
			return fmt.Errorf("sum up what was spent: %w", err)
		}
		e.book.Put(need, sums)
	}
	return nil
}

// judge judges all that are open, and closes those for whom nothing is left to do.
func (e *Enforcer) judge(ctx context.Context, now time.Time) error {
	open := slices.SortedFunc(maps.Keys(e.open), catalog.CompareAccounts)
	if len(open) == 0 {
		return nil
	}
	if err := e.read(ctx, open, now); err != nil {
		return err
	}
	var wrong []catalog.HoldTarget // their holds are not as they should be
	var news []alerts.Alert
	accounts := e.o.Accounts
	for _, t := range open {
		standings, known := e.book.Standings(t, accounts.Budgets(t), now)
		if !known {
			continue // a limit has changed meanwhile
		}
		news = append(news, e.alerts(t, standings)...)
		hold, there := accounts.Hold(t)
		if Next(Judge(standings), hold, there, e.o.Clock()) != Keep {
			wrong = append(wrong, t)
		} else if len(news) == 0 || news[len(news)-1].Subject != t.String() {
			delete(e.open, t)
		}
	}
	return errors.Join(e.settle(ctx, wrong, now), e.raise(ctx, news, now))
}

// settle brings holds into the state that they should have, many in a commit. One that cannot be
// committed holds up no other.
func (e *Enforcer) settle(ctx context.Context, wrong []catalog.HoldTarget, now time.Time) error {
	ctx = catalog.WithMachine(ctx, "budgets", "what was spent, compared with the limits")
	var errs []error
	for some := range slices.Chunk(wrong, holdsAtOnce) {
		err := e.commit(ctx, some, now)
		if err != nil && len(some) > 1 && isRefused(err) {
			err = nil
			for _, t := range some {
				if wrong := e.commit(ctx, []catalog.HoldTarget{t}, now); wrong != nil && len(errs) < 10 {
					errs = append(errs, fmt.Errorf("hold %s: %w", t, wrong))
				}
			}
		}
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("commit holds: %w", err))...)
		}
	}
	return errors.Join(errs...)
}

// isRefused reports whether an error is about what was to be read or written, and not about the store.
func isRefused(err error) bool {
	for _, reason := range []error{catalog.ErrInvalid, catalog.ErrExists, catalog.ErrReferenced, catalog.ErrConflict,
		catalog.ErrProtected, catalog.ErrDamaged} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// commit settles the holds of some keys and projects in one commit, and closes them.
func (e *Enforcer) commit(ctx context.Context, of []catalog.HoldTarget, now time.Time) error {
	var done []catalog.HoldTarget
	var written int64
	_, err := e.o.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		done, written = nil, 0
		for _, t := range of {
			known, wrote, err := e.settleIn(ctx, tx, t, now)
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
	e.count(func(s *Status) { s.Holds += written })
	for _, t := range done {
		delete(e.open, t)
	}
	return nil
}

// settleIn reads the budgets and the hold of a key or a project again, and settles the hold. It is
// not known what to do when a limit is new, and what was spent of it is not in memory.
func (e *Enforcer) settleIn(
	ctx context.Context, tx *catalog.Tx, of catalog.HoldTarget, now time.Time,
) (known bool, wrote int64, err error) {
	limits, err := budgetsIn(ctx, tx, of)
	if errors.Is(err, catalog.ErrNotFound) {
		return true, 0, nil // its holds are gone with it
	}
	if err != nil {
		return false, 0, err
	}
	standings, known := e.book.Standings(of, limits, now)
	if !known {
		return false, 0, nil
	}
	verdict := Judge(standings)
	hold, err := tx.Holds.Find(ctx, catalog.ByNaturalKey, catalog.HoldKey(of.String(), catalog.HoldBudget))
	there := err == nil
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return false, 0, err
	}
	present := catalog.BudgetHold{ID: hold.ID, Until: hold.Until, Status: hold.Status}
	switch Next(verdict, present, there, e.o.Clock()) {
	case Keep:
		return true, 0, nil
	case Make:
		_, err = tx.Holds.Create(ctx, catalog.Hold{
			Target: of.String(), Reason: catalog.HoldBudget, Until: verdict.Until, Message: verdict.Message,
		})
	case Change:
		_, err = tx.Holds.Edit(ctx, hold.ID, func(h *catalog.Hold) error {
			h.Until, h.Message, h.Status = verdict.Until, verdict.Message, catalog.Active
			return nil
		})
	case End:
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
