//go:build !noRelay

package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// replacement says how and why the whole is to be published.
type replacement struct {
	cause    string
	keys     *Keys
	newEpoch bool          // the lineage is broken, or not known
	above    catalog.Epoch // what the new epoch has to be after, besides the head's and the catalog's
	force    bool

	// The feed leads from the head to where the catalog is. So the catalog's
	// revision is later anyway, no sync change is needed, and whatever is lost was deleted.
	explained bool

	// kinds are what an explained change can have touched; empty is all.
	kinds []catalog.Kind
}

// replace publishes the whole catalog in place of what the head describes; the
// zero head is nothing, or nothing known.
func (r *Relay) replace(ctx context.Context, head Head, job replacement) (Head, error) {
	w := &whole{relay: r, keys: job.keys}
	if err := w.render(ctx, head, job); err != nil {
		return Head{}, err
	}
	// Refused before anything is recorded: this is tried again and again, until an operator looks.
	err := guard(head.Counts, w.head.Counts)
	if err != nil && !job.force && !job.explained {
		return Head{}, err
	}
	if err := r.open(ctx, w, head, job); err != nil {
		return Head{}, err
	}
	snap := &Snapshot{Kinds: job.kinds, From: head.Position}
	for name, doc := range w.docs {
		if len(job.kinds) == 0 || slices.Contains(job.kinds, name.kind) {
			snap.Docs = append(snap.Docs, Document{name.kind, name.key, doc})
		}
	}
	w.head.Forced = job.force || err != nil // also tells watchers that it is meant
	job.keys.Sign(&w.head)
	snap.Head = w.head
	if err := r.pub.Replace(ctx, snap, w.catchUp); err != nil {
		return Head{}, fmt.Errorf("publish the whole at %s: %w", w.head.Position, err)
	}
	r.mu.Lock()
	r.status.Replaces++
	r.status.Documents += int64(len(snap.Docs))
	r.mu.Unlock()
	what := "published the whole catalog"
	if len(job.kinds) > 0 {
		what = "published some kinds anew"
	}
	r.log.InfoContext(ctx, what, "cause", job.cause, "position", w.head.Position.String(), "documents", len(snap.Docs))
	return w.head, nil
}

// open makes certain that the catalog's position is after the head's, and
// brings w there. A new epoch is in the store before anything is published in it.
func (r *Relay) open(ctx context.Context, w *whole, head Head, job replacement) error {
	if job.explained {
		w.head.Position.Epoch = head.Position.Epoch
		return nil
	}
	epoch := max(head.Position.Epoch, w.at.Epoch)
	if job.newEpoch {
		epoch = max(catalog.Epoch(r.clock().Unix()), head.Position.Epoch+1, w.at.Epoch+1, job.above+1)
	}
	actor, reason := catalog.ActorFrom(ctx)
	if reason == "" {
		reason = job.cause
	}
	if actor == "unknown" {
		actor = "relay"
	}
	_, err := r.tables.Store().Commit(ctx, catalog.Commit{
		Sync: true, Epoch: epoch, Time: r.clock().UTC().Truncate(time.Microsecond), Actor: actor, Reason: reason,
	})
	if err != nil {
		return fmt.Errorf("record the re-synchronisation: %w", err)
	}
	w.head.Position.Epoch = epoch
	if _, err := w.catchUp(ctx, w.head.Position); err != nil {
		return fmt.Errorf("render what was changed meanwhile: %w", err)
	}
	return nil
}

// guard refuses to lose most of a kind by accident.
func guard(before, after Counts) error {
	for _, kind := range catalog.Kinds() {
		if lost := before[kind] - after[kind]; lost > minLost && lost > before[kind]/2 {
			return fmt.Errorf("%d of %d %s would go: force the re-synchronisation if that is right: %w", lost, before[kind], kind, ErrShrinks)
		}
	}
	return nil
}

// whole is a rendering of the whole catalog that follows it while it is being
// published.
type whole struct {
	relay *Relay
	keys  *Keys
	at    catalog.Head // of the catalog when it was rendered
	head  Head
	docs  map[docName][]byte
}

