package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/pricefile"
	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
	"github.com/ez-api/ez-api/cmd/internal/ctl/notes"
	"github.com/ez-api/ez-api/httpapi/client/priceimport"
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
	prices, err := priceimport.Read(ctx, api, list, &priceimport.Options{Providers: c.Map, AcceptFree: c.AcceptFree})
	if field, ok := errors.AsType[*catalog.FieldError](err); ok {
		return fmt.Errorf("--%w", field)
	}
	if err != nil {
		return err
	}
	set, err := setOf(prices)
	if err != nil {
		return err
	}
	var told notes.List
	for _, n := range prices.Notes {
		told.Add("model "+n.Model, "%s", n.Text)
	}
	for _, line := range told.Lines() {
		a.note("- %s", printable(line))
	}
	j := &job{app: a, api: api, set: set, title: "prices of " + list.Source}
	plan, err := j.dryRun(ctx)
	if err != nil {
		return err
	}
	if prices.Moved(plan) {
		return refused("a model has changed meanwhile; try again")
	}
	if c.DryRun {
		return j.print(plan, c.All)
	}
	j.expect = plan.Hash
	return j.carryOut(ctx, &c.doing, c.All)
}

// setOf returns the models whose prices change as if a file had them.
func setOf(prices *priceimport.Import) (*manifest.Set, error) {
	items := []manifest.Item{}
	for _, m := range prices.Models {
		object, err := asFields(m)
		if err != nil {
			return nil, err
		}
		items = append(items, manifest.Item{Fields: object.(map[string]any)})
	}
	return &manifest.Set{Items: map[catalog.Kind][]manifest.Item{catalog.KindModel: items}}, nil
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
