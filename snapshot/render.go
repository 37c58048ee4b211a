package snapshot

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// Renderer is the version of the code that turns a catalog into documents. It
// rises with every change of what is rendered, so that in a fleet of mixed
// versions the older never publishes over the newer.
const Renderer = 3

// renderer makes documents from one consistent reading of a catalog. Secrets
// are sealed with the keys.
type renderer struct {
	tables  *catalog.Tables
	reader  catalog.Reader
	keys    *Keys
	resolve *resolver    // what it knows of providers is of the reader's revision
	emit    func(Change) // takes every document as it is made

	// failed is called for an entity that cannot be read. Its documents are
	// absent, which refuses whoever needs them; all else is published.
	failed func(k catalog.Kind, id int64, err error)
}

// queryChunk bounds the values of one query, and the entities of one answer.
const queryChunk = 1000

// pages calls fn with what a query selects, page by page.
func pages[T catalog.Noun](ctx context.Context, r *renderer, t catalog.Table[T], q catalog.Query,
	fn func([]T) error) error {
	kind := t.Kind()
	q.Limit = queryChunk
	for {
		entities, err := r.reader.List(ctx, kind, q)
		if err != nil {
			return err
		}
		nouns := make([]T, 0, len(entities))
		for _, e := range entities {
			q.After = e.ID
			v, err := t.Decode(e)
			if err != nil {
				r.failed(kind, e.ID, err)
				continue
			}
			nouns = append(nouns, v)
		}
		if err := fn(nouns); err != nil {
			return err
		}
		if len(entities) < queryChunk {
			return nil
		}
	}
}

// whole renders everything, and begins to know the providers.
func (r *renderer) whole(ctx context.Context) error {
	r.resolve = newResolver()
	err := pages(ctx, r, r.tables.Providers, catalog.Query{}, func(providers []catalog.Provider) error {
		for i := range providers {
			r.resolve.set(providers[i].ID, servantOf(&providers[i]))
		}
		return r.providerDocs(providers)
	})
	if err != nil {
		return err
	}
	for _, kind := range sources() {
		if kind == catalog.KindProvider {
			continue
		}
		if err := r.kind(ctx, kind); err != nil {
			return err
		}
	}
	return nil
}

// sources lists the kinds that [renderer.kind] takes so that each document is rendered once:
// that of a binding comes with its model.
func sources() []catalog.Kind {
	return slices.DeleteFunc(Kinds(), func(k catalog.Kind) bool { return k == catalog.KindBinding })
}

// kind renders all documents of a kind; those of models and of bindings
// together. It knows the providers.
func (r *renderer) kind(ctx context.Context, kind catalog.Kind) error {
	switch kind {
	case catalog.KindProvider:
		return pages(ctx, r, r.tables.Providers, catalog.Query{}, r.providerDocs)
	case catalog.KindModel, catalog.KindBinding:
		return pages(ctx, r, r.tables.Models, catalog.Query{}, func(models []catalog.Model) error {
			return r.modelDocs(ctx, models, nil)
		})
	case catalog.KindKey:
		return pages(ctx, r, r.tables.Keys.Table, catalog.Query{}, r.keyDocs)
	case catalog.KindProject:
		return pages(ctx, r, r.tables.Projects, catalog.Query{}, r.projectDocs)
	case catalog.KindHold:
		return r.holdDocs(ctx, catalog.Query{})
	}
	return fmt.Errorf("documents of kind %q are not rendered: %w", kind, catalog.ErrInvalid)
}

func servantOf(p *catalog.Provider) *servant {
	return &servant{id: p.ID, group: p.Group, models: p.Models}
}

func (r *renderer) providerDocs(providers []catalog.Provider) error {
	for i := range providers {
		if err := r.put(catalog.KindProvider, providerKey(providers[i].ID), r.provider(&providers[i])); err != nil {
			return err
		}
	}
	return nil
}

