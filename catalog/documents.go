package catalog

import (
	"context"
	"maps"
	"slices"
)

// The document of a model names, for each of its bindings, every provider of the group with the
// model that it is asked for. These are the bounds of one such document, and of all those that one
// commit makes others render.
const (
	maxDocumentPairs = 100_000 // of a binding and a provider
	maxDocumentBytes = 16 << 20
	maxCommitPairs   = 2_000_000
	maxCommitBytes   = 128 << 20

	pairBytes      = 16  // of a provider in a binding, beside the model
	sentenceBytes  = 48  // of what may stand in place of the model, when there is none
	candidateBytes = 300 // of a binding without its names and its providers
)

// A documentSize says how large a document is at most, about.
type documentSize struct{ pairs, bytes int }

func (s documentSize) plus(o documentSize) documentSize {
	return documentSize{s.pairs + o.pairs, s.bytes + o.bytes}
}

// checkDocuments refuses a commit that makes the documents of models with bindings too large.
func (tx *txn) checkDocuments(ctx context.Context, groups *groupSizes) error {
	var all documentSize
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(tx.rendered.models)), fetchSize) {
		bindings, err := tx.list(ctx, KindBinding, Query{Refs: keys})
		if err != nil {
			return err
		}
		documents := map[string]documentSize{}
		for _, e := range bindings {
			var b Binding
			if b.decode(e, nil) != nil {
				continue // it is not rendered
			}
			size, err := groups.candidate(ctx, &b)
			if err != nil {
				return err
			}
			all = all.plus(size)
			one := documents[e.Ref].plus(size)
			documents[e.Ref] = one
			because := tx.rendered.models[e.Ref]
			switch {
			case one.pairs > maxDocumentPairs || one.bytes > maxDocumentBytes:
				return tx.tooMuch(because, "makes the bindings of one model name more than 100,000 providers, each "+
					"counted once for each binding, or take more than 16 MiB; bind fewer route groups, or put fewer "+
					"providers into the provider groups of the model")
			case all.pairs > maxCommitPairs || all.bytes > maxCommitBytes:
				return tx.tooMuch(because, "makes the bindings that have to be published again name more than 2,000,000 "+
					"providers, each counted once for each binding, or take more than 128 MiB; write less at once, or "+
					"put fewer providers into a group that many bindings name")
			}
		}
	}
	return nil
}

// checkImplied refuses a commit after which providers serve too much without a binding. As a rule
// the number of all models and of all providers tells that they do not.
func (tx *txn) checkImplied(ctx context.Context) error {
	r := &tx.rendered
	if len(r.names) == 0 && r.every == nil {
		return nil
	}
	models, err := tx.count(ctx, KindModel, Query{})
	if err != nil {
		return err
	}
	providers, err := tx.count(ctx, KindProvider, Query{})
	if err != nil || models*providers <= maxCommitPairs && providers <= maxDocumentPairs {
		return err
	}
	touched := map[string]int64{} // the models of each name that are rendered again
	var n int64
	err = tx.each(ctx, KindModel, func(e Entity) {
		if _, named := r.names[e.Name]; named || r.every != nil {
			touched[e.Name]++
			n++
		}
	})
	if err != nil || n*providers <= maxCommitPairs && providers <= maxDocumentPairs {
		return err
	}
	listing, listingAny := map[string]int64{}, int64(0)
	err = tx.each(ctx, KindProvider, func(e Entity) {
		models := modelsOf(e)
		if slices.ContainsFunc(models, IsWildcard) {
			listingAny++
			return
		}
		for _, m := range models {
			if touched[m] > 0 {
				listing[m]++
			}
		}
	})
	if err != nil {
		return err
	}
	var pairs int64
	for _, name := range slices.Sorted(maps.Keys(touched)) {
		one := listing[name] + listingAny
		if pairs += touched[name] * one; one > maxDocumentPairs || pairs > maxCommitPairs {
			because, named := r.names[name]
			if !named {
				because = *r.every
			}
			return tx.tooMuch(because, "makes more than 100,000 providers serve one model, or the models that have to be "+
				"published again name more than 2,000,000 providers, each counted once for each model; write less at "+
				"once, or let fewer providers list the same models")
		}
	}
	return nil
}

// each calls fn with all entities of a kind, as they are after what was written.
func (tx *txn) each(ctx context.Context, k Kind, fn func(Entity)) error {
	q := Query{Limit: pageSize}
	for {
		page, err := tx.list(ctx, k, q)
		if err != nil {
			return err
		}
		for _, e := range page {
			q.After = e.ID
			fn(e)
		}
		if len(page) < q.Limit {
			return nil
		}
	}
}

// groupSizes remembers, for one transaction, how many providers the groups have and how long their
// models are.
type groupSizes struct {
	tx     *txn
	moved  map[string]int // what the transaction adds to the providers of a group; nil until it is counted
	counts map[string]int
	bytes  map[string]int
}

// providers returns how many providers a group has after what was written.
func (g *groupSizes) providers(ctx context.Context, group string) (int, error) {
	if g.moved == nil {
		g.moved, g.counts, g.bytes = map[string]int{}, map[string]int{}, map[string]int{}
		for _, w := range g.tx.writes {
			if w == nil {
				continue
			}
			if before, ok := w.before.(*Provider); ok {
				g.moved[before.Group]--
			}
			if after, ok := w.after.(*Provider); ok {
				g.moved[after.Group]++
			}
		}
	}
	n, known := g.counts[group]
	if !known {
		stored, err := g.tx.reader.Count(ctx, KindProvider, Query{Groups: []string{group}})
		if err != nil {
			return 0, err
		}
		n = int(stored) + g.moved[group]
		g.counts[group] = n
	}
	return n, nil
}

// longest adds up the longest model of each provider of a group.
func (g *groupSizes) longest(ctx context.Context, group string) (int, error) {
	n, known := g.bytes[group]
	if !known {
		entities, err := g.tx.list(ctx, KindProvider, Query{Groups: []string{group}})
		if err != nil {
			return 0, err
		}
		for _, e := range entities {
			most := 0
			for _, m := range modelsOf(e) {
				most = max(most, len(m))
			}
			n += most
		}
		g.bytes[group] = n
	}
	return n, nil
}

// candidate returns how large a binding makes the document of its model.
func (g *groupSizes) candidate(ctx context.Context, b *Binding) (size documentSize, err error) {
	if size.pairs, err = g.providers(ctx, b.ProviderGroup); err != nil {
		return size, err
	}
	size.bytes = candidateBytes + len(b.RouteGroup) + len(b.ProviderGroup) + len(b.SelectorValue) + size.pairs*pairBytes
	if b.SelectorType == SelectExact {
		size.bytes += size.pairs * max(sentenceBytes, len(b.SelectorValue))
		return size, nil
	}
	longest, err := g.longest(ctx, b.ProviderGroup)
	size.bytes += size.pairs*sentenceBytes + longest
	return size, err
}
