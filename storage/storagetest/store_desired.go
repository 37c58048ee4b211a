package storagetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
)

// secretMark is in every secret of these tests, and must be nowhere that people look.
const secretMark = "hush-hush"

// testDesired brings the catalog from one random state into another, and back.
func testDesired(t testing.TB, h StoreHarness) {
	keeper := catalog.NewRandomKeyRing()
	tables := catalog.NewTables(h.Store, keeper, nil)
	second := catalog.NewTables(h.Second, keeper, nil)
	checkSome(t, 30, func(r *rapid.T) {
		t := inRapid{t, r}
		mustReach(t, tables, `{"projects": [], "providers": [], "models": [], "bindings": [], "keys": []}`)
		a, between, b := randomDesired(r, "a"), randomDesired(r, "between"), randomDesired(r, "b")
		mustReach(t, tables, a)
		atA, secretsAtA := mustLookBack(t, tables, headOf(t, tables)), secretsOf(t, tables)

		mustReach(t, second, between)
		mustReach(t, second, b)
		if diff := differ(atA, mustLookBack(t, tables, atA.revision)); diff != "" {
			t.Fatalf("the catalog as it was (-then +now):\n%s", diff)
		}
		before, secretsAtB := headOf(t, tables), secretsOf(t, tables)
		plan, err := tables.Revert(t.Context(), atA.revision, &catalog.RevertOptions{DryRun: true})
		if err != nil {
			t.Fatalf("Revert, dry: %v", err)
		}
		did, err := second.Revert(t.Context(), atA.revision, &catalog.RevertOptions{Expect: plan.Hash, Force: true})
		mustHaveDone(t, before, did, err)
		for id, secret := range secretsOf(t, tables) {
			if was, both := secretsAtB[id]; both && was != secret {
				t.Fatalf("reverting has changed the secret of %s", id)
			}
			if _, stayed := secretsAtB[id]; !stayed && secret == secretsAtA[id] && strings.Contains(secret, secretMark) {
				t.Fatalf("%s has come back with its secret", id)
			}
		}
		after := mustLookBack(t, tables, did.Revision)
		atA.forget()
		after.forget()
		atA.disable(secretsAtB)
		atA.revision = after.revision
		if diff := differ(atA, after); diff != "" {
			t.Fatalf("reverted (-wanted +got):\n%s%s", diff, &did)
		}
		mustKeepSecrets(t, tables, &plan, &did)
	})
}

// headOf returns the revision of the catalog.
func headOf(t testing.TB, tables *catalog.Tables) (revision catalog.Revision) {
	mustRead(t, tables.Store(), func(r catalog.Reader) { revision = r.Head().Revision })
	return revision
}

// mustReach applies a state as a plan says, and then again, from the state and from an export.
func mustReach(t testing.TB, tables *catalog.Tables, text string) {
	t.Helper()
	text = withoutLaterTokens(t, tables, text)
	d, err := catalog.ParseDesired([]byte(text))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	opts := catalog.ApplyOptions{PlanOptions: catalog.PlanOptions{Owner: "tester", Prune: true}, Force: true}
	plan, err := tables.Plan(t.Context(), d, &opts.PlanOptions)
	if err != nil {
		t.Fatalf("Plan: %v: %s", err, text)
	}
	before := headOf(t, tables)
	opts.Expect = plan.Hash
	did, err := tables.Apply(t.Context(), d, &opts)
	mustHaveDone(t, before, did, err)
	mustKeepSecrets(t, tables, &plan, &did)

	mustShow(t, tables, text)
	var again strings.Builder
	if err := tables.Export(t.Context(), &again); err != nil {
		t.Fatalf("Export: %v", err)
	}
	for _, text := range []string{text, again.String()} {
		d, err := catalog.ParseDesired([]byte(text))
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		opts.Expect = ""
		plan, err := tables.Apply(t.Context(), d, &opts)
		if err != nil || plan.Changes() || plan.Revision != did.Revision {
			t.Fatalf("again: revision %d, %v, %s", plan.Revision, err, &plan)
		}
	}
}

// withoutLaterTokens takes the tokens out of a state that keys have got others of already: only a rotation
// replaces a token.
func withoutLaterTokens(t testing.TB, tables *catalog.Tables, text string) string {
	t.Helper()
	var state map[string][]map[string]any
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		t.Fatal(err)
	}
	for _, k := range state[string(catalog.KindKey)] {
		id, _ := k["external_id"].(string)
		token, brought := k["token"].(string)
		stored, err := tables.Keys.Find(t.Context(), catalog.ByExternalID, id)
		if brought && err == nil && stored.Tokens[0].Hash != catalog.HashToken(token) {
			delete(k, "token")
		}
	}
	out, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// mustHaveDone checks that a plan was carried out in one revision, or in none.
