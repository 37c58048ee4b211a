package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
)

// resolver turns bindings into candidates: who serves a model, and under what
// name. It is given the providers that can matter.
type resolver struct {
	byGroup map[string][]*catalog.Provider // in order of id
	picked  map[pick]picked
}

// pick is a question that a binding asks of a provider's list of models. Many
// providers have the same list.
type pick struct{ typ, value, models string }

type picked struct {
	model string
	hits  int
}

func newResolver(providers []catalog.Provider) *resolver {
	r := &resolver{byGroup: map[string][]*catalog.Provider{}, picked: map[pick]picked{}}
	for i := range providers {
		p := &providers[i]
		r.byGroup[p.Group] = append(r.byGroup[p.Group], p)
	}
	return r
}

// binding returns the document of a model with its binding records. For each
// route group that has no record, not even a disabled one, the provider group of
// the same name is implied, as far as its providers list the model.
func (r *resolver) binding(m *catalog.Model, records []catalog.Binding) BindingDoc {
	doc := BindingDoc{Namespace: m.Namespace, PublicModel: m.Name, Status: m.Status, Candidates: []Candidate{}}
	bound := map[string]bool{}
	for i := range records {
		bound[records[i].RouteGroup] = true
		doc.Candidates = append(doc.Candidates, r.candidate(&records[i], r.byGroup[records[i].ProviderGroup]))
	}
	for group, providers := range r.byGroup {
		if !bound[group] {
			doc.Candidates = append(doc.Candidates, r.implied(m, group, providers)...)
		}
	}
	slices.SortFunc(doc.Candidates, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.RouteGroup, b.RouteGroup), cmp.Compare(a.ProviderGroup, b.ProviderGroup))
	})
	return doc
}

// implied returns the candidate of a group in which a provider lists the model.
// The others of the group have no part in it: nobody said that they should serve it.
func (r *resolver) implied(m *catalog.Model, group string, providers []*catalog.Provider) []Candidate {
	b := &catalog.Binding{
		Meta: catalog.Meta{Status: catalog.Active}, RouteGroup: group, ProviderGroup: group, Weight: new(1),
		SelectorType: catalog.SelectExact, SelectorValue: m.Name,
	}
	var listing []*catalog.Provider
	selector, err := catalog.ParseSelector(b.SelectorType, b.SelectorValue)
	for _, p := range providers {
		if _, hits := r.pick(selector, b, p); err == nil && hits == 1 {
			listing = append(listing, p)
		}
	}
	if len(listing) == 0 {
		return nil
	}
	return []Candidate{r.candidate(b, listing)}
}

// candidate resolves one binding with the providers of its group. A provider
// that its selector does not fit exactly once is shown with the reason.
func (r *resolver) candidate(b *catalog.Binding, providers []*catalog.Provider) Candidate {
	c := Candidate{
		RouteGroup: b.RouteGroup, ProviderGroup: b.ProviderGroup, Weight: *b.Weight, Priority: b.Priority,
		SelectorType: b.SelectorType, SelectorValue: b.SelectorValue, Status: b.Status,
		Upstreams: map[string]string{}, Errors: map[string]string{},
	}
	selector, err := catalog.ParseSelector(b.SelectorType, b.SelectorValue)
	for _, p := range providers {
		id := providerKey(p.ID)
		if err != nil {
			c.Errors[id] = "the selector " + strings.TrimSuffix(err.Error(), ": "+catalog.ErrInvalid.Error())
			continue
		}
		switch model, hits := r.pick(selector, b, p); hits {
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
	return c
}

// pick asks a selector, or remembers what it said of the same list.
func (r *resolver) pick(selector *catalog.Selector, b *catalog.Binding, p *catalog.Provider) (string, int) {
	if b.SelectorType != catalog.SelectRegex {
		return selector.Pick(p.Models)
	}
	asked := pick{b.SelectorType, b.SelectorValue, strings.Join(p.Models, "\x00")}
	known, ok := r.picked[asked]
	if !ok {
		known.model, known.hits = selector.Pick(p.Models)
		r.picked[asked] = known
	}
	return known.model, known.hits
}
