package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
	"unicode/utf8"

	"github.com/ez-api/ez-api/catalog"
)

const (
	scrubFew    = 100_000         // documents that are compared in a few seconds
	scrubOften  = 2 * time.Second // between two passes over few documents
	scrubRarely = time.Minute     // from the beginning of one pass over many to that of the next
	scrubRate   = 25_000          // documents a second, at least
	scrubSpread = 50              // seconds over which a pass over many is spread

	// leaseScrubTTL is how long a process that died keeps others from comparing: what is damaged then is mended within
	// 10 s all the same.
	leaseScrub    = "scrub"
	leaseScrubTTL = 6 * time.Second

	scrubBatch  = 500    // documents compared at once
	maxSuspects = 10_000 // documents that are mended by name; more are mended as a whole kind
)

// scrubAlways compares what is published with the rendering, until ctx ends:
// often while there are few documents, and out of turn when it is asked for. Of all
// control planes one does so: one that can mend what it finds. One that cannot, or has failed,
// leaves it to the others for a while.
func (r *Relay) scrubAlways(ctx context.Context) {
	defer func() { // another control plane need not wait for its end
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		r.lease(ctx, leaseScrub, 0)
	}()
	var next, aside time.Time // aside is until when others are to compare
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-r.scrubs:
			asked = true
		case <-time.After(scrubOften + rand.N(scrubOften/8)):
		}
		g, start := r.rendered(), time.Now()
		able := r.mayMend(g) && !start.Before(aside)
		held := able && r.lease(ctx, leaseScrub, leaseScrubTTL)
		if !able {
			r.lease(ctx, leaseScrub, 0)
		} else if !held {
			r.noteOthers()
		}
		if !asked && (!held || start.Before(next)) || g == nil {
			continue
		}
		documents, err := r.scrub(ctx, g, asked)
		if ctx.Err() != nil {
			return
		}
		r.noteScrub(ctx, err)
		if err != nil {
			r.lease(ctx, leaseScrub, 0)
			aside = time.Now().Add(leaseScrubTTL)
		}
		if next = start; documents > scrubFew {
			next = start.Add(scrubRarely)
		}
	}
}

// rendered returns what the catalog renders to; nil while this relay has not rendered it yet.
func (r *Relay) rendered() *rendering {
	if g := r.current.Load(); g != nil && g.at().Store != "" {
		return g
	}
	return nil
}

// mayMend reports whether this relay could mend what it finds: it has rendered the catalog, and its last pass went
// well, or failed because of damage that is to be mended.
func (r *Relay) mayMend(g *rendering) bool {
	s := r.Status()
	return g != nil && (s.LastError == "" || s.Trouble == TroubleDamaged)
}

// noteOthers forgets that this relay could not compare: another one does.
func (r *Relay) noteOthers() { r.update(func(s *RelayStatus) { s.ScrubError = "" }) }

func (r *Relay) noteScrub(ctx context.Context, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	r.mu.Lock()
	before := r.status.ScrubError
	r.status.ScrubError = text
	if err == nil {
		r.status.ScrubbedAt = r.clock()
	}
	r.mu.Unlock()
	if text != "" && before == "" {
		r.log.WarnContext(ctx, "what is published could not be compared with the catalog", "error", text)
	}
}

// findings are what a pass over the published documents has found.
type findings struct {
	suspects []docName            // wrong, or not rendered at all
	wrong    int                  // how many those would be, were they not bounded
	missing  map[catalog.Kind]int // not seen

	// surplus has to be taken away, and nobody can have published it: documents whose names are no text, and, under the
	// empty name, what a kind has that is no documents at all.
	surplus []Change
}

func (f *findings) none() bool { return f.wrong == 0 && len(f.missing) == 0 && len(f.surplus) == 0 }

// note adds documents that are wrong.
func (f *findings) note(wrong []docName) {
	for _, d := range wrong {
		switch {
		case !utf8.ValidString(d.key):
			if len(f.surplus) < maxSuspects { // the rest is found the next time
				f.surplus = append(f.surplus, Change{Kind: d.kind, Key: d.key})
			}
			continue
		case len(f.suspects) < maxSuspects:
			f.suspects = append(f.suspects, d)
		}
		f.wrong++
	}
}

// many reports whether more is to be mended than can be mended by name.
func (f *findings) many() bool {
	n := f.wrong
	for _, m := range f.missing {
		n += m
	}
	return n > maxSuspects
}

