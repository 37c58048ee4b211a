package logbuf

import (
	"context"
	"time"
)

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
	// Ready returns nil, or the error that Append would return now: one that wraps ErrFull,
	// ErrClosed or ErrBroken. After Append has refused entries, it may return ErrFull for as long
	// as there is no room for as many. It costs next to nothing.
	Ready() error
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
	Again     int64 // taken up again because the sink had lost them; Accepted counts them once more

	Cut      int64 // strings that Append found too long
	Replaced int64 // strings in which Append replaced invalid UTF-8 or NUL

	Capacity  int64 // entries: pending in memory mode, awaiting fsync in disk mode
	Batches   int64 // written to the sink
	Retries   int64 // failures of the sink, or of reading the spool, each followed by another try
	Paused    bool  // the sink's last error wrapped ErrPaused
	LastError string
	// When the oldest pending entry was appended; zero when nothing is pending. The time of the
	// entry itself may be days earlier.
	OldestPending time.Time

	// Of the spool, zero in memory mode.
	SpoolBytes int64         // used by segments and by what awaits fsync, but for SpoolKept
	SpoolKept  int64         // used by segments that are stored, and go when the room is needed
	SpoolMax   int64         // the most it may use
	Segments   int           // files
	Syncs      int64         // calls of fsync that worked
	SyncTime   time.Duration // all of them together
	Full       bool          // Append returns ErrFull, or did within the last half minute for want of room on the disk
	Broken     bool          // Append returns ErrBroken
	SetAside   int           // segments that could not be read, since the queue was opened
	Alarm      string        // the last thing of this queue's time that an operator should look into
}
