package catalog

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Revision counts the commits of a whole catalog; the empty catalog is at 0.
type Revision int64

// Epoch counts the lineages of published snapshots, see package snapshot.
type Epoch int64

// Mark is the random name of one commit: 32 hexadecimal characters. Two
// histories that share a revision and its mark share all before it. The mark
// of revision 0 is empty.
type Mark string

// Head says where a store stands.
type Head struct {
	Store    string // UUID, made when the store was created
	Epoch    Epoch  // the highest that a sync commit has recorded
	Revision Revision
	Mark     Mark
	Time     time.Time // of the commit that made the revision, as Commit.Time said; zero at revision 0

	// Thinned is the last revision up to which the changes of machines may be missing
	// from the feed, see [Pruner]. It rises, never beyond the revision before the head's.
	Thinned Revision
}

// Leads returns an error that wraps ErrCompacted when changes of machines after a revision may have
// been thinned out, see [Pruner.ThinChanges]. A follower of the feed calls it before
// [Reader.Changes], which passes such changes over in silence. Readers of history need not.
func (h Head) Leads(after Revision) error {
	if after < h.Thinned {
		return fmt.Errorf("changes of machines after revision %d: %w", after, ErrCompacted)
	}
	return nil
}

// Store keeps entities and their history. It is the seam that a storage engine
// implements: it knows entities, not the rules of any noun. Everything typed
// lives in [Tables], in front of it.
//
// Implementations are safe for concurrent use and share no memory with their
// callers: what goes in or comes out is a copy. After the engine is closed,
// every method MUST return an error that wraps ErrClosed.
// Package storage/storagetest holds the tests that an implementation must pass.
type Store interface {
	// Read calls fn with a view of one consistent revision. The view MUST
	// stay as it is while others commit, MUST NOT delay them, and is not
	// valid after fn returns. Read returns fn's error as it is.
	Read(ctx context.Context, fn func(Reader) error) error

	// Commit applies c, all or nothing: rows, changes, and the revision, which
	// is the one after the head's. Revisions have no gaps, and their order is
	// the order in which commits become visible. A commit without writes takes
	// no revision and returns the head's, unless c.Sync is set.
	//
	// What is unique and what is referred to is judged by what there is after the
	// last write: two entities may swap their names in one commit, and the order of the
	// writes is that of the changes in the feed, no more.
	//
	// It MUST return an error that wraps
	//   - ErrInvalid when [Commit.Check] does,
	//   - ErrConflict when c.Base is not zero and not the head's revision,
	//   - ErrConflict when an entity is not at its Write.If (an absent entity
	//     is at 0),
	//   - ErrConflict when one of the c.Caps is exceeded after the last write,
	//   - ErrExists, best made by [Exists], when two entities of a kind have the
	//     same natural key, external id or token hash,
	//   - ErrReferenced, made by [Dangling] or [Referenced], when an entity's Ref
	//     names no entity,
	// and ctx.Err() when the context ended first. Where the outcome is not known
	// (a connection lost during the commit), it MUST return an error that wraps none of these; best
	// one that wraps ErrUnconfirmed.
	Commit(ctx context.Context, c Commit) (Revision, error)

	// NextIDs reserves n ids, above every id handed out before, and returns
	// the first. Ids come before entities, because sealed secrets are bound
	// to the id. Reserved ids that stay unused are gone; after the store has crashed, those
	// that nothing was stored with may come again.
	NextIDs(ctx context.Context, n int) (first int64, err error)

	// Wait blocks until the head's revision exceeds after, and returns it. It
	// MUST notice commits of this process at once, and those of other
	// processes that share the store in time (seconds). It returns ctx.Err() when ctx ends.
	Wait(ctx context.Context, after Revision) (Revision, error)
}