// render renders what the catalog holds, for the head that it is to replace.
func (w *whole) render(ctx context.Context, over Head, job replacement) error {
	err := w.relay.tables.Store().Read(ctx, func(reader catalog.Reader) (err error) {
		w.at = reader.Head()
		if over.Store != "" && over.Store != w.at.Store && !job.force {
			return fmt.Errorf("the published snapshot comes from catalog %s, this is %s: %w", over.Store, w.at.Store, ErrForeign)
		}
		w.head = w.relay.headAt(w.at, over.Position.Epoch, w.keys)
		w.docs, err = (&renderer{w.relay.tables, reader, w.keys}).all(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("render the catalog: %w", err)
	}
	w.relay.saw(w.at)
	w.head.Counts = Counts{}
	for name, doc := range w.docs {
		w.head.Digest = w.head.Digest.Add(w.keys.Hash(name.kind, name.key, doc))
		w.head.Counts.add(name.kind, 1)
	}
	return nil
}

// catchUp implements [CatchUp].
func (w *whole) catchUp(ctx context.Context, from Position) (Delta, error) {
	if from != w.head.Position {
		return Delta{}, fmt.Errorf("catch up from %s, the rendering is at %s: %w", from, w.head.Position, ErrStale)
	}
	d := Delta{From: from, Head: w.head}
	var docs map[docName][]byte
	err := w.relay.tables.Store().Read(ctx, func(reader catalog.Reader) error {
		changes, err := readChanges(ctx, reader, from.Revision, math.MaxInt)
		if err != nil || len(changes) == 0 {
			return err
		}
		next := w.relay.headAt(reader.Head(), from.Epoch, w.keys)
		next.Digest, next.Counts, next.Forced = w.head.Digest, w.head.Counts.clone(), w.head.Forced
		d.Head = next
		docs, err = (&renderer{w.relay.tables, reader, w.keys}).touched(ctx, changes, math.MaxInt)
		return err
	})
	if errors.Is(err, catalog.ErrCompacted) {
		return Delta{}, errors.Join(ErrStale, err)
	}
	if err != nil || d.Head.Position == from {
		return d, err
	}
	d.Changes = difference(&d.Head, w.keys, w.docs, docs)
	w.keys.Sign(&d.Head)
	for _, c := range d.Changes {
		if c.Doc == nil {
			delete(w.docs, docName{c.Kind, c.Key})
		} else {
			w.docs[docName{c.Kind, c.Key}] = c.Doc
		}
	}
	w.head = d.Head
	return d, nil
}

// difference lists what leads from the old documents to the new ones, of
// which nil is one that goes, in order of name; digest and counts of the head follow.
func difference(head *Head, keys *Keys, old, now map[docName][]byte) []Change {
	var changes []Change
	names := slices.SortedFunc(maps.Keys(now), func(a, b docName) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.key, b.key))
	})
	for _, n := range names {
		before, after := old[n], now[n]
		if before == nil && after == nil || before != nil && after != nil && bytes.Equal(before, after) {
			continue
		}
		if before != nil {
			head.Digest = head.Digest.Sub(keys.Hash(n.kind, n.key, before))
			head.Counts.add(n.kind, -1)
		}
		if after != nil {
			head.Digest = head.Digest.Add(keys.Hash(n.kind, n.key, after))
			head.Counts.add(n.kind, 1)
		}
		changes = append(changes, Change{Kind: n.kind, Key: n.key, Doc: after})
	}
	return changes
}

func (c Counts) add(kind catalog.Kind, n int) {
	if c[kind] += n; c[kind] == 0 {
		delete(c, kind)
	}
}

// equal compares; a kind without documents may be absent or 0.
func (c Counts) equal(other Counts) bool {
	for kind, n := range c {
		if other[kind] != n {
			return false
		}
	}
	for kind, n := range other {
		if c[kind] != n {
			return false
		}
	}
	return true
}

func (c Counts) total() (n int) {
	for _, m := range c {
		n += m
	}
	return n
}

func (c Counts) clone() Counts {
	if c == nil {
		return Counts{}
	}
	return maps.Clone(c)
}
