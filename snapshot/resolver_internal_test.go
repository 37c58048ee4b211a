package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// crowdedResolver knows providers that list the same 9,900 models, each in another order.
func crowdedResolver(providers int) *resolver {
	var models []string
	for i := range 9_900 {
		models = append(models, fmt.Sprintf("Vendor/MODEL-%05d-%s", i, strings.Repeat("X", 70)))
	}
	r := newResolver()
	for id := range providers {
		slices.Reverse(models[:1000*id])
		r.set(int64(id+1), &servant{id: int64(id + 1), group: "g", models: slices.Clone(models)})
	}
	return r
}

func manyBindings(n int, typ, value string) (records []catalog.Binding) {
	for i := range n {
		records = append(records, catalog.Binding{
			Model: "m", RouteGroup: fmt.Sprint(i), ProviderGroup: "g", Weight: new(1), SelectorType: typ,
			SelectorValue: fmt.Sprintf(value, i),
		})
	}
	return records
}

// Names are looked up, not compared one by one: 3,000 bindings to long lists take no time to speak of.
func TestManyBindingsAreResolvedSoon(t *testing.T) {
	r := crowdedResolver(5)
	for typ, value := range map[string]string{
		catalog.SelectNormalized: "model-%05d-" + strings.Repeat("x", 70),
		catalog.SelectExact:      "Vendor/MODEL-%05d-" + strings.Repeat("X", 70),
	} {
		begun := time.Now()
		doc, err := r.binding(t.Context(), &catalog.Model{Name: "m"}, manyBindings(3000, typ, value))
		if err != nil || len(doc.Candidates) != 3000 || len(doc.Candidates[7].Upstreams) != 5 {
			t.Fatalf("%s: %d candidates, %v", typ, len(doc.Candidates), err)
		}
		if took := time.Since(begun); took > 10*time.Second { // one by one they take minutes
			t.Errorf("%s: %v", typ, took)
		}
	}
}

// A regular expression is matched once for all lists that have the same in them; what is
// remembered has a bound, and goes with the last provider of a list.
func TestExpressionsAreMatchedOncePerList(t *testing.T) {
	r := crowdedResolver(8)
	if len(r.lists) != 1 {
		t.Fatalf("%d lists", len(r.lists))
	}
	records := manyBindings(3, catalog.SelectRegex, ".*-%05d-.*")
	resolve := func() BindingDoc {
		doc, err := r.binding(t.Context(), &catalog.Model{Name: "m"}, records)
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
	if doc := resolve(); len(doc.Candidates[2].Upstreams) != 8 {
		t.Errorf("served by %v", doc.Candidates[2])
	}
	list := r.providers[1].list
	if len(list.picked) != 3 || r.picked != 3*pickedSize(".*-00000-.*") {
		t.Errorf("%d answers in %d bytes are remembered", len(list.picked), r.picked)
	}
	again := *r.providers[1]
	again.list = nil
	r.set(1, nil)
	r.set(1, &again)
	if again.list != list {
		t.Error("a provider that comes back has another list")
	}
	r.picked = maxPicked
	list.picked["padding"] = picked{}
	delete(list.picked, ".*-00002-.*")
	resolve()
	if len(list.picked) != 3 && len(list.picked) != 1 || list.picked["padding"] != (picked{}) {
		t.Errorf("beyond the bound %d answers are remembered", len(list.picked))
	}
	if _, kept := list.picked["padding"]; kept {
		t.Error("beyond the bound nothing was forgotten")
	}
	for id := range r.providers {
		r.set(id, nil)
	}
	if r.sweep(); len(r.lists) != 0 {
		t.Errorf("%d lists of nobody", len(r.lists))
	}
}

// Resolving ends with its context, also within one long list.
func TestResolvingLooksAtItsContext(t *testing.T) {
	r := crowdedResolver(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, typ := range catalog.SelectorTypes() {
		records := manyBindings(1, typ, "Vendor/MODEL-%05d")
		if _, err := r.binding(ctx, &catalog.Model{Name: "m"}, records); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", typ, err)
		}
	}
	r.set(9, &servant{id: 9, group: "other", models: []string{"m"}})
	if _, err := r.binding(ctx, &catalog.Model{Name: "m"}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("an implied binding: %v", err)
	}
}
