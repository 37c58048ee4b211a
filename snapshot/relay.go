//go:build !noRelay

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
	maxTouched    = 5000    // documents that a delta is sought among, most of which may turn out as they were
	minLost       = 10      // documents of a kind that a Replace may always lose

	relayInterval = 2 * time.Second  // longest without a look, jitter aside
	tolerance     = 30 * time.Second // how long head and store may disagree: a replica lags, a Replace is at work
	maxTries      = 100              // passes that find that somebody else was faster
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

	turn    chan struct{} // holds a token while no pass is under way
	oddHead Position      // guarded by turn: a head that does not fit the store,
	oddFrom time.Time     // and since when

	mu     sync.Mutex
	store  string // UUID of the catalog, once it was read
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
// nothing is missed. What is published is reread now and then, and published
// anew where it is damaged. Failures are logged and tried again.
func (r *Relay) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var scrubs sync.WaitGroup
	scrubs.Go(func() { r.scrubAlways(ctx) })
	defer scrubs.Wait()
	defer stop()
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
// position is after every other. The relays of other processes hear of that change
// and may move the head there before the whole is published; when they were
// faster, it begins a new epoch, whose positions are after all that they can reach.
func (r *Relay) Resync(ctx context.Context, opts ResyncOptions) (Head, error) {
	tries := 0
	return r.exclusively(ctx, func(ctx context.Context) (Head, error) {
		tries++
		head, err := r.pub.Head(ctx)
		if err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, ErrCorrupt) {
			return Head{}, err
		}
		job := replacement{cause: "re-synchronisation", keys: r.keys, force: opts.Force, newEpoch: opts.NewEpoch || err != nil || tries > 1}
		if err == nil && head.Renderer > Renderer && !opts.Force {
			return Head{}, outranked(head)
		}
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
	for range maxTries {
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
	case errors.Is(err, ErrCorrupt) && head.Store == "":
		return r.replace(ctx, Head{}, replacement{cause: "the published head cannot be read", keys: r.keys, newEpoch: true})
	case errors.Is(err, ErrCorrupt):
		return r.repair(ctx, head, "the published counts are wrong")
	case err != nil:
		return Head{}, fmt.Errorf("read the published head: %w", err)
	}
	keys, err := r.mayFollow(head)
	if err != nil {
		return Head{}, err
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

// mayFollow returns the keys to go on with after a head, unless only a
// re-synchronisation may publish over it.
func (r *Relay) mayFollow(head Head) (*Keys, error) {
	if head.Renderer > Renderer {
		return nil, outranked(head)
	}
	keys, err := r.keys.Activate(head.Seal)
	if err != nil {
		return nil, fmt.Errorf("%w; set the right keys, or re-synchronise: %w", err, ErrOutranked)
	}
	return keys, nil
}

func outranked(head Head) error {
	return fmt.Errorf("the published snapshot is of renderer %d, this is %d: upgrade: %w", head.Renderer, Renderer, ErrOutranked)
}
