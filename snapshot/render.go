package snapshot

import (
	"context"
	"encoding/json"
	"errors"
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
const Renderer = 1

// renderer makes documents from one consistent reading of a catalog. Secrets
// are sealed with the keys.
type renderer struct {
	tables *catalog.Tables
	reader catalog.Reader
	keys   *Keys
}

// docName names a document.
type docName struct {
	kind catalog.Kind
	key  string
}

// touched renders every document that the changes may have touched; nil is one
// that is not there (any more). Too many documents are errManyTouched.
func (r *renderer) touched(ctx context.Context, changes []catalog.Change, most int) (map[docName][]byte, error) {
	var (
		providers, keys        []int64
		models, groups, listed set
		docs                   = map[docName][]byte{}
	)
	for _, c := range changes {
		switch c.Kind {
		case catalog.KindProvider:
			providers = append(providers, c.ID)
			docs[docName{c.Kind, providerKey(c.ID)}] = nil
			if regroups(c) {
				groups.add(c.Touches.Groups...)
				listed.add(c.Touches.Models...)
			}
		case catalog.KindModel:
			models.add(c.Touches.NaturalKeys...)
		case catalog.KindBinding:
			models.add(c.Touches.Refs...)
		case catalog.KindKey:
			keys = append(keys, c.ID)
			for _, h := range c.Touches.Hashes {
				docs[docName{c.Kind, h}] = nil
			}
		}
	}
	if err := r.boundTo(ctx, &models, groups.list(), listed.list()); err != nil {
		return nil, err
	}
	if len(docs)+2*len(models.m) > most {
		return nil, errManyTouched
	}
	if err := r.providers(ctx, docs, providers); err != nil {
		return nil, err
	}
	if err := r.keyDocs(ctx, docs, keys); err != nil {
		return nil, err
	}
	for _, name := range models.list() {
		docs[docName{catalog.KindModel, name}] = nil
		docs[docName{catalog.KindBinding, name}] = nil
	}
	return docs, r.modelDocs(ctx, docs, models.list())
}

// errManyTouched says that rendering the whole is no dearer.
var errManyTouched = errors.New("too many documents are touched")

// regroups reports whether a provider's change may touch binding documents,
// which know of a provider no more than its group and models.
func regroups(c catalog.Change) bool {
	var before, after struct {
		Group  string   `json:"group"`
		Models []string `json:"models"`
	}
	if json.Unmarshal(c.Before, &before) != nil || json.Unmarshal(c.After, &after) != nil {
		return true // created or deleted
	}
	return before.Group != after.Group || !slices.Equal(before.Models, after.Models)
}

// boundTo adds the models whose binding documents depend on providers of the
// groups, or, being implied, on providers that list them.
func (r *renderer) boundTo(ctx context.Context, models *set, groups, listed []string) error {
	for part := range slices.Chunk(groups, queryChunk) {
		bindings, err := list(ctx, r.reader, r.tables.Bindings, catalog.Query{Groups: part})
		if err != nil {
			return err
		}
		for _, b := range bindings {
			if slices.Contains(part, b.ProviderGroup) {
				models.add(catalog.ModelKey(b.Namespace, b.Model))
			}
		}
	}
	var beginnings []string
	for _, model := range listed {
		if head, all := strings.CutSuffix(model, "*"); all {
			beginnings = append(beginnings, head)
		}
	}
	if len(beginnings) > 0 {
		all, err := list(ctx, r.reader, r.tables.Models, catalog.Query{})
		if err != nil {
			return err
		}
		for _, m := range all {
			if slices.ContainsFunc(beginnings, func(head string) bool { return strings.HasPrefix(m.Name, head) }) {
				models.add(catalog.ModelKey(m.Namespace, m.Name))
			}
		}
	}
	for part := range slices.Chunk(listed, queryChunk) {
		named, err := list(ctx, r.reader, r.tables.Models, catalog.Query{Names: part})
		if err != nil {
			return err
		}
		for _, m := range named {
			models.add(catalog.ModelKey(m.Namespace, m.Name))
		}
	}
	return nil
}

// queryChunk bounds the values of one query.
const queryChunk = 1000

func (r *renderer) providers(ctx context.Context, docs map[docName][]byte, ids []int64) error {
	for part := range slices.Chunk(ids, queryChunk) {
		providers, err := list(ctx, r.reader, r.tables.Providers, catalog.Query{IDs: part})
		if err != nil {
			return err
		}
		for i := range providers {
			if err := r.put(docs, catalog.KindProvider, providerKey(providers[i].ID), r.provider(&providers[i])); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *renderer) keyDocs(ctx context.Context, docs map[docName][]byte, ids []int64) error {
	for part := range slices.Chunk(ids, queryChunk) {
		keys, err := list(ctx, r.reader, r.tables.Keys.Table, catalog.Query{IDs: part})
		if err != nil {
			return err
		}
		for i := range keys {
			if err := r.key(docs, &keys[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// modelDocs renders the model and binding documents of the models with these
// natural keys, as far as they exist.
func (r *renderer) modelDocs(ctx context.Context, docs map[docName][]byte, names []string) error {
	for part := range slices.Chunk(names, queryChunk) {
		models, err := list(ctx, r.reader, r.tables.Models, catalog.Query{NaturalKeys: part})
		if err != nil {
			return err
		}
		bindings, err := list(ctx, r.reader, r.tables.Bindings, catalog.Query{Refs: part})
		if err != nil {
			return err
		}
		providers, err := r.serving(ctx, models)
		if err != nil {
			return err
		}
		if err := r.modelsWith(docs, models, bindings, providers); err != nil {
			return err
		}
	}
	return nil
}

// serving returns the providers that binding documents depend on: all, because
// any may list a model, and so serve it in the groups that have no binding of it.
func (r *renderer) serving(ctx context.Context, models []catalog.Model) ([]catalog.Provider, error) {
	if len(models) == 0 {
		return nil, nil
	}
	return list(ctx, r.reader, r.tables.Providers, catalog.Query{})
}

func (r *renderer) modelsWith(docs map[docName][]byte, models []catalog.Model, bindings []catalog.Binding, providers []catalog.Provider) error {
	resolve := newResolver(providers)
	records := map[string][]catalog.Binding{}
	for _, b := range bindings {
		name := catalog.ModelKey(b.Namespace, b.Model)
		records[name] = append(records[name], b)
	}
	for i := range models {
		m := &models[i]
		name := catalog.ModelKey(m.Namespace, m.Name)
		if err := r.put(docs, catalog.KindModel, name, modelDoc(m)); err != nil {
			return err
		}
		if err := r.put(docs, catalog.KindBinding, name, resolve.binding(m, records[name])); err != nil {
			return err
		}
	}
	return nil
}

// all renders the whole catalog.
func (r *renderer) all(ctx context.Context) (map[docName][]byte, error) {
	docs := map[docName][]byte{}
	providers, err := list(ctx, r.reader, r.tables.Providers, catalog.Query{})
	if err != nil {
		return nil, err
	}
	for i := range providers {
		if err := r.put(docs, catalog.KindProvider, providerKey(providers[i].ID), r.provider(&providers[i])); err != nil {
			return nil, err
		}
	}
	models, err := list(ctx, r.reader, r.tables.Models, catalog.Query{})
	if err != nil {
		return nil, err
	}
	bindings, err := list(ctx, r.reader, r.tables.Bindings, catalog.Query{})
	if err != nil {
		return nil, err
	}
	if err := r.modelsWith(docs, models, bindings, providers); err != nil {
		return nil, err
	}
	for after := int64(0); ; {
		page, err := list(ctx, r.reader, r.tables.Keys.Table, catalog.Query{After: after, Limit: queryChunk})
		if err != nil {
			return nil, err
		}
		for i := range page {
			if err := r.key(docs, &page[i]); err != nil {
				return nil, err
			}
		}
		if len(page) < queryChunk {
			return docs, nil
		}
		after = page[len(page)-1].ID
	}
}

func (r *renderer) put(docs map[docName][]byte, kind catalog.Kind, key string, doc any) error {
	text, err := encode(doc)
	if err != nil {
		return fmt.Errorf("render %s %q: %w", kind.Noun(), key, err)
	}
	docs[docName{kind, key}] = text
	return nil
}

func (r *renderer) provider(p *catalog.Provider) ProviderDoc {
	doc := ProviderDoc{
		ID: p.ID, Name: p.Name, Type: p.Type, BaseURL: p.BaseURL, GoogleProject: p.GoogleProject, GoogleLocation: p.GoogleLocation,
		Group: p.Group, Models: p.Models, Weight: *p.Weight, Priority: p.Priority, Status: p.Status, AutoBan: *p.AutoBan,
		Options: p.Options, Labels: p.Labels,
	}
	switch {
	case p.Sealed:
		doc.Error = ConfigError
	case !p.APIKey.IsZero():
		doc.SealedAPIKey = r.keys.Seal(p.APIKey.Reveal(), sealedField(providerKey(p.ID)))
	}
	return doc
}

func modelDoc(m *catalog.Model) ModelDoc {
	return ModelDoc{
		Namespace: m.Namespace, Name: m.Name, Kind: m.Kind, ContextWindow: m.ContextWindow, MaxOutputTokens: m.MaxOutputTokens,
		SupportsVision: m.SupportsVision, SupportsFunctions: m.SupportsFunctions, SupportsToolChoice: m.SupportsToolChoice,
		SupportsFIM: m.SupportsFIM, SupportsStream: m.SupportsStream, PricesDoc: pricesDoc(&m.Prices), Status: m.Status, Labels: m.Labels,
	}
}

// key renders one document for each token of a key. A rotated token expires
// when its grace ends, or the key does.
func (r *renderer) key(docs map[docName][]byte, k *catalog.Key) error {
	for _, t := range k.Tokens {
		doc := KeyDoc{
			ID: k.ID, Name: k.Name, Status: k.Status, Group: k.Group, Namespaces: k.Namespaces, DefaultNamespace: k.DefaultNamespace,
			Models: k.Models, Scopes: k.Scopes, AllowIPs: k.AllowIPs, ExpiresAt: earliest(k.ExpiresAt, t.ExpiresAt),
			RPMLimit: k.RPMLimit, TPMLimit: k.TPMLimit, MaxParallel: k.MaxParallel, BudgetLimit: k.BudgetLimit, Labels: k.Labels,
		}
		if k.BudgetLimit != nil {
			doc.BudgetWindow = k.BudgetWindow
		}
		if err := r.put(docs, catalog.KindKey, t.Hash, doc); err != nil {
			return err
		}
	}
	return nil
}

// earliest returns the earlier of two times, of which zero is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// list reads nouns at the reader's revision.
func list[T catalog.Noun](ctx context.Context, r catalog.Reader, t catalog.Table[T], q catalog.Query) ([]T, error) {
	entities, err := r.List(ctx, kindOf[T](), q)
	if err != nil {
		return nil, err
	}
	nouns := make([]T, len(entities))
	for i, e := range entities {
		if nouns[i], err = t.Decode(e); err != nil {
			return nil, err
		}
	}
	return nouns, nil
}

func kindOf[T catalog.Noun]() catalog.Kind {
	switch any((*T)(nil)).(type) {
	case *catalog.Provider:
		return catalog.KindProvider
	case *catalog.Model:
		return catalog.KindModel
	case *catalog.Binding:
		return catalog.KindBinding
	default:
		return catalog.KindKey
	}
}

// set is a set of strings.
type set struct{ m map[string]struct{} }

func (s *set) add(values ...string) {
	if s.m == nil {
		s.m = map[string]struct{}{}
	}
	for _, v := range values {
		s.m[v] = struct{}{}
	}
}

func (s *set) list() []string { return slices.Sorted(maps.Keys(s.m)) }