func mustHaveDone(t testing.TB, before catalog.Revision, did catalog.Plan, err error) {
	t.Helper()
	want := before
	if did.Changes() {
		want++
	}
	if err != nil || !did.Applied || did.Revision != want {
		t.Fatalf("revision %d after %d, applied %t, %v:\n%s", did.Revision, before, did.Applied, err, &did)
	}
}

// mustShow compares what a catalog exports with the state that it is to have.
func mustShow(t testing.TB, tables *catalog.Tables, want string) {
	t.Helper()
	var out bytes.Buffer
	if err := tables.Export(t.Context(), &out); err != nil {
		t.Fatalf("Export: %v", err)
	}
	asked, shown := entitiesIn(t, []byte(want)), entitiesIn(t, out.Bytes())
	for name, fields := range asked {
		labels, ok := fields["labels"].(map[string]any)
		if !ok {
			labels = map[string]any{}
		}
		labels[catalog.LabelOwner] = "tester"
		fields["labels"] = labels
		delete(fields, "api_key")
		delete(fields, "token")
		for field := range shown[name] {
			if _, given := fields[field]; !given {
				delete(shown[name], field)
			}
		}
	}
	if diff := differ(asked, shown); diff != "" {
		t.Fatalf("after Apply (-asked +shown):\n%s", diff)
	}
}

// entitiesIn returns the entities in the JSON of a state, by what tells them apart.
func entitiesIn(t testing.TB, text []byte) map[string]map[string]any {
	t.Helper()
	var state map[string]any
	if err := json.Unmarshal(text, &state); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	all := map[string]map[string]any{}
	for kind, list := range state {
		entities, _ := list.([]any)
		for _, e := range entities {
			fields := e.(map[string]any)
			all[fmt.Sprint(kind, fields["external_id"], fields["name"], fields["model"], fields["route_group"],
				fields["provider_group"])] = fields
		}
	}
	return all
}

// lookedBack is a catalog as it was at a revision: by kind and id, in JSON.
type lookedBack struct {
	revision catalog.Revision
	entities map[string]map[string]any
}

// Equal is for package cmp, which does not look at what is not exported.
func (l lookedBack) Equal(o lookedBack) bool {
	return l.revision == o.revision && cmp.Equal(l.entities, o.entities)
}

func mustLookBack(t testing.TB, tables *catalog.Tables, revision catalog.Revision) lookedBack {
	t.Helper()
	d, err := tables.At(t.Context(), revision)
	if err != nil {
		t.Fatalf("At %d: %v", revision, err)
	}
	l := lookedBack{revision, map[string]map[string]any{}}
	add := func(kind catalog.Kind, noun any) {
		text, err := json.Marshal(noun)
		if err != nil {
			t.Fatalf("At %d: %v", revision, err)
		}
		var fields map[string]any
		_ = json.Unmarshal(text, &fields) // it was just marshalled
		l.entities[fmt.Sprint(kind, "/", fields["id"])] = fields
	}
	addAll(d, catalog.KindProject, catalog.Wanted[catalog.Project], add)
	addAll(d, catalog.KindProvider, catalog.Wanted[catalog.Provider], add)
	addAll(d, catalog.KindModel, catalog.Wanted[catalog.Model], add)
	addAll(d, catalog.KindBinding, catalog.Wanted[catalog.Binding], add)
	addAll(d, catalog.KindKey, catalog.Wanted[catalog.Key], add)
	return l
}

func addAll[T catalog.Noun](d catalog.Desired, k catalog.Kind, wanted func(catalog.Desired) []T,
	add func(catalog.Kind, any)) {
	for _, v := range wanted(d) {
		add(k, v)
	}
}

// forget drops what a revert does not bring back: times and hints.
func (l lookedBack) forget() {
	for _, fields := range l.entities {
		for _, name := range []string{"updated_at", "revision", "api_key_hint", "token_hint"} {
			delete(fields, name)
		}
	}
}

// disable makes of the providers that do not exist any more what they are when they come back.
func (l lookedBack) disable(exist map[string]string) {
	for id, fields := range l.entities {
		if _, stayed := exist[id]; !stayed && strings.HasPrefix(id, string(catalog.KindProvider)) {
			fields["status"] = string(catalog.Disabled)
		}
	}
}

