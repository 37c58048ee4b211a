package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// resolver turns bindings into candidates: who serves a model, and under what
// name. It knows the group and the models of every provider, and finds those of a group, and those
// that list a model, without looking at the others.
type resolver struct {
	providers map[int64]*servant
	groups    map[string]*servants            // by group
	listing   map[string]map[string]*servants // by entry of a list of models, then by group
	lists     map[catalog.ListID]*sharedList  // of all providers
	picked    int                             // bytes that all lists remember
}

// sharedList is a list of models, which many providers may have, and what regular expressions said
// of it.
type sharedList struct {
	*catalog.ModelList
	providers int // that have it
	picked    map[string]picked
}

type picked struct {
	model string
	hits  int
}

// servant is what candidates depend on of a provider.
type servant struct {
	id     int64
	group  string
	models []string
	list   *sharedList // set by the resolver
}

// servants are in order of id.
type servants struct{ all []*servant }

func (s *servants) find(id int64) (at int, found bool) {
	return slices.BinarySearchFunc(s.all, id, func(p *servant, id int64) int { return cmp.Compare(p.id, id) })
}

func (s *servants) add(p *servant) {
	if at, found := s.find(p.id); !found {
		s.all = slices.Insert(s.all, at, p)
	}
}

func (s *servants) remove(id int64) {
	if at, found := s.find(id); found {
		s.all = slices.Delete(s.all, at, at+1)
	}
}

func newResolver() *resolver {
	return &resolver{
		providers: map[int64]*servant{}, groups: map[string]*servants{}, listing: map[string]map[string]*servants{},
		lists: map[catalog.ListID]*sharedList{},
	}
}

// share gives a servant the list of models that it has in common with others.
func (r *resolver) share(p *servant) {
	if p.list == nil {
		list := catalog.NewModelList(p.models)
		if p.list = r.lists[list.ID()]; p.list == nil {
			p.list = &sharedList{ModelList: list, picked: map[string]picked{}}
			r.lists[list.ID()] = p.list
		}
	}
	p.list.providers++
}

// sweep forgets the lists that no provider has. A provider is taken out and put in again when it
// changes, so this has to wait until all are in.
func (r *resolver) sweep() {
	for id, list := range r.lists {
		if list.providers == 0 {
			r.forget(list)
			delete(r.lists, id)
		}
	}
}

func (r *resolver) forget(list *sharedList) {
	for expression := range list.picked {
		r.picked -= pickedSize(expression)
	}
	clear(list.picked)
}

// maxPicked bounds what is remembered of regular expressions, in bytes.
const maxPicked = 16 << 20

// pickedSize is about what it takes to remember the answer to an expression.
func pickedSize(expression string) int { return len(expression) + 100 }

// set takes a provider as it is now, and returns what was known of it before:
// nil when nothing was. A nil provider is one that is gone.
func (r *resolver) set(id int64, p *servant) (before *servant) {
	before = r.providers[id]
	if before != nil {
		r.group(before.group).remove(id)
		before.list.providers--
		if len(r.groups[before.group].all) == 0 {
			delete(r.groups, before.group)
		}
		for _, m := range before.models {
			r.unlist(m, before)
		}
		delete(r.providers, id)
	}
	if p != nil {
		r.share(p)
		r.providers[id] = p
		r.group(p.group).add(p)
		for _, m := range p.models {
			if r.listing[m] == nil {
				r.listing[m] = map[string]*servants{}
			}
			if r.listing[m][p.group] == nil {
				r.listing[m][p.group] = &servants{}
			}
			r.listing[m][p.group].add(p)
		}
	}
	return before
}

func (r *resolver) unlist(model string, p *servant) {
	groups := r.listing[model]
	if groups[p.group] == nil {
		return // listed twice
	}
	if groups[p.group].remove(p.id); len(groups[p.group].all) > 0 {
		return
	}
	if delete(groups, p.group); len(groups) == 0 {
		delete(r.listing, model)
	}
}

func (r *resolver) group(name string) *servants {
	if r.groups[name] == nil {
		r.groups[name] = &servants{}
	}
	return r.groups[name]
}

