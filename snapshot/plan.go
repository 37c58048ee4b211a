package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// plan makes the delta from the head to where the catalog is, or says why the
// whole has to be published.
func (r *Relay) plan(ctx context.Context, head Head, keys *Keys) (delta Delta, job *replacement, err error) {
	var docs map[docName][]byte
	because := func(newEpoch bool, cause string) error {
		job = &replacement{cause: cause, keys: keys, newEpoch: newEpoch}
		return nil
	}
	var changes []catalog.Change // empty when they are too many to be read
	becauseLarge := func() error {
		job = &replacement{cause: "the change is large", keys: keys, explained: true, kinds: kindsTouched(changes)}
		return nil
	}
	err = r.tables.Store().Read(ctx, func(reader catalog.Reader) error {
		at := reader.Head()
		r.saw(at)
		if head.Store != at.Store {
			return fmt.Errorf("the published snapshot comes from catalog %s, this is %s: %w", head.Store, at.Store, ErrForeign)
		}
		ahead, behind := head.Position.Revision > at.Revision, head.Position.Epoch < at.Epoch
		switch odd := r.odd(head.Position, ahead || behind); {
		case ahead && odd < tolerance:
			return fmt.Errorf("the published snapshot is at revision %d, ahead of the catalog at %d", head.Position.Revision, at.Revision)
		case ahead:
			return because(true, "the published snapshot was ahead of the catalog")
		case behind && odd >= tolerance: // until then, somebody may be about to publish in the new epoch
			return because(false, "the published snapshot is of an epoch that is over")
		case head.Position.Epoch > at.Epoch:
			return because(true, "the catalog does not know the published epoch")
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
		changes, err = readChanges(ctx, reader, head.Position.Revision, maxTouched)
		switch {
		case errors.Is(err, catalog.ErrCompacted):
			return because(false, "the history since was pruned")
		case errors.Is(err, errManyTouched):
			return becauseLarge()
		case err != nil:
			return err
		}
		delta = Delta{From: head.Position, Head: r.headAt(at, head.Position.Epoch, keys)}
		docs, err = (&renderer{r.tables, reader, keys}).touched(ctx, changes, maxTouched)
		if errors.Is(err, errManyTouched) {
			return becauseLarge()
		}
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
		_ = becauseLarge()
		return Delta{}, job, nil
	}
	return delta, nil, nil
}

// kindsTouched returns the kinds of the documents that changes can touch.
func kindsTouched(changes []catalog.Change) (kinds []catalog.Kind) {
	for _, c := range changes {
		kinds = append(kinds, c.Kind)
		if c.Kind == catalog.KindProvider || c.Kind == catalog.KindModel {
			kinds = append(kinds, catalog.KindBinding) // which are resolved
		}
	}
	slices.Sort(kinds)
	return slices.DeleteFunc(slices.Compact(kinds), func(k catalog.Kind) bool { return k == "" }) // a sync change has none
}

// odd notes whether a head fits the store, and returns for how long it has not.
func (r *Relay) odd(head Position, is bool) time.Duration {
	now := r.clock()
	switch {
	case !is:
		r.oddFrom = time.Time{}
	case r.oddFrom.IsZero() || r.oddHead.Epoch != head.Epoch:
		r.oddHead, r.oddFrom = head, now
	}
	if r.oddFrom.IsZero() {
		return 0
	}
	return now.Sub(r.oddFrom)
}

func (r *Relay) saw(at catalog.Head) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Revision, r.store = at.Revision, at.Store
}

// readChanges reads the whole feed after a revision. Too many changes are
// errManyTouched.
func readChanges(ctx context.Context, reader catalog.Reader, after catalog.Revision, most int) (all []catalog.Change, err error) {
	for after < reader.Head().Revision {
		page, err := catalog.WholeRevisions(ctx, reader, after, queryChunk)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return nil, fmt.Errorf("the feed ends at revision %d, the catalog is at %d", after, reader.Head().Revision)
		}
		all = append(all, page...)
		after = page[len(page)-1].Revision
		if len(all) > most {
			return nil, errManyTouched
		}
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
	d.Head.Forced = d.Head.Counts.total() == 0 // the feed tells that it is meant, also to who loads it
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