// scrub compares what is published with a rendering once, and mends what is wrong. It returns how many documents
// there are. When damage is known to be there, it does not spare the publisher.
func (r *Relay) scrub(ctx context.Context, g *rendering, urgent bool) (documents int, err error) {
	documents = g.describe(0).Counts.Total()
	pace := newPace(documents, func() { r.lease(ctx, leaseScrub, leaseScrubTTL) })
	if urgent {
		pace.rate = math.Inf(1)
	}
	found := findings{missing: map[catalog.Kind]int{}}
	for _, kind := range Kinds() {
		err := r.compare(ctx, g, kind, pace, &found)
		if errors.Is(err, ErrCorrupt) {
			found.surplus = append(found.surplus, Change{Kind: kind})
			found.missed(g, kind)
			continue
		}
		if err != nil {
			return documents, fmt.Errorf("read the published %s: %w", kind, err)
		}
	}
	if found.none() {
		return documents, nil
	}
	return documents, r.mend(ctx, g, found)
}

// compare looks for published documents of a kind that are not as they are
// rendered. Those that are missing are unseen then.
func (r *Relay) compare(ctx context.Context, g *rendering, kind catalog.Kind, pace *pace, found *findings) error {
	g.begin(kind)
	batch := make([]Document, 0, scrubBatch)
	flush := func() error {
		found.note(g.wrong(batch))
		if !pace.rest(ctx, len(batch)) {
			return ctx.Err()
		}
		batch = batch[:0]
		return nil
	}
	for d, err := range r.pub.Documents(ctx, kind) {
		if err != nil {
			return err
		}
		if batch = append(batch, d); len(batch) == cap(batch) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	found.missed(g, kind)
	return nil
}

// missed notes documents of a kind that were not seen.
func (f *findings) missed(g *rendering, kind catalog.Kind) {
	if n := g.unseen(kind); n > 0 {
		f.missing[kind] = n
	}
}

// mend looks again at what seemed to be wrong, for others may have published
// meanwhile, and mends what is.
func (r *Relay) mend(ctx context.Context, g *rendering, found findings) error {
	_, err := r.exclusively(ctx, func(ctx context.Context) (Head, error) {
		head, behind := r.passes(ctx)
		if behind != nil && !errors.Is(behind, ErrCorrupt) {
			return head, behind
		}
		if r.rendering != g {
			return head, nil // everything was published anew
		}
		if len(found.surplus) > 0 && behind == nil {
			if err := r.takeAway(ctx, found.surplus); err != nil {
				return head, err
			}
		}
		if found.many() {
			return r.restore(ctx, found, behind)
		}
		suspects := found.suspects
		for kind := range found.missing {
			names, err := r.namesUnseen(ctx, g, kind)
			if err != nil {
				return head, err
			}
			suspects = append(suspects, names...)
		}
		wrong, err := r.stillWrong(ctx, g, suspects)
		if err != nil || len(wrong) == 0 {
			return head, errors.Join(behind, err)
		}
		r.suspects = wrong
		return r.passes(ctx)
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("mend what is published: %w", err)
	}
	return err
}

// takeAway takes what nobody can have published away, at the position.
func (r *Relay) takeAway(ctx context.Context, surplus []Change) error {
	s, err := r.look(ctx)
	if err != nil {
		return err
	}
	if err := r.pub.Repair(ctx, s.base, surplus); err != nil {
		return fmt.Errorf("repair documents at %s: %w", s.head.Position, err)
	}
	r.update(func(st *RelayStatus) { st.Repairs += int64(len(surplus)) })
	r.log.WarnContext(ctx, "what nobody can have published was taken away", "documents", len(surplus),
		"position", s.head.Position.String())
	return nil
}

// namesUnseen finds the names of documents that were not seen, in the catalog.
func (r *Relay) namesUnseen(ctx context.Context, g *rendering, kind catalog.Kind) (names []docName, err error) {
	err = r.tables.Store().Read(ctx, func(reader catalog.Reader) error {
		rr := g.renderer(reader, func(c Change) {
			if c.Kind == kind && g.isUnseen(kind, c.Key) {
				names = append(names, docName{kind, c.Key})
			}
		})
		return rr.kind(ctx, kind)
	})
	if err != nil {
		return nil, errCatalog{err}
	}
	return names, nil
}

// stillWrong returns those of the documents that are not as they are rendered,
// now that this relay has the turn.
func (r *Relay) stillWrong(ctx context.Context, g *rendering, suspects []docName) (wrong []docName, err error) {
	byKind := map[catalog.Kind][]string{}
	for _, s := range suspects {
		byKind[s.kind] = append(byKind[s.kind], s.key)
	}
	for kind, keys := range byKind {
		for len(keys) > 0 {
			part := keys[:min(len(keys), scrubBatch)]
			keys = keys[len(part):]
			docs, err := r.pub.Lookup(ctx, kind, part...)
			if err != nil {
				return nil, fmt.Errorf("read the published %s: %w", kind, err)
			}
			wrong = append(wrong, g.wrong(docs)...)
			there := map[string]bool{}
			for _, d := range docs {
				there[d.Key] = true
			}
			for _, key := range part {
				if !there[key] && g.has(kind, key) {
					wrong = append(wrong, docName{kind, key})
				}
			}
		}
	}
	return wrong, nil
}

// restore writes everything again: more is wrong than can be mended by name.
// behind says that no delta can lead to where the catalog is.
func (r *Relay) restore(ctx context.Context, found findings, behind error) (Head, error) {
	s, err := r.look(ctx)
	if err != nil {
		return Head{}, err
	}
	if s.trust != trustGood || behind != nil {
		return r.rebuild(ctx, s)
	}
	w := &restoring{relay: r, over: s.base}
	err = r.tables.Store().Read(ctx, func(reader catalog.Reader) error {
		// What it renders by knows providers of the rendering's own revision.
		if at := reader.Head().Revision; at != s.head.Position.Revision || at != r.rendering.at().Revision {
			w.err = fmt.Errorf("the catalog has changed meanwhile: %w", ErrWaiting)
			return nil
		}
		for _, d := range found.suspects {
			if !r.rendering.has(d.kind, d.key) {
				w.add(ctx, Change{Kind: d.kind, Key: d.key})
			}
		}
		rr := r.rendering.renderer(reader, func(c Change) { w.add(ctx, c) })
		for _, kind := range sources() {
			if err := rr.kind(ctx, kind); err != nil || w.err != nil {
				return err
			}
		}
		w.flush(ctx)
		return nil
	})
	if err == nil {
		err = w.err
	}
	if err != nil {
		return Head{}, fmt.Errorf("restore documents: %w", err)
	}
	r.update(func(st *RelayStatus) { st.Repairs += int64(w.written) })
	r.log.WarnContext(ctx, "many documents were missing, wrong or surplus, and all were written again",
		"documents", w.written, "position", s.head.Position.String())
	return s.head, nil
}

// restoring writes documents at the published position, some at a time.
type restoring struct {
	relay   *Relay
	over    Base
	batch   []Change
	written int
	err     error
}

func (w *restoring) add(ctx context.Context, c Change) {
	if w.batch = append(w.batch, c); len(w.batch) >= MaxPartDocs {
		w.flush(ctx)
	}
}

func (w *restoring) flush(ctx context.Context) {
	if w.err == nil && len(w.batch) > 0 {
		w.err = w.relay.pub.Repair(ctx, w.over, w.batch)
		w.written += len(w.batch)
	}
	w.batch = nil
}

// rebuild publishes the whole, because too much of what is published is damaged.
func (r *Relay) rebuild(ctx context.Context, s sight) (Head, error) {
	const cause = "many documents were missing, wrong or surplus"
	p, err := r.planWhole(ctx, s)
	if err != nil {
		return Head{}, err
	}
	if p.action == doDelta {
		p.decision = succeed(cause)
	} else {
		p.decision = restart(cause)
	}
	if p.sight.trust == trustGood {
		p.sight.trust = trustSpoilt // the guard never refuses a repair
	}
	return r.publishWhole(ctx, p, wholeOptions{})
}

// pace spreads a pass over its documents.
type pace struct {
	rate   float64 // documents a second
	done   int
	start  time.Time
	renew  func()
	leased time.Time
}

func newPace(documents int, renew func()) *pace {
	now := time.Now()
	return &pace{rate: max(scrubRate, float64(documents)/scrubSpread), start: now, renew: renew, leased: now}
}

// rest waits until as many documents may have been compared, and reports whether ctx goes on.
func (p *pace) rest(ctx context.Context, n int) bool {
	p.done += n
	if time.Since(p.leased) > leaseScrubTTL/4 {
		p.leased = time.Now()
		p.renew()
	}
	due := p.start.Add(time.Duration(float64(p.done) / p.rate * float64(time.Second)))
	if ahead := time.Until(due); ahead > 10*time.Millisecond {
		return rest(ctx, ahead)
	}
	return ctx.Err() == nil
}
