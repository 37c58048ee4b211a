package snapshot

import (
	"context"
	"errors"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// The errors of this package and of every [Source] and [Publisher], matched
// with errors.Is.
var (
	// ErrNone says that nothing was published yet. It is never an empty catalog.
	ErrNone = errors.New("nothing published yet")

	// ErrStale says that the published head is not the one that a delta
	// starts from: read it again.
	ErrStale = errors.New("published head has moved")

	// ErrGap says that the deltas after a position are no longer there, or
	// do not chain: load the whole.
	ErrGap = errors.New("gap in the deltas")

	// ErrCorrupt says that what is published does not add up: counts, digest
	// or signature are wrong.
	ErrCorrupt = errors.New("published snapshot is damaged")
)

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

// Head describes what is published.
type Head struct {
	Format    int    // of everything published, 1
	Store     string // UUID of the catalog that it comes from
	Position  Position
	Mark      catalog.Mark // of the catalog's commit at Position.Revision
	Digest    Digest       // over all documents
	Sig       string       // hex; empty without a sync key
	Seal      string       // id of the sync key that sealed the secrets; empty without
	Renderer  int          // version of the code that rendered the documents
	Counts    Counts       // documents per kind
	UpdatedAt time.Time    // whole microseconds, UTC
	Forced    bool         // lost documents, or is empty, because somebody wanted that
}

// Counts holds the number of documents of each kind; kinds without documents are absent.
type Counts map[catalog.Kind]int

// Snapshot is everything published at one position.
type Snapshot struct {
	Head Head
	// Docs are in no particular order; no two share kind and key.
	Docs []Document

	// Kinds, unless empty, makes it the snapshot of these kinds alone, for
	// [Publisher.Replace]: Docs are all of theirs, Head counts all that there are, and
	// the other kinds stay as they are published at From.
	Kinds []catalog.Kind
	From  Position
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
	// Reset says that the whole was replaced: the changes are not the
	// difference, load again.
	Reset   bool
	Changes []Change
}

// Node is what one data plane reports about itself.
type Node struct {
	ID       string // name and a random part, new in each process
	Position Position
	Digest   Digest
	Version  string
	Error    string    // last problem, cleared when it is over
	SeenAt   time.Time // when the Source heard of it, on the clock of who asks
}

// Source is where a data plane reads.
//
// Implementations are safe for concurrent use and share no memory with their
// callers.
type Source interface {
	// Head returns the published head. It MUST return an error that wraps
	// ErrNone before the first publish, and one that wraps ErrCorrupt when
	// the number of documents is not what the head says; the head comes along
	// then, so that nobody repairs what is another catalog's.
	Head(ctx context.Context) (Head, error)

	// Load returns everything published at one position, and never a mix of
	// two. It MUST return an error that wraps ErrNone before the first
	// publish, and one that wraps ErrCorrupt when the counts are wrong. Digest
	// and signature are the caller's to verify: a Source holds no keys.
	Load(ctx context.Context) (*Snapshot, error)

	// Next blocks until there is a delta after the position and returns it.
	// It MUST return an error that wraps ErrGap when that delta is not there
	// any more, when the position is not on the published history, or when the
	// whole was replaced; and ctx.Err() when ctx ends. Before the first
	// publish the zero position is where history stands: Next blocks there.
	Next(ctx context.Context, after Position) (Delta, error)

	// Lookup returns the documents that exist among the keys, in the order of
	// the keys.
	Lookup(ctx context.Context, k catalog.Kind, keys ...string) ([]Document, error)

	// Report records what a data plane has applied.
	Report(ctx context.Context, n Node) error
}

// Publisher is where the control plane writes what a [Source] reads.
type Publisher interface {
	Source

	// Apply publishes a delta, all or nothing. It MUST return an error that
	// wraps ErrStale, and change nothing, when the published head's position
	// is not d.From, its store is not d.Head.Store, or d.Head.Position is not after d.From;
	// and one that wraps ErrCorrupt, and change nothing, when there would then not be
	// as many documents as d.Head.Counts says.
	Apply(ctx context.Context, d Delta) error

	// Replace publishes s in place of all there is, or where there was
	// nothing. Readers see the old whole or the new one. When the new one stands ready, Replace
	// calls catchUp with its position, as often as it returns a delta that
	// has changes, and publishes those with it; catchUp may be nil. The head is
	// s.Head, or that of the last such delta. It MUST return an error that
	// wraps ErrCorrupt, and change nothing, when its counts are not those of the documents.
	//
	// It MUST return an error that wraps ErrStale, and change nothing readers
	// see, when the published head's position is not before s.Head.Position,
	// or when the published head moves while Replace is at work and catchUp is nil.
	//
	// With s.Kinds it replaces the documents of these kinds alone, does not call catchUp, and
	// MUST return an error that wraps ErrStale unless the published head's
	// position is s.From, and its store s.Head.Store, all the time.
	Replace(ctx context.Context, s *Snapshot, catchUp CatchUp) error

	// Nodes returns what data planes have reported, in order of id. Nodes
	// that were not heard of for a day are forgotten.
	Nodes(ctx context.Context) ([]Node, error)
}

// CatchUp renders what has changed since a position, as a delta that starts
// there. The delta has no changes and the same position when nothing has.
type CatchUp func(ctx context.Context, from Position) (Delta, error)
