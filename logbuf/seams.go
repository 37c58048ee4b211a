package logbuf

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrFull says that the buffer's capacity is used up. Nothing of the call
	// was taken; the caller should slow down and try again.
	ErrFull = errors.New("log buffer is full")

	// ErrClosed says that the buffer no longer accepts entries.
	ErrClosed = errors.New("log buffer is closed")

	// ErrBroken says that the spool's disk failed in a way after which nothing
	// can be promised any more: an fsync failed. It stays until the queue is
	// opened again. What was acknowledged before is kept and still stored.
	ErrBroken = errors.New("log spool is broken until it is opened again")

	// ErrPaused is what a [Sink] wraps when its schema is not what it should
	// be (a column is missing, a permission was taken away). The batch is kept
	// and tried again; nothing is dead-lettered, because the data is not at fault.
	ErrPaused = errors.New("log sink is paused")

	// ErrUnavailable is what an [Archive] wraps when it cannot reach its
	// database. Time may help.
	ErrUnavailable = errors.New("log storage cannot be reached")

	// ErrInvalid is wrapped by every error that says an entry or a query is
	// not acceptable. See [FieldError] for which field, and why.
	ErrInvalid = errors.New("invalid")

	// ErrMalformed says that a body as a whole cannot be read: it is not JSON,
	// or not an object, an array or lines of objects. It wraps ErrInvalid.
	ErrMalformed = fmt.Errorf("%w: malformed body", ErrInvalid)

	// ErrTooMany says that a body holds more than [MaxEntries] entries, or that
	// a buffer never has room for so many at once. It wraps ErrInvalid.
	ErrTooMany = fmt.Errorf("%w: too many entries", ErrInvalid)
)

// FieldError says which field is not acceptable, and why. The message holds
// the remedy and never the value.
type FieldError struct {
	Field   string `json:"field"`   // as in the API: "since"
	Message string `json:"message"` // "must be before until"
}

func (e *FieldError) Error() string { return e.Field + " " + e.Message }

// Unwrap returns ErrInvalid.
func (e *FieldError) Unwrap() error { return ErrInvalid }

// Buffer takes access-log entries at once and stores them later.
//
// Implementations are safe for concurrent use and share no memory with their
// callers once a call has returned.
type Buffer interface {
	// Append takes all entries, or none. It returns nil once the entries are
	// as durable as the buffer promises, and never waits for the sink.
	//
	// It MUST return an error that wraps ErrFull when the entries do not fit
	// now, and may return one that wraps ErrTooMany when they never will,
	// ErrClosed after Close, and ctx.Err() when the context ends first.
	Append(ctx context.Context, entries ...Entry) error

	// Flush blocks until every entry appended before the call has been
	// handed to the sink and stored, or until ctx ends.
	Flush(ctx context.Context) error

	// Close stops accepting, drains what is pending until ctx ends, and
	// releases what the buffer holds. When entries could not be stored, the
	// error says how many. A second Close does nothing.
	Close(ctx context.Context) error

	// Stats returns a consistent reading of the counters.
	Stats() Stats
}

// An Admitter is a [Buffer] that can say beforehand whether it would take an
// entry, so that a server under overload refuses before it reads a body.
type Admitter interface {
	// Ready returns nil, or the error that Append would return now: one that
	// wraps ErrFull, ErrClosed or ErrBroken. When room is short it may expect
	// entries as many as were refused last. It costs next to nothing.
	Ready() error
}

