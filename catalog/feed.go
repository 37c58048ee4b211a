package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// A Copy is a part of the catalog in memory that a [Follower] keeps up to date, such as a
// [PriceList]. The follower calls its methods from one goroutine at a time. The copy itself has to
// guard its data against those who read it meanwhile.
type Copy interface {
	// Kinds returns what the copy is made of. It gets no changes of kinds that no copy of its
	// follower is made of.
	Kinds() []Kind

	// Load replaces all by what a view holds. An error leaves the copy as it was;
	// Load is called again.
	Load(ctx context.Context, r Reader) error

	// Apply takes changes in the order of the feed. They end with a revision,
	// which the copy now has. A change that it cannot read MUST NOT keep it from
	// taking the others. The view is at that revision or a later one, for what the feed
	// does not tell, such as the hashes of tokens. After an error the same changes come again.
	Apply(ctx context.Context, r Reader, changes []Change, revision Revision) error

	// Arrive says that the copy has all that the catalog held at a head.
	Arrive(head Head)
}

// A Follower keeps copies of the catalog up to date by its change feed, entry by entry: a change
// costs the same, however large the catalog is. It reads the whole catalog only at first, and when
// the feed does not tell what happened since, because the changes were pruned or the catalog has
// another history. A Follower is safe for concurrent use.
type Follower struct {
	store  Store
	copies []Copy
	kinds  []Kind // of all copies

	turn    chan struct{} // holds a token: one goroutine leads the copies on
	loaded  bool          // belongs to the holder of the token; so do the copies
	head    atomic.Pointer[Head]
	looked  atomic.Pointer[time.Time] // when the last look at the store's head began that worked
	running atomic.Int32
	status  atomic.Pointer[FollowerStatus]
}

// FollowerStatus says how a [Follower] gets on.
type FollowerStatus struct {
	Revision  Revision  // that every copy has
	Loads     int64     // how often the whole was read
	LastError string    // empty when the last try worked
	FailsFrom time.Time // when it began to fail; zero when the last try worked
}

const (
	feedPage = 1000 // changes read at once

	followMinPause = 100 * time.Millisecond
	followMaxPause = 5 * time.Second
)

// NewFollower returns a follower of a store on behalf of copies, which are empty until the
// first Refresh.
func NewFollower(store Store, copies ...Copy) *Follower {
	f := &Follower{store: store, copies: copies, turn: make(chan struct{}, 1)}
	for _, c := range copies {
		f.kinds = append(f.kinds, c.Kinds()...)
	}
	slices.Sort(f.kinds)
	f.kinds = slices.Compact(f.kinds)
	f.turn <- struct{}{}
	f.status.Store(&FollowerStatus{})
	return f
}

// Status returns how the follower gets on.
func (f *Follower) Status() FollowerStatus { return *f.status.Load() }

// Running reports whether Run is at work, so that the copies follow by themselves.
func (f *Follower) Running() bool { return f.running.Load() > 0 }

// Head returns the head that every copy has; ok is false before the first Refresh.
func (f *Follower) Head() (head Head, ok bool) {
	if h := f.head.Load(); h != nil {
		return *h, true
	}
	return Head{}, false
}

// Has reports whether the copies have all that was committed before a moment, which is one of
// time.Now: whether a successful reading of the store began after it.
func (f *Follower) Has(moment time.Time) bool {
	at := f.looked.Load()
	return at != nil && at.After(moment)
}

// Within reports whether the last successful reading of the store began less than age ago, so that
// the copies lack only what was committed since then.
func (f *Follower) Within(age time.Duration) bool {
	at := f.looked.Load()
	return at != nil && time.Since(*at) < age
}