// Reader is a view of one revision. It is not safe for concurrent use.
//
// Callers may look for any text. For a text that the engine cannot hold, such as one with NUL or
// with bytes that are not UTF-8, the answer MUST be that no entity has it, and the view MUST stay
// usable.
type Reader interface {
	Head() Head

	// Now returns the time on the engine's clock (the database server's, where
	// there is one), in UTC. It MUST be taken before the view, so that everything
	// that was committed before Now is in the view.
	Now() time.Time

	// Get returns the entity with the id, or an error that wraps ErrNotFound.
	Get(ctx context.Context, k Kind, id int64) (Entity, error)

	// Find returns the one entity that holds value in the index, or an error
	// that wraps ErrNotFound.
	Find(ctx context.Context, k Kind, by Index, value string) (Entity, error)

	// List returns the entities that q selects, in order of id.
	List(ctx context.Context, k Kind, q Query) ([]Entity, error)

	// Count returns how many entities q selects when its After and its Limit
	// are left aside.
	Count(ctx context.Context, k Kind, q Query) (int64, error)

	// Changes returns the changes after a place in the feed, oldest first, those of
	// one revision in the order of their writes: at most limit of them, all where limit
	// is not positive. It may end within a revision, see [WholeRevisions]. After a
	// Seq beyond the last come the changes of the next revision. It MUST return an error that
	// wraps ErrCompacted when changes after that place may have been pruned. What was thinned
	// out is passed over: see [Head.Leads]. With kinds it returns only changes of these, as if
	// the feed had no others; without, it returns all.
	Changes(ctx context.Context, after Cursor, limit int, kinds ...Kind) ([]Change, error)

	// MarkAt returns the mark of a revision; "" at 0. It MUST return an error
	// that wraps ErrCompacted when the revision was pruned or thinned out, and
	// ErrNotFound when it is ahead of the head.
	MarkAt(ctx context.Context, r Revision) (Mark, error)
}

// Pruner is implemented by stores that can forget old changes.
type Pruner interface {
	// PruneChanges forgets the changes recorded before the given time, but never the newest
	// revision's, and returns how many are gone. It prunes whole revisions, from the oldest on, up
	// to the first that is not that old. A revision that is dated more than MaxSkew ahead of the
	// engine's clock has a wrong date: it MUST NOT keep later revisions from being pruned.
	PruneChanges(ctx context.Context, before time.Time) (int64, error)

	// ThinChanges forgets the changes of commits of machines (see [Commit.Machine]) in the
	// revisions that PruneChanges would prune with the same time, and returns how many are gone. In
	// every view that lacks such a change, Head.Thinned MUST be its revision or a later one.
	ThinChanges(ctx context.Context, before time.Time) (int64, error)
}

// Index names one of the ways in which an entity is unique within its kind.
type Index string

// The unique indexes. Their values are the words for them in error messages.
const (
	ByNaturalKey Index = "natural key"
	ByExternalID Index = "external_id"
	ByHash       Index = "token"
)

// Entity is what a store keeps of a noun: what it must index, and the rest.
type Entity struct {
	Kind      Kind
	ID        int64
	Revision  Revision // of the commit that wrote it; set by the store
	CreatedAt time.Time
	UpdatedAt time.Time

	NaturalKey string   // unique within the kind; "" for none
	ExternalID string   // unique within the kind; "" for none
	Hashes     []string // token hashes, each unique within the kind; only where [Kind.HasTokens]
	Ref        string   // what it refers to, in the form that [Kind.Target] reads; "" for nothing

	Name       string
	Status     string
	Namespaces []string // order is kept
	Groups     []string // order is kept
	Mentions   []string // what it names without referring to it: the models of an allow-list; order is kept
	Labels     map[string]string
	DueAt      time.Time // when maintenance has work to do; zero for never

	Spec json.RawMessage // a JSON object: everything else, secrets sealed; kept byte for byte
}

// Query selects entities of one kind. Zero fields do not restrict; the others
// must all hold.
type Query struct {
	After int64 // only ids above
	Limit int   // 0: no limit

	IDs         []int64  // one of these
	NaturalKeys []string // one of these
	Refs        []string // one of these
	RefUnder    string   // Ref is this path, or begins with it and a slash
	KeyUnder    string   // NaturalKey is this path, or begins with it and a slash
	Names       []string // one of these
	ExternalIDs []string // one of these
	Text        string   // a part of Name or of ExternalID, see [Entity.SearchText]
	Status      string
	Namespace   string            // one of Namespaces
	Groups      []string          // shares an element with Entity.Groups
	Mentions    []string          // shares an element with Entity.Mentions
	Labels      map[string]string // has all of these
	DueBefore   time.Time         // DueAt is set and earlier
}

