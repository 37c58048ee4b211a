// Package costs says what log entries cost by the catalog's prices, and whom they are charged to: as they
// come, with a [Completer], and anew once they are stored, with a [Repricer].
package costs

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// A Completer fills in what log entries leave open, by copies of the catalog: their costs, and the projects
// of their keys. It is safe for concurrent use.
type Completer struct {
	prices   *catalog.PriceList
	accounts *catalog.Accounts
	follower *catalog.Follower
	unpriced Unpriced
	failed   atomic.Pointer[time.Time] // when Prepare failed last
}

var _ logbuf.Completer = (*Completer)(nil)

// NewCompleter returns a completer that goes by two copies, and by the follower that leads them on.
func NewCompleter(prices *catalog.PriceList, accounts *catalog.Accounts, follower *catalog.Follower) *Completer {
	return &Completer{prices: prices, accounts: accounts, follower: follower}
}

// Unpriced returns the models that entries were seen of whose cost is not known.
func (c *Completer) Unpriced() *Unpriced { return &c.unpriced }

// Complete implements [logbuf.Completer].
func (c *Completer) Complete(e *logbuf.Entry) (done bool) {
	if e.CostNanoUSD != nil && (e.Project != "" || e.KeyID == 0) {
		return true
	}
	if !c.follower.Within(copyAge) {
		return false
	}
	q, ok := c.quote(e)
	if !ok || knowsMore(e, q) || e.Project == "" && !c.accounts.Knows(e.KeyID) {
		return false // a key may have been made a moment ago
	}
	c.fill(e, q)
	return true
}

// CompleteLate implements [logbuf.Completer].
func (c *Completer) CompleteLate(ctx context.Context, entries []*logbuf.Entry) error {
	if _, err := c.follower.Refresh(ctx); err != nil {
		return err
	}
	for _, e := range entries {
		// What an entry knows is now either here, or ahead of the store, and so not true.
		q, _ := c.quote(e)
		c.fill(e, q)
	}
	return nil
}

// quote returns what prices an entry that says no cost.
func (c *Completer) quote(e *logbuf.Entry) (q catalog.Quote, ok bool) {
	if e.CostNanoUSD != nil {
		return c.prices.At()
	}
	return c.prices.Quote(priceKey(e))
}

func (c *Completer) fill(e *logbuf.Entry, q catalog.Quote) {
	if e.CostNanoUSD == nil {
		fillCost(e, q)
		c.unpriced.note(e)
	}
	if e.Project == "" {
		e.Project = c.accounts.Project(e.KeyID)
	}
}

// copyAge is how old the copies may be: a control plane completes entries only by a copy of the
// catalog that it has checked within this time. So whoever commits, and waits a little longer than
// copyAge, knows that no control plane uses the state before the commit. This holds for any number
// of servers, even when notifications are late or lost. It costs each server a few readings of the
// head a second while it takes logs.
const copyAge = 500 * time.Millisecond

const (
	copySettle = copyAge * 3 / 2 // for clocks that do not run equally fast

	// firstLook is how long Prepare waits for a look at the catalog, and nextLook how long it
	// does not wait again after that was in vain.
	firstLook = time.Second
	nextLook  = 10 * time.Second
)

// Prepare sees to it that the copies are good enough to go by. Where Run does not follow the
// catalog, they are brought up to date each time.
func (c *Completer) Prepare(ctx context.Context) {
	age := copyAge / 2 // some time is left until they are used
	if !c.follower.Running() {
		age = 0
	}
	if c.follower.Within(age) {
		return
	}
	if at := c.failed.Load(); at != nil && time.Since(*at) < nextLook && !c.follower.Within(time.Since(*at)) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, firstLook)
	defer cancel()
	if err := c.follower.Renew(ctx, age); err != nil { // then the entries are completed when they leave
		now := time.Now()
		c.failed.Store(&now)
	}
}

// Settle returns once no control plane completes entries by what the catalog was before a revision.
func (c *Completer) Settle(ctx context.Context, revision catalog.Revision) error {
	settled := time.NewTimer(copySettle)
	defer settled.Stop()
	if err := c.follower.CatchUp(ctx, revision); err != nil {
		return err
	}
	select {
	case <-settled.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func priceKey(e *logbuf.Entry) catalog.PriceKey {
	return catalog.PriceKey{
		ProviderID: e.ProviderID, UpstreamModel: e.UpstreamModel, Namespace: e.Namespace, Model: e.Model,
	}
}

// knowsMore reports whether the balancer that wrote an entry had applied a later revision
// than the prices are of.
func knowsMore(e *logbuf.Entry, q catalog.Quote) bool {
	if e.Revision == "" {
		return false
	}
	at, err := snapshot.ParsePosition(e.Revision)
	if err != nil || at.Epoch < q.Epoch {
		return false
	}
	return at.Epoch > q.Epoch || at.Revision > q.Revision
}

// fillCost prices an entry by a quote.
func fillCost(e *logbuf.Entry, q catalog.Quote) {
	e.CostNanoUSD, e.PricedRevision = nil, int64(q.Revision)
	if cost, ok := priceFor(e, q.Prices).Cost(e); ok {
		e.CostNanoUSD = &cost
	}
}

// priceFor returns what prices an entry, nil when nothing does.
func priceFor(e *logbuf.Entry, record *catalog.Prices) *logbuf.Price {
	if record == nil {
		return nil
	}
	prices := record.For(e.InputTokens + e.CacheReadTokens + e.CacheWriteTokens)
	return &logbuf.Price{
		Input: (*int64)(prices.InputPrice), Output: (*int64)(prices.OutputPrice),
		CacheRead: (*int64)(prices.CacheReadPrice), CacheWrite: (*int64)(prices.CacheWritePrice),
		Request: (*int64)(prices.RequestPrice),
	}
}
