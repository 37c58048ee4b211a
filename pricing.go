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
	follower *catalog.Follower
	failed   atomic.Pointer[time.Time] // when prepare failed last
}

var _ logbuf.Pricer = (*pricer)(nil)

// Price implements [logbuf.Pricer].
func (p *pricer) Price(e *logbuf.Entry) (known bool) {
	q, ok := p.list.Quote(priceKey(e))
	if !ok || knowsMore(e, q) {
		return false
	}
	fillCost(e, q)
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
	}
	return nil
}

const (
	// firstPrices is how long AppendLogs waits for prices that nobody follows, and
	// morePrices how long it does not wait again after that was in vain.
	firstPrices = time.Second
	morePrices  = 10 * time.Second
)

// prepare brings the prices up to date where Run does not: before it, or without it.
func (p *pricer) prepare(ctx context.Context) {
	if p.follower.Running() {
		return
	}
	if at := p.failed.Load(); at != nil && time.Since(*at) < morePrices {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, firstPrices)
	defer cancel()
	if _, err := p.follower.Refresh(ctx); err != nil { // then the entries are priced when they leave
		now := time.Now()
		p.failed.Store(&now)
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
