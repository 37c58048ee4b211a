package catalog

import (
	"context"
	"slices"
	"sync"
)

// UpstreamList keeps in memory the providers, their models, and whether they may be held. A
// [Follower] fills it and keeps it up to date; it is empty until then, see [UpstreamList.Loaded].
// It is safe for concurrent use.
type UpstreamList struct {
	mu   sync.RWMutex
	byID map[int64]upstreamOf // nil until the first load
}

type upstreamOf struct {
	models  []string
	active  bool
	autoBan bool
}

var _ Copy = (*UpstreamList)(nil)

// NewUpstreamList returns an empty copy.
func NewUpstreamList() *UpstreamList { return &UpstreamList{} }

// Loaded reports whether the catalog was read once.
func (c *UpstreamList) Loaded() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byID != nil
}

// Lists reports whether there is a provider that lists an upstream model, whatever its status, and
// whether it does so by name: what only a pattern with * lists, somebody may have made up. An empty model
// asks for the provider alone.
func (c *UpstreamList) Lists(providerID int64, model string) (listed, byName bool) {
	p, ok := c.find(providerID)
	return ok && p.lists(model), ok && (model == "" || slices.Contains(p.models, model))
}

// ListsByName reports whether a provider lists an upstream model by its name, not by a pattern
// alone: the second result of Lists.
func (c *UpstreamList) ListsByName(providerID int64, model string) bool {
	_, byName := c.Lists(providerID, model)
	return byName
}

// Serves reports whether a provider lists a model, as Lists does, and no person has disabled it.
func (c *UpstreamList) Serves(providerID int64, model string) bool {
	p, ok := c.find(providerID)
	return ok && p.active && p.lists(model)
}

// AutoBan reports whether a provider may be held because it fails.
func (c *UpstreamList) AutoBan(providerID int64) bool {
	p, _ := c.find(providerID)
	return p.autoBan
}

func (c *UpstreamList) find(providerID int64) (upstreamOf, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p, ok := c.byID[providerID]
	return p, ok
}

// lists reports whether a model is one of the provider's. A text that no name may be like is none, even
// where a pattern fits it.
func (p *upstreamOf) lists(model string) bool {
	return model == "" || MatchesList(p.models, model) && PlainText(model, len(model)) == model
}

// Kinds implements [Copy].
func (*UpstreamList) Kinds() []Kind { return []Kind{KindProvider} }

// Load implements [Copy].
func (c *UpstreamList) Load(ctx context.Context, r Reader) error {
	fresh := UpstreamList{byID: map[int64]upstreamOf{}}
	if err := eachEntity(ctx, r, KindProvider, fresh.put); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byID = fresh.byID
	return nil
}

// Apply implements [Copy].
func (c *UpstreamList) Apply(ctx context.Context, r Reader, changes []Change, _ Revision) error {
	ids, now, err := readTouched(ctx, r, KindProvider, changes, func(*Change) bool { return true })
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		delete(c.byID, id)
	}
	for _, e := range now {
		c.put(e)
	}
	return nil
}

// Arrive implements [Copy].
func (c *UpstreamList) Arrive(Head) {}

// put adds a stored provider, of which its secret stays closed. One that cannot be read holds up no
// other. It needs the lock.
func (c *UpstreamList) put(e Entity) {
	var p Provider
	if e.spec(&p) != nil {
		return
	}
	c.byID[e.ID] = upstreamOf{models: p.Models, active: Status(e.Status) == Active,
		autoBan: p.AutoBan == nil || *p.AutoBan}
}
