package logbuf

// The largest numbers an entry may hold: what a [Decoder] takes from HTTP and
// [Queue.Append] from Go. They are far above anything real. Identifiers and revisions may
// be any positive int64.
const (
	MaxStatus   = 999
	MaxAttempts = 10_000
	MaxMillis   = 1_000_000_000             // 11 days
	MaxTokens   = 1_000_000_000_000         // a million times a long context
	MaxCost     = 1_000_000 * 1_000_000_000 // nano-USD: a million USD

	maxID = 1<<63 - 1
)

// How much text an entry may hold, in bytes. Longer text is cut, so that one entry cannot
// fill a batch; what usage is grouped by is cut shorter, because it stands in an index.
const (
	MaxDimension = 256     // project, namespace, model, group
	MaxString    = 1 << 10 // other strings
	MaxError     = 8 << 10 // the error

	MaxTagName  = 64
	MaxTagValue = 256
)

// How many of each an entry may hold.
const (
	maxTags     = 8
	maxFailures = 8
	maxClass    = 32 // bytes of the class of a failure
)
