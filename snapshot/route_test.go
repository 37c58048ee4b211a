package snapshot_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

func containsAny(text string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

// provider is an active one, changed by with.
func provider(t testing.TB, id int64, with func(*snapshot.ProviderDoc)) snapshot.Document {
	t.Helper()
	p := snapshot.ProviderDoc{ID: id, Name: fmt.Sprint("p", id), Group: "default", Weight: 1, Status: catalog.Active}
	if with != nil {
		with(&p)
	}
	return doc(t, fmt.Sprint(id), p)
}

// candidate is an active one from group "default" to providers that all call
// the model "up", changed by with.
func candidate(with func(*snapshot.Candidate), providers ...int64) snapshot.Candidate {
	c := snapshot.Candidate{RouteGroup: "default", ProviderGroup: "default", Weight: 1, Status: catalog.Active,
		Upstreams: map[string]string{}}
	for _, id := range providers {
		c.Upstreams[fmt.Sprint(id)] = "up"
	}
	if with != nil {
		with(&c)
	}
	return c
}

func bindingDoc(t testing.TB, namespace, model string, candidates ...snapshot.Candidate) snapshot.Document {
	t.Helper()
	return doc(t, catalog.ModelKey(namespace, model), snapshot.BindingDoc{Namespace: namespace,
		PublicModel: model, Status: catalog.Active, Candidates: candidates})
}

// ids writes targets as a list of provider ids.
func ids(targets []snapshot.Target) string {
	var list []string
	for _, t := range targets {
		list = append(list, fmt.Sprint(t.Provider.ID))
	}
	return strings.Join(list, " ")
}

func TestRouteResolvesNames(t *testing.T) {
	docs := []snapshot.Document{provider(t, 1, nil)}
	for _, name := range []string{"default.m", "default.gpt-4.1", "default.b.m", "a.m", "b.m", "b.x.y/z", "secret.m"} {
		namespace, model, _ := strings.Cut(name, ".")
		docs = append(docs, bindingDoc(t, namespace, model, candidate(nil, 1)))
	}
	for _, tc := range []struct {
		name       string
		namespaces string
		model      string
		want       string
		err        error
	}{
		{"in the default namespace", "default", "m", "default.m", nil},
		{"in the key's own default namespace", "a default", "m", "a.m", nil},
		{"a name with a dot", "default", "gpt-4.1", "default.gpt-4.1", nil},
		{"the default namespace comes before another", "default b", "b.m", "default.b.m", nil},
		{"in a namespace that is named", "a b", "b.m", "b.m", nil},
		{"dots and slashes in a named namespace", "a b", "b.x.y/z", "b.x.y/z", nil},
		{"in the default namespace, which is named", "default", "default.m", "default.m", nil},
		{"a namespace that is not the key's", "a b", "secret.m", "", snapshot.ErrNamespace},
		{"not in this namespace", "a", "gpt-4.1", "", snapshot.ErrUnknownModel},
		{"unknown", "default", "n", "", snapshot.ErrUnknownModel},
		{"unknown with a namespace", "default b", "b.n", "", snapshot.ErrUnknownModel},
		{"empty", "default", "", "", snapshot.ErrUnknownModel},
		{"a dot", "default", ".", "", snapshot.ErrUnknownModel},
	} {
		t.Run(tc.name, func(t *testing.T) {
			namespaces := strings.Fields(tc.namespaces)
			v := mustView(t, append(docs, keyDoc(t, "token", func(k *snapshot.KeyDoc) {
				k.Namespaces, k.DefaultNamespace = namespaces, namespaces[0]
			}))...)
			key, _ := v.Key("token")
			targets, err := v.Route(key, tc.model, time.Now())
			if !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err == nil && targets[0].Namespace+"."+targets[0].Model != tc.want {
				t.Errorf("routed to %s.%s, want %s", targets[0].Namespace, targets[0].Model, tc.want)
			}
		})
	}
}

func TestRoute(t *testing.T) {
	disabled := func(c *snapshot.Candidate) { c.Status = catalog.Disabled }
	priority := func(n int) func(*snapshot.Candidate) { return func(c *snapshot.Candidate) { c.Priority = n } }
	providers := []snapshot.Document{
		provider(t, 1, nil), provider(t, 2, func(p *snapshot.ProviderDoc) { p.Priority = 5 }),
		provider(t, 3, func(p *snapshot.ProviderDoc) { p.Status = catalog.Disabled }),
		provider(t, 4, func(p *snapshot.ProviderDoc) { p.Priority = -1 }),
	}
	for _, tc := range []struct {
		name       string
		key        func(*snapshot.KeyDoc)
		binding    func(*snapshot.BindingDoc)
		candidates []snapshot.Candidate
		want       string
		err        error
	}{
		{"providers by priority", nil, nil, []snapshot.Candidate{candidate(nil, 1, 2, 4)}, "2 1 4", nil},
		{"disabled providers are skipped", nil, nil, []snapshot.Candidate{candidate(nil, 1, 2, 3)}, "2 1", nil},
		{"providers without a document are skipped", nil, nil, []snapshot.Candidate{candidate(nil, 1, 99)}, "1", nil},
		{"candidates by priority", nil, nil, []snapshot.Candidate{candidate(priority(1), 1),
			candidate(priority(3), 4), candidate(priority(2), 2)}, "4 2 1", nil},
		{"the candidate's priority comes before the provider's", nil, nil,
			[]snapshot.Candidate{candidate(priority(1), 4), candidate(nil, 2)}, "4 2", nil},
		{"each provider once", nil, nil, []snapshot.Candidate{candidate(priority(1), 1, 4), candidate(nil, 1, 2)},
			"1 4 2", nil},
		{"disabled candidates are skipped", nil, nil, []snapshot.Candidate{candidate(disabled, 2),
			candidate(nil, 1)}, "1", nil},
		{"other route groups are skipped", nil, nil,
			[]snapshot.Candidate{candidate(func(c *snapshot.Candidate) { c.RouteGroup = "vip" }, 2),
				candidate(nil, 1)}, "1", nil},
		{"the key's group", func(k *snapshot.KeyDoc) { k.Group = "vip" }, nil,
			[]snapshot.Candidate{candidate(func(c *snapshot.Candidate) { c.RouteGroup = "vip" }, 2),
				candidate(nil, 1)}, "2", nil},
		{"a config error at one provider leaves the others", nil, nil,
			[]snapshot.Candidate{candidate(func(c *snapshot.Candidate) {
				c.Error, c.Errors = snapshot.ConfigError, map[string]string{"2": "why"}
			}, 1)}, "1", nil},
		{"on the allow-list, which has bare names", func(k *snapshot.KeyDoc) { k.Models = []string{"x", "m"} }, nil,
			[]snapshot.Candidate{candidate(nil, 1)}, "1", nil},

		{"not on the allow-list", func(k *snapshot.KeyDoc) { k.Models = []string{"x", "default.m"} }, nil,
			[]snapshot.Candidate{candidate(nil, 1)}, "", snapshot.ErrNotAllowed},
		{"a disabled model", nil, func(b *snapshot.BindingDoc) { b.Status = catalog.Disabled },
			[]snapshot.Candidate{candidate(nil, 1)}, "", snapshot.ErrModelDisabled},
		{"no candidates", nil, nil, nil, "", snapshot.ErrNoCandidate},
		{"none for the group", func(k *snapshot.KeyDoc) { k.Group = "vip" }, nil,
			[]snapshot.Candidate{candidate(nil, 1)}, "", snapshot.ErrNoCandidate},
		{"all candidates disabled", nil, nil, []snapshot.Candidate{candidate(disabled, 1)}, "", snapshot.ErrNoCandidate},
		{"all providers disabled", nil, nil, []snapshot.Candidate{candidate(nil, 3)}, "", snapshot.ErrNoUpstream},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := snapshot.BindingDoc{Namespace: "default", PublicModel: "m", Status: catalog.Active, Candidates: tc.candidates}
			if tc.binding != nil {
				tc.binding(&b)
			}
			v := mustView(t, append(providers, keyDoc(t, "token", tc.key), doc(t, "default.m", b))...)
			key, _ := v.Key("token")
			targets, err := v.Route(key, "m", time.Now())
			if !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if got := ids(targets); got != tc.want {
				t.Errorf("targets %q, want %q", got, tc.want)
			}
		})
	}
}