// Renew brings the copies up to date, unless the last successful reading of the store began less
// than age ago. Callers that wait at the same time share one reading, whose cost does not depend on
// the size of the catalog.
func (f *Follower) Renew(ctx context.Context, age time.Duration) error {
	if f.Within(age) {
		return nil
	}
	select {
	case <-f.turn:
		defer func() { f.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if f.Within(age) {
		return nil
	}
	_, err := f.look(ctx)
	return err
}

// CatchUp returns once every copy has a revision. It asks the store when they have not.
func (f *Follower) CatchUp(ctx context.Context, revision Revision) error {
	for {
		if head, ok := f.Head(); ok && head.Revision >= revision {
			return nil
		}
		head, err := f.Refresh(ctx)
		if err != nil {
			return err
		}
		if head.Revision >= revision {
			return nil
		}
		if _, err := f.store.Wait(ctx, head.Revision); err != nil {
			return err
		}
	}
}

// Refresh brings the copies up to the catalog's present head, and returns that head.
func (f *Follower) Refresh(ctx context.Context) (Head, error) {
	select {
	case <-f.turn:
		defer func() { f.turn <- struct{}{} }()
	case <-ctx.Done():
		return Head{}, ctx.Err()
	}
	return f.look(ctx)
}

// look leads the copies on, and notes how that went. It needs the token.
func (f *Follower) look(ctx context.Context) (Head, error) {
	begun := time.Now()
	head, err := f.refresh(ctx)
	if err == nil {
		f.looked.Store(&begun)
	}
	status := f.Status()
	switch {
	case err == nil:
		status.Revision, status.LastError, status.FailsFrom = head.Revision, "", time.Time{}
	case !errors.Is(ctx.Err(), context.Canceled):
		status.LastError = err.Error()
		if status.FailsFrom.IsZero() {
			status.FailsFrom = time.Now()
		}
	}
	f.status.Store(&status)
	return head, err
}

// refresh needs the token.
func (f *Follower) refresh(ctx context.Context) (head Head, err error) {
	err = f.store.Read(ctx, func(r Reader) error {
		head = r.Head()
		if f.loaded {
			switch err := f.replay(ctx, r); {
			case err == nil:
				return nil
			case !errors.Is(err, errOtherHistory):
				return err
			}
		}
		return f.load(ctx, r)
	})
	if err != nil {
		return Head{}, fmt.Errorf("catalog: follow the change feed: %w", err)
	}
	for _, c := range f.copies {
		c.Arrive(head)
	}
	f.head.Store(&head)
	return head, nil
}

// errOtherHistory says that the feed does not lead from where the copies are.
var errOtherHistory = errors.New("the change feed does not lead on")

// replay takes all changes since the head that the copies have.
func (f *Follower) replay(ctx context.Context, r Reader) error {
	from, head := *f.head.Load(), r.Head()
	if from.Store != head.Store || head.Revision < from.Revision {
		return errOtherHistory
	}
	if mark, err := r.MarkAt(ctx, from.Revision); err != nil {
		if errors.Is(err, ErrCompacted) || errors.Is(err, ErrNotFound) {
			return errOtherHistory
		}
		return err
	} else if mark != from.Mark {
		return errOtherHistory
	}
	for at := from.Revision; at < head.Revision; {
		changes, err := WholeRevisions(ctx, r, at, feedPage, f.kinds...)
		if errors.Is(err, ErrCompacted) {
			return errOtherHistory
		}
		if err != nil {
			return err
		}
		next := head.Revision
		if len(changes) >= feedPage { // there may be more
			if next = changes[len(changes)-1].Revision; next <= at {
				return errOtherHistory // this is not what was asked for
			}
		}
		at = next
		here := Head{Store: from.Store, Epoch: from.Epoch, Revision: at}
		if here.Mark, err = r.MarkAt(ctx, at); err != nil {
			return err
		}
		for _, c := range f.copies {
			if err := c.Apply(ctx, r, changes, at); err != nil {
				return err
			}
		}
		f.head.Store(&here) // it is true also when the rest of this read fails
	}
	return nil
}

// load reads everything.
func (f *Follower) load(ctx context.Context, r Reader) error {
	f.loaded = false
	for _, c := range f.copies {
		if err := c.Load(ctx, r); err != nil {
			return err
		}
	}
	f.loaded = true
	status := f.Status()
	status.Loads++
	f.status.Store(&status)
	return nil
}

// Run follows the catalog until ctx ends, and returns nil then. When the store was closed, it
// returns an error that wraps [ErrClosed]. While the store does not answer, the copies stay as they
// are, and Run logs when that begins and ends.
func (f *Follower) Run(ctx context.Context, logger *slog.Logger) error {
	f.running.Add(1)
	defer f.running.Add(-1)
	pause := followMinPause
	failing := false
	for ctx.Err() == nil {
		head, err := f.Refresh(ctx)
		if err == nil {
			if failing {
				logger.InfoContext(ctx, "catalog: follows the change feed again", "revision", head.Revision)
			}
			failing, pause = false, followMinPause
			_, err = f.store.Wait(ctx, head.Revision)
		}
		switch {
		case err == nil || ctx.Err() != nil:
			continue
		case errors.Is(err, ErrClosed):
			return err
		case !failing:
			logger.WarnContext(ctx, "catalog: cannot follow the change feed, will try again: prices, projects and budgets "+
				"are as they were", "error", err)
			failing = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // spreads load, hides nothing
		}
		pause = min(2*pause, followMaxPause)
	}
	return nil
}