// Sink stores batches of entries for good.
type Sink interface {
	// Write stores the batch atomically: entries, usage and the segment's
	// checkpoint together.
	//
	// It MUST store an entry whose identity (Time truncated to microseconds,
	// ID) is stored already no second time, and count it as a duplicate. It
	// MUST NOT let one entry that the database refuses keep the others from
	// being stored: such an entry goes to the dead letters, with the reason.
	//
	// When b.Segment is not zero, it MUST move that segment's checkpoint (0 when
	// there is none) to b.To in the same transaction, with a compare-and-set from
	// b.From. When the checkpoint is at or past b.To already, it MUST store
	// nothing and report every entry as a duplicate. When it is anywhere else,
	// it MUST NOT fail: it stores the batch as one that may hold duplicates, and
	// moves the checkpoint to b.To.
	//
	// An error means that nothing of the batch was stored or that it is not
	// known; the caller writes the same batch again. An error that wraps
	// ErrPaused means that an operator has to mend something first.
	Write(ctx context.Context, b Batch) (Result, error)
}

// An Overlapper is a [Sink] that can work at a batch while the one before is not
// stored yet. A queue with a backlog keeps two going, so that the database does
// not rest while one is read, encoded, or committed.
type Overlapper interface {
	// WriteAfter does what [Sink.Write] does, beside a write of the batch before. It MUST
	// NOT let anything of the batch last until turn has returned nil: then the
	// batch before is stored. It MUST return an error, and store nothing, when turn returns one.
	// Turn blocks, and may be called more than once. Whoever waits for it MUST
	// NOT for long hold what the batch before may need.
	WriteAfter(ctx context.Context, b Batch, turn func(ctx context.Context) error) (Result, error)
}

// A Checkpointer is a [Sink] that can say how far it has stored a segment. A
// queue asks once for each segment that an earlier process has left, so that
// what is stored is not sent again. Sinks without it, or without checkpoints at
// all, lose nothing but time: what is sent again are duplicates.
type Checkpointer interface {
	// Checkpoint returns the position up to which a segment is stored, 0 for a
	// segment it has never seen. It MUST NOT return a position for which
	// [Sink.Write] has not committed.
	Checkpoint(ctx context.Context, segment uuid.UUID) (int64, error)
}

// A Maintainer is a [Sink] that has something to do now and then: it tidies
// up behind writes, makes room ahead of them, and forgets what is too old.
type Maintainer interface {
	// Maintain does what is due, and nothing when another process is at it. It
	// MUST be harmless while others write and read, and MUST NOT change what
	// Usage answers. Call it about once a minute.
	//
	// It forgets entries, but not their usage, from before a time; the zero
	// time forgets none. Days in UTC go as a whole, once they ended before that
	// time. Never pass a time after that of an entry which may still be
	// written, because a duplicate of what is forgotten is not recognised.
	Maintain(ctx context.Context, before time.Time) error
}

// A Batch is what a [Sink] stores in one transaction.
type Batch struct {
	// Segment names the spool segment that the entries come from, the zero
	// UUID when they come from memory: then there is no checkpoint.
	Segment uuid.UUID
	// From and To are the positions in the segment before and after the batch.
	// A position counts entries; To - From is more than len(Entries) when
	// damaged entries were skipped. From is the To of the batch before.
	From, To int64

	// Entries are read by the sink and not kept.
	Entries []Entry
}

// A Result says what became of a batch's entries; the three add up to its length.
type Result struct {
	Stored    int // stored by this write
	Duplicate int // stored before
	Dead      int // refused by the database, kept in the dead letters
}

// Archive answers questions about stored entries. Logs and Usage MUST return a
// [FieldError] when the query is not acceptable; the Resolve methods of the
// queries find that out.
type Archive interface {
	// Logs returns a page of entries, newest first (by time, then id). Pages
	// that follow each other's cursors MUST hold every entry that was stored
	// before the first of them was read, once.
	Logs(ctx context.Context, q LogQuery) (LogPage, error)

	// Usage returns aggregates in order of time, then of the grouping, in the
	// order of [Dimensions]. It counts every entry whose Write has returned,
	// also those that are forgotten since; see [Maintainer].
	Usage(ctx context.Context, q UsageQuery) ([]Usage, error)

	// KeyUsage returns what each of some keys has used since a time, which is
	// cut to the hour; the zero time is ever. Keys that were never used are absent. It counts as Usage does.
	KeyUsage(ctx context.Context, since map[int64]time.Time) (map[int64]KeyUsage, error)
}

