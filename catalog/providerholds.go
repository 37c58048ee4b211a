package catalog

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// ProviderHolds keeps all holds of providers and of their models in memory. A [Follower] fills it
// and keeps it up to date; it is empty until then. It is safe for concurrent use.
type ProviderHolds struct {
	mu   sync.RWMutex
	byID map[int64]*Hold
	all  map[string]*Hold // by natural key
}

var _ Copy = (*ProviderHolds)(nil)

// NewProviderHolds returns an empty copy.
func NewProviderHolds() *ProviderHolds {
	return &ProviderHolds{byID: map[int64]*Hold{}, all: map[string]*Hold{}}
}

// Of returns the hold of a target for a reason.
func (c *ProviderHolds) Of(target, reason string) (h Hold, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if h := c.all[HoldKey(target, reason)]; h != nil {
		return *h, true
	}
	return Hold{}, false
}

// For returns all holds for a reason, those that have ended too, in order of their target.
func (c *ProviderHolds) For(reason string) (holds []Hold) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, h := range c.all {
		if h.Reason == reason {
			holds = append(holds, *h)
		}
	}
	slices.SortFunc(holds, func(a, b Hold) int { return strings.Compare(a.Target, b.Target) })
	return holds
}

// Kinds implements [Copy].
func (*ProviderHolds) Kinds() []Kind { return []Kind{KindHold} }

// Load implements [Copy].
func (c *ProviderHolds) Load(ctx context.Context, r Reader) error {
	fresh := NewProviderHolds()
	if err := eachEntity(ctx, r, KindHold, fresh.put); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byID, c.all = fresh.byID, fresh.all
	return nil
}

// Apply implements [Copy].
func (c *ProviderHolds) Apply(ctx context.Context, r Reader, changes []Change, _ Revision) error {
	ids, now, err := readTouched(ctx, r, KindHold, changes, func(c *Change) bool {
		return slices.ContainsFunc(c.Touches.NaturalKeys, ofProvider)
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if h := c.byID[id]; h != nil {
			delete(c.byID, id)
			delete(c.all, h.naturalKey())
		}
	}
	for _, e := range now {
		c.put(e)
	}
	return nil
}

// Arrive implements [Copy].
func (c *ProviderHolds) Arrive(Head) {}

// put adds a stored hold of a provider. One that cannot be read holds up no other. It needs the lock.
func (c *ProviderHolds) put(e Entity) {
	var h Hold
	if !ofProvider(e.Name) || h.decode(e, nil) != nil {
		return
	}
	c.byID[h.ID] = &h
	c.all[h.naturalKey()] = &h
}

// ofProvider reports whether the target of a hold is a provider, or a model of one.
func ofProvider(target string) bool { return strings.HasPrefix(target, KindProvider.Noun()+"/") }
