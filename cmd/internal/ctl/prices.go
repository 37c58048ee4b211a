package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
	"github.com/ez-api/ez-api/cmd/internal/ctl/notes"
	"github.com/ez-api/ez-api/cmd/internal/ctl/pricefile"
	"github.com/ez-api/ez-api/httpapi/client"
)

type pricesCommand struct {
	Import pricesImport `cmd:"" help:"Take prices of models from LiteLLM or models.dev."`
}

type pricesImport struct {
	printing
	doing
	From       string   `required:"" placeholder:"WHERE" help:"litellm or models.dev, which are downloaded, or a file with one of their lists."`
	Map        []string `required:"" placeholder:"THEIRS=OURS" help:"Which provider of the list is which of ours (id, external_id or name). Where several serve a model, the first counts."`
	DryRun     bool     `short:"n" help:"Only show what would change."`
	AcceptFree bool     `help:"Also take prices of 0 for input and output: often they stand for a subscription, or for a price that nobody knows."`
	All        bool     `help:"Show every change, however many there are."`
}

const maxPriceList = 64 << 20 // bytes

// Run imports prices by an ordinary plan. Prices that a person has set stay.
func (c *pricesImport) Run(ctx context.Context, a *app) error {
	list, err := c.list(ctx)
	if err != nil {
		return err
	}
	api, err := a.client()
	if err != nil {
		return err
	}
	p := &pricing{list: list, acceptFree: c.AcceptFree}
	if err := p.read(ctx, api, c.Map); err != nil {
		return err
	}
	set, err := p.set()
	if err != nil {
		return err
	}
	for _, line := range p.notes.Lines() {
		a.note("- %s", line)
	}
	j := &job{app: a, api: api, set: set, title: "prices of " + list.Source}
	plan, err := j.dryRun(ctx)
	if err != nil {
		return err
	}
	if err := p.unmoved(plan, set); err != nil {
		return err
	}
	if c.DryRun {
		return j.print(plan, c.All)
	}
	j.expect = plan.Hash
	return j.carryOut(ctx, &c.doing, c.All)
}

// list reads the price list.
func (c *pricesImport) list(ctx context.Context) (*pricefile.List, error) {
	urls := map[string]string{
		pricefile.LiteLLM:   "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json",
		pricefile.ModelsDev: "https://models.dev/api.json",
	}
	var r io.ReadCloser
	if url, ok := urls[c.From]; ok {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, fmt.Errorf("the list of %s cannot be downloaded: %w", c.From, err)
		}
		if response.StatusCode != http.StatusOK {
			response.Body.Close()
			return nil, fmt.Errorf("the list of %s cannot be downloaded: the answer is %s", c.From, response.Status)
		}
		r = response.Body
	} else {
		f, err := os.Open(c.From)
		if err != nil {
			return nil, fmt.Errorf("--from must be litellm, models.dev, or a file that can be opened")
		}
		r = f
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxPriceList+1))
	if err == nil && len(text) > maxPriceList {
		err = fmt.Errorf("is larger than %d MiB", maxPriceList>>20)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.From, err)
	}
	list, err := pricefile.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s %w", c.From, err)
	}
	return list, nil
}

// pricing finds out which price of a list is that of which model.
type pricing struct {
	list       *pricefile.List
	acceptFree bool
	sources    []priceSource
	models     []catalog.Model
	bindings   map[string][]catalog.Binding // by the model's natural key
	notes      notes.List
}

// priceSource is a provider of ours, and what the list calls it.
type priceSource struct {
	theirs   string
	provider catalog.Provider
}

// read reads what is there.
func (p *pricing) read(ctx context.Context, api *client.Client, mapped []string) error {
	theirs := p.list.Providers()
	for _, m := range mapped {
		their, our, ok := strings.Cut(m, "=")
		if !ok || our == "" {
			return errors.New("--map must be THEIRS=OURS, such as openai=openai-main")
		}
		if !slices.Contains(theirs, their) {
			return fmt.Errorf("--map: the list has no provider %s; it has %s", printable(their), strings.Join(theirs, ", "))
		}
		object, err := find(ctx, api.Objects(catalog.KindProvider), our)
		if err != nil {
			return fmt.Errorf("--map: %w", err)
		}
		provider, err := api.Providers.Get(ctx, idOf(object))
		if err != nil {
			return err
		}
		p.sources = append(p.sources, priceSource{their, provider})
	}
	for m, err := range api.Models.All(ctx, client.Query{Limit: 1000}) {
		if err != nil {
			return err
		}
		p.models = append(p.models, m)
	}
	p.bindings = map[string][]catalog.Binding{}
	for b, err := range api.Bindings.All(ctx, client.Query{Limit: 1000}) {
		if err != nil {
			return err
		}
		key := catalog.ModelKey(b.Namespace, b.Model)
		p.bindings[key] = append(p.bindings[key], b)
	}
	return nil
}

