package console

import (
	"net/http"

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
		view.Problem = err.Error()
	}
	if err != nil || value == "" {
		return p.render("selector", http.StatusOK, view)
	}
	found, err := p.client.Providers.List(p.ctx(), client.Query{Group: view.Group, Limit: pageSize})
	if err != nil {
		return err
	}
	view.More = found.Next != ""
	for i := range found.Data {
		provider := &found.Data[i]
		model, hits, err := s.Pick(p.ctx(), catalog.NewModelList(provider.Models))
		if err != nil {
			return err
		}
		name := reference{catalog.KindProvider, provider.ID, provider.Name}
		view.Rows = append(view.Rows, pickRow{name, model, hits})
	}
	return p.render("selector", http.StatusOK, view)
}
