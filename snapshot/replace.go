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

	"github.com/ez-api/ez-api/catalog"
)

// replacement says how and why the whole is to be published.
type replacement struct {
	cause    string
	keys     *Keys
	newEpoch bool // the lineage is broken, or not known
	force    bool

	// The feed leads from the head to where the catalog is. So the catalog's
	// revision is later anyway, no sync change is needed, and whatever is lost was deleted.
	explained bool
}

// replace publishes the whole catalog in place of what the head describes; the
// zero head is nothing, or nothing known.
func (r *Relay) replace(ctx context.Context, head Head, job replacement) (Head, error) {
	epoch, err := r.open(ctx, head, job)
	if err != nil {
		return Head{}, err
	}
	w := &whole{relay: r, keys: job.keys, epoch: epoch}
	if err := r.tables.Store().Read(ctx, func(reader catalog.Reader) (err error) {
		w.head = r.headAt(reader.Head(), epoch, job.keys)
		w.docs, err = (&renderer{r.tables, reader, job.keys}).all(ctx)
		return err
	}); err != nil {
		return Head{}, fmt.Errorf("render the catalog: %w", err)
	}
	w.head.Counts = Counts{}
	snap := &Snapshot{Docs: make([]Document, 0, len(w.docs))}
	for _, c := range difference(&w.head, job.keys, nil, w.docs) {
		snap.Docs = append(snap.Docs, Document(c))
	}
	job.keys.Sign(&w.head)
	err = guard(head.Counts, w.head.Counts)
	if err != nil && !job.force && !job.explained {
		return Head{}, err
	}
	w.head.Forced = job.force || err != nil // also tells watchers that it is meant
	snap.Head = w.head
	if err := r.pub.Replace(ctx, snap, w.catchUp); err != nil {
		return Head{}, fmt.Errorf("publish the whole at %s: %w", w.head.Position, err)
	}
	r.mu.Lock()
	r.status.Replaces++
	r.status.Documents += int64(len(w.docs))
	r.mu.Unlock()
	r.log.InfoContext(ctx, "published the whole catalog", "cause", job.cause, "position", w.head.Position.String(), "documents", len(w.docs))
	return w.head, nil
}

// open makes certain that the catalog's position is after the head's, and
// returns the epoch to publish in. A new epoch is in the store before anything is published in it.
func (r *Relay) open(ctx context.Context, head Head, job replacement) (catalog.Epoch, error) {
	var at catalog.Head
	if err := r.tables.Store().Read(ctx, func(reader catalog.Reader) error { at = reader.Head(); return nil }); err != nil {
		return 0, err
	}
	r.saw(at)
	if head.Store != "" && head.Store != at.Store && !job.force {
		return 0, fmt.Errorf("the published snapshot comes from catalog %s, this is %s: %w", head.Store, at.Store, ErrForeign)
	}
	if job.explained {
		return head.Position.Epoch, nil
	}
	epoch := max(head.Position.Epoch, at.Epoch)
	if job.newEpoch {
		epoch = max(catalog.Epoch(r.clock().Unix()), head.Position.Epoch+1, at.Epoch+1)
	}
	actor, reason := catalog.ActorFrom(ctx)
	if reason == "" {
		reason = job.cause
	}
	if actor == "unknown" {
		actor = "relay"
	}
	_, err := r.tables.Store().Commit(ctx, catalog.Commit{
		Sync: true, Epoch: epoch, Time: r.clock().UTC().Truncate(1000), Actor: actor, Reason: reason,
	})
	if err != nil {
		return 0, fmt.Errorf("record the re-synchronisation: %w", err)
	}
	return epoch, nil
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
	epoch catalog.Epoch
	head  Head
	docs  map[docName][]byte
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
		next := w.relay.headAt(reader.Head(), w.epoch, w.keys)
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
