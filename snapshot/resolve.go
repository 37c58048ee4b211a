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
// name. It is given the providers that can matter.
type resolver struct {
	byGroup map[string][]*catalog.Provider // in order of id
}

func newResolver(providers []catalog.Provider) *resolver {
	r := &resolver{byGroup: map[string][]*catalog.Provider{}}
	for i := range providers {
		p := &providers[i]
		r.byGroup[p.Group] = append(r.byGroup[p.Group], p)
	}
	return r
}

// binding returns the document of a model with its binding records. Without
// any, even disabled ones, the model is implied to be served under its own name by each group
// in which a provider lists it, to the route group of the same name.
func (r *resolver) binding(m *catalog.Model, records []catalog.Binding) BindingDoc {
	doc := BindingDoc{Namespace: m.Namespace, PublicModel: m.Name, Status: m.Status, UpdatedAt: m.UpdatedAt.Unix(), Candidates: []Candidate{}}
	for i := range records {
		doc.UpdatedAt = max(doc.UpdatedAt, records[i].UpdatedAt.Unix())
		doc.Candidates = append(doc.Candidates, candidate(&records[i], r.byGroup[records[i].ProviderGroup]))
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
	for group, providers := range r.byGroup {
		var listing []*catalog.Provider
		for _, p := range providers {
			if slices.Contains(p.Models, m.Name) {
				listing = append(listing, p)
			}
		}
		if len(listing) > 0 {
			candidates = append(candidates, candidate(&catalog.Binding{
				Meta: catalog.Meta{Status: catalog.Active}, RouteGroup: group, ProviderGroup: group, Weight: 1,
				SelectorType: catalog.SelectExact, SelectorValue: m.Name,
			}, listing))
		}
	}
	return candidates
}

// candidate resolves one binding with the providers of its group. A provider
// that its selector does not fit exactly once is shown with the reason.
func candidate(b *catalog.Binding, providers []*catalog.Provider) Candidate {
	c := Candidate{
		RouteGroup: b.RouteGroup, ProviderGroup: b.ProviderGroup, Weight: b.Weight, Priority: b.Priority,
		SelectorType: b.SelectorType, SelectorValue: b.SelectorValue, Status: b.Status,
		Upstreams: map[string]string{}, Errors: map[string]string{},
	}
	matches, err := selector(b)
	for _, p := range providers {
		id := providerKey(p.ID)
		var hits []string
		if err == nil {
			hits = slices.DeleteFunc(slices.Clone(p.Models), func(m string) bool { return !matches(m) })
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