func TestTargetSaysWhatToSend(t *testing.T) {
	v := mustView(t, keyDoc(t, "token", func(k *snapshot.KeyDoc) { k.Group = "vip" }),
		provider(t, 1, func(p *snapshot.ProviderDoc) { p.SealedAPIKey = "clear" }),
		bindingDoc(t, "default", "m", candidate(func(c *snapshot.Candidate) {
			c.RouteGroup, c.ProviderGroup, c.Upstreams["1"] = "vip", "eu", "upstream-m"
		}, 1)))
	key, _ := v.Key("token")
	targets, err := v.Route(key, "m", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	got := targets[0]
	if got.Provider.APIKey.Reveal() != "clear" {
		t.Error("the secret is not there")
	}
	got.Provider = nil
	want := snapshot.Target{UpstreamModel: "upstream-m", Namespace: "default", Model: "m", RouteGroup: "vip",
		ProviderGroup: "eu"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("target (-want +got):\n%s", diff)
	}
}

// Within a priority, an order comes as often as weights say: the first is each
// with a chance proportional to its weight, and so on for the rest.
func TestRouteFollowsWeights(t *testing.T) {
	weights := map[int64]int{1: 1, 2: 2, 3: 5}
	var docs []snapshot.Document
	var perProvider []snapshot.Candidate
	for id, w := range weights {
		docs = append(docs, provider(t, id, func(p *snapshot.ProviderDoc) { p.Weight = w }))
		perProvider = append(perProvider, candidate(func(c *snapshot.Candidate) { c.Weight = w }, id))
	}
	chance := func(order ...int64) float64 {
		p, left := 1.0, 8.0
		for _, id := range order {
			p *= float64(weights[id]) / left
			left -= float64(weights[id])
		}
		return p
	}
	for name, candidates := range map[string][]snapshot.Candidate{"providers": {candidate(nil, 1, 2, 3)},
		"candidates": perProvider} {
		t.Run(name, func(t *testing.T) {
			v := mustView(t, append(docs, keyDoc(t, "token", nil), bindingDoc(t, "default", "m", candidates...))...)
			key, _ := v.Key("token")
			const draws = 40_000
			seen := map[string]int{}
			for range draws {
				targets, err := v.Route(key, "m", time.Now())
				if err != nil {
					t.Fatal(err)
				}
				seen[ids(targets)]++
			}
			for _, o := range [][]int64{{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}} {
				p := chance(o...)
				want, got := p*draws, float64(seen[fmt.Sprint(o[0], o[1], o[2])])
				if deviation := math.Sqrt(draws * p * (1 - p)); math.Abs(got-want) > 6*deviation {
					t.Errorf("order %v came %v times, expected %.0f ± %.0f", o, got, want, deviation)
				}
			}
		})
	}
}

func TestAppendTargetsAllocatesNothing(t *testing.T) {
	v := mustView(t, keyDoc(t, "token", nil), provider(t, 1, nil), provider(t, 2, nil), provider(t, 3, nil),
		bindingDoc(t, "default", "m", candidate(nil, 1, 2), candidate(nil, 3)),
		bindingDoc(t, "other", "m", candidate(nil, 1)))
	key, _ := v.Key("token")
	dst := make([]snapshot.Target, 0, 8)
	for _, model := range []string{"m", "default.m", "unknown", "other.m"} {
		if n := testing.AllocsPerRun(1000, func() { dst, _ = v.AppendTargets(dst[:0], key, model, time.Now()) }); n != 0 {
			t.Errorf("%q: %v allocations", model, n)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	v := mustView(b, keyDoc(b, "token", nil), provider(b, 1, nil), provider(b, 2, nil), provider(b, 3, nil),
		bindingDoc(b, "default", "m", candidate(nil, 1, 2), candidate(nil, 3)))
	key, _ := v.Key("token")
	dst := make([]snapshot.Target, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = v.AppendTargets(dst[:0], key, "m", time.Now())
	}
}
