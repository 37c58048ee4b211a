package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

var (
	// ErrForeign says that what is published comes from another catalog. It
	// is overwritten only by a forced re-synchronisation.
	ErrForeign = errors.New("published by another catalog")

	// ErrShrinks says that a re-synchronisation would lose more than half of
	// the documents of a kind; it has to be forced.
	ErrShrinks = errors.New("would lose more than half of the documents")

	// ErrOutranked says that what is published was rendered by a newer
	// version of this code, or under a sync key that is not held.
	ErrOutranked = errors.New("published by a control plane that this one must not overwrite")
)

const (
	maxDeltaDocs  = 1000    // a delta with more documents becomes a Replace
	maxDeltaBytes = 1 << 20 // or with more bytes
	minLost       = 10      // documents of a kind that a Replace may always lose

	relayInterval  = 2 * time.Second  // longest without a look, jitter aside
	aheadTolerance = 30 * time.Second // how long a head may be ahead of the store, which may be a lagging replica
)

// RelayOptions are the settings of [NewRelay].
type RelayOptions struct {
	Keys   *Keys            // seal and sign; defaults to none
	Logger *slog.Logger     // defaults to slog.Default()
	Clock  func() time.Time // defaults to time.Now
}

// Relay publishes a catalog: it reads what is published, renders what has
// changed since, and applies the difference. It keeps no state between two
// passes, so any number of relays may serve one catalog; where two race, one wins
// and the other looks again. A Relay is safe for concurrent use.
type Relay struct {
	tables *catalog.Tables
	pub    Publisher
	keys   *Keys
	log    *slog.Logger
	clock  func() time.Time

	turn       chan struct{} // holds a token while no pass is under way
	aheadSince time.Time     // guarded by turn

	mu     sync.Mutex
	status RelayStatus
}

// RelayStatus says what a relay has done since it was made.
type RelayStatus struct {
	Published Position         // as it was last seen or made
	Revision  catalog.Revision // of the catalog, as it was last read
	Publishes int64            // deltas applied
	Replaces  int64            // whole snapshots published
	Documents int64            // documents published, by deltas and Replaces
	LastError string           // of the last pass; empty when it went well
	UpdatedAt time.Time        // when the last pass ended
}

// NewRelay returns a relay from the tables to the publisher. Nil opts are the
// defaults.
func NewRelay(tables *catalog.Tables, pub Publisher, opts *RelayOptions) *Relay {
	if opts == nil {
		opts = &RelayOptions{}
	}
	r := &Relay{
		tables: tables, pub: pub, keys: opts.Keys, log: opts.Logger, clock: opts.Clock,
		turn: make(chan struct{}, 1),
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	if r.clock == nil {
		r.clock = time.Now
	}
	r.turn <- struct{}{}
	return r
}

// Status returns what the relay has done.
func (r *Relay) Status() RelayStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Run publishes every change until ctx ends, and returns nil then. A commit in
// this process wakes it at once; a jittered timer of 2 s makes certain that
// nothing is missed. Failures are logged and tried again.
func (r *Relay) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		head, err := r.Sync(ctx)
		if errors.Is(err, catalog.ErrClosed) && ctx.Err() == nil {
			return err
		}
		after := head.Position.Revision
		if err != nil {
			after = 1<<63 - 1 // nothing but time helps
		}
		r.rest(ctx, after)
	}
	return nil
}

// rest waits for a revision after the given one, or for the timer.
func (r *Relay) rest(ctx context.Context, after catalog.Revision) {
	ctx, cancel := context.WithTimeout(ctx, relayInterval*3/4+rand.N(relayInterval/2))
	defer cancel()
	if _, err := r.tables.Store().Wait(ctx, after); err != nil {
		<-ctx.Done()
	}
}

// Sync publishes now what the catalog holds and returns the published head.
func (r *Relay) Sync(ctx context.Context) (Head, error) {
	return r.exclusively(ctx, r.pass)
}

// ResyncOptions are the settings of [Relay.Resync].
type ResyncOptions struct {
	NewEpoch bool // begin a new epoch even where the lineage is whole
	Force    bool // overwrite another catalog's snapshot, or lose more than half of a kind
}

