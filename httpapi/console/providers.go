package console

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// providerView is what the page of a provider has beside the fields: how it does, and what uses it.
type providerView struct {
	Minutes int64 // how far back attempts count
	Health  []healthRow
	Uses    []useRow
	More    bool // whether there are bindings that are not shown
	Models  []string
}

type healthRow struct {
	client.UpstreamHealth
	Classes []classCount
	Until   *moment
}

type classCount struct {
	Class string
	N     int64
}

// A useRow is a binding that sends requests to the provider, or cannot.
type useRow struct {
	Binding    reference
	RouteGroup string
	pickRow
}

func (p *page) providerView(o object) (*providerView, error) {
	found, err := p.client.ProvidersHealth(p.ctx(), o.number("id"), "")
	if err != nil {
		return nil, err
	}
	list, _ := o["models"].([]any)
	view := &providerView{Minutes: found.WindowSeconds / 60, Models: elements(list)}
	view.Models = slices.DeleteFunc(view.Models, func(m string) bool { return strings.HasSuffix(m, "*") })
	view.Models = view.Models[:min(len(view.Models), maxSuggestions)]
	view.Health = p.healthRows(found)
	view.Uses, view.More, err = p.usesOf(o)
	return view, err
}

func (p *page) healthRows(found client.ProvidersHealth) (rows []healthRow) {
	for _, h := range found.Data {
		if len(rows) == pageSize {
			break
		}
		row := healthRow{UpstreamHealth: h}
		for _, class := range slices.Sorted(maps.Keys(h.ByClass)) {
			row.Classes = append(row.Classes, classCount{string(class), h.ByClass[class]})
		}
		if h.Held != nil && h.Held.Until != nil {
			row.Until = p.at(*h.Held.Until)
		}
		rows = append(rows, row)
	}
	return rows
}

// usesOf returns the bindings that pick models of a provider.
func (p *page) usesOf(o object) (rows []useRow, more bool, err error) {
	found, err := p.client.Bindings.List(p.ctx(), client.Query{Group: o.text("group"), Limit: pageSize})
	if err != nil {
		return nil, false, err
	}
	list, _ := o["models"].([]any)
	models := catalog.NewModelList(elements(list))
	for i := range found.Data {
		b := &found.Data[i]
		if b.ProviderGroup != o.text("group") { // keys of that group use it, and others serve them
			continue
		}
		row := useRow{
			Binding:    reference{catalog.KindBinding, b.ID, b.Namespace + "." + b.Model},
			RouteGroup: b.RouteGroup, pickRow: pickRow{Status: string(b.Status)},
		}
		s, err := catalog.ParseSelector(string(b.SelectorType), b.SelectorValue)
		if err == nil {
			row.Model, row.Hits, err = s.Pick(p.ctx(), models)
		}
		if err != nil {
			return nil, false, err
		}
		rows = append(rows, row)
	}
	return rows, found.Next != "", nil
}

// testView is what came of asking a provider.
type testView struct {
	ID    int64
	Title string
	Chat  bool
	Model string
	client.ProviderTest
}

// test asks a provider for its models, or for one token.
func (p *page) test(n *noun) error {
	if err := p.form(); err != nil {
		return err
	}
	o, err := p.entity(n)
	if err != nil {
		return err
	}
	view := testView{ID: o.number("id"), Title: n.titleOf(o), Model: p.r.PostForm.Get("model")}
	view.Chat = p.r.PostForm.Get("kind") == "chat"
	if !view.Chat {
		view.Model = ""
	}
	if view.ProviderTest, err = p.client.TestProvider(p.ctx(), view.ID, view.Chat, view.Model); err != nil {
		return err
	}
	return p.render("test", http.StatusOK, view)
}

// upstreamView is what a provider lists, to tick what it serves here.
type upstreamView struct {
	testView
	Filter string
	Rows   []upstreamRow
	Total  int // that fit the filter
	Cut    bool
}

type upstreamRow struct {
	Model  string
	Served bool
}

// maxUpstream bounds how many models the page offers at once. The filter finds the others.
const maxUpstream = 500

