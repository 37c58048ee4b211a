package snapshot

import (
	"cmp"
	"fmt"
	"regexp"
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
	listing   map[string]map[string]*servants // by model id, then by group
}

// servant is what candidates depend on of a provider.
type servant struct {
	id     int64
	group  string
	models []string
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
	}
}

// set takes a provider as it is now, and returns what was known of it before:
// nil when nothing was. A nil provider is one that is gone.
func (r *resolver) set(id int64, p *servant) (before *servant) {
	before = r.providers[id]
	if before != nil {
		r.group(before.group).remove(id)
		if len(r.groups[before.group].all) == 0 {
			delete(r.groups, before.group)
		}
		for _, m := range before.models {
			r.unlist(m, before)
		}
		delete(r.providers, id)
	}
	if p != nil {
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

// binding returns the document of a model with its binding records. Without
// any, even disabled ones, the model is implied to be served under its own name by each group
// in which a provider lists it, to the route group of the same name.
func (r *resolver) binding(m *catalog.Model, records []catalog.Binding) BindingDoc {
	doc := BindingDoc{Namespace: m.Namespace, PublicModel: m.Name, Status: m.Status, UpdatedAt: m.UpdatedAt.Unix(), Candidates: []Candidate{}}
	for i := range records {
		doc.UpdatedAt = max(doc.UpdatedAt, records[i].UpdatedAt.Unix())
		var providers []*servant
		if group := r.groups[records[i].ProviderGroup]; group != nil {
			providers = group.all
		}
		doc.Candidates = append(doc.Candidates, candidate(&records[i], providers))
	}
	if len(records) == 0 {
		doc.Candidates = append(doc.Candidates, r.implied(m)...)
	}
	slices.SortFunc(doc.Candidates, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.RouteGroup, b.RouteGroup), cmp.Compare(a.ProviderGroup, b.ProviderGroup))
	})
	return doc
}

// implied returns a candidate for each group in which a provider lists the
// model. The others of the group have no part in it: nobody said that they should serve it.
func (r *resolver) implied(m *catalog.Model) (candidates []Candidate) {
	for group, listing := range r.listing[m.Name] {
		c := candidate(&catalog.Binding{
			Meta: catalog.Meta{Status: catalog.Active}, RouteGroup: group, ProviderGroup: group, Weight: 1,
			SelectorType: catalog.SelectExact, SelectorValue: m.Name,
		}, nil)
		c.Error = ""
		for _, p := range listing.all {
			c.Upstreams[providerKey(p.id)] = m.Name
		}
		candidates = append(candidates, c)
	}
	return candidates
}

// candidate resolves one binding with the providers of its group. A provider
// that its selector does not fit exactly once is shown with the reason.
func candidate(b *catalog.Binding, providers []*servant) Candidate {
	c := Candidate{
		RouteGroup: b.RouteGroup, ProviderGroup: b.ProviderGroup, Weight: b.Weight, Priority: b.Priority,
		SelectorType: b.SelectorType, SelectorValue: b.SelectorValue, Status: b.Status,
		Upstreams: map[string]string{}, Errors: map[string]string{},
	}
	matches, err := selector(b)
	for _, p := range providers {
		id := providerKey(p.id)
		var hits []string
		if err == nil {
			hits = slices.DeleteFunc(slices.Clone(p.models), func(m string) bool { return !matches(m) })
		}
		switch {
		case err != nil:
			c.Errors[id] = err.Error()
		case len(hits) == 1:
			c.Upstreams[id] = hits[0]
		case len(hits) == 0:
			c.Errors[id] = "the selector fits none of the provider's models"
		default:
			c.Errors[id] = fmt.Sprintf("the selector fits %d of the provider's models, it must fit one", len(hits))
		}
	}
	switch {
	case len(c.Errors) > 0:
		c.Error = ConfigError
	case len(c.Upstreams) == 0:
		c.Error = NoProvider
	}
	return c
}

// selector returns the test that a binding puts upstream models to.
func selector(b *catalog.Binding) (func(model string) bool, error) {
	want := b.SelectorValue
	switch b.SelectorType {
	case catalog.SelectRegex:
		re, err := regexp.Compile(`^(?:` + want + `)$`)
		if err != nil {
			return nil, fmt.Errorf("the selector is not a regular expression")
		}
		return re.MatchString, nil
	case catalog.SelectNormalized:
		want = normalizeModel(want)
		return func(model string) bool { return normalizeModel(model) == want }, nil
	default:
		return func(model string) bool { return model == want }, nil
	}
}

func normalizeModel(model string) string {
	model = strings.ToLower(strings.TrimSpace(model))
	return model[strings.LastIndexByte(model, '/')+1:]
}
