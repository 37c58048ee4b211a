// Package priceimport finds out which models of a catalog get which prices of a price list.
//
//	list, err := pricefile.Parse(text)
//	…
//	prices, err := priceimport.Read(ctx, api, list, &priceimport.Options{Providers: []string{"openai=openai-main"}})
//	…
//	state, err := prices.Desired()
//	…
//	plan, err := api.Apply(ctx, state, &catalog.ApplyOptions{DryRun: true})
//
// It writes nothing. What it finds is a desired state, so that an import is planned and carried out
// as a file is. Prices that a person has set stay.
package priceimport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/pricefile"
	"github.com/ez-api/ez-api/httpapi/client"
)

// Options say which prices count.
type Options struct {
	// Providers say which provider of the list is which of the catalog: "openai=openai-main", by its
	// id, external_id or name. Where several serve a model, the first counts.
	Providers []string

	// AcceptFree takes prices of 0 for input and output, too. Often they stand for a subscription, or
	// for a price that nobody knows.
	AcceptFree bool
}

// Import is what a price list changes.
type Import struct {
	Models []catalog.Model // those that the list has prices for, with these prices
	Notes  []Note          // what is to be known of these and others
}

// Note says something about a model, which is named by its natural key.
type Note struct{ Model, Text string }

// source is a provider of the catalog, and what the list calls it.
type source struct {
	theirs   string
	provider catalog.Provider
}

// matching finds out which price of a list is that of which model.
type matching struct {
	Import
	list     *pricefile.List
	sources  []source
	bindings map[string][]catalog.Binding // by the model's natural key
}

// Read reads the models and bindings of a catalog, and finds the prices that the list has for them. What
// is wrong with the options is a catalog.FieldError.
func Read(ctx context.Context, api *client.Client, list *pricefile.List, opts *Options) (*Import, error) {
	if opts == nil {
		opts = &Options{}
	}
	m := &matching{list: list, bindings: map[string][]catalog.Binding{}}
	if err := m.readSources(ctx, api, opts.Providers); err != nil {
		return nil, err
	}
	for b, err := range api.Bindings.All(ctx, client.Query{Limit: 1000}) {
		if err != nil {
			return nil, err
		}
		key := catalog.ModelKey(b.Namespace, b.Model)
		m.bindings[key] = append(m.bindings[key], b)
	}
	for model, err := range api.Models.All(ctx, client.Query{Limit: 1000}) {
		if err != nil {
			return nil, err
		}
		m.price(model, opts.AcceptFree)
	}
	return &m.Import, nil
}

// readSources reads the providers that are named.
func (m *matching) readSources(ctx context.Context, api *client.Client, named []string) error {
	theirs := m.list.Providers()
	wrong := func(format string, args ...any) error {
		return &catalog.FieldError{Field: "map", Message: fmt.Sprintf(format, args...)}
	}
	if len(named) == 0 {
		return wrong("is required: the list has the providers %s", strings.Join(theirs, ", "))
	}
	for _, n := range named {
		their, our, ok := strings.Cut(n, "=")
		their, our = strings.TrimSpace(their), strings.TrimSpace(our)
		if !ok || our == "" {
			return wrong("must be THEIRS=OURS, such as openai=openai-main")
		}
		if !slices.Contains(theirs, their) {
			return wrong("names a provider that the list does not have: it has %s", strings.Join(theirs, ", "))
		}
		object, err := api.Objects(catalog.KindProvider).Find(ctx, our)
		switch {
		case errors.Is(err, catalog.ErrNotFound):
			return wrong("names no provider of the catalog: no provider has this id, external_id or name")
		case errors.Is(err, client.ErrAmbiguous):
			return wrong("names several providers of the catalog: take one by its id")
		case err != nil:
			return err
		}
		var found struct{ ID int64 }
		if err := json.Unmarshal(object, &found); err != nil {
			return err
		}
		provider, err := api.Providers.Get(ctx, found.ID)
		if err != nil {
			return err
		}
		m.sources = append(m.sources, source{their, provider})
	}
	return nil
}

// price gives a model the prices of the list, or notes why not.
func (m *matching) price(model catalog.Model, acceptFree bool) {
	key := catalog.ModelKey(model.Namespace, model.Name)
	record, found := m.record(model)
	switch {
	case !found:
		return
	case model.PriceSource == catalog.PriceSourceManual && model.HasAny():
		m.note(key, "has prices that a person has set, and keeps them")
		return
	case record.Free() && !acceptFree:
		m.note(key, "costs 0 by the list, which is only taken where free prices are accepted")
		return
	}
	for _, name := range record.Left {
		m.note(key, "%s of the list has no place in a price", name)
	}
	for _, name := range record.Odd {
		m.note(key, "%s is 0 in the list beside another price that is not, and is taken for unknown", name)
	}
	model.Prices, model.PriceSource = record.Prices.Clone(), m.list.Source
	m.Models = append(m.Models, model)
}

func (m *matching) note(model, format string, args ...any) {
	m.Notes = append(m.Notes, Note{model, fmt.Sprintf(format, args...)})
}

// record finds the prices of a model: those of the first provider that serves it and is in the
// list.
func (m *matching) record(model catalog.Model) (first pricefile.Record, found bool) {
	key := catalog.ModelKey(model.Namespace, model.Name)
	for _, s := range m.sources {
		name := m.upstream(model, s.provider)
		if name == "" || strings.HasSuffix(name, "*") {
			continue
		}
		record, ok := m.list.Find(s.theirs, name)
		switch {
		case !ok && m.list.Why(s.theirs, name) != "":
			m.note(key, "is in the list of %s, but %s", s.theirs, m.list.Why(s.theirs, name))
		case !ok:
			m.note(key, "is not in the list of %s under the name that %s has for it", s.theirs, s.provider.Name)
		case len(record.Names) > 0:
			m.note(key, "is in the list of %s more than once, with different prices (%s): set its price by hand",
				s.theirs, strings.Join(record.Names, ", "))
		case !found:
			first, found = record, true
		case !reflect.DeepEqual(first.Prices, record.Prices):
			m.note(key, "costs something else at %s, which needs prices of its own", s.provider.Name)
		}
	}
	return first, found
}

// upstream returns the name by which a provider serves a model; "" where it does not.
func (m *matching) upstream(model catalog.Model, provider catalog.Provider) string {
	bound := false
	for _, b := range m.bindings[catalog.ModelKey(model.Namespace, model.Name)] {
		bound = bound || b.RouteGroup == provider.Group
		if b.ProviderGroup != provider.Group {
			continue
		}
		s, err := catalog.ParseSelector(b.SelectorType, b.SelectorValue)
		if err != nil {
			continue
		}
		name, hits, err := s.Pick(context.Background(), catalog.NewModelList(provider.Models))
		if err == nil && hits == 1 {
			return name
		}
	}
	if !bound && catalog.MatchesList(provider.Models, model.Name) { // implied by the group
		return model.Name
	}
	return ""
}

// Desired returns the models as a desired state in JSON, as client.Apply takes it.
func (i *Import) Desired() ([]byte, error) {
	return json.Marshal(map[catalog.Kind][]catalog.Model{
		catalog.KindModel: append([]catalog.Model{}, i.Models...),
	})
}

// Moved reports whether a model has changed between Read and the plan of the desired state: the
// plan would undo that change.
func (i *Import) Moved(plan catalog.Plan) bool {
	for n, s := range plan.Steps {
		if n < len(i.Models) && s.Action == catalog.ActionUpdate && s.Revision != i.Models[n].Revision {
			return true
		}
	}
	return false
}