// Resync publishes the whole catalog anew, under the active sync key, and
// returns the published head. It records a sync change first, so that its
// position is after every other.
func (r *Relay) Resync(ctx context.Context, opts ResyncOptions) (Head, error) {
	return r.exclusively(ctx, func(ctx context.Context) (Head, error) {
		head, err := r.pub.Head(ctx)
		if err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, ErrCorrupt) {
			return Head{}, err
		}
		job := replacement{cause: "re-synchronisation", keys: r.keys, force: opts.Force, newEpoch: opts.NewEpoch || err != nil}
		if err == nil && !job.newEpoch {
			whole, lineageErr := r.lineage(ctx, head)
			job.newEpoch = !whole
			if lineageErr != nil {
				return Head{}, lineageErr
			}
		}
		return r.replace(ctx, head, job)
	})
}

// lineage reports whether the published head is a point in this catalog's history.
func (r *Relay) lineage(ctx context.Context, head Head) (whole bool, err error) {
	err = r.tables.Store().Read(ctx, func(reader catalog.Reader) error {
		if head.Store != reader.Head().Store {
			return nil
		}
		mark, err := reader.MarkAt(ctx, head.Position.Revision)
		switch {
		case errors.Is(err, catalog.ErrNotFound):
			return nil
		case errors.Is(err, catalog.ErrCompacted):
			whole = true // nothing speaks against it
			return nil
		}
		whole = err == nil && mark == head.Mark
		return err
	})
	return whole, err
}

// exclusively runs one pass at a time, again while somebody else was faster,
// and notes what came of it.
func (r *Relay) exclusively(ctx context.Context, pass func(context.Context) (Head, error)) (head Head, err error) {
	select {
	case <-ctx.Done():
		return Head{}, ctx.Err()
	case <-r.turn:
	}
	defer func() { r.turn <- struct{}{} }()
	for {
		head, err = pass(ctx)
		if !errors.Is(err, ErrStale) || ctx.Err() != nil {
			break
		}
		select { // whoever was faster deserves a moment
		case <-ctx.Done():
		case <-time.After(rand.N(5 * time.Millisecond)):
		}
	}
	r.note(ctx, head, err)
	return head, err
}

func (r *Relay) note(ctx context.Context, head Head, err error) {
	text := ""
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		text = err.Error()
	}
	r.mu.Lock()
	before := r.status.LastError
	r.status.LastError, r.status.UpdatedAt = text, r.clock()
	if err == nil {
		r.status.Published = head.Position
	}
	r.mu.Unlock()
	switch {
	case text != "" && text != before:
		r.log.WarnContext(ctx, "publishing failed, will try again", "error", text)
	case text == "" && before != "":
		r.log.InfoContext(ctx, "publishing works again", "position", head.Position.String())
	}
}

// pass looks once at what is published and brings it up to date.
func (r *Relay) pass(ctx context.Context) (Head, error) {
	head, err := r.pub.Head(ctx)
	switch {
	case errors.Is(err, ErrNone):
		return r.replace(ctx, Head{}, replacement{cause: "nothing was published", keys: r.keys, newEpoch: true})
	case errors.Is(err, ErrCorrupt):
		return r.replace(ctx, head, replacement{cause: "the published counts are wrong", keys: r.keys, newEpoch: true})
	case err != nil:
		return Head{}, fmt.Errorf("read the published head: %w", err)
	}
	keys, err := r.keys.Activate(head.Seal)
	if err != nil {
		return Head{}, fmt.Errorf("%w; set the right keys, or re-synchronise: %w", err, ErrOutranked)
	}
	if head.Renderer > Renderer {
		return Head{}, fmt.Errorf("the published snapshot is of renderer %d, this is %d: upgrade: %w", head.Renderer, Renderer, ErrOutranked)
	}
	delta, job, err := r.plan(ctx, head, keys)
	if err != nil {
		return Head{}, err
	}
	if job != nil {
		return r.replace(ctx, head, *job)
	}
	if delta.Head.Position == head.Position {
		return head, nil
	}
	if err := r.pub.Apply(ctx, delta); err != nil {
		return Head{}, fmt.Errorf("publish %s: %w", delta.Head.Position, err)
	}
	r.mu.Lock()
	r.status.Publishes++
	r.status.Documents += int64(len(delta.Changes))
	r.mu.Unlock()
	return delta.Head, nil
}

