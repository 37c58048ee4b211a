package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// plan is what one reading of the catalog says is to be done.
type plan struct {
	decision
	sight   sight
	record  record
	keys    *Keys
	now     time.Time // on the catalog's clock, before the reading
	head    Head      // signed; of a delta, or as it is published already
	changes []Change  // of a delta, or of a repair
}

// quietness is what a beat may say: all that was committed before a time is at a
// position.
type quietness struct {
	position Position
	at       time.Time
	keys     *Keys
	store    string
}

// pass looks once at what is published and brings it up to date.
func (r *Relay) pass(ctx context.Context) (Head, error) {
	s, err := r.look(ctx)
	if err != nil {
		return Head{}, err
	}
	var p plan
	err = r.tables.Store().Read(ctx, func(reader catalog.Reader) (err error) {
		p, err = r.plan(ctx, reader, s)
		return err
	})
	if err != nil {
		return Head{}, fmt.Errorf("read the catalog: %w", errCatalog{err})
	}
	switch p.action {
	case doWait, doRefuse:
		return Head{}, p.err
	case doSucceed, doRestart:
		return r.publishWhole(ctx, p, wholeOptions{})
	case doDelta:
		if err := r.apply(ctx, p); err != nil {
			if errors.Is(err, ErrTooLarge) {
				p.decision = succeed(errManyTouched.Error())
				return r.publishWhole(ctx, p, wholeOptions{})
			}
			return Head{}, err
		}
	case doNothing:
		if err := r.repair(ctx, p); err != nil {
			return Head{}, err
		}
	}
	r.published(p.head)
	r.quiet = quietness{position: p.head.Position, at: p.now, keys: p.keys, store: p.head.Store}
	return p.head, nil
}

// published remembers what is published.
func (r *Relay) published(head Head) {
	r.known = head
	r.fleet.publishedHead(head)
}

// plan decides, and renders what is to be published.
func (r *Relay) plan(ctx context.Context, reader catalog.Reader, s sight) (p plan, err error) {
	p = plan{now: reader.Now()}
	if p.record, err = r.weigh(ctx, reader, &s); err != nil {
		return p, err
	}
	p.sight = s
	r.update(func(status *RelayStatus) { status.Revision = p.record.at.Revision })
	if p.keys, err = r.keysFor(s); err != nil {
		return p, err
	}
	p.decision = decide(s, p.record, r.clock())
	if p.action == doRefuse && !s.keyed && !s.ours {
		// Without keys, the rendering tells whether it is ours and was changed.
		if err := r.leadTo(ctx, reader, p.keys); err != nil {
			return p, err
		}
		if s.ours = r.isOurs(s.head); s.ours {
			p.decision = decide(s, p.record, r.clock())
		}
	}
	switch p.action {
	case doDelta:
		return p, r.planDelta(ctx, reader, &p)
	case doNothing:
		return p, r.planNothing(ctx, reader, &p)
	}
	return p, nil
}

// keysFor returns the keys to publish with: those of a good head, else those that
// were published with before. Only a re-synchronisation switches to others.
func (r *Relay) keysFor(s sight) (*Keys, error) {
	seal := r.keys.Active()
	if s.trust == trustGood {
		seal = s.head.Seal
	} else if r.known.Seal != "" {
		seal = r.known.Seal
	}
	return r.keys.Activate(seal)
}

// leadTo brings the rendering to the reader's revision, under the keys.
func (r *Relay) leadTo(ctx context.Context, reader catalog.Reader, keys *Keys) error {
	return r.renderingFor(keys).lead(ctx, reader)
}

func (r *Relay) renderingFor(keys *Keys) *rendering {
	if r.rendering == nil || r.rendering.keys.Active() != keys.Active() {
		r.setRendering(newRendering(r.tables, keys, r.log))
	}
	return r.rendering
}

func (r *Relay) setRendering(g *rendering) {
	r.rendering = g
	r.current.Store(g)
}

func (r *Relay) planDelta(ctx context.Context, reader catalog.Reader, p *plan) error {
	g := r.renderingFor(p.keys)
	delta, err := g.leadFrom(ctx, reader, p.sight.head.Position.Revision)
	if err == nil && len(r.suspects) > 0 {
		var more gathered
		more, err = g.touchedSince(ctx, reader, reader.Head().Revision, r.suspects)
		delta.changes = merge(delta.changes, more.changes)
	}
	switch {
	case errors.Is(err, errManyTouched):
		p.decision = succeed(errManyTouched.Error())
		return nil
	case errors.Is(err, catalog.ErrCompacted):
		p.decision = succeed("the history since was pruned")
		return nil
	case err != nil:
		return err
	}
	p.changes = inOrder(delta.changes)
	p.head = g.describe(p.record.at.Epoch)
	p.head.Forced = stillForced(p.sight.head, p.head)
	p.keys.SignHead(&p.head)
	return nil
}

