package ezapi

import (
	"context"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// operators knows who may use the API, in memory. It is never older than operatorsAge when the
// catalog answers, whether Run is at work or not.
type operators struct {
	list     *catalog.OperatorList
	follower *catalog.Follower

	mu     sync.Mutex // held by the one who asks the catalog; the others go by what is known
	failed time.Time  // when that failed last

	using sync.Mutex
	used  map[int64]time.Time // since the last time that it was recorded
}

const (
	operatorsAge  = 500 * time.Millisecond // beyond it the catalog is asked
	operatorsWait = 500 * time.Millisecond // for an answer
	operatorsRest = 5 * time.Second        // before it is asked again after a failure
)

// Operator returns the operator that a token belongs to, if it may be used now. One that was
// revoked is out within a second on every server, as long as the catalog answers; while it does
// not, operators are known as they were. Most calls take about a microsecond, and ask nobody.
func (p *Plane) Operator(ctx context.Context, token string) (catalog.Operator, bool) {
	p.operators.freshen(ctx)
	o, ok := p.operators.list.Authenticate(token)
	if !ok {
		return catalog.Operator{}, false
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

// freshen asks the catalog for changes, unless that was done a moment ago.
func (o *operators) freshen(ctx context.Context) {
	age := o.list.Age()
	if age < operatorsAge {
		return
	}
	if never := age > 24*time.Hour; never {
		o.mu.Lock() // there is nothing to go by
	} else if !o.mu.TryLock() {
		return
	}
	defer o.mu.Unlock()
	if o.list.Age() < operatorsAge || time.Since(o.failed) < operatorsRest {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), operatorsWait)
	defer cancel()
	if _, err := o.follower.Refresh(ctx); err != nil {
		o.failed = time.Now()
	}
}
