package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// projectDoc is an active project, changed by with.
func projectDoc(t testing.TB, path string, with func(*snapshot.ProjectDoc)) snapshot.Document {
	t.Helper()
	p := snapshot.ProjectDoc{Name: path, Status: catalog.Active}
	if with != nil {
		with(&p)
	}
	return doc(t, path, p)
}

// holdDoc holds a target, for a reason, until a time.
func holdDoc(t testing.TB, target, reason string, until time.Time) snapshot.Document {
	t.Helper()
	return doc(t, target, snapshot.HoldDoc{Target: target, Reason: reason, Until: until, Message: "why"})
}

// Holds and the projects that a key is in are looked at for each request, and explained by the
// same steps.
func TestHoldsAndProjects(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	later, over := now.Add(time.Minute), now.Add(-time.Minute)
	disabled := func(p *snapshot.ProjectDoc) { p.Status = catalog.Disabled }
	project := func(path string, with func(*snapshot.ProjectDoc)) func(testing.TB) snapshot.Document {
		return func(t testing.TB) snapshot.Document { return projectDoc(t, path, with) }
	}
	hold := func(target, reason string, until time.Time) func(testing.TB) snapshot.Document {
		return func(t testing.TB) snapshot.Document { return holdDoc(t, target, reason, until) }
	}
	type docs = []func(testing.TB) snapshot.Document
	fine := docs{project("a", nil), project("a/b", nil)}
	for _, tc := range []struct {
		name    string
		project string
		docs    docs
		model   string
		err     error  // of Authenticate or Route
		held    string // target of the ErrHeld, reason
		want    string // targets
	}{
		{name: "no project", want: "1 2"},
		{name: "projects that allow all", project: "a/b", docs: fine, want: "1 2"},
		{name: "no document of the project", project: "a/b", docs: docs{project("a", nil)}, err: snapshot.ErrUnknownProject},
		{name: "no document above", project: "a/b", docs: docs{project("a/b", nil)}, err: snapshot.ErrUnknownProject},
		{name: "disabled", project: "a/b", docs: docs{project("a", nil), project("a/b", disabled)},
			err: snapshot.ErrProjectDisabled},
		{name: "disabled above", project: "a/b", docs: docs{project("a", disabled), project("a/b", nil)},
			err: snapshot.ErrProjectDisabled},
		{name: "models", project: "a/b", docs: docs{project("a",
			func(p *snapshot.ProjectDoc) { p.Models = []string{"x*"} }), project("a/b", nil)}, err: snapshot.ErrProjectModel},
		{name: "models that fit", project: "a/b",
			docs: docs{project("a", func(p *snapshot.ProjectDoc) { p.Models = []string{"m*"} }), project("a/b", nil)},
			want: "1 2"},
		{name: "groups", project: "a/b", docs: docs{project("a", nil),
			project("a/b", func(p *snapshot.ProjectDoc) { p.Groups = []string{"vip"} })}, err: snapshot.ErrProjectGroup},
		{name: "namespaces", project: "a/b", docs: docs{project("a", nil),
			project("a/b", func(p *snapshot.ProjectDoc) { p.Namespaces = []string{"eu"} })}, err: snapshot.ErrProjectNamespace},
		{name: "key held", docs: docs{hold("key/1", "admin", later)}, held: "key/1 admin"},
		{name: "key held without end", docs: docs{hold("key/1", "budget", time.Time{})}, held: "key/1 budget"},
		{name: "key was held", docs: docs{hold("key/1", "admin", now)}, want: "1 2"},
		{name: "another key held", docs: docs{hold("key/2", "admin", later)}, want: "1 2"},
		{name: "project held", project: "a/b", docs: append(docs{hold("project/a", "budget", later)}, fine...),
			held: "project/a budget"},
		{name: "another project held", project: "a/b", docs: append(docs{hold("project/b", "budget", later)}, fine...),
			want: "1 2"},
		{name: "provider held", docs: docs{hold("provider/1", "admin", later)}, want: "2"},
		{name: "provider held for health", docs: docs{hold("provider/1", "health", later)}, want: "2"},
		{name: "provider was held", docs: docs{hold("provider/1", "admin", over)}, want: "1 2"},
		{name: "a model of a provider held", docs: docs{hold("provider/2/up", "health", later)}, want: "1"},
		{name: "another model of it held", docs: docs{hold("provider/2/down", "admin", later)}, want: "1 2"},
		{name: "what * stands for held", model: "w/x",
			docs: docs{hold("provider/2/v/x", "health", later), hold("provider/1/v/y", "health", later)}, want: "1"},
		{name: "all held for health", docs: docs{hold("provider/1", "health", later),
			hold("provider/2/up", "health", time.Time{})}, want: "1 2"},
		{name: "one for health, one by a person",
			docs: docs{hold("provider/1", "health", later), hold("provider/2", "admin", later)}, want: "1"},
		{name: "one for both", docs: docs{hold("provider/1", "health", later), hold("provider/2", "health", later),
			hold("provider/2/up", "admin", later)}, want: "1"},
		{name: "all held by a person", docs: docs{hold("provider/1", "admin", later), hold("provider/2", "admin", later)},
			err: snapshot.ErrNoUpstream},
	} {
		t.Run(tc.name, func(t *testing.T) {
			model := tc.model
			if model == "" {
				model = "m"
			}
			all := []snapshot.Document{
				keyDoc(t, "token", func(k *snapshot.KeyDoc) { k.Project = tc.project }),
				provider(t, 1, nil), provider(t, 2, func(p *snapshot.ProviderDoc) { p.Priority = -1 }),
				bindingDoc(t, "default", "m", candidate(nil, 1, 2)),
				bindingDoc(t, "default", "w/*", candidate(func(c *snapshot.Candidate) {
					c.Upstreams = map[string]string{"1": "v/*", "2": "v/*"}
				})),
			}
			for _, d := range tc.docs {
				all = append(all, d(t))
			}
			v := mustView(t, all...)
			key, err := v.Authenticate("token", netip.Addr{}, now)
			var targets []snapshot.Target
			if err == nil {
				targets, err = v.Route(key, model, now)
			}
			check := func(how string, targets []snapshot.Target, err error) {
				t.Helper()
				if held, ok := errors.AsType[*snapshot.ErrHeld](err); ok {
					if got := held.Target + " " + held.Reason; got != tc.held || held.Message != "why" ||
						!strings.Contains(err.Error(), "held") {
						t.Errorf("%s: held by %+v, %v; want %s", how, held, err, tc.held)
					}
					return
				}
				if tc.held != "" || !errors.Is(err, tc.err) || ids(targets) != tc.want {
					t.Errorf("%s: %s, %v; want %s, %v%s", how, ids(targets), err, tc.want, tc.err, tc.held)
				}
			}
			check("served", targets, err)
			e, err := snapshot.Explain(t.Context(), sourceOf(t, all...), []string{catalog.HashToken("token")}, model, now)
			if err != nil {
				t.Fatal(err)
			}
			check("explained", e.Targets, e.Refusal)
			last := e.Steps[len(e.Steps)-1]
			if e.Refusal != nil && last.OK || e.Refusal == nil && len(e.Targets) == 0 {
				t.Errorf("the last step is %+v, the refusal %v", last, e.Refusal)
			}
		})
	}
}

func TestErrHeldRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for until, want := range map[time.Time]time.Duration{
		{}: time.Hour, now.Add(1): time.Second, now.Add(90*time.Second + 1): 91 * time.Second,
		now.Add(-time.Hour): time.Second, now.Add(24*time.Hour + 1): 24 * time.Hour,
		time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC): 24 * time.Hour,
	} {
		if got := (&snapshot.ErrHeld{Until: until}).RetryAfter(now); got != want {
			t.Errorf("until %s: retry after %s, want %s", until, got, want)
		}
	}
}

// The document of a target is made of all its active holds: the strongest reason, the latest end.
func TestHoldsOfATargetAreOneDocument(t *testing.T) {
	w, ctx := newWorld(t, syncKey), t.Context()
	key := ok[catalog.Key](t)(w.tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	target := catalog.HoldTarget{KeyID: key.ID}.String()
	at := func(hours int) time.Time { return time.Date(2100, 1, 1, hours, 0, 0, 0, time.UTC) }
	held := func(what, want string) {
		t.Helper()
		ok[snapshot.Head](t)(w.relay.Sync(ctx))
		same(t, what, w.afreshAt(t), published(t, w.pub, w.keys))
		docs := ok[[]snapshot.Document](t)(w.pub.Lookup(ctx, catalog.KindHold, target))
		got := ""
		if len(docs) == 1 {
			got = string(docs[0].Doc)
		}
		if want = strings.Replace(want, "T", target, 1); got != want {
			t.Errorf("%s: %s; want %s", what, got, want)
		}
	}
	add := func(reason string, until time.Time) catalog.Hold {
		return ok[catalog.Hold](t)(w.tables.Holds.Create(ctx,
			catalog.Hold{Target: target, Reason: reason, Until: until, Message: reason}))
	}
	health := add("health", at(3))
	held("one", `{"target":"T","until":"2100-01-01T03:00:00Z","reason":"health","message":"health"}`)
	budget := add("budget", at(2))
	held("a stronger one", `{"target":"T","until":"2100-01-01T03:00:00Z","reason":"budget","message":"budget"}`)
	admin := add("admin", time.Time{})
	held("one without end", `{"target":"T","reason":"admin","message":"admin"}`)
	ok[catalog.Hold](t)(w.tables.Holds.Patch(ctx, admin.ID, 0, []byte(`{"status":"disabled"}`)))
	held("one disabled", `{"target":"T","until":"2100-01-01T03:00:00Z","reason":"budget","message":"budget"}`)
	ok[catalog.Revision](t)(w.tables.Holds.Delete(ctx, health.ID, 0))
	held("one deleted", `{"target":"T","until":"2100-01-01T02:00:00Z","reason":"budget","message":"budget"}`)
	ok[catalog.Hold](t)(w.tables.Holds.Patch(ctx, budget.ID, 0, []byte(`{"status":"disabled"}`)))
	held("none active", "")
	ok[catalog.Hold](t)(w.tables.Holds.Patch(ctx, admin.ID, 0, []byte(`{"status":"active"}`)))
	ok[catalog.Revision](t)(w.tables.Keys.Delete(ctx, key.ID, 0))
	held("the key has gone", "")
}

// Every noun goes through the feed into documents, or is known never to be published: what a
// relay makes of the changes is what it makes of the whole catalog.
func TestEveryNounThroughTheFeed(t *testing.T) {
	w, ctx := newWorld(t, syncKey), t.Context()
	model := ok[catalog.Model](t)(w.tables.Models.Create(ctx, catalog.Model{Name: "there"}))
	held := ok[catalog.Key](t)(w.tables.Keys.Create(ctx, catalog.Key{Name: "held"}))
	ok[snapshot.Head](t)(w.relay.Sync(ctx))
	lives := map[catalog.Kind]func() []func() error{
		catalog.KindProject: func() []func() error {
			return life(ctx, w.tables.Projects, catalog.Project{Name: "p"}, func(p *catalog.Project) { p.RPMLimit = 7 })
		},
		catalog.KindProvider: func() []func() error {
			return life(ctx, w.tables.Providers, catalog.Provider{Name: "p", Type: "openai"},
				func(p *catalog.Provider) { p.Priority = 7 })
		},
		catalog.KindModel: func() []func() error {
			return life(ctx, w.tables.Models, catalog.Model{Name: "m"}, func(m *catalog.Model) { m.ContextWindow = 7 })
		},
		catalog.KindBinding: func() []func() error {
			return life(ctx, w.tables.Bindings, catalog.Binding{Model: model.Name}, func(b *catalog.Binding) { b.Priority = 7 })
		},
		catalog.KindKey: func() []func() error {
			return life(ctx, w.tables.Keys.Table, catalog.Key{Name: "k"}, func(k *catalog.Key) { k.RPMLimit = 7 })
		},
		catalog.KindOperator: func() []func() error {
			return life(ctx, w.tables.Operators.Table, catalog.Operator{Name: "o", Role: catalog.RoleViewer},
				func(o *catalog.Operator) { o.Role = catalog.RoleAdmin })
		},
		catalog.KindHold: func() []func() error {
			return life(ctx, w.tables.Holds, catalog.Hold{Target: fmt.Sprint("key/", held.ID)},
				func(h *catalog.Hold) { h.Message = "m" })
		},
	}
	unpublished := []catalog.Kind{catalog.KindOperator}
	for _, k := range catalog.Kinds() {
		if lives[k] == nil {
			t.Errorf("the test knows no %s", k)
			continue
		}
		secret := slices.Contains(unpublished, k)
		if secret == slices.Contains(snapshot.Kinds(), k) {
			t.Errorf("%s are published: %t", k, !secret)
		}
		before := published(t, w.pub, w.keys)
		for i, step := range lives[k]() {
			if err := step(); err != nil {
				t.Fatalf("%s, step %d: %v", k, i, err)
			}
			head := ok[snapshot.Head](t)(w.relay.Sync(ctx))
			if at := w.at(t).Revision; head.Position.Revision != at {
				t.Errorf("%s, step %d: published is %s, the catalog is at %d", k, i, head.Position, at)
			}
			after := published(t, w.pub, w.keys)
			same(t, fmt.Sprintf("%s, step %d", k, i), w.afreshAt(t), after)
			if maps.Equal(before, after) != secret {
				t.Errorf("%s, step %d: nothing is published of it: %t", k, i, !secret)
			}
			before = after
		}
	}
}

// life creates an entity, changes it and deletes it.
func life[T catalog.Noun](ctx context.Context, table catalog.Table[T], v T, edit func(*T)) []func() error {
	var id int64
	return []func() error{
		func() error {
			made, err := table.Create(ctx, v)
			id = table.Meta(made).ID
			return err
		},
		func() error {
			_, err := table.Edit(ctx, id, func(v *T) error { edit(v); return nil })
			return err
		},
		func() error {
			_, err := table.Delete(ctx, id, 0)
			return err
		},
	}
}
