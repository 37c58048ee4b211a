package ezapi

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// operators knows who may use the API, in memory, by changes of operators alone: however much else
// is committed, it keeps up. While the catalog answers, nobody goes by a list that is older than
// operatorsAge and the time of one look, whether Run is at work or not.
type operators struct {
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
	operatorsAge   = 250 * time.Millisecond // beyond it the catalog is asked
	operatorsApart = 50 * time.Millisecond  // from the beginning of one look to that of the next, at least

	// A look may take operatorsWait, and twice as long after each that failed, so that a catalog
	// which is slow is followed, too. After one that failed, the rest gets longer likewise.
	operatorsWait        = 500 * time.Millisecond
	operatorsLongestWait = 4 * time.Second
	operatorsRest        = 100 * time.Millisecond
	operatorsLongestRest = 600 * time.Millisecond
)

func newOperators(store catalog.Store, clock func() time.Time) *operators {
	list := catalog.NewOperatorList(clock)
	return &operators{list: list, follower: catalog.NewFollower(store, list)}
}

// Operator returns the operator that a token belongs to, if it may be used now. One that was
// revoked is out within a second on every server, and one that was made is in at once, as long as
// the catalog answers; while it does not, operators are known as they were. Most calls take about a
// microsecond, and ask nobody. A token that is not known has the catalog asked, 20 times a second at
// most, however many such calls there are.
func (p *Plane) Operator(ctx context.Context, token string) (catalog.Operator, bool) {
	asked := time.Now()
	p.operators.freshen(ctx, asked.Add(-operatorsAge))
	o, ok := p.operators.list.Authenticate(token)
	if !ok {
		p.operators.freshen(ctx, asked)
		if o, ok = p.operators.list.Authenticate(token); !ok {
			return catalog.Operator{}, false
		}
	}
	p.operators.noteUse(o.ID, p.config.Clock())
	return *o, true
}

func (o *operators) noteUse(id int64, now time.Time) {
	o.using.Lock()
	defer o.using.Unlock()
	if o.used == nil {
		o.used = map[int64]time.Time{}
	}
	o.used[id] = now
}

// recordOperatorUse writes into the catalog which operators were used.
func (p *Plane) recordOperatorUse(ctx context.Context) error {
	o := p.operators
	o.using.Lock()
	used := o.used
	o.used = nil
	o.using.Unlock()
	if len(used) == 0 {
		return nil
	}
	return p.Operators.NoteUse(ctx, used)
}

// freshen returns once the list has all that the catalog held at a moment, or when that cannot be
// had now: after a look that failed nobody waits until one has worked.
func (o *operators) freshen(ctx context.Context, moment time.Time) {
	for !o.follower.Has(moment) {
		done := o.look()
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
func (o *operators) look() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.looking == nil {
		doubled := min(o.failed, 10)
		if o.failed > 0 && time.Since(o.ended) < min((operatorsRest<<doubled)/2, operatorsLongestRest) {
			return nil
		}
		pause := max(0, operatorsApart-time.Since(o.began))
		limit := pause + min(operatorsWait<<doubled, operatorsLongestWait)
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		o.looking = &look{done: make(chan struct{}), cancel: cancel}
		go o.refresh(ctx, pause, o.looking)
	}
	if o.failed > 0 {
		return nil
	}
	return o.looking.done
}

// refresh leads the list on after a pause.
func (o *operators) refresh(ctx context.Context, pause time.Duration, l *look) {
	defer l.cancel()
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
	o.mu.Lock()
	o.began = time.Now()
	o.mu.Unlock()
	_, err := o.follower.Refresh(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looking, o.ended = nil, time.Now()
	if o.failed++; err == nil {
		o.failed = 0
	}
	close(l.done)
}

// follow leads the list on with every commit until ctx ends, and returns nil then.
func (o *operators) follow(ctx context.Context, store catalog.Store) error {
	defer o.endLook()
	for ctx.Err() == nil {
		now := time.Now()
		o.freshen(ctx, now)
		head, _ := o.follower.Head()
		_, err := store.Wait(ctx, head.Revision)
		if errors.Is(err, catalog.ErrClosed) {
			return err
		}
		if err != nil || !o.follower.Has(now) {
			select {
			case <-time.After(operatorsLongestRest):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// endLook ends the look that is under way.
func (o *operators) endLook() {
	o.mu.Lock()
	l := o.looking
	o.mu.Unlock()
	if l != nil {
		l.cancel()
		<-l.done
	}
}
