package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// sourceOf returns a source of the documents.
func sourceOf(t testing.TB, docs ...snapshot.Document) snapshot.Source {
	t.Helper()
	return newEdition(nil, docs...).published(t)
}

// steps writes each step as its check, and ! where it goes wrong.
func steps(e *snapshot.Explanation) string {
	var list []string
	for _, s := range e.Steps {
		name := strings.ReplaceAll(s.Check, " ", "-")
		if !s.OK {
			name += "!"
		}
		list = append(list, name)
	}
	return strings.Join(list, " ")
}

// refusalOf returns the refusal of an explanation, "" for none.
func refusalOf(e *snapshot.Explanation) snapshot.Refusal {
	r, _ := e.Refusal.(snapshot.Refusal) //nolint:errorlint // it is never wrapped
	return r
}

// Each refusal is explained by the step that it comes from, and is the one
// that a data plane gives.
func TestExplain(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	off := func(p *snapshot.ProviderDoc) { p.Status = catalog.Disabled }
	const key, served = "key-document key-status", "allow-list model-status candidate provider"
	for _, tc := range []struct {
		name    string
		key     func(*snapshot.KeyDoc)
		model   string
		refusal snapshot.Refusal
		steps   string
		targets string
	}{
		{name: "served", model: "m", steps: key + " key-hold model-name namespace " + served, targets: "1"},
		{name: "by a full name", model: "other.m",
			key:   func(k *snapshot.KeyDoc) { k.Namespaces = []string{"default", "other"} },
			steps: key + " key-hold model-name! model-name namespace " + served + " provider", targets: "2 1"},
		{name: "disabled key", model: "m", key: func(k *snapshot.KeyDoc) { k.Status = catalog.Disabled },
			refusal: snapshot.ErrKeyDisabled, steps: key + "!"},
		{name: "expired key", model: "m", key: func(k *snapshot.KeyDoc) { k.ExpiresAt = now },
			refusal: snapshot.ErrKeyExpired, steps: key + " key-expiry!"},
		{name: "key that expires", model: "m", key: func(k *snapshot.KeyDoc) { k.ExpiresAt = now.Add(1) },
			steps: key + " key-expiry key-hold model-name namespace " + served, targets: "1"},
		{name: "key of a network", model: "m", key: func(k *snapshot.KeyDoc) { k.AllowIPs = []string{"192.0.2.0/24"} },
			steps: key + " address key-hold model-name namespace " + served, targets: "1"},
		{name: "no such model", model: "x", refusal: snapshot.ErrUnknownModel,
			steps: key + " key-hold model-name! model-name!"},
		{name: "no such full name", model: "x.y", refusal: snapshot.ErrUnknownModel,
			steps: key + " key-hold model-name! model-name! model-name! model-name!"},
		{name: "another namespace", model: "other.m", refusal: snapshot.ErrNamespace,
			steps: key + " key-hold model-name! model-name namespace!"},
		{name: "not on the list", model: "m", key: func(k *snapshot.KeyDoc) { k.Models = []string{"n"} },
			refusal: snapshot.ErrNotAllowed,
			steps:   key + " key-hold model-name namespace allow-list!"},
		{name: "disabled model", model: "disabled", refusal: snapshot.ErrModelDisabled,
			steps: key + " key-hold model-name namespace allow-list model-status!"},
		{name: "another group", model: "m", key: func(k *snapshot.KeyDoc) { k.Group = "vip" },
			refusal: snapshot.ErrNoCandidate,
			steps:   key + " key-hold model-name namespace allow-list model-status candidate!"},
		{name: "a disabled provider", model: "down", refusal: snapshot.ErrNoUpstream,
			steps: key + " key-hold model-name namespace " + served + "!"},
		{name: "a provider that is not published", model: "lost", refusal: snapshot.ErrNoUpstream,
			steps: key + " key-hold model-name namespace " + served + "!"},
		{name: "a selector that hits nothing", model: "wrong", refusal: snapshot.ErrNoUpstream,
			steps: key + " key-hold model-name namespace " + served + "! provider!"},
		{name: "a group without providers", model: "empty", refusal: snapshot.ErrNoUpstream,
			steps: key + " key-hold model-name namespace " + served + "!"},
		{name: "a provider twice", model: "twice",
			steps: key + " key-hold model-name namespace allow-list model-status candidate candidate " +
				"provider provider provider!",
			targets: "1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			docs := []snapshot.Document{
				keyDoc(t, "token", tc.key), provider(t, 1, nil), provider(t, 2,
					func(p *snapshot.ProviderDoc) { p.Weight = 5 }), provider(t, 3, off),
				bindingDoc(t, "default", "m", candidate(nil, 1)), bindingDoc(t, "other", "m", candidate(nil, 1, 2)),
				bindingDoc(t, "default", "down", candidate(nil, 3)), bindingDoc(t, "default", "lost", candidate(nil, 99)),
				bindingDoc(t, "default", "wrong", candidate(func(c *snapshot.Candidate) {
					c.Error, c.Errors = snapshot.ConfigError, map[string]string{"2": "hits two", "1": "hits none"}
				})),
				bindingDoc(t, "default", "empty", candidate(func(c *snapshot.Candidate) { c.Error = snapshot.NoProvider })),
				bindingDoc(t, "default", "twice", candidate(nil, 1), candidate(nil, 1)),
				doc(t, "default.disabled", snapshot.BindingDoc{Namespace: "default", PublicModel: "disabled",
					Status: catalog.Disabled}),
			}
			e, err := snapshot.Explain(t.Context(), sourceOf(t, docs...), []string{catalog.HashToken("token")}, tc.model, now)
			if err != nil {
				t.Fatal(err)
			}
			if refusalOf(e) != tc.refusal || ids(e.Targets) != tc.targets {
				t.Errorf("refusal %v, targets %s; want %q, %s", e.Refusal, ids(e.Targets), tc.refusal, tc.targets)
			}
			if diff := cmp.Diff(tc.steps, steps(e)); diff != "" {
				t.Errorf("steps (-want +got):\n%s\n%+v", diff, e.Steps)
			}
			for _, s := range e.Steps {
				if s.Detail == "" {
					t.Errorf("step %s says nothing", s.Check)
				}
			}

			// What a data plane does is the same.
			view := mustView(t, docs...)
			k, _ := view.Key("token")
			targets, err := view.Route(k, tc.model, now)
			if tc.refusal == snapshot.ErrKeyDisabled || tc.refusal == snapshot.ErrKeyExpired {
				return // Authenticate's, which is tested with View
			}
			if (err == nil) != (tc.refusal == "") || err != nil && !errors.Is(err, tc.refusal) ||
				len(targets) != len(e.Targets) {
				t.Errorf("Route returns %v, %v", targets, err)
			}
		})
	}
}

