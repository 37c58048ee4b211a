package catalog

import (
	"context"
	"slices"
	"sync"
	"time"
)

// OperatorList keeps all operators in memory, by their tokens, so that a look-up needs no database.
// A [Follower] fills it and keeps it up to date; it is empty until then. It is safe for concurrent
// use.
type OperatorList struct {
	mu     sync.RWMutex
	byHash map[string]*knownOperator
	byID   map[int64]*knownOperator
	clock  func() time.Time
}

var _ Copy = (*OperatorList)(nil)

// knownOperator is never changed.
type knownOperator struct {
	operator Operator
	tokens   []TokenHash
}

// NewOperatorList returns an empty list. A nil clock is time.Now.
func NewOperatorList(clock func() time.Time) *OperatorList {
	if clock == nil {
		clock = time.Now
	}
	return &OperatorList{byHash: map[string]*knownOperator{}, byID: map[int64]*knownOperator{}, clock: clock}
}

// Authenticate returns the operator that a token belongs to, if it may be used now: the operator
// is active and has not expired, and the token's grace is not over. It waits for nothing. What it
// returns MUST NOT be changed.
func (l *OperatorList) Authenticate(token string) (o *Operator, ok bool) {
	hash := HashToken(token)
	l.mu.RLock()
	known := l.byHash[hash]
	l.mu.RUnlock()
	if known == nil {
		return nil, false
	}
	o = &known.operator
	now := l.clock()
	i := slices.IndexFunc(known.tokens, func(t TokenHash) bool { return t.Hash == hash })
	return o, o.Status == Active && (o.ExpiresAt.IsZero() || now.Before(o.ExpiresAt)) && known.tokens[i].Valid(now)
}

// Len returns how many operators there are.
func (l *OperatorList) Len() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.byID)
}

// Kinds implements [Copy].
func (*OperatorList) Kinds() []Kind { return []Kind{KindOperator} }

// Load implements [Copy].
func (l *OperatorList) Load(ctx context.Context, r Reader) error {
	fresh := NewOperatorList(l.clock)
	if err := eachEntity(ctx, r, KindOperator, fresh.put); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byHash, l.byID = fresh.byHash, fresh.byID
	return nil
}

// Apply implements [Copy]. The feed tells whose tokens have changed, and not which are current:
// those operators are read anew.
func (l *OperatorList) Apply(ctx context.Context, r Reader, changes []Change, _ Revision) error {
	ids, now, err := readTouched(ctx, r, KindOperator, changes, func(*Change) bool { return true })
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.remove(id)
	}
	for _, e := range now {
		l.put(e)
	}
	return nil
}

// Arrive implements [Copy].
func (*OperatorList) Arrive(Head) {}

// put adds a stored operator. One that cannot be read is not known: it holds up no other. It needs
// the lock.
func (l *OperatorList) put(e Entity) {
	var o Operator
	if err := o.decode(e, nil); err != nil {
		return
	}
	known := &knownOperator{operator: o, tokens: o.Tokens}
	l.byID[o.ID] = known
	for _, t := range o.Tokens {
		l.byHash[t.Hash] = known
	}
}

// remove forgets an operator. It needs the lock.
func (l *OperatorList) remove(id int64) {
	known := l.byID[id]
	if known == nil {
		return
	}
	delete(l.byID, id)
	for _, t := range known.tokens {
		if l.byHash[t.Hash] == known {
			delete(l.byHash, t.Hash)
		}
	}
}
