package ezapi

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// pricer prices log entries by the catalog's prices. It is the one place that knows both.
type pricer struct {
	list     *catalog.PriceList
	unpriced *unpricedModels
	follower *catalog.Follower
	failed   atomic.Pointer[time.Time] // when prepare failed last
}

var _ logbuf.Pricer = (*pricer)(nil)

// Price implements [logbuf.Pricer].
func (p *pricer) Price(e *logbuf.Entry) (known bool) {
	if !p.follower.Within(priceAge) {
		return false
	}
	q, ok := p.list.Quote(priceKey(e))
	if !ok || knowsMore(e, q) {
		return false
	}
	fillCost(e, q)
	p.unpriced.note(e)
	return true
}

// PriceLate implements [logbuf.Pricer].
func (p *pricer) PriceLate(ctx context.Context, entries []*logbuf.Entry) error {
	if _, err := p.follower.Refresh(ctx); err != nil {
		return err
	}
	for _, e := range entries {
		// What an entry knows is now either here, or ahead of the store, and so not true.
		q, _ := p.list.Quote(priceKey(e))
		fillCost(e, q)
		p.unpriced.note(e)
	}
	return nil
}

// Every control plane prices by a copy of the catalog that was looked after at most priceAge ago,
// or not at all, and whoever commits need only wait for a little longer than that to know that
// none prices by what was before. That holds for any number of servers, also for those whose
// notifications are late or do not come, and costs each some looks at the head a second while it
// takes logs.
const (
	priceAge    = 500 * time.Millisecond
	priceSettle = priceAge * 3 / 2 // for clocks that do not run equally fast
)

const (
	// firstPrices is how long AppendLogs waits for a look at the catalog, and morePrices how long it does
	// not wait again after that was in vain.
	firstPrices = time.Second
	morePrices  = 10 * time.Second
)

// prepare sees to it that the prices are good enough to price by. Where Run does not follow the
// catalog, they are brought up to date each time.
func (p *pricer) prepare(ctx context.Context) {
	age := priceAge / 2 // some time is left until they are used
	if !p.follower.Running() {
		age = 0
	}
	if p.follower.Within(age) {
		return
	}
	if at := p.failed.Load(); at != nil && time.Since(*at) < morePrices && !p.follower.Within(time.Since(*at)) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, firstPrices)
	defer cancel()
	if err := p.follower.Renew(ctx, age); err != nil { // then the entries are priced when they leave
		now := time.Now()
		p.failed.Store(&now)
	}
}

// settle returns once no control plane prices by what the catalog was before a revision.
func (p *pricer) settle(ctx context.Context, revision catalog.Revision) error {
	settled := time.NewTimer(priceSettle)
	defer settled.Stop()
	if err := p.follower.CatchUp(ctx, revision); err != nil {
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