// upstreamModels fetches what a provider lists.
func (p *page) upstreamModels(n *noun) error {
	o, err := p.entity(n)
	if err != nil {
		return err
	}
	view := upstreamView{
		testView: testView{ID: o.number("id"), Title: n.titleOf(o)}, Filter: p.query().text("q"),
	}
	found, err := p.client.UpstreamModels(p.ctx(), view.ID)
	if err != nil {
		return err
	}
	view.ProviderTest, view.Cut = found.ProviderTest, found.Truncated
	list, _ := o["models"].([]any)
	served := map[string]bool{}
	for _, m := range elements(list) {
		served[m] = true
	}
	for _, m := range found.Models {
		if !strings.Contains(strings.ToLower(m), strings.ToLower(view.Filter)) {
			continue
		}
		if view.Total++; len(view.Rows) < maxUpstream {
			view.Rows = append(view.Rows, upstreamRow{m, served[m]})
		}
	}
	return p.render("upstream", http.StatusOK, view)
}

// addModels adds what was ticked to what the provider serves by now, whoever else changes it.
func (p *page) addModels(n *noun) error {
	if err := p.form(); err != nil {
		return err
	}
	for tries := 0; ; tries++ {
		f, id, err := p.tryAddModels(n, p.r.PostForm["models"])
		if errors.Is(err, catalog.ErrConflict) && tries < 3 {
			continue
		}
		if err != nil {
			return err
		}
		return p.done(n.path(id), f)
	}
}

func (p *page) tryAddModels(n *noun, ticked []string) (f flash, id int64, err error) {
	o, err := p.entity(n)
	if err != nil {
		return f, 0, err
	}
	list, _ := o["models"].([]any)
	models, id := elements(list), o.number("id")
	for _, m := range ticked {
		if !slices.Contains(models, m) {
			models = append(models, m)
		}
	}
	if len(models) == len(list) {
		return flash{Text: "done.nothing"}, id, nil
	}
	body, err := json.Marshal(map[string][]string{"models": models})
	if err != nil {
		return f, id, err
	}
	var out outcome
	shown := client.IfMatch(catalog.Revision(o.number("revision")))
	after, err := p.client.Objects(n.kind).Patch(p.ctx(), id, body, out.options(shown)...)
	if err != nil {
		return f, id, err
	}
	if o, err = decodeObject(after); err != nil {
		return f, id, err
	}
	return out.flash("done.changed", catalog.Revision(o.number("revision"))), id, nil
}

// heldRow is a hold that lasts, and what it is about.
type heldRow struct {
	row
	Of    *reference // nil where it is a project, whose name is in the target
	Model string     // of a provider
}

// holdsOn returns the holds on a target, and on what is below it.
func (p *page) holdsOn(target string) (rows []heldRow, err error) {
	whole, err := p.holds(client.Query{Name: target, Status: catalog.Active, Limit: overviewHolds})
	if err != nil {
		return nil, err
	}
	parts, err := p.holds(client.Query{Text: target + "/", Status: catalog.Active, Limit: overviewHolds})
	for _, r := range parts {
		if strings.HasPrefix(r.Title, target+"/") {
			whole = append(whole, r)
		}
	}
	return whole, err
}

func (p *page) holds(q client.Query) (rows []heldRow, err error) {
	n := p.nouns[catalog.KindHold]
	found, err := p.client.Objects(n.kind).List(p.ctx(), q)
	if err != nil {
		return nil, err
	}
	keys, providers := p.namesOf(catalog.KindKey), p.namesOf(catalog.KindProvider)
	for _, data := range found.Data {
		o, err := decodeObject(data)
		if err != nil {
			return nil, err
		}
		r := heldRow{row: row{ID: o.number("id"), Title: n.titleOf(o)}}
		for _, name := range []string{"reason", "until", "message"} {
			r.Cells = append(r.Cells, p.cell(n.fields[name], o))
		}
		if t, ok := catalog.ParseHoldTarget(r.Title); ok {
			switch {
			case t.ProviderID != 0:
				of := providers.reference(t.ProviderID)
				r.Of, r.Model = &of, t.UpstreamModel
			case t.KeyID != 0:
				of := keys.reference(t.KeyID)
				r.Of = &of
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// backFromTest shows the provider when the answer to a test is loaded again: a test is asked for with
// its button alone.
func (p *page) backFromTest(n *noun) error {
	id, err := p.id()
	if err != nil {
		return err
	}
	return p.backTo(n.path(id))
}