// A LogQuery selects stored entries. Zero fields do not restrict.
type LogQuery struct {
	KeyID      int64
	ProviderID int64
	Namespace  string
	Model      string
	Status     int
	RequestID  string
	Since      time.Time // inclusive; zero: 24 hours before Until, or before now
	Until      time.Time // exclusive; zero: no end, clocks may run ahead
	Cursor     string    // LogPage.Next of the page before
	Limit      int       // 0: 100; at most 1000
}

// A LogPage is one page of stored entries.
type LogPage struct {
	Entries []Entry
	Next    string // empty on the last page
}

// Dimension is something usage can be grouped by.
type Dimension string

// The dimensions of usage.
const (
	ByKey       Dimension = "key"
	ByProvider  Dimension = "provider"
	ByNamespace Dimension = "namespace"
	ByModel     Dimension = "model"
	ByGroup     Dimension = "group"
)

// Interval is the length of time one usage row covers.
type Interval string

// The intervals of usage, in UTC.
const (
	Hour Interval = "hour"
	Day  Interval = "day"
)

// A UsageQuery selects aggregates.
type UsageQuery struct {
	GroupBy  []Dimension
	Interval Interval  // zero: Day
	Since    time.Time // inclusive, cut to the interval; zero: 24 hours before Until, or before now
	Until    time.Time // exclusive, raised to the interval; zero: no end

	KeyIDs []int64 // restricts to these keys; empty: all
}

// Usage is what a group used in one interval. Dimensions that the query did
// not group by are zero.
type Usage struct {
	Start      time.Time
	KeyID      int64
	ProviderID int64
	Namespace  string
	Model      string
	Group      string

	Requests         int64
	Errors           int64 // entries with a status of 400 or more, or with an error
	InputTokens      int64
	CacheReadTokens  int64
	CacheWriteTokens int64
	OutputTokens     int64
	CostNanoUSD      int64 // of the priced requests
	Unpriced         int64 // requests whose cost is not known
}

// KeyUsage is what one key has used.
type KeyUsage struct {
	LastUsed    time.Time // start of the last hour of which there is a request, whenever that was
	CostNanoUSD int64     // of the priced requests since the time asked for
}

// Durability says what an acknowledged entry survives.
type Durability string

// The two promises.
const (
	Memory Durability = "memory" // queued in this process: drained by Close, lost in a crash
	Disk   Durability = "disk"   // fsynced here before Append returns
)

// Stats are the counters of a buffer. At every quiet moment
// Accepted = Stored + Duplicate + Dead + Damaged + Pending.
type Stats struct {
	Durability Durability

	Accepted  int64
	Stored    int64
	Duplicate int64
	Dead      int64
	Damaged   int64 // read back damaged from the spool and skipped
	Pending   int64
	Refused   int64 // entries turned away with ErrFull

	Cut      int64 // strings that Append found too long
	Replaced int64 // strings in which Append replaced invalid UTF-8 or NUL

	Capacity      int64 // entries: pending in memory mode, awaiting fsync in disk mode
	Batches       int64 // written to the sink
	Retries       int64 // failures of the sink, or of reading the spool, each followed by another try
	Paused        bool  // the sink's last error wrapped ErrPaused
	LastError     string
	OldestPending time.Time // when the oldest pending entry was appended, which its own time may be days before; zero when nothing is pending

	// Of the spool, zero in memory mode.
	SpoolBytes int64         // used by segments and by what awaits fsync
	SpoolMax   int64         // the most it may use
	Segments   int           // files
	Syncs      int64         // calls of fsync that worked
	SyncTime   time.Duration // all of them together
	Broken     bool          // Append returns ErrBroken
}