// binding returns the document of a model with its binding records. For each
// route group that has no record, not even a disabled one, the provider group of
// the same name is implied, as far as its providers list the model.
func (r *resolver) binding(ctx context.Context, m *catalog.Model, records []catalog.Binding) (BindingDoc, error) {
	doc := BindingDoc{Namespace: m.Namespace, PublicModel: m.Name, Status: m.Status, Candidates: []Candidate{}}
	bound := map[string]bool{}
	for i := range records {
		bound[records[i].RouteGroup] = true
		var providers []*servant
		if group := r.groups[records[i].ProviderGroup]; group != nil {
			providers = group.all
		}
		c, err := r.candidate(ctx, &records[i], providers)
		if err != nil {
			return doc, err
		}
		doc.Candidates = append(doc.Candidates, c)
	}
	for group, providers := range r.offering(m.Name) {
		if bound[group] {
			continue
		}
		implied, err := r.implied(ctx, m, group, providers.all)
		if err != nil {
			return doc, err
		}
		doc.Candidates = append(doc.Candidates, implied...)
	}
	slices.SortFunc(doc.Candidates, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.RouteGroup, b.RouteGroup), cmp.Compare(a.ProviderGroup, b.ProviderGroup))
	})
	return doc, nil
}

// offering returns, by group, the providers whose lists have an entry that may fit a model's name: the
// name itself, or a beginning of it and a *.
func (r *resolver) offering(name string) map[string]*servants {
	found := map[string]*servants{}
	note := func(entry string) {
		for group, listing := range r.listing[entry] {
			if found[group] == nil {
				found[group] = &servants{}
			}
			for _, p := range listing.all {
				found[group].add(p)
			}
		}
	}
	beginning, star := strings.CutSuffix(name, "*")
	if !star {
		note(name)
	}
	for i := range len(beginning) + 1 {
		note(beginning[:i] + "*")
	}
	return found
}

// implied returns the candidate of a group in which a provider lists the model.
// The others of the group have no part in it: nobody said that they should serve it.
func (r *resolver) implied(ctx context.Context, m *catalog.Model, group string, offering []*servant) ([]Candidate,
	error) {
	b := &catalog.Binding{
		Meta: catalog.Meta{Status: catalog.Active}, RouteGroup: group, ProviderGroup: group, Weight: new(1),
		SelectorType: catalog.SelectExact, SelectorValue: m.Name,
	}
	var listing []*servant
	selector, err := catalog.ParseSelector(b.SelectorType, b.SelectorValue)
	if err != nil {
		return nil, nil // such a name is served by nobody
	}
	for _, p := range offering {
		_, hits, err := r.pick(ctx, selector, b, p)
		if err != nil {
			return nil, err
		}
		if hits == 1 {
			listing = append(listing, p)
		}
	}
	if len(listing) == 0 {
		return nil, nil
	}
	c, err := r.candidate(ctx, b, listing)
	return []Candidate{c}, err
}

// candidate resolves one binding with the providers of its group. A provider
// that its selector does not fit exactly once is shown with the reason.
func (r *resolver) candidate(ctx context.Context, b *catalog.Binding, providers []*servant) (Candidate, error) {
	c := Candidate{
		RouteGroup: b.RouteGroup, ProviderGroup: b.ProviderGroup, Weight: *b.Weight, Priority: b.Priority,
		SelectorType: b.SelectorType, SelectorValue: b.SelectorValue, Status: b.Status,
		Upstreams: map[string]string{}, Errors: map[string]string{},
	}
	selector, err := catalog.ParseSelector(b.SelectorType, b.SelectorValue)
	for _, p := range providers {
		id := providerKey(p.id)
		if err != nil {
			c.Errors[id] = "the selector " + strings.TrimSuffix(err.Error(), ": "+catalog.ErrInvalid.Error())
			continue
		}
		model, hits, err := r.pick(ctx, selector, b, p)
		if err != nil {
			return c, err
		}
		switch hits {
		case 1:
			c.Upstreams[id] = model
		case 0:
			c.Errors[id] = "the selector fits none of the provider's models"
		default:
			c.Errors[id] = fmt.Sprintf("the selector fits %d of the provider's models, it must fit one", hits)
		}
	}
	switch {
	case len(c.Errors) > 0:
		c.Error = ConfigError
	case len(c.Upstreams) == 0:
		c.Error = NoProvider
	}
	return c, nil
}

// pick asks a selector, or remembers what a regular expression said of the same list.
func (r *resolver) pick(ctx context.Context, selector *catalog.Selector, b *catalog.Binding, p *servant) (model string,
	hits int, err error) {
	if b.SelectorType != catalog.SelectRegex {
		return selector.Pick(ctx, p.list.ModelList)
	}
	if known, ok := p.list.picked[b.SelectorValue]; ok {
		return known.model, known.hits, ctx.Err()
	}
	model, hits, err = selector.Pick(ctx, p.list.ModelList)
	if err != nil {
		return "", 0, err
	}
	if r.picked += pickedSize(b.SelectorValue); r.picked > maxPicked {
		for _, list := range r.lists {
			r.forget(list)
		}
	}
	p.list.picked[b.SelectorValue] = picked{model, hits}
	return model, hits, nil
}
