package logbuf

import "context"

// A Completer knows what entries leave open: the project of an entry that says none, and the
// cost of one that says none. A [Queue] asks it for each entry. It is safe for concurrent use.
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

	// CompleteLate does the same for entries for which Complete returned false when they were
	// taken, and which leave the queue now. It reads what it needs, for as long as ctx lets
	// it. After an error it is called again: the entries wait.
	CompleteLate(ctx context.Context, entries []*Entry) error
}