// modelDocs renders binding documents of the models, and the documents of
// those for which of says so; nil of is all.
func (r *renderer) modelDocs(ctx context.Context, models []catalog.Model, of func(name string) bool) error {
	names := make([]string, len(models))
	for i := range models {
		names[i] = catalog.ModelKey(models[i].Namespace, models[i].Name)
	}
	if len(names) == 0 {
		return nil
	}
	records := map[string][]catalog.Binding{}
	err := pages(ctx, r, r.tables.Bindings, catalog.Query{Refs: names}, func(bindings []catalog.Binding) error {
		for _, b := range bindings {
			name := catalog.ModelKey(b.Namespace, b.Model)
			records[name] = append(records[name], b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range models {
		if of == nil || of(names[i]) {
			if err := r.put(catalog.KindModel, names[i], modelDoc(&models[i])); err != nil {
				return err
			}
		}
		doc, err := r.resolve.binding(ctx, &models[i], records[names[i]])
		if err != nil {
			return err
		}
		if err := r.put(catalog.KindBinding, names[i], doc); err != nil {
			return err
		}
	}
	return nil
}

func (r *renderer) projectDocs(projects []catalog.Project) error {
	for i := range projects {
		p := &projects[i]
		doc := ProjectDoc{
			Name: p.Name, Status: p.Status, Models: p.Models, Groups: p.Groups, Namespaces: p.Namespaces,
			RPMLimit: p.RPMLimit, TPMLimit: p.TPMLimit, MaxParallel: p.MaxParallel, Labels: p.Labels,
		}
		if err := r.put(catalog.KindProject, p.Name, doc); err != nil {
			return err
		}
	}
	return nil
}

// holdDocs renders one document for each target of the holds that a query selects, which must
// be all holds of that target. Holds that have ended count until maintenance removes them, because
// documents depend on nothing but what the catalog holds; readers look at the clock.
func (r *renderer) holdDocs(ctx context.Context, q catalog.Query) error {
	docs := map[string]HoldDoc{}
	q.Status = string(catalog.Active)
	err := pages(ctx, r, r.tables.Holds, q, func(holds []catalog.Hold) error {
		for i := range holds {
			h := &holds[i]
			doc := HoldDoc{Target: h.Target, Until: h.Until, Reason: h.Reason, Message: h.Message}
			if other, ok := docs[h.Target]; ok {
				doc = strongest(doc, other)
			}
			docs[h.Target] = doc
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, target := range slices.Sorted(maps.Keys(docs)) {
		if err := r.put(catalog.KindHold, target, docs[target]); err != nil {
			return err
		}
	}
	return nil
}

// strongest makes one document of the holds of a target: the stronger reason, and the later end.
func strongest(a, b HoldDoc) HoldDoc {
	reasons := catalog.HoldReasons()
	if slices.Index(reasons, b.Reason) < slices.Index(reasons, a.Reason) {
		a, b = b, a
	}
	if !a.Until.IsZero() && (b.Until.IsZero() || b.Until.After(a.Until)) {
		a.Until = b.Until
	}
	return a
}

func (r *renderer) keyDocs(keys []catalog.Key) error {
	for i := range keys {
		for _, doc := range keyDocsOf(&keys[i]) {
			if err := r.put(catalog.KindKey, doc.hash, doc.doc); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *renderer) put(kind catalog.Kind, key string, doc any) error {
	text, err := encode(doc)
	if err != nil {
		return fmt.Errorf("render %s: %w", name(kind, key), err)
	}
	r.emit(Change{kind, key, text})
	return nil
}

func (r *renderer) provider(p *catalog.Provider) ProviderDoc {
	doc := ProviderDoc{
		ID: p.ID, Name: p.Name, Type: p.Type, BaseURL: p.BaseURL, GoogleProject: p.GoogleProject,
		GoogleLocation: p.GoogleLocation,
		Group:          p.Group, Models: p.Models,
		Weight: *p.Weight, Priority: p.Priority, Status: p.Status, AutoBan: *p.AutoBan,
		Options: p.Options, Labels: p.Labels,
	}
	switch {
	case p.Sealed, r.keys.active() == nil && strings.HasPrefix(p.APIKey.Reveal(), sealedPrefix):
		doc.Error = ConfigError // readers refuse what looks sealed, and all that came with it
	case !p.APIKey.IsZero():
		doc.SealedAPIKey = r.keys.Seal(p.APIKey.Reveal(), sealedData(&doc))
	}
	return doc
}

func modelDoc(m *catalog.Model) ModelDoc {
	return ModelDoc{
		Namespace: m.Namespace, Name: m.Name, Kind: m.Kind, ContextWindow: m.ContextWindow,
		MaxOutputTokens: m.MaxOutputTokens,
		SupportsVision:  m.SupportsVision, SupportsFunctions: m.SupportsFunctions, SupportsToolChoice: m.SupportsToolChoice,
		SupportsFIM: m.SupportsFIM, SupportsStream: m.SupportsStream, PricesDoc: pricesDoc(
			&m.Prices), Status: m.Status, Labels: m.Labels,
	}
}

type tokenDoc struct {
	hash string
	doc  KeyDoc
}

// keyDocsOf returns one document for each token of a key. A rotated token expires
// when its grace ends, or the key does.
func keyDocsOf(k *catalog.Key) (docs []tokenDoc) {
	for _, t := range k.Tokens {
		doc := KeyDoc{
			ID: k.ID, Name: k.Name, Project: k.Project, Status: k.Status, Group: k.Group, Namespaces: k.Namespaces,
			DefaultNamespace: k.DefaultNamespace,
			Models:           k.Models, Scopes: k.Scopes, AllowIPs: k.AllowIPs, ExpiresAt: earliest(k.ExpiresAt, t.ExpiresAt),
			RPMLimit: k.RPMLimit, TPMLimit: k.TPMLimit, MaxParallel: k.MaxParallel, Labels: k.Labels,
		}
		for _, b := range k.Budgets {
			doc.Budgets = append(doc.Budgets, BudgetDoc(b))
		}
		docs = append(docs, tokenDoc{t.Hash, doc})
	}
	return docs
}

// earliest returns the earlier of two times, of which zero is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
