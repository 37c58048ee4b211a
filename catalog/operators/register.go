// Package operators knows in memory who may use the API.
package operators

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// A Register knows operators by their tokens. It goes by changes of operators alone: however much else
// is committed, it keeps up. While the catalog answers, nobody goes by a list that is older than
// a quarter of a second and the time of one look, whether Follow is at work or not. It is safe for
// concurrent use.
type Register struct {
	store    catalog.Store
	clock    func() time.Time
	list     *catalog.OperatorList
	follower *catalog.Follower

	mu      sync.Mutex
	looking *look     // at the catalog; nil while nobody does
	began   time.Time // the last look
	ended   time.Time
	failed  int // looks that failed since one worked

	using sync.Mutex
	used  map[int64]time.Time // since the last time that it was recorded
}

// A look at the catalog belongs to no request, so that none which ends ends it.
type look struct {
	done   chan struct{} // is closed when it has ended
	cancel context.CancelFunc
}

const (
	mostAge = 250 * time.Millisecond // beyond it the catalog is asked
	apart   = 50 * time.Millisecond  // from the beginning of one look to that of the next, at least

	// A look may take firstWait, and twice as long after each that failed, so that a catalog
	// which is slow is followed, too. After one that failed, the rest gets longer likewise.
	firstWait   = 500 * time.Millisecond
	longestWait = 4 * time.Second
	firstRest   = 100 * time.Millisecond
	longestRest = 600 * time.Millisecond
)

// New returns a register of a store's operators.
func New(store catalog.Store, clock func() time.Time) *Register {
	list := catalog.NewOperatorList(clock)
	return &Register{store: store, clock: clock, list: list, follower: catalog.NewFollower(store, list)}
}

// Status says how the register follows the catalog.
func (r *Register) Status() catalog.FollowerStatus { return r.follower.Status() }

// CatchUp returns once operators are known as of a revision, or of a later one.
func (r *Register) CatchUp(ctx context.Context, revision catalog.Revision) error {
	return r.follower.CatchUp(ctx, revision)
}

// Authenticate returns the operator that a token belongs to, if the token may be used now. While
// the catalog answers, every server refuses a revoked token within a second, and accepts a new one
// at once; while it does not answer, operators are known as they were. Most calls take about a
// microsecond, and read only memory. For an unknown token the register reads the catalog, at most
// 20 times a second for all calls together.
func (r *Register) Authenticate(ctx context.Context, token string) (catalog.Operator, bool) {
	asked := time.Now()
	r.freshen(ctx, asked.Add(-mostAge))
	o, ok := r.list.Authenticate(token)
	if !ok {
		r.freshen(ctx, asked)
		if o, ok = r.list.Authenticate(token); !ok {
			return catalog.Operator{}, false
		}
	}
	r.noteUse(o.ID)
	return *o, true
}

func (r *Register) noteUse(id int64) {
	now := r.clock()
	r.using.Lock()
	defer r.using.Unlock()
	if r.used == nil {
		r.used = map[int64]time.Time{}
	}
	r.used[id] = now
}

// Operators keep when each of them was used last; see [catalog.Operators].
type Operators interface {
	NoteUse(ctx context.Context, used map[int64]time.Time) error
}

// RecordUse writes into the catalog which operators were used since it was called last.
func (r *Register) RecordUse(ctx context.Context, operators Operators) error {
	r.using.Lock()
	used := r.used
	r.used = nil
	r.using.Unlock()
	if len(used) == 0 {
		return nil
	}
	return operators.NoteUse(ctx, used)
}

// freshen returns once the list has all that the catalog held at a moment, or when that cannot be
// had now: after a look that failed nobody waits until one has worked.
func (r *Register) freshen(ctx context.Context, moment time.Time) {
	for !r.follower.Has(moment) {
		done := r.look()
		if done == nil {
			return
		}
		select {
		case <-done: // what it saw may be from before the moment
		case <-ctx.Done():
			return
		}
	}
}

// look has the catalog looked at, if nobody does so already. It returns what tells the end of
// that; nil when there is nothing to wait for.
func (r *Register) look() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.looking == nil {
		doubled := min(r.failed, 10)
		if r.failed > 0 && time.Since(r.ended) < min((firstRest<<doubled)/2, longestRest) {
			return nil
		}
		pause := max(0, apart-time.Since(r.began))
		limit := pause + min(firstWait<<doubled, longestWait)
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		r.looking = &look{done: make(chan struct{}), cancel: cancel}
		go r.refresh(ctx, pause, r.looking)
	}
	if r.failed > 0 {
		return nil
	}
	return r.looking.done
}

// refresh leads the list on after a pause.
func (r *Register) refresh(ctx context.Context, pause time.Duration, l *look) {
	defer l.cancel()
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
	r.mu.Lock()
	r.began = time.Now()
	r.mu.Unlock()
	_, err := r.follower.Refresh(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looking, r.ended = nil, time.Now()
	if r.failed++; err == nil {
		r.failed = 0
	}
	close(l.done)
}

// Follow updates the list after every commit until ctx ends, and returns nil then. When the store
// was closed, it returns an error that wraps [catalog.ErrClosed].
func (r *Register) Follow(ctx context.Context) error {
	defer r.endLook()
	for ctx.Err() == nil {
		now := time.Now()
		r.freshen(ctx, now)
		head, _ := r.follower.Head()
		_, err := r.store.Wait(ctx, head.Revision)
		if errors.Is(err, catalog.ErrClosed) {
			return err
		}
		if err != nil || !r.follower.Has(now) {
			select {
			case <-time.After(longestRest):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// endLook ends the look that is under way.
func (r *Register) endLook() {
	r.mu.Lock()
	l := r.looking
	r.mu.Unlock()
	if l != nil {
		l.cancel()
		<-l.done
	}
}
