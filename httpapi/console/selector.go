package console

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// selectorView is what a selector picks of each provider of a group.
type selectorView struct {
	Problem string
	Rows    []pickRow
	More    bool // whether the group has providers that are not shown
	Group   string
}

type pickRow struct {
	Provider reference
	Model    string // that is picked
	Hits     int    // one is right
	Status   string
	Priority int
	Weight   int
}

// selector shows what a selector hits, while it is typed, by the rules of the catalog. Empty fields
// have the defaults of a new binding.
func (p *page) selector() error {
	query := p.r.URL.Query()
	or := func(name, otherwise string) string {
		if v := query.Get(name); v != "" {
			return v
		}
		return otherwise
	}
	view := selectorView{Group: or("provider_group", or("route_group", "default"))}
	value := or("selector_value", query.Get("model"))
	s, err := catalog.ParseSelector(or("selector_type", catalog.SelectExact), value)
	if err != nil {
		view.Problem = p.selectorProblem(err)
	}
	if err != nil || value == "" {
		return p.render("selector", http.StatusOK, view)
	}
	view.Rows, view.More, err = p.candidates(view.Group, s)
	if err != nil {
		return err
	}
	return p.render("selector", http.StatusOK, view)
}

// selectorProblem says what is wrong with a selector.
func (p *page) selectorProblem(err error) string {
	if field, ok := errors.AsType[*catalog.FieldError](err); ok {
		return p.words.message(field.Message)
	}
	return p.words.message(strings.TrimSuffix(err.Error(), ": "+catalog.ErrInvalid.Error()))
}

// candidates returns the providers of a group in the order in which they are tried, and what a selector
// picks of each.
func (p *page) candidates(group string, s *catalog.Selector) (rows []pickRow, more bool, err error) {
	found, err := p.client.Providers.List(p.ctx(), client.Query{Group: group, Limit: pageSize})
	if err != nil {
		return nil, false, err
	}
	slices.SortStableFunc(found.Data, func(a, b catalog.Provider) int {
		return cmp.Or(b.Priority-a.Priority, *b.Weight-*a.Weight)
	})
	for i := range found.Data {
		provider := &found.Data[i]
		row := pickRow{
			Provider: reference{catalog.KindProvider, provider.ID, provider.Name}, Status: string(provider.Status),
			Priority: provider.Priority, Weight: *provider.Weight,
		}
		if row.Model, row.Hits, err = s.Pick(p.ctx(), catalog.NewModelList(provider.Models)); err != nil {
			return nil, false, err
		}
		rows = append(rows, row)
	}
	return rows, found.Next != "", nil
}
