package snapshot

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// The errors of this package and of every [Source] and [Publisher], matched
// with errors.Is.
var (
	// ErrNone says that nothing was published yet. It is never an empty catalog.
	ErrNone = errors.New("nothing published yet")

	// ErrStale says that the published head is not the one that was named:
	// read it again.
	ErrStale = errors.New("published head has moved")

	// ErrBusy says that somebody else's publish is under way, or was given up
	// in the middle: try again soon. It wraps ErrStale.
	ErrBusy error = busy{}

	// ErrGap says that the deltas after a position are no longer there, or
	// do not chain: load the whole.
	ErrGap = errors.New("gap in the deltas")

	// ErrCorrupt says that what is published does not add up: counts, digest
	// or signature are wrong, or a part cannot be read.
	ErrCorrupt = errors.New("published snapshot is damaged")

	// ErrFormat says that what is published has a format that this version does
	// not read: the program has to be upgraded.
	ErrFormat = errors.New("unknown format")

	// ErrUntold is the cause with which a caller cancels the context of a [Source.Next] that still
	// waits although the published head has moved on.
	ErrUntold = errors.New("nobody told of the delta")

	// ErrRefused says that the publisher takes no writes: a right is missing, there is no room, or the like. The
	// message says which, and holds no secret.
	ErrRefused = errors.New("the publisher refuses writes")

	// ErrTooLarge says that a delta does not fit into MaxParts parts or
	// MaxChainBytes: publish the whole.
	ErrTooLarge = errors.New("too large for a delta")
)

type busy struct{}

func (busy) Error() string { return "another publish is under way" }
func (busy) Unwrap() error { return ErrStale }

// Position is a place in the order of all publishes: the higher epoch is
// later, within an epoch the higher revision.
type Position struct {
	Epoch    catalog.Epoch
	Revision catalog.Revision
}

// Document is what data planes see of one noun, in the hash named by Kind
// under Key.
type Document struct {
	Kind catalog.Kind
	Key  string // provider id, "namespace.model", or token SHA-256 in hex
	Doc  []byte // JSON; these bytes are what the digest covers
}

// Change is one document's part in a delta. A nil Doc is a deletion.
type Change struct {
	Kind catalog.Kind
	Key  string
	Doc  []byte
}

// Delta leads from one position to another. A delta without changes moves the
// head alone.
type Delta struct {
	// From is the position that the delta starts from.
	From Position
	// Head is the head after the delta; Head.Position is where it leads to.
	Head Head
	// Changes are in the order in which they are written. No two name the same document.
	Changes []Change
}

// Source is where a data plane reads. A Source holds no keys: digests and
// signatures are the caller's to verify.
//
// Implementations are safe for concurrent use and share no memory with their
// callers. Kinds of documents that an implementation does not know are no
// problem: it takes them by their names, see [CheckKind].
type Source interface {
	// Head returns the published head. It MUST return an error that wraps
	// ErrNone before the first publish, and one that wraps ErrCorrupt when the
	// head cannot be read; what is known of it comes along then, see [Head.Base].
	Head(ctx context.Context) (Head, error)

	// Load gives everything that is published at one position to the loader, see
	// there, and returns nil when the loader took it. It MUST return an error
	// that wraps ErrNone before the first publish, one that wraps ErrCorrupt
	// when what is there does not add up, and the loader's errors otherwise.
	Load(ctx context.Context, into Loader) error

	// Next blocks until there is a delta after the position and returns it.
	// It MUST return an error that wraps ErrGap when that delta is not there
	// any more, when the position is not on the published history, or when the
	// whole was replaced; and ctx.Err() as soon as ctx ends. It returns a
	// delta that was published in parts when the last part is there, and reads
	// past parts that were given up. Before the first publish the zero position
	// is where history stands: Next blocks there.
	//
	// A call whose context ends with the cause ErrUntold may have waited on a connection that is dead. The
	// next call MUST NOT wait for the same, even where calls share what they wait for.
	Next(ctx context.Context, after Position) (Delta, error)

	// Lookup returns the documents that exist among the keys, in the order of
	// the keys.
	Lookup(ctx context.Context, k catalog.Kind, keys ...string) ([]Document, error)

	// LastBeat returns the last beat that was written, not verified; its zero
	// value is none. One that cannot be read is none.
	LastBeat(ctx context.Context) (Beat, error)

	Reporter
}

// Loader takes in what [Source.Load] reads. The source calls Begin, then Add any
// number of times, then End; when it has to start again, Begin anew, and all
// that came before is void.
type Loader interface {
	// Begin is given the head that is published when loading begins, and returns
	// the kinds to load. It may refuse, before documents are read for nothing.
	Begin(head Head) (kinds []catalog.Kind, err error)

	// Add takes documents, and documents that are gone. One that comes again
	// replaces what came before under its name. The loader may keep what it is given.
	Add(changes []Change) error

	// End is given the head to which the documents belong. An error that wraps ErrCorrupt says that
	// they do not match it. If more was published since, the source adds that and calls End again,
	// as often as there is more; otherwise Load returns the error.
	End(head Head) error
}

