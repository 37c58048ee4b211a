package costs

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

const maxUnpriced = 1000 // models whose price is not known, in memory

// Unpriced collects the models of log entries whose cost is not known: at most 1000, in memory. It
// is safe for concurrent use.
type Unpriced struct {
	mu   sync.Mutex
	seen map[catalog.PriceKey]bool
}

// note keeps in mind what an entry was for, if its cost is not known and should be.
func (u *Unpriced) note(e *logbuf.Entry) {
	if e.CostNanoUSD != nil || e.Status >= 400 {
		return
	}
	key := priceKey(e)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seen == nil {
		u.seen = map[catalog.PriceKey]bool{}
	}
	if len(u.seen) < maxUnpriced {
		u.seen[key] = true
	}
}

// List returns what was seen, in the order of providers.
func (u *Unpriced) List() []catalog.PriceKey {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.SortedFunc(maps.Keys(u.seen), func(a, b catalog.PriceKey) int {
		return cmp.Or(cmp.Compare(a.ProviderID, b.ProviderID), cmp.Compare(a.UpstreamModel, b.UpstreamModel),
			cmp.Compare(a.Model, b.Model), cmp.Compare(a.Namespace, b.Namespace))
	})
}

// Forget lets go of what people were told of.
func (u *Unpriced) Forget(told []catalog.PriceKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, key := range told {
		delete(u.seen, key)
	}
}
