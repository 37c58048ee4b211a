package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// Explanation is why a key can or cannot reach a model.
type Explanation struct {
	Position Position // of what it was made of
	Steps    []Step   // in the order in which a request takes them
	Refusal  error    // nil when the key can; else a [Refusal] or an [ErrHeld]

	// Targets are as [View.Route] returns them, without the providers'
	// secrets. Where requests draw by weight, the heavier comes first.
	Targets []Target
}

// Step is one thing that is asked on the way to a model.
type Step struct {
	Check  string // what was asked, in a word or two
	OK     bool   // whether the way goes on there
	Detail string // what was found; holds no secrets
}

// Explain says why the key whose tokens have these hashes can or cannot reach a model, and by which
// providers. It runs the code of a data plane on the documents that are published. If several of
// the hashes are published, the last one counts. The address of a client is not known here, so the
// networks that the key allows are listed, but not checked.
//
// Signatures and digests are not verified, and no secret is opened. The error
// wraps [ErrNone] before the first publish, [ErrCorrupt] when a document cannot be
// read, and [ErrStale] when publishes came too fast to see one position.
func Explain(ctx context.Context, src Source, hashes []string, model string, now time.Time) (*Explanation, error) {
	const tries = 5
	before, err := src.Head(ctx)
	if err != nil {
		return nil, err
	}
	for range tries {
		e := &Explanation{Position: before.Position}
		if err := e.explain(ctx, src, hashes, model, now); err != nil {
			return nil, err
		}
		after, err := src.Head(ctx)
		if err != nil {
			return nil, err
		}
		if after.Base() == before.Base() {
			return e, nil
		}
		before = after
	}
	return nil, fmt.Errorf("explain: %w", ErrStale)
}

func (e *Explanation) explain(ctx context.Context, src Source, hashes []string, model string, now time.Time) error {
	docs, err := src.Lookup(ctx, catalog.KindKey, hashes...)
	if err != nil {
		return err
	}
	e.tell("key document", len(docs) > 0, fmt.Sprintf("%d of the key's %d tokens are published", len(docs), len(hashes)))
	if len(docs) == 0 {
		e.Refusal = ErrUnknownToken
		return nil
	}
	key, err := readKey(docs[len(docs)-1])
	if err != nil {
		return err
	}
	v, err := lookup(ctx, src, key, model)
	if err != nil {
		return err
	}
	if err := key.live(now, e.tell); err != nil {
		return e.refuse(err)
	}
	if len(key.nets) > 0 {
		e.tell("address", true, fmt.Sprintf("requests must come from %s", strings.Join(key.AllowIPs, ", ")))
	}
	if err := v.free(key, now, e.tell); err != nil {
		return e.refuse(err)
	}
	e.Targets, err = v.walk(nil, key, model, now, e.tell)
	return e.refuse(err)
}

func (e *Explanation) tell(check string, ok bool, detail string) {
	e.Steps = append(e.Steps, Step{check, ok, detail})
}

// refuse notes a refusal, which is an answer and no error.
func (e *Explanation) refuse(err error) error {
	switch err.(type) { //nolint:errorlint // refusals are never wrapped
	case Refusal, *ErrHeld:
		e.Refusal = err
		return nil
	}
	return err
}

// lookup returns a View of what routing a model for a key may need.
func lookup(ctx context.Context, src Source, key *Key, model string) (*View, error) {
	none := emptyView(func() float64 { return 0.5 }) // every draw equal: weights alone order
	b := newBuilder(none, none, newClosedReader)
	docs, err := b.lookup(ctx, src, catalog.KindBinding, Names(key.DefaultNamespace, model))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, d := range docs {
		doc, err := Decode[BindingDoc](d)
		if err != nil {
			return nil, err
		}
		for _, c := range doc.Candidates {
			ids = slices.AppendSeq(ids, maps.Keys(c.Upstreams))
		}
	}
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) > 0 {
		if _, err = b.lookup(ctx, src, catalog.KindProvider, ids); err != nil {
			return nil, err
		}
	}
	if err := b.lookupAbove(ctx, src, key); err != nil {
		return nil, err
	}
	v := b.done(Head{})
	if found, err := v.resolve(key, model, nil); err == nil {
		holds := newBuilder(v, v, newClosedReader)
		if _, err := holds.lookup(ctx, src, catalog.KindHold, found.holdTargets()); err != nil {
			return nil, err
		}
		v = holds.done(Head{})
	}
	return v, nil
}

// lookupAbove adds the projects that a key is in, and the holds of the key and of them.
func (b *viewBuilder) lookupAbove(ctx context.Context, src Source, key *Key) error {
	paths := catalog.ProjectPath(key.Project)
	holds := []string{catalog.HoldTarget{KeyID: key.ID}.String()}
	for _, path := range paths {
		holds = append(holds, catalog.HoldTarget{Project: path}.String())
	}
	if len(paths) > 0 {
		if _, err := b.lookup(ctx, src, catalog.KindProject, paths); err != nil {
			return err
		}
	}
	_, err := b.lookup(ctx, src, catalog.KindHold, holds)
	return err
}

// holdTargets lists what may be held of the providers that serve a model.
func (b meant) holdTargets() (targets []string) {
	for i := range b.upstreams {
		for _, u := range b.upstreams[i] {
			targets = append(targets, catalog.HoldTarget{ProviderID: u.provider}.String(),
				catalog.HoldTarget{ProviderID: u.provider, UpstreamModel: b.upstream(u.model)}.String())
		}
	}
	slices.Sort(targets)
	return slices.Compact(targets)
}

// lookup adds single documents.
func (b *viewBuilder) lookup(ctx context.Context, src Source, kind catalog.Kind, keys []string) ([]Document, error) {
	docs, err := src.Lookup(ctx, kind, keys...)
	if err != nil {
		return nil, err
	}
	changes := make([]Change, len(docs))
	for i, d := range docs {
		changes[i] = Change(d)
	}
	return docs, errors.Join(b.add(changes), b.flush())
}

func readKey(d Document) (*Key, error) {
	doc, err := Decode[KeyDoc](d)
	if err != nil {
		return nil, err
	}
	in := newInterner()
	return newKey(doc, &in)
}