// Reporter takes the reports of data planes.
type Reporter interface {
	// Report records what a data plane has applied, or with n.Leaving takes its
	// report away. When it was seen is the time on the engine's clock, less n.Age; an older
	// report than the one that is kept changes nothing. An error wraps
	// catalog.ErrInvalid when the report is one that [ParseNode] refuses.
	Report(ctx context.Context, n Node) (Answer, error)
}

// BatchReporter is implemented by sources that record many reports with less work than as many calls of
// Report. A [Mirror] uses it where its source has it. An [HTTPSource] does not, because a request carries
// the report of one data plane: there a Mirror makes a request for each.
type BatchReporter interface {
	// ReportAll records reports as Report does, one after the other. It returns as many errors, in the
	// order of the reports: nil for one that Report takes, else the error that Report returns for it.
	// A report with an error MUST NOT keep the others from being recorded.
	ReportAll(ctx context.Context, nodes []Node) []error
}

// Publisher is where the control plane writes what a [Source] reads.
//
// A call that publishes names the head that it builds on, as the [Base] of the head that was read.
// If another head is published by then, nothing is changed and the error wraps ErrStale. A
// publisher does not judge positions, stores and signatures; the relay does.
type Publisher interface {
	Source

	// Apply publishes a delta. Readers of [Source.Next] and [Source.Load] see all
	// of it or nothing; those of Lookup may see parts. It MUST return an error that wraps
	//   - ErrStale when the published head is not the one that over names, and ErrBusy, which is one
	//     of that kind, while somebody else's publish is under way. One that
	//     does not go on for TakeoverAfter is given up: the next Apply clears it away.
	//   - ErrTooLarge, before it changes anything, when the delta is beyond
	//     MaxParts or MaxChainBytes;
	//   - ErrCorrupt when there would then not be as many documents as
	//     d.Head.Counts says; the head stays, and documents may have been written.
	// After an error the head is as it was, or the outcome is not known: read it.
	Apply(ctx context.Context, over Base, d Delta) error

	// Repair corrects documents that are published wrongly, at the position of the head. The head
	// stays as it is, and readers get no delta. A nil Doc deletes what has the name, even if the
	// name is not valid UTF-8. Data of another type that stands in the place of a kind's documents
	// is deleted, too. It MUST return ErrStale or ErrBusy as Apply does and, like Apply, clear away
	// a publish that was given up. Without changes it does only that.
	Repair(ctx context.Context, over Base, changes []Change) error

	// Stage begins a publish of the whole beside what is published.
	Stage(ctx context.Context) (Staging, error)

	// Documents iterates over the documents of a kind that are published, in no
	// order, while others publish: some may be missing or come twice. It yields an error
	// at most once, as its last. What it yields is not verified.
	Documents(ctx context.Context, k catalog.Kind) iter.Seq2[Document, error]

	// SetBeat writes the beat, whatever there is.
	SetBeat(ctx context.Context, b Beat) error

	// Nodes returns the reports that q asks for. Asking only for what came since the last call
	// costs in proportion to what came. Reports of nodes that were not heard of for Remembered are
	// deleted.
	Nodes(ctx context.Context, q NodeQuery) (NodeList, error)
}

// Leaser is implemented by publishers through which relays agree which of them does work that need
// not be done twice. A lease is advisory: two relays that both believe they hold it waste time, and
// do no harm.
type Leaser interface {
	// Lease takes a lease for the holder, or prolongs the one that it has, and reports whether the
	// holder has it then. The lease ends after ttl; a ttl of zero ends the holder's lease at once.
	// A ttl of more than a minute is an error that wraps catalog.ErrInvalid. A stored lease that
	// would last longer than ttl, or that cannot be read, counts as free.
	Lease(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error)
}

// Checker is implemented by publishers that can tell beforehand that a publish would be refused.
type Checker interface {
	// Check tries what a publish needs, without changing anything. Its error wraps ErrRefused when
	// writes would be refused.
	Check(ctx context.Context) error
}

// Announcer is implemented by publishers that also tell listeners of each publish, by a message that is no part of
// what is published. A publish does not fail because the message cannot be sent.
type Announcer interface {
	// Announced returns why the last message could not be sent; nil when it was, and before the first. The text
	// holds no secret.
	Announced() error
}

// NodeQuery says which reports are asked for.
type NodeQuery struct {
	// Since is a time on the engine's clock, of NodeList.Now or Node.SeenAt:
	// reports that came then or later. Zero asks for all.
	Since time.Time
	// Limit bounds how many; 0 does not. The latest come, where there are more.
	Limit int
}

// Staging is a whole that is being published. It is for one goroutine.
type Staging interface {
	// Add writes documents, and takes away what was added under names whose Doc is nil.
	Add(ctx context.Context, changes []Change) error

	// Publish replaces everything that is published by what was added, and begins the history of
	// deltas anew. Published documents of kinds that the head does not count are removed, too.
	// Readers see either the old snapshot or the new one. It MUST return an error that wraps
	// ErrStale, and change nothing that readers see, when the published head is not the one that
	// over names. It MUST return an error that wraps ErrCorrupt when the numbers of documents are
	// not those of head.Counts. After ErrStale it may be called again with another base, or after
	// more was added.
	Publish(ctx context.Context, over Base, head Head) error

	// Discard gives up what was added and not published. It may be called always.
	Discard(ctx context.Context)
}
