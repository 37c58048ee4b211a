package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// estate describes providers of one group, models, and bindings of each to that group.
func estate(providers, models, bindings int, selector string) (d catalog.Desired) {
	for i := range providers {
		catalog.Want(&d, catalog.Provider{Name: fmt.Sprint("p", i), Type: "openai", Group: "g", Models: []string{"z"}})
	}
	for i := range models {
		catalog.Want(&d, catalog.Model{Name: fmt.Sprint("m", i)})
		for j := range bindings {
			catalog.Want(&d, catalog.Binding{Model: fmt.Sprint("m", i), RouteGroup: fmt.Sprint("r", j), ProviderGroup: "g",
				SelectorValue: selector})
		}
	}
	return d
}

// refusedFor checks that something is refused because of a field, and that the error has a text.
func refusedFor(t *testing.T, err error, field, text string) {
	t.Helper()
	fields := catalog.FieldsOf(err)
	if len(fields) != 1 || fields[0].Field != field || !strings.Contains(fields[0].Message, text) {
		t.Errorf("%v; want an error about %s with %q", err, field, text)
	}
}

// The document of a model names each provider of each of its bindings. One that would be too large
// is refused before it is stored, whichever write it is that makes it so.
func TestDocumentsAreBounded(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	must[catalog.Plan](t)(tables.Apply(ctx, estate(1000, 1, 100, "z"), nil)) // at the bound
	_, err := tables.Bindings.Create(ctx, catalog.Binding{Model: "m0", RouteGroup: "one-more", ProviderGroup: "g"})
	refusedFor(t, err, "provider_group", "100,000")
	_, err = tables.Providers.Create(ctx, catalog.Provider{Name: "one-more", Type: "openai", Group: "g"})
	refusedFor(t, err, "models", "100,000")
	p := must[catalog.Provider](t)(tables.Providers.Create(ctx, catalog.Provider{Name: "elsewhere", Type: "openai"}))
	_, err = tables.Providers.Patch(ctx, p.ID, 0, []byte(`{"group":"g"}`))
	refusedFor(t, err, "models", "100,000")
	one := must[catalog.Binding](t)(tables.Bindings.Find(ctx, catalog.ByNaturalKey,
		catalog.BindingKey("default", "m0", "r0", "g")))
	must[catalog.Binding](t)(tables.Bindings.Patch(ctx, one.ID, 0, []byte(`{"weight":7}`)))
	must[catalog.Revision](t)(tables.Bindings.Delete(ctx, one.ID, 0)) // there is room again
	must[catalog.Binding](t)(tables.Bindings.Create(ctx, catalog.Binding{Model: "m0", RouteGroup: "one-more",
		ProviderGroup: "g"}))

	// By bytes, with selectors that are long.
	tables = newTables(t, nil)
	_, err = tables.Apply(ctx, estate(200, 1, 100, strings.Repeat("z", 1000)), nil)
	refusedFor(t, err, "bindings[99].provider_group", "16 MiB")
}

// One commit may touch many documents, up to a bound.
func TestDocumentsOfOneCommitAreBounded(t *testing.T) {
	ctx := t.Context()
	plan := func(providers, models, bindings int) error {
		_, err := newTables(t, nil).Plan(ctx, estate(providers, models, bindings, "z"), nil)
		return err
	}
	if err := plan(1000, 20, 100); err != nil {
		t.Errorf("at the bound: %v", err)
	}
	refusedFor(t, plan(1000, 21, 96), "bindings[2015].provider_group", "2,000,000")

	// Without bindings, what providers list counts.
	implied := func(lists func(i int) []string) error {
		var d catalog.Desired
		for i := range 1500 {
			catalog.Want(&d, catalog.Provider{Name: fmt.Sprint("p", i), Type: "openai", Models: lists(i)})
			catalog.Want(&d, catalog.Model{Name: fmt.Sprint("m", i)})
		}
		_, err := newTables(t, nil).Plan(ctx, d, nil)
		return err
	}
	err := implied(func(int) []string { return []string{"*"} })
	if fields := catalog.FieldsOf(err); len(fields) != 1 || !strings.Contains(fields[0].Message, "2,000,000") {
		t.Errorf("all providers serve all models: %v", err)
	}
	if err := implied(func(i int) []string { return []string{fmt.Sprint("m", i)} }); err != nil {
		t.Errorf("each provider serves a model: %v", err)
	}
}

// A bound is looked for within the time that the caller has.
func TestRenderingIsCheckedInTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newTables(t, nil).Plan(ctx, estate(10, 1, 1, "z"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