// plan makes the delta from the head to where the catalog is, or says why the
// whole has to be published.
func (r *Relay) plan(ctx context.Context, head Head, keys *Keys) (delta Delta, job *replacement, err error) {
	var docs map[docName][]byte
	because := func(newEpoch bool, cause string) error {
		job = &replacement{cause: cause, keys: keys, newEpoch: newEpoch}
		return nil
	}
	err = r.tables.Store().Read(ctx, func(reader catalog.Reader) error {
		at := reader.Head()
		r.saw(at)
		if head.Store != at.Store {
			return fmt.Errorf("the published snapshot comes from catalog %s, this is %s: %w", head.Store, at.Store, ErrForeign)
		}
		ahead := head.Position.Revision > at.Revision
		if !ahead {
			r.aheadSince = time.Time{}
		} else if wait := r.ahead(); wait {
			return fmt.Errorf("the published snapshot is at revision %d, ahead of the catalog at %d", head.Position.Revision, at.Revision)
		} else {
			return because(true, "the published snapshot was ahead of the catalog")
		}
		mark, err := reader.MarkAt(ctx, head.Position.Revision)
		switch {
		case errors.Is(err, catalog.ErrCompacted):
			return because(false, "the history since was pruned")
		case err != nil:
			return err
		case mark != head.Mark:
			return because(true, "the catalog has another history")
		case head.Renderer < Renderer:
			return because(false, "an older version had rendered it")
		}
		changes, err := readChanges(ctx, reader, head.Position.Revision)
		if errors.Is(err, catalog.ErrCompacted) {
			return because(false, "the history since was pruned")
		}
		if err != nil {
			return err
		}
		delta = Delta{From: head.Position, Head: r.headAt(at, head.Position.Epoch, keys)}
		docs, err = (&renderer{r.tables, reader, keys}).touched(ctx, changes)
		return err
	})
	if err != nil || job != nil {
		return Delta{}, job, err
	}
	if err := r.complete(ctx, &delta, head, docs, keys); err != nil {
		return Delta{}, nil, err
	}
	size := 0
	for _, c := range delta.Changes {
		size += len(c.Doc)
	}
	if len(delta.Changes) > maxDeltaDocs || size > maxDeltaBytes {
		return Delta{}, &replacement{cause: "the change is large", keys: keys, moved: true}, nil
	}
	return delta, nil, nil
}

// ahead notes that the head is ahead of the store and reports whether to wait
// and see.
func (r *Relay) ahead() bool {
	now := r.clock()
	if r.aheadSince.IsZero() {
		r.aheadSince = now
	}
	return now.Sub(r.aheadSince) < aheadTolerance
}

func (r *Relay) saw(at catalog.Head) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Revision = at.Revision
}

// readChanges reads the whole feed after a revision.
func readChanges(ctx context.Context, reader catalog.Reader, after catalog.Revision) (all []catalog.Change, err error) {
	for after < reader.Head().Revision {
		page, err := reader.Changes(ctx, after, queryChunk)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return nil, fmt.Errorf("the feed ends at revision %d, the catalog is at %d", after, reader.Head().Revision)
		}
		all = append(all, page...)
		after = page[len(page)-1].Revision
	}
	return all, nil
}

// headAt returns a head without digest, counts and signature.
func (r *Relay) headAt(at catalog.Head, epoch catalog.Epoch, keys *Keys) Head {
	return Head{
		Format: 1, Store: at.Store, Position: Position{epoch, at.Revision}, Mark: at.Mark, Seal: keys.Active(),
		Renderer: Renderer, UpdatedAt: r.clock().UTC().Truncate(time.Microsecond),
	}
}

// complete fills in the changes of a delta, leaving out documents that are
// published already as they are, and the digest, counts and signature of its head.
func (r *Relay) complete(ctx context.Context, d *Delta, from Head, docs map[docName][]byte, keys *Keys) error {
	published, err := r.lookup(ctx, docs)
	if err != nil {
		return err
	}
	d.Head.Digest, d.Head.Counts = from.Digest, from.Counts.clone()
	d.Changes = difference(&d.Head, keys, published, docs)
	keys.Sign(&d.Head)
	return nil
}

// lookup reads the published documents of the same names.
func (r *Relay) lookup(ctx context.Context, docs map[docName][]byte) (map[docName][]byte, error) {
	names := map[catalog.Kind][]string{}
	for n := range docs {
		names[n.kind] = append(names[n.kind], n.key)
	}
	published := make(map[docName][]byte, len(docs))
	for kind, keys := range names {
		found, err := r.pub.Lookup(ctx, kind, keys...)
		if err != nil {
			return nil, fmt.Errorf("read published documents: %w", err)
		}
		for _, doc := range found {
			published[docName{doc.Kind, doc.Key}] = doc.Doc
		}
	}
	return published, nil
}
