package rollup

import (
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	// A step of a run looks through spans of time, the first so wide, until it has found its
	// entries or has worked for so long: few entries among many are found in many short transactions.
	firstSpan = 15 * time.Minute
	widest    = 100 * 365 * 24 * time.Hour
	stepTime  = time.Second
)

// A Repricing is one step of a run that prices stored entries anew: what became of its entries.
type Repricing struct {
	Result  logbuf.RepriceResult
	Changed []logbuf.Entry // with their new costs
	Usage   Table          // what usage changes by

	before, after Wide
}

// Walk prices the next entries of a range, newest first, as one step. The function find returns the
// entries of a part of the range that the batch selects, and one more than its limit if there are
// more.
func (p *Repricing) Walk(
	b *logbuf.RepriceBatch, r logbuf.LogRange, find func(logbuf.LogRange) ([]logbuf.Entry, error),
) error {
	begun := time.Now()
	for width := firstSpan; ; {
		part := r
		if since := r.Before.Add(-width); since.After(r.Since) {
			part.Since = since
		}
		asked := time.Now()
		entries, err := find(part)
		if err != nil {
			return err
		}
		page := part.Page(entries)
		for i := range page.Entries {
			p.Price(b, &page.Entries[i])
		}
		r.Limit -= len(page.Entries)
		switch {
		case page.Next != "":
			last := &page.Entries[len(page.Entries)-1]
			r.Before, r.BeforeID = last.Time, last.ID
			p.Result.Next = r.Cursor()
			return nil
		case part.Since.Equal(r.Since):
			return nil
		}
		r.Before, r.BeforeID = part.Since, uuid.Nil
		if r.Limit == 0 || time.Since(begun) >= stepTime {
			p.Result.Next = r.Cursor()
			return nil
		}
		if time.Since(asked) < stepTime/8 {
			width = min(2*width, widest)
		}
	}
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
