package console

import (
	"net/http"
	"slices"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/logbuf"
)

// detailView is the page of one entity.
type detailView struct {
	Kind     catalog.Kind
	ID       int64
	Title    string
	Status   string
	Hint     string // of a secret or a token
	Sealed   bool
	Sections []detailSection
	Created  *moment
	Updated  *moment
	Revision string
	Use      *use
	Charts   []chart // of Use, over time
	Held     []heldRow
	Provider *providerView // of a provider
	Binding  *selectorView // of a binding
	Related  []related
	Writes   bool
	Tokens   bool
	Hold     string // the target of a new hold
	Machine  bool   // a hold that the control plane has made
}

type detailSection struct {
	Name  string
	Facts []fact
}

type fact struct {
	Label, Help string
	Cell        cell
}

// related is a link to what belongs to the entity.
type related struct{ Label, Path string }

func (p *page) detail(n *noun) error {
	o, err := p.entity(n)
	if err != nil {
		return err
	}
	view := detailView{
		Kind: n.kind, ID: o.number("id"), Title: n.titleOf(o), Status: o.text("status"),
		Hint: o.text("api_key_hint") +
			o.text("token_hint"),
		Created: p.at(
			o.time("created_at"),
		), Updated: p.at(o.time("updated_at")), Revision: number(o.number("revision")),
		Writes: p.mayChange(n), Tokens: n.kind.HasTokens(), Related: p.related(n, o),
	}
	view.Sealed, _ = o["sealed"].(bool)
	view.Machine = n.kind == catalog.KindHold && o.text("reason") != catalog.HoldAdmin
	switch n.kind {
	case catalog.KindKey, catalog.KindProvider:
		view.Hold = n.kind.Noun() + "/" + p.r.PathValue("id")
	case catalog.KindProject:
		view.Hold = n.kind.Noun() + "/" + o.text("name")
	}
	for i, s := range n.sections {
		shown := detailSection{Name: "section." + s.name}
		names := s.fields
		if i == 0 {
			names = slices.Concat(names, n.facts)
		}
		for _, name := range names {
			if f := n.fields[name]; f.Widget != widgetSecret {
				shown.Facts = append(shown.Facts, fact{"field." + name, f.Help, p.cell(f, o)})
			}
		}
		view.Sections = append(view.Sections, shown)
	}
	if view.Use, view.Charts, err = p.useOf(n, o); err != nil {
		return err
	}
	if view.Hold != "" {
		if view.Held, err = p.holdsOn(view.Hold); err != nil {
			return err
		}
	}
	if n.kind == catalog.KindBinding && !p.Limited() {
		if view.Binding, err = p.bindingView(o); err != nil {
			return err
		}
	}
	if n.kind == catalog.KindProvider {
		if view.Provider, err = p.providerView(o); err != nil {
			return err
		}
	}
	return p.render("detail", http.StatusOK, view)
}

// bindingView shows the candidates of a binding, in order, with what is wrong with them.
func (p *page) bindingView(o object) (*selectorView, error) {
	view := &selectorView{Group: o.text("provider_group")}
	s, err := catalog.ParseSelector(o.text("selector_type"), o.text("selector_value"))
	if err != nil {
		view.Problem = p.selectorProblem(err)
		return view, nil
	}
	view.Rows, view.More, err = p.candidates(view.Group, s)
	return view, err
}

// use is what an entity did in the last 24 hours.
type use struct {
	Requests, Errors, Cost, Unpriced int64
}

func (u *use) add(rows ...client.Usage) {
	for i := range rows {
		u.Requests += rows[i].Requests
		u.Errors += rows[i].Errors
		u.Cost += rows[i].CostNanoUSD
		u.Unpriced += rows[i].UnpricedRequests
	}
}

// useOf asks what an entity did lately, and over time; nil for nouns that requests do not name.
func (p *page) useOf(n *noun, o object) (*use, []chart, error) {
	q := client.UsageQuery{Since: "24h", Interval: logbuf.Hour, TZ: p.zone.String(), Limit: 100}
	switch n.kind {
	case catalog.KindProvider:
		q.ProviderID = o.number("id")
	case catalog.KindModel:
		q.Namespace, q.Model = o.text("namespace"), o.text("name")
	case catalog.KindBinding:
		q.Namespace, q.Model, q.Group = o.text("namespace"), o.text("model"), o.text("route_group")
	case catalog.KindKey:
		q.KeyID = o.number("id")
	case catalog.KindProject:
		q.Project = o.text("name")
	default:
		return nil, nil, nil
	}
	page, err := p.client.Usage(p.ctx(), q)
	if err != nil {
		if e, ok := asProblem(err); ok && e.Status == http.StatusNotFound { // a log store that answers no questions
			return nil, nil, nil
		}
		return nil, nil, err
	}
	var u use
	u.add(page.Data...)
	return &u, p.usageCharts(page, q.Interval), nil
}
