package logbuf

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Sink stores batches of entries for good.
type Sink interface {
	// Write stores the batch atomically: entries, usage and the segment's
	// checkpoint together.
	//
	// It MUST NOT store an entry again whose identity (Time truncated to microseconds, ID) is
	// stored already, and MUST count it as a duplicate. It MUST NOT let one entry that the database
	// refuses keep the others from being stored: such an entry goes to the dead letters, with the
	// reason.
	//
	// When b.Segment is not zero, it MUST move that segment's checkpoint (0 when
	// there is none) to b.To in the same transaction, with a compare-and-set:
	//
	//   - At or past b.To already, it MUST store nothing and report every entry as a
	//     duplicate.
	//   - Between b.From and b.To, it MUST NOT fail: it stores the batch as one that may
	//     hold duplicates, and moves the checkpoint to b.To.
	//   - Before b.From, the store has lost what it had committed: it failed over, or was
	//     set back to a backup. It MUST store nothing, leave the checkpoint where it is, and
	//     return a [*BehindError]. The queue goes back to there.
	//
	// Sums of usage MUST be exact: they are held wide enough, because what was
	// cut off could not be taken back when costs are computed anew.
	//
	// After an error, either nothing of the batch was stored or the outcome is not known; the
	// caller writes the same batch again. An error that wraps [ErrPaused] means that an operator
	// has to mend something first. A context that ends MUST end the call.
	Write(ctx context.Context, b Batch) (Result, error)
}

// A Batch is what a [Sink] stores in one transaction.
//
// A batch of a spool is known by (Segment, From, To). A queue gives a batch that
// may have been written before to its sink again under the same identity and with
// the same entries, also after the process was ended and started again.
type Batch struct {
	// Segment names the spool segment that the entries come from, the zero
	// UUID when they come from memory: then there is no checkpoint. A segment that was set
	// aside and is there again has another name than before.
	Segment uuid.UUID
	// From and To are the positions in the segment before and after the batch.
	// A position counts entries; To - From is more than len(Entries) when
	// damaged entries were skipped. From is the To of the batch before.
	From, To int64

	// Entries are read by the sink and not kept.
	Entries []Entry
}

// A BehindError is what [Sink.Write] returns when the checkpoint of the batch's segment is
// before the batch, although everything before it was stored once.
type BehindError struct {
	Position int64 // of the checkpoint: what the store still has
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("the store has only the first %d entries of the segment, and had more", e.Position)
}

// A Result says what became of a batch's entries; the three add up to its length.
type Result struct {
	Stored    int // stored by this write
	Duplicate int // stored before
	Dead      int // refused by the database, kept in the dead letters
}

// A Pipeliner is a [Sink] that can work at a batch while the one before is not
// stored yet. A queue with a backlog keeps two in flight, so that the database does
// not rest while one is read, encoded, or committed.
type Pipeliner interface {
	// WriteAfter does what [Sink.Write] does, beside a write of the batch before.
	//
	// It MUST NOT make anything of the batch last until prior has returned nil: then
	// the batch before is stored. It MUST return an error, and store nothing, when
	// prior returns one. Prior blocks, and may be called more than once. While it
	// waits for prior, the sink MUST NOT for long hold a lock or a connection that the
	// batch before may need.
	WriteAfter(ctx context.Context, b Batch, prior func(ctx context.Context) error) (Result, error)
}

// A Checkpointer is a [Sink] that can say how far it has stored a segment. A
// queue asks for each segment that an earlier process has left, and now and then
// for segments whose files are still there, so that what is stored is not sent
// again, and what a failover has lost is. Sinks without it, or without checkpoints at
// all, lose nothing but time: what is sent again are duplicates.
type Checkpointer interface {
	// Checkpoint returns the position up to which a segment is stored, 0 for a
	// segment it has never seen. It MUST NOT return a position for which
	// [Sink.Write] has not committed, nor one that a read replica has which may be
	// ahead of, or behind, where writes go. It MUST return an error when it does not know.
	Checkpoint(ctx context.Context, segment uuid.UUID) (int64, error)
}

// A Timekeeper is a [Sink] that can tell the time of its store, so that the clock of one
// server that is wrong neither forgets what others need nor refuses good entries.
type Timekeeper interface {
	// Clock returns the time of the store. It MUST return an error when it cannot
	// ask, and never the time of this process instead.
	Clock(ctx context.Context) (time.Time, error)
}

// Class says how much a [Sink] promises.
type Class string

// The classes of sinks.
const (
	// Transactional is a sink that keeps all that [Sink] demands.
	Transactional Class = "transactional"

	// ByIdentity is a sink in front of an engine without transactions, such as a
	// column store. It promises less:
	//
	//   - An entry may be written more than once and MUST be answered once: queries
	//     go by its identity. Write MUST be harmless when it is repeated with the
	//     same (Segment, From, To) and the same entries; the queue sees to it that
	//     what it repeats is the same.
	//   - The counts of a [Result] may be estimates, but MUST add up. So Stored and
	//     Duplicate of [Stats] are estimates, too.
	//   - There is no checkpoint in Write. It need not be a [Checkpointer].
	//   - Usage is computed from the entries, and stays when those are forgotten. What
	//     comes late for a day that was forgotten is added to it, and may be forgotten at once.
	//   - Entries that the engine refuses go to dead letters as elsewhere.
	ByIdentity Class = "by identity"
)

// A Classifier is a [Sink] that says its class. A sink without it is [Transactional].
type Classifier interface {
	// Class MUST always return the same.
	Class() Class
}

// ClassOf returns the class of a sink.
func ClassOf(s Sink) Class {
	if c, ok := s.(Classifier); ok {
		return c.Class()
	}
	return Transactional
}