// secretsOf returns the secret of every provider and key.
func secretsOf(t testing.TB, tables *catalog.Tables) map[string]string {
	t.Helper()
	all := map[string]string{}
	providers, errP := tables.Providers.List(t.Context(), catalog.Query{})
	keys, errK := tables.Keys.List(t.Context(), catalog.Query{})
	if err := errors.Join(errP, errK); err != nil {
		t.Fatalf("List: %v", err)
	}
	for _, p := range providers {
		all[fmt.Sprint(catalog.KindProvider, "/", p.ID)] = p.APIKey.Reveal()
	}
	for _, k := range keys {
		all[fmt.Sprint(catalog.KindKey, "/", k.ID)] = fmt.Sprint(k.TokenHint, k.Tokens)
	}
	return all
}

// mustKeepSecrets checks that no secret is in plans, exports and the feed.
func mustKeepSecrets(t testing.TB, tables *catalog.Tables, plans ...*catalog.Plan) {
	t.Helper()
	var out strings.Builder
	if err := tables.Export(t.Context(), &out); err != nil {
		t.Fatalf("Export: %v", err)
	}
	show := func(v any) {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		fmt.Fprintf(&out, "%v %+v", v, v)
	}
	for _, p := range plans {
		show(p)
		out.WriteString(p.String())
		show(p.Tokens)
		for _, issued := range p.Tokens {
			if strings.Contains(out.String(), issued.Token.Reveal()) {
				t.Fatalf("a token of %s is shown", issued.Name)
			}
		}
	}
	mustRead(t, tables.Store(), func(r catalog.Reader) {
		changes, err := r.Changes(t.Context(), catalog.Cursor{Revision: max(r.Head().Revision-1, 0)}, 0)
		if err != nil {
			t.Fatalf("Changes: %v", err)
		}
		show(changes)
	})
	if strings.Contains(out.String(), secretMark) {
		t.Fatalf("a secret is shown:\n%s", &out)
	}
}

// randomDesired draws a state of a few entities that often have the names of those in other states.
func randomDesired(r *rapid.T, label string) string {
	draw := func(what string, values ...string) string {
		return rapid.SampledFrom(values).Draw(r, label+" "+what)
	}
	names := func(what string, most int, values ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(values), 0, most, rapid.ID[string]).Draw(r, label+" "+what)
	}
	external := func(what string, n int) []string {
		ids := rapid.Permutation([]string{"", "", "1", "2", "3"}).Draw(r, label+" ids of "+what)
		return ids[:n]
	}
	state := map[string][]any{"projects": {}, "providers": {}, "models": {}, "bindings": {}, "keys": {}}
	add := func(kind, externalID string, fields map[string]any) {
		if externalID != "" {
			fields["external_id"] = externalID
		}
		state[kind] = append(state[kind], fields)
	}
	providers := names("providers", 4, "p", "q", "r", "s")
	for i, id := range external("providers", len(providers)) {
		p := map[string]any{"name": providers[i], "type": "openai", "weight": len(draw("weight", "", "1", "22")),
			"models": names("listed", 3, "gpt", "o3", "grok")}
		if secret := draw("api_key", "", "-one", "-two"); secret != "" {
			p["api_key"] = "sk-" + secretMark + secret
		}
		add("providers", id, p)
	}
	models := names("models", 3, "gpt", "o3", "grok")
	for i, id := range external("models", len(models)) {
		add("models", id, map[string]any{"name": models[i], "input_price": draw("price", "1", "2.5", "0.000000001"),
			"labels": map[string]any{"tier": draw("tier", "gold", "tin")}})
	}
	for _, m := range models {
		for _, group := range names("groups of "+m, 2, "default", "vip") {
			add("bindings", "", map[string]any{"model": m, "route_group": group,
				"provider_group": draw("provider group", "default", "pool")})
		}
	}
	projects := []string{""}
	for _, p := range names("projects", 2, "acme", "zoo") {
		add("projects", "", map[string]any{"name": p, "rpm_limit": len(draw("rpm", "1", "22"))})
		projects = append(projects, p)
		for _, below := range names("below "+p, 1, p+"/search") {
			state["projects"] = append([]any{map[string]any{"name": below}}, state["projects"]...) // before its parent
			projects = append(projects, below)
		}
	}
	for _, id := range names("keys", 4, "k1", "k2", "k3", "k4") {
		k := map[string]any{"name": draw("key", "alice", "bob"), "models": names("allowed", 2, "gpt", "o3")}
		if p := draw("project", projects...); p != "" {
			k["project"] = p
		}
		if draw("token", "made", "brought") == "brought" {
			k["token"] = secretMark + "-token-of-" + id
		}
		add("keys", id, k)
	}
	text, err := json.Marshal(state)
	if err != nil {
		r.Fatal(err)
	}
	return string(text)
}
