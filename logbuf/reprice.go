package logbuf

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// A Repricer is a [Sink] that can change the cost of stored entries, and of the usage
// that was counted from them.
type Repricer interface {
	// Reprice looks at the next entries that the batch selects, newest first, lets
	// b.Price price each anew, and stores what has changed: the costs and priced
	// revisions of the entries and the sums of their usage, in one transaction.
	//
	// Usage MUST change by exactly what the costs change by, whatever else is written meanwhile:
	// the entries are read and changed under a lock, or the change is a compare-and-set. This
	// includes usage that is pending, folded or closed. Where only days are kept, the sums of the
	// days change.
	//
	// It MUST return an error that wraps [ErrBusy], and do nothing, while another run
	// holds the lease: each batch that is not a dry run takes or renews the lease for
	// b.Run, for [RepriceLease] by the store's clock, and the last one ends it. It
	// MUST return a [FieldError] when the query is not acceptable. After any other
	// error nothing of the batch was stored or it is not known, and repeating the same
	// batch does no harm.
	Reprice(ctx context.Context, b RepriceBatch) (RepriceResult, error)
}

// RepriceLease is how long a run that is heard of no more keeps others out.
const RepriceLease = 30 * time.Second

// A RepriceBatch is one step of a run that prices stored entries anew.
type RepriceBatch struct {
	// Run identifies the run.
	Run uuid.UUID

	// Query selects the entries. Its Cursor is the Next of the step before, and its Limit is how
	// many entries one transaction reads. With Query.Unpriced, entries that have a cost are not
	// selected.
	Query LogQuery

	// Own selects entries with a cost that the balancer brought (one with a
	// PricedRevision of 0), too.
	Own bool

	// DryRun stores nothing and takes no lease.
	DryRun bool

	// Price changes CostNanoUSD and PricedRevision of an entry, and nothing else. It
	// does not block, and is called again when a transaction is tried again. It may replace
	// the pointer and MUST NOT write through it.
	Price func(e *Entry)
}

// A RepriceResult says what a step did, or would do.
type RepriceResult struct {
	Read     int // entries selected
	Changed  int // entries whose cost or priced revision is another now
	Priced   int // entries that have a cost and had none
	Unpriced int // entries that have none, as before or from now on

	CostBefore int64 // nano-USD, of the changed entries; an unknown cost counts as 0
	CostAfter  int64

	// Next is the Query.Cursor of the next step; empty: this was the last. A step may end with
	// few entries, or none, where it has looked through much for them.
	Next string
}
