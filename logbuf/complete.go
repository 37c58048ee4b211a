package logbuf

import "context"

// A Completer fills in what entries do not say: their project and their cost. A [Queue] calls it
// for each entry. Implementations are safe for concurrent use.
type Completer interface {
	// Complete fills in an entry from what is known in memory; it does not block. What the entry
	// says itself it leaves alone.
	//
	//   - Project is that of the key, if there is one.
	//   - CostNanoUSD and PricedRevision are filled in where there is no cost. Where the cost is
	//     not known, it leaves CostNanoUSD nil, and says in PricedRevision as of which revision.
	//
	// It MUST return false, and change nothing, when something is open that is not known here yet,
	// or when the entry knows a later revision than this process does.
	Complete(e *Entry) (done bool)

	// CompleteLate does the same for entries that are about to leave the queue, and for which
	// Complete returned false when they were appended. It may read what it needs, until ctx ends.
	// After an error the entries wait, and it is called again; only a queue in memory that is being
	// closed stores them as they are.
	CompleteLate(ctx context.Context, entries []*Entry) error
}
