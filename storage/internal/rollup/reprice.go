package rollup

import "github.com/ez-api/ez-api/logbuf"

// A Repricing is one step of a run that prices stored entries anew: what became of its entries.
type Repricing struct {
	Result  logbuf.RepriceResult
	Changed []logbuf.Entry // with their new costs
	Usage   Table          // what usage changes by

	before, after Wide
}

// Price prices an entry that was selected.
func (p *Repricing) Price(b *logbuf.RepriceBatch, e *logbuf.Entry) {
	after := e.Clone()
	b.Price(&after)
	p.Result.Read++
	had, has := e.CostNanoUSD != nil, after.CostNanoUSD != nil
	if !has {
		p.Result.Unpriced++
	} else if !had {
		p.Result.Priced++
	}
	if had == has && (!has || *e.CostNanoUSD == *after.CostNanoUSD) && e.PricedRevision == after.PricedRevision {
		return
	}
	p.Result.Changed++
	if had {
		p.before.Add(*e.CostNanoUSD)
	}
	if has {
		p.after.Add(*after.CostNanoUSD)
	}
	p.Result.CostBefore, p.Result.CostAfter = p.before.Int64(), p.after.Int64()
	p.Usage.Reprice(e, &after)
	p.Changed = append(p.Changed, after)
}

// Wants reports whether a batch is about an entry; it does not look at time and page.
func Wants(b *logbuf.RepriceBatch, e *logbuf.Entry) bool {
	return (b.Own || e.CostNanoUSD == nil || e.PricedRevision != 0) && b.Query.Matches(e)
}
