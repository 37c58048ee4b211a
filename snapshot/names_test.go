package snapshot_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

func TestNames(t *testing.T) {
	for _, tc := range []struct{ namespace, model, want string }{
		{"n", "m", "n.m n.*"},
		{"n", "a/b/c", "n.a/b/c n.a/b/* n.a/* n.*"},
		{"n", "x.a/b", "n.x.a/b x.a/b n.x.a/* x.a/* n.* x.*"},
		{"n", "x.a/b/c", "n.x.a/b/c x.a/b/c n.x.a/b/* x.a/b/* n.x.a/* x.a/* n.* x.*"},
		{"n", "gpt-4.1", "n.gpt-4.1 gpt-4.1 n.* gpt-4.*"},
		{"n", "a/b.c", "n.a/b.c n.a/* n.*"},
		{"n", "x./b", "n.x./b x./b n.x./* x./* n.* x.*"},
		{"n", "a/", "n.a/ n.a/* n.*"},
		{"n", "/", "n./ n./* n.*"},
		{"n", "", "n. n.*"},
		{"n", "*", ""}, {"n", "a/*", ""}, {"n", "a*b", ""},
		{"n", "a/b/c/d/e/f/g/h/i", "n.a/b/c/d/e/f/g/h/i n.a/b/c/d/e/f/g/h/* n.a/b/c/d/e/f/g/* n.a/b/c/d/e/f/* " +
			"n.a/b/c/d/e/* n.a/b/c/d/* n.a/b/c/* n.a/b/* n.a/* n.*"},
		{"n", "a/b/c/d/e/f/g/h/i/j", ""}, {"n", strings.Repeat("a", 257), ""},
	} {
		if diff := cmp.Diff(strings.Fields(tc.want), snapshot.Names(tc.namespace, tc.model),
			cmp.Transformer("join", func(s []string) string { return strings.Join(s, " ") })); diff != "" {
			t.Errorf("%s in %s (-want +got):\n%s", tc.model, tc.namespace, diff)
		}
	}
}

func TestRouteByWildcards(t *testing.T) {
	star := func(upstream string, id int64) snapshot.Candidate {
		return candidate(func(c *snapshot.Candidate) { c.Upstreams[fmt.Sprint(id)] = upstream })
	}
	disabled := doc(t, "default.off/*", snapshot.BindingDoc{Namespace: "default", PublicModel: "off/*",
		Status: catalog.Disabled})
	docs := []snapshot.Document{
		provider(t, 1, nil), provider(t, 2, nil), provider(t, 3, nil), disabled,
		bindingDoc(t, "default", "openai/*", star("*", 1)), bindingDoc(t, "default", "openai/gpt-4o", star("literal", 2)),
		bindingDoc(t, "default", "openai/ft/*", star("tuned-*", 3)), bindingDoc(t, "default", "star", star("no*star", 1)),
		bindingDoc(t, "other", "*", star("openrouter/*", 2)), bindingDoc(t, "secret", "*", star("*", 3)),
	}
	for _, tc := range []struct {
		model, namespaces, models string
		want                      string // provider, upstream model, namespace and model
		err                       error
	}{
		{model: "openai/gpt-4o", want: "2 literal default openai/gpt-4o"},
		{model: "openai/gpt-4.1", want: "1 gpt-4.1 default openai/gpt-4.1"},
		{model: "openai/a/b", want: "1 a/b default openai/a/b"},
		{model: "openai/ft/x", want: "3 tuned-x default openai/ft/x"},
		{model: "openai/", want: "1  default openai/"},
		{model: "openai", err: snapshot.ErrUnknownModel},
		{model: "openai/*", err: snapshot.ErrUnknownModel},
		{model: "other.anything/at.all", want: "2 openrouter/anything/at.all other anything/at.all"},
		{model: "other.x", want: "2 openrouter/x other x"},
		{model: "secret.x", err: snapshot.ErrNamespace},
		{model: "off/x", err: snapshot.ErrModelDisabled},
		{model: "star", want: "1 no*star default star"},
		{model: "openai/gpt-4.1", models: "openai/*", want: "1 gpt-4.1 default openai/gpt-4.1"},
		{model: "openai/gpt-4.1", models: "openai/gpt-4.1", want: "1 gpt-4.1 default openai/gpt-4.1"},
		{model: "openai/gpt-4.1", models: "openai/gpt-4o", err: snapshot.ErrNotAllowed},
		{model: "other.x", models: "x", want: "2 openrouter/x other x"},
		{model: "other.x", models: "other.x", err: snapshot.ErrNotAllowed},
		{model: "other.x", models: "*", want: "2 openrouter/x other x"},
	} {
		name := tc.model + " " + tc.models
		v := mustView(t, append(docs, keyDoc(t, "token", func(k *snapshot.KeyDoc) {
			k.Namespaces, k.DefaultNamespace = []string{"default", "other"}, "default"
			k.Models = strings.Fields(tc.models)
		}))...)
		key, _ := v.Key("token")
		targets, err := v.Route(key, tc.model, time.Now())
		if !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
			t.Errorf("%s: error %v, want %v", name, err, tc.err)
			continue
		}
		if err != nil {
			continue
		}
		got := fmt.Sprint(targets[0].Provider.ID, " ", targets[0].UpstreamModel, " ", targets[0].Namespace, " ",
			targets[0].Model)
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// A provider of weight 0 comes after the others of its priority, and one whose
// secret cannot be opened does not serve.
func TestRouteFallsBack(t *testing.T) {
	weight := func(w, priority int) func(*snapshot.ProviderDoc) {
		return func(p *snapshot.ProviderDoc) { p.Weight, p.Priority = w, priority }
	}
	v := mustView(t, keyDoc(t, "token", nil), provider(t, 1, weight(0, 0)), provider(t, 2, weight(1, 0)),
		provider(t, 3, weight(0, 0)), provider(t, 4, weight(1, -1)),
		provider(t, 5, func(p *snapshot.ProviderDoc) { p.Error, p.Priority = snapshot.ConfigError, 9 }),
		bindingDoc(t, "default", "m", candidate(nil, 1, 2, 3, 4, 5)))
	key, _ := v.Key("token")
	seen := map[string]bool{}
	for range 200 {
		targets, err := v.Route(key, "m", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		seen[ids(targets)] = true
	}
	if diff := cmp.Diff([]string{"2 1 3 4", "2 3 1 4"}, slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
}