// upstream returns the name by which a provider serves a model; "" where it does not.
func (p *pricing) upstream(m catalog.Model, provider catalog.Provider) string {
	bound := false
	for _, b := range p.bindings[catalog.ModelKey(m.Namespace, m.Name)] {
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
	if !bound && catalog.MatchesList(provider.Models, m.Name) { // implied by the group
		return m.Name
	}
	return ""
}

// set returns the models whose prices change.
func (p *pricing) set() (*manifest.Set, error) {
	set := &manifest.Set{Items: map[catalog.Kind][]manifest.Item{catalog.KindModel: {}}}
	for _, m := range p.models {
		record, found := p.record(m)
		if !found {
			continue
		}
		subject := "model " + catalog.ModelKey(m.Namespace, m.Name)
		switch {
		case m.PriceSource == catalog.PriceSourceManual && m.HasAny():
			p.notes.Add(subject, "has prices that a person has set, and keeps them")
			continue
		case record.Free() && !p.acceptFree:
			p.notes.Add(subject, "costs 0 by the list; --accept-free takes that")
			continue
		}
		for _, name := range record.Left {
			p.notes.Add(subject, "%s of the list has no place in a price", name)
		}
		for _, name := range record.Odd {
			p.notes.Add(subject, "%s is 0 in the list beside another price that is not, and is taken for unknown", name)
		}
		m.Prices, m.PriceSource = record.Prices.Clone(), p.list.Source
		object, err := asFields(m)
		if err != nil {
			return nil, err
		}
		set.Items[catalog.KindModel] = append(set.Items[catalog.KindModel], manifest.Item{Fields: object.(map[string]any)})
	}
	return set, nil
}

// record finds the prices of a model: those of the first provider that serves it and is in the
// list.
func (p *pricing) record(m catalog.Model) (first pricefile.Record, found bool) {
	subject := "model " + catalog.ModelKey(m.Namespace, m.Name)
	for _, s := range p.sources {
		name := p.upstream(m, s.provider)
		if name == "" || strings.HasSuffix(name, "*") {
			continue
		}
		record, ok := p.list.Find(s.theirs, name)
		switch {
		case !ok && p.list.Why(s.theirs, name) != "":
			p.notes.Add(subject, "is in the list of %s, but %s", s.theirs, printable(p.list.Why(s.theirs, name)))
		case !ok:
			p.notes.Add(subject, "is not in the list of %s under the name that %s has for it", s.theirs,
				printable(s.provider.Name))
		case len(record.Names) > 0:
			p.notes.Add(subject, "is in the list of %s more than once, with different prices (%s): set its price by hand",
				s.theirs, printable(strings.Join(record.Names, ", ")))
		case !found:
			first, found = record, true
		case !samePrices(first.Prices, record.Prices):
			p.notes.Add(subject, "costs something else at %s, which needs prices of its own", printable(s.provider.Name))
		}
	}
	return first, found
}

func samePrices(a, b catalog.Prices) bool {
	x, errX := asFields(a)
	y, errY := asFields(b)
	return errX == nil && errY == nil && len(difference(fields{"": x}, fields{"": y})) == 0
}

// unmoved reports that a model has changed since it was read: the plan would take that back.
func (p *pricing) unmoved(plan catalog.Plan, set *manifest.Set) error {
	items := set.Items[catalog.KindModel]
	for i, s := range plan.Steps {
		if i < len(items) && s.Action == catalog.ActionUpdate && s.Revision != revisionOf(items[i].Fields) {
			return refused("a model has changed meanwhile; try again")
		}
	}
	return nil
}