// Commit is one atomic change of the catalog.
type Commit struct {
	// Base, when not zero, is the revision that the head must have.
	Base   Revision
	Writes []Write
	Caps   []Cap // bounds that must hold after the last write; only where there are writes

	// Sync records, after the changes of the writes, one with [ActionSync] that touches no entity, so that there is a
	// new revision, and raises the head's epoch to Epoch where that is higher.
	Sync  bool
	Epoch Epoch
	// SyncAction is the action of that change. Defaults to ActionSync.
	SyncAction Action

	Time   time.Time // when, by the store's clock, in UTC and whole microseconds; the changes' time
	Actor  string    // who
	Reason string    // why; may be empty

	// Machine says that the control plane has made the commit by itself, and that it writes
	// nothing of which people need the history: its changes may be thinned out, see [Pruner].
	Machine bool
}

// SyncChange is the change that touches no entity, which a commit with Sync records.
func (c *Commit) SyncChange() Change { return Change{Action: cmp.Or(c.SyncAction, ActionSync)} }

// Cap bounds how many entities of a kind may have a Ref that is the path RefUnder, or begins with
// it and a slash. It is judged in the commit, so two commits that each add the last entity that has
// room cannot both succeed.
type Cap struct {
	Kind     Kind
	RefUnder string
	Max      int64
}

// Write is one entity's part in a commit.
type Write struct {
	Entity Entity // when Delete is set, only Kind and ID matter
	Delete bool
	If     Revision // revision that the entity must have; 0: must not exist

	// Quiet says that the entity keeps its Revision: what people see of it stays as
	// it is. Only a change of what is there already may be quiet.
	Quiet bool

	// Change is what the feed records; the store adds Revision, Seq, Time,
	// Actor and Reason.
	Change Change
}

// Action says what a change did.
type Action string

// The actions.
const (
	ActionCreate Action = "create"
	ActionUpdate Action = "update"
	ActionDelete Action = "delete"
	ActionSync   Action = "sync"

	// ActionReprice says that costs of stored log entries were computed anew. Like
	// ActionSync it touches no entity.
	ActionReprice Action = "reprice"

	// ActionReseal says that a secret was sealed with another key. Nothing that
	// people see of the entity has changed.
	ActionReseal Action = "reseal"
)

// Change is one row of the change feed. The feed is the outbox from which
// snapshots are published, the audit trail, and the history, in one.
type Change struct {
	Revision Revision        `json:"revision" doc:"The revision of the catalog that this change belongs to."`
	Seq      int             `json:"seq" doc:"The place of this change among those of its revision, from 1 on."`
	Time     time.Time       `json:"time" doc:"When the change was committed."`
	Actor    string          `json:"actor" doc:"Who made the change."`
	Reason   string          `json:"reason,omitempty" doc:"Why the change was made, where the actor said so."`
	Action   Action          `json:"action" enum:"create,update,delete,sync,reprice,reseal" doc:"What was done. sync is a full re-synchronisation, reprice computed costs of log entries anew, and reseal sealed a stored secret with another key; none of them changes what is shown of a resource."`
	Kind     Kind            `json:"kind,omitempty" doc:"The kind of the resource. sync and reprice have none."`
	ID       int64           `json:"id,omitzero" doc:"The id of the resource. sync and reprice have none."`
	Before   json.RawMessage `json:"before,omitempty" doc:"The resource as it was before, without secrets. A create has none."`
	After    json.RawMessage `json:"after,omitempty" doc:"The resource as it was after, without secrets. A delete has none."`

	// Touches is what is needed, beside Before and After, to name every
	// document that the change may touch. It is not for people: hashes are in it.
	Touches Touches `json:"-"`
}

// Touches lists what an entity was and is known by: the union of before and
// after, sorted.
type Touches struct {
	NaturalKeys []string `json:"natural_keys,omitempty"`
	Refs        []string `json:"refs,omitempty"`
	Hashes      []string `json:"hashes,omitempty"`
	Groups      []string `json:"groups,omitempty"`
	Models      []string `json:"models,omitempty"` // a provider's model ids, which name the implied bindings
}