func (r *Relay) planNothing(ctx context.Context, reader catalog.Reader, p *plan) error {
	g := r.renderingFor(p.keys)
	if err := g.lead(ctx, reader); err != nil {
		return err
	}
	p.head = p.sight.head
	want := g.describe(p.head.Position.Epoch)
	want.Forced = p.head.Forced
	p.keys.SignHead(&want)
	if !g.fits(p.head) || !p.sight.keyed && !want.Equal(p.head) {
		p.decision, p.sight.trust = restart("the published head does not fit the catalog"), trustSpoilt
		return nil
	}
	if len(r.suspects) == 0 {
		return nil
	}
	docs, err := g.touchedSince(ctx, reader, reader.Head().Revision, r.suspects)
	p.changes = inOrder(docs.changes)
	return err
}

// stillForced reports whether the head of a delta is forced. A reader that has
// missed the position at which something was forced has to take the next one. And where nothing
// is left, the feed tells that it is meant.
func stillForced(from, to Head) bool {
	return to.Counts.Total() == 0 || from.Forced && from.Counts.Total() > 0
}

// apply publishes a delta.
func (r *Relay) apply(ctx context.Context, p plan) error {
	err := r.pub.Apply(ctx, p.sight.base, Delta{From: p.sight.head.Position, Head: p.head, Changes: p.changes})
	if errors.Is(err, ErrCorrupt) {
		r.askScrub() // documents are missing, or there are too many
	}
	if err != nil {
		return fmt.Errorf("publish %s: %w", p.head.Position, err)
	}
	r.update(func(s *RelayStatus) {
		s.Publishes++
		s.Documents += int64(len(p.changes))
		s.Repairs += int64(len(r.suspects))
	})
	r.suspects = nil
	return nil
}

// repair writes documents that are not as they should be, at the position.
func (r *Relay) repair(ctx context.Context, p plan) error {
	if len(p.changes) == 0 {
		r.suspects = nil
		return r.tidy(ctx, p)
	}
	for part := range slices.Chunk(p.changes, MaxPartDocs) {
		if err := r.pub.Repair(ctx, p.sight.base, part); err != nil {
			return fmt.Errorf("repair documents at %s: %w", p.head.Position, err)
		}
	}
	r.update(func(s *RelayStatus) { s.Repairs += int64(len(p.changes)) })
	r.log.WarnContext(ctx, "documents that were missing, wrong or surplus were written again",
		"documents", len(p.changes), "position", p.head.Position.String())
	r.suspects = nil
	return nil
}

// tidy clears away what follows the head and leads nowhere, when nobody goes on with it. Data planes would look at
// it again and again.
func (r *Relay) tidy(ctx context.Context, p plan) error {
	err := r.pub.Repair(ctx, p.sight.base, nil)
	if err == nil || errors.Is(err, ErrBusy) { // it may be somebody's publish that is under way
		return nil
	}
	return fmt.Errorf("look for what follows %s: %w", p.head.Position, err)
}

// merge adds changes of documents that are not among the first.
func merge(changes, more []Change) []Change {
	there := make(map[docName]bool, len(changes))
	for _, c := range changes {
		there[docName{c.Kind, c.Key}] = true
	}
	for _, c := range more {
		if !there[docName{c.Kind, c.Key}] {
			changes = append(changes, c)
		}
	}
	return changes
}

// inOrder sorts changes as they are to be written, which readers see who look
// documents up one by one. What takes rights away comes early: after the projects that keys refer to come
// keys and holds. Of the rest a document comes after those that it refers to,
// and goes before them.
func inOrder(changes []Change) []Change {
	rank := func(c Change) int {
		put := c.Doc != nil
		switch c.Kind {
		case catalog.KindProject:
			if put {
				return 0
			}
			return 1
		case catalog.KindHold, catalog.KindKey:
			return 1
		case catalog.KindProvider:
			if put {
				return 2
			}
			return 7
		case catalog.KindModel:
			if put {
				return 3
			}
			return 6
		case catalog.KindBinding:
			if put {
				return 4
			}
			return 5
		}
		return 8
	}
	slices.SortFunc(changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key))
	})
	return changes
}

func (r *Relay) askScrub() {
	select {
	case r.scrubs <- struct{}{}:
	default: // it is asked for
	}
}