// The heavier comes first, always: an explanation is no draw.
func TestExplainOrders(t *testing.T) {
	docs := []snapshot.Document{keyDoc(t, "token", nil)}
	c := candidate(nil)
	for id := int64(1); id <= 5; id++ {
		docs = append(docs, provider(t, id, func(p *snapshot.ProviderDoc) {
			p.Weight, p.SealedAPIKey = int(id), "sk-secret"
			if id == 2 {
				p.Priority = 1
			}
		}))
		c.Upstreams[fmt.Sprint(id)] = "up"
	}
	src := sourceOf(t, append(docs, bindingDoc(t, "default", "m", c))...)
	for range 20 {
		e, err := snapshot.Explain(t.Context(), src, []string{catalog.HashToken("token")}, "m", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got := ids(e.Targets); got != "2 5 4 3 1" {
			t.Fatalf("targets %s", got)
		}
		if text := fmt.Sprintf("%+v", e); strings.Contains(text, "sk-secret") ||
			slices.ContainsFunc(e.Targets, func(t snapshot.Target) bool {
				return t.Provider.APIKey.Reveal()+t.Provider.SealedAPIKey != ""
			}) {
			t.Fatal("the explanation holds a secret")
		}
	}
}

// Of a key's tokens the current one counts, and none may be published yet.
func TestExplainTokens(t *testing.T) {
	old := keyDoc(t, "old", func(k *snapshot.KeyDoc) { k.ExpiresAt = time.Now().Add(-time.Hour) })
	src := sourceOf(t, old, keyDoc(t, "current", nil))
	for _, tc := range []struct {
		tokens []string
		want   snapshot.Refusal
		first  string
	}{
		{[]string{"old", "current"}, snapshot.ErrUnknownModel, "2 of the key's 2 tokens are published"},
		{[]string{"old", "next"}, snapshot.ErrKeyExpired, "1 of the key's 2 tokens are published"},
		{[]string{"next"}, snapshot.ErrUnknownToken, "0 of the key's 1 tokens are published"},
		{nil, snapshot.ErrUnknownToken, "0 of the key's 0 tokens are published"},
	} {
		var hashes []string
		for _, token := range tc.tokens {
			hashes = append(hashes, catalog.HashToken(token))
		}
		e, err := snapshot.Explain(t.Context(), src, hashes, "m", time.Now())
		if err != nil || e.Refusal != tc.want || e.Steps[0].Detail != tc.first {
			t.Errorf("%v: %+v, %v; want %q after %q", tc.tokens, e, err, tc.want, tc.first)
		}
	}
}

// A source that moves is never mixed with what it was.
func TestExplainSeesOnePosition(t *testing.T) {
	if _, err := snapshot.Explain(t.Context(), memstore.NewPublisher(), nil, "m", time.Now()); !errors.Is(err,
		snapshot.ErrNone) {
		t.Errorf("before the first publish: %v", err)
	}
	for moves, want := range map[int]error{1: nil, 4: nil, 5: snapshot.ErrStale} {
		pub := newEdition(nil, keyDoc(t, "token", nil)).published(t)
		src := &moving{Publisher: pub, left: moves}
		e, err := snapshot.Explain(t.Context(), src, []string{catalog.HashToken("token")}, "m", time.Now())
		if !errors.Is(err, want) || err == nil && int(e.Position.Revision) != 1+moves {
			t.Errorf("after %d moves: %+v, %v; want %v", moves, e, err, want)
		}
	}
}

// A moving source has moved each time that its head is read again.
type moving struct {
	snapshot.Publisher
	left  int
	moved int
	read  bool
}

func (m *moving) Head(ctx context.Context) (snapshot.Head, error) {
	h, err := m.Publisher.Head(ctx)
	if m.read && m.left > 0 {
		m.left--
		m.moved++
	}
	m.read = true
	if err != nil {
		return h, err
	}
	fields := h.Fields()
	fields["revision"] = fmt.Sprint(int(h.Position.Revision) + m.moved)
	return snapshot.ParseHead(fields)
}
