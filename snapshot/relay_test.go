package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

func TestRelayPublishesEachChange(t *testing.T) {
	w, ctx := newWorld(t, syncKey), t.Context()
	ok[snapshot.Head](t)(w.relay.Sync(ctx))
	p := ok[catalog.Provider](t)(w.tables.Providers.Create(ctx, catalog.Provider{
		Name: "p", Type: "openai", APIKey: catalog.NewSecret("sk-0123456789abcdef"), Models: []string{"gpt-4o"},
	}))
	ok[catalog.Model](t)(w.tables.Models.Create(ctx, catalog.Model{Name: "gpt-4o"}))
	k := ok[catalog.Key](t)(w.tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	head := ok[snapshot.Head](t)(w.relay.Sync(ctx))
	docs := published(t, w.pub, w.keys)

	providerKey := fmt.Sprintf("providers %d", p.ID)
	hash := "keys " + catalog.HashToken(k.Token.Reveal())
	want := map[string]string{
		"models default.gpt-4o":   `{"namespace":"default","name":"gpt-4o","kind":"chat","supports_vision":false,"supports_functions":false,"supports_tool_choice":false,"supports_fim":false,"supports_stream":false,"status":"active"}`,
		"bindings default.gpt-4o": fmt.Sprintf(`{"namespace":"default","public_model":"gpt-4o","status":"active","candidates":[{"route_group":"default","provider_group":"default","weight":1,"priority":0,"selector_type":"exact","selector_value":"gpt-4o","status":"active","upstreams":{"%d":"gpt-4o"}}]}`, p.ID),
		hash:                      fmt.Sprintf(`{"id":%d,"name":"k","status":"active","group":"default","namespaces":["default"],"default_namespace":"default"}`, k.ID),
		providerKey: fmt.Sprintf(`{"id":%d,"name":"p","type":"openai","api_key":%q,"group":"default","models":["gpt-4o"],"weight":1,"priority":0,"status":"active","auto_ban":true}`,
			p.ID, w.keys.Seal("sk-0123456789abcdef", fmt.Sprintf("provider/%d/api_key\x00openai\x00\x00\x00\x00{}", p.ID))),
	}
	if diff := cmp.Diff(want, docs); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}

	if _, err := w.tables.Keys.Delete(ctx, k.ID, 0); err != nil {
		t.Fatal(err)
	}
	after := ok[snapshot.Head](t)(w.relay.Sync(ctx))
	if _, there := published(t, w.pub, w.keys)[hash]; there {
		t.Error("a deleted key is still published")
	}
	if !after.Position.After(head.Position) || after.Position.Epoch != head.Position.Epoch {
		t.Errorf("from %s to %s", head.Position, after.Position)
	}
	if s := w.relay.Status(); s.Replaces != 1 || s.Publishes != 2 || s.LastError != "" {
		t.Errorf("status: %+v", s)
	}
}

// What is published change by change is what a fresh rendering would publish.
func TestIncrementalEqualsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, ctx := newWorld(t, syncKey), context.Background()
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			mutate(t, ctx, w.tables)
			if rapid.Bool().Draw(t, "sync") {
				if _, err := w.relay.Sync(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := w.relay.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		same(t, "incremental is not whole", w.afresh(t), published(t, w.pub, w.keys))
		if n := w.relay.Status().Replaces; n != 1 {
			t.Fatalf("%d Replaces, want the first alone", n)
		}
	})
}

// mutate makes one random change; what the rules refuse is refused.
func mutate(t *rapid.T, ctx context.Context, tables *catalog.Tables) {
	word := rapid.SampledFrom([]string{"a", "b", "c"})
	model := rapid.SampledFrom([]string{"a", "b", "c", "x/a", "*", "x/*"})
	group := word.Draw(t, "group")
	var err error
	path := rapid.SampledFrom([]string{"a", "a/b"})
	switch rapid.IntRange(0, 13).Draw(t, "change") {
	case 0, 1:
		_, err = tables.Providers.Put(ctx, catalog.Provider{
			Name: "p-" + word.Draw(t, "provider"), Type: "openai", Group: group, APIKey: catalog.NewSecret(
				"sk-0123456789abcdef"),
			Models: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "x/a", "B", "*", "x/*"}), 0, 4,
				rapid.ID[string]).Draw(t, "models"),
			Priority: rapid.IntRange(0, 2).Draw(t, "priority"), Meta: catalog.Meta{Status: status(t)},
		})
	case 2:
		_, err = tables.Models.Put(ctx, catalog.Model{Name: model.Draw(t, "model"),
			Namespace: "n" + word.Draw(t, "namespace"), Meta: catalog.Meta{Status: status(t)}})
	case 3, 4:
		name, selector := model.Draw(t, "model"), catalog.SelectExact
		if !strings.HasSuffix(name, "*") { // of these bindings are exact
			selector = rapid.SampledFrom(catalog.SelectorTypes()).Draw(t, "selector")
		}
		_, err = tables.Bindings.Put(ctx, catalog.Binding{
			Namespace: "n" + word.Draw(t, "namespace"), Model: name,
			RouteGroup: group, ProviderGroup: word.Draw(t, "served by"),
			SelectorType: selector, Meta: catalog.Meta{Status: status(t)},
		})
	case 5:
		_, err = tables.Keys.Put(ctx, catalog.Key{Meta: catalog.Meta{ExternalID: word.Draw(t, "key"), Status: status(t)},
			Name: "k", Group: group, Project: rapid.OneOf(rapid.Just(""), path).Draw(t, "project")})
	case 6:
		if k, e := tables.Keys.Find(ctx, catalog.ByExternalID, word.Draw(t, "key")); e == nil {
			_, err = tables.Keys.Rotate(ctx, k.ID, rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "grace"), 0)
		}
	case 7:
		err = remove(t, ctx, tables.Providers)
	case 8:
		err = remove(t, ctx, tables.Bindings)
	case 9:
		err = errors.Join(remove(t, ctx, tables.Models), remove(t, ctx, tables.Keys.Table))
	case 10:
		_, err = tables.Projects.Put(ctx, catalog.Project{Name: path.Draw(t, "path"), Meta: catalog.Meta{Status: status(t)}})
	case 11:
		err = remove(t, ctx, tables.Projects)
	case 12:
		target := "project/" + path.Draw(t, "held")
		if k, e := tables.Keys.Find(ctx, catalog.ByExternalID, word.Draw(t, "key")); e == nil {
			target = catalog.HoldTarget{KeyID: k.ID}.String()
		}
		hold := catalog.Hold{
			Target: target, Reason: rapid.SampledFrom(catalog.HoldReasons()).Draw(t, "reason"),
			Meta: catalog.Meta{Status: status(t)},
		}
		if hold.Reason == catalog.HoldAdmin { // the message of a machine's hold is the machine's
			hold.Message = word.Draw(t, "message")
		}
		_, err = tables.Holds.Put(ctx, hold)
	case 13:
		_, other := tables.Operators.Put(ctx, catalog.Operator{Name: word.Draw(t, "operator"), Role: catalog.RoleViewer})
		err = errors.Join(remove(t, ctx, tables.Holds), other)
	}
	if err != nil && !errors.Is(err, catalog.ErrReferenced) {
		t.Fatal(err)
	}
}

func status(t *rapid.T) catalog.Status {
	return rapid.SampledFrom([]catalog.Status{catalog.Active, catalog.Active, catalog.Disabled}).Draw(t, "status")
}

func remove[T catalog.Noun](t *rapid.T, ctx context.Context, table catalog.Table[T]) error {
	all, err := table.List(ctx, catalog.Query{})
	if err != nil || len(all) == 0 {
		return err
	}
	v := all[rapid.IntRange(0, len(all)-1).Draw(t, "which")]
	id := table.Meta(v).ID
	_, err = table.Delete(ctx, id, 0)
	return err
}

func TestRacingRelaysDoNoHarm(t *testing.T) {
	w, ctx := newWorld(t, ""), t.Context()
	ok[snapshot.Head](t)(w.relay.Sync(ctx))
	relays := []*snapshot.Relay{w.relay, w.newRelay(), w.newRelay()}
	var wg sync.WaitGroup
	for i, relay := range relays {
		wg.Go(func() {
			for n := range 50 {
				if _, err := w.tables.Keys.Create(ctx, catalog.Key{Name: fmt.Sprint(i, n)}); err != nil {
					t.Error(err)
				}
				if _, err := relay.Sync(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	ok[snapshot.Head](t)(w.relay.Sync(ctx))
	if n := len(published(t, w.pub, nil)); n != 150 {
		t.Errorf("%d documents, want 150", n)
	}
	replaces := int64(0)
	for _, relay := range relays {
		replaces += relay.Status().Replaces
	}
	if replaces != 1 {
		t.Errorf("%d Replaces, want the first alone", replaces)
	}
}

func TestRelayRunsUntilTheEnd(t *testing.T) {
	w := newWorld(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.relay.Run(ctx) }()
	k := ok[catalog.Key](t)(w.tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	deadline := time.Now().Add(5 * time.Second)
	for {
		docs, err := w.pub.Lookup(ctx, catalog.KindKey, k.Tokens[0].Hash)
		if err != nil && !errors.Is(err, snapshot.ErrNone) {
			t.Fatal(err)
		}
		if len(docs) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a running relay does not publish")
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// deaf does not say what is published while it is told not to.
type deaf struct {
	*memstore.Publisher
	silent atomic.Bool
}

func (d *deaf) Head(ctx context.Context) (snapshot.Head, error) {
	if d.silent.Load() {
		return snapshot.Head{}, errFault
	}
	return d.Publisher.Head(ctx)
}

// While passes fail there is no beat, and data planes refuse to serve: the status says that, too.
func TestNoBeatsWhilePassesFail(t *testing.T) {
	w := newWorld(t, syncKey)
	pub := &deaf{Publisher: w.pub}
	pub.silent.Store(true)
	relay := w.newRelayOver(pub)
	running(t, relay.Run)
	eventually(t, "the status names the missing beat", 10*time.Second, func() bool {
		return strings.Contains(relay.Status().BeatError, errFault.Error())
	})
	pub.silent.Store(false)
	eventually(t, "the status says that there are beats", 20*time.Second, func() bool {
		s := relay.Status()
		return s.BeatError == "" && !s.BeatAt.IsZero()
	})
	pub.silent.Store(true)
	for start := time.Now(); time.Since(start) < 3*time.Second; time.Sleep(20 * time.Millisecond) {
		if s := relay.Status(); s.BeatError != "" {
			t.Fatalf("a pass that fails is no missing beat yet: %s", s.BeatError)
		}
	}
}

func TestRelayRepairs(t *testing.T) {
	t.Run("another history", func(t *testing.T) {
		w, ctx := newWorld(t, ""), t.Context()
		head := ok[snapshot.Head](t)(w.relay.Sync(ctx))
		// The published mark is not the catalog's: a delta from nowhere.
		lie := head
		lie.Position.Revision++
		lie.Mark = "00000000000000000000000000000000"
		w.keys.SignHead(&lie)
		if err := w.pub.Apply(ctx, head.Base(), snapshot.Delta{From: head.Position, Head: lie}); err != nil {
			t.Fatal(err)
		}
		ok[catalog.Key](t)(w.tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
		after := ok[snapshot.Head](t)(w.relay.Sync(ctx))
		if after.Position.Epoch <= head.Position.Epoch || len(published(t, w.pub, nil)) != 1 {
			t.Errorf("at %s after %s", after.Position, head.Position)
		}
	})
	t.Run("history pruned", func(t *testing.T) {
		w, ctx := newWorld(t, ""), t.Context()
		head := ok[snapshot.Head](t)(w.relay.Sync(ctx))
		for i := range 5 {
			ok[catalog.Key](t)(w.tables.Keys.Create(ctx, catalog.Key{Name: fmt.Sprint(i)}))
		}
		ok[int64](t)(w.tables.Store().(catalog.Pruner).PruneChanges(ctx, time.Now().Add(time.Hour)))
		after := ok[snapshot.Head](t)(w.relay.Sync(ctx))
		if after.Position.Epoch != head.Position.Epoch || !after.Position.After(head.Position) ||
			len(published(t, w.pub, nil)) != 5 {
			t.Errorf("at %s after %s", after.Position, head.Position)
		}
	})
	t.Run("history thinned", func(t *testing.T) {
		w, ctx := newWorld(t, ""), t.Context()
		own := catalog.WithMachine(ctx, "budgets", "")
		key := ok[catalog.Key](t)(w.tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
		hold := ok[catalog.Hold](t)(w.tables.Holds.Create(own,
			catalog.Hold{Target: fmt.Sprint("key/", key.ID), Reason: catalog.HoldBudget}))
		head := ok[snapshot.Head](t)(w.relay.Sync(ctx))
		gone := ok[catalog.Revision](t)(w.tables.Holds.Delete(own, hold.ID, 0))
		ok[catalog.Key](t)(w.tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
		ok[int64](t)(w.tables.Store().(catalog.Pruner).ThinChanges(ctx, time.Now().Add(time.Hour)))
		after := ok[snapshot.Head](t)(w.relay.Sync(ctx))
		if after.Position.Epoch != head.Position.Epoch || !after.Position.After(head.Position) ||
			len(published(t, w.pub, nil)) != 2 {
			t.Errorf("at %s after %s: %v", after.Position, head.Position, published(t, w.pub, nil))
		}
		if kinds := ok[[]catalog.Kind](t)(w.relay.Kinds(ctx, gone)); !slices.Equal(kinds, snapshot.Kinds()) {
			t.Errorf("the end of a hold, of which the feed tells nothing, may have touched %v", kinds)
		}
	})
	t.Run("a large change", func(t *testing.T) {
		w, ctx := newWorld(t, ""), t.Context()
		ok[snapshot.Head](t)(w.relay.Sync(ctx))
		createKeys(t, w, 1500)
		ok[snapshot.Head](t)(w.relay.Sync(ctx))
		if s := w.relay.Status(); len(published(t, w.pub, nil)) != 1500 || s.Replaces != 1 || s.Publishes != 1 {
			t.Errorf("%+v: 1,500 documents are a delta", s)
		}
	})
}

// createKeys makes n keys in one revision and returns their ids.
func createKeys(t testing.TB, w *world, n int) (ids []int64) {
	t.Helper()
	ok[catalog.Revision](t)(w.tables.Update(t.Context(), func(tx *catalog.Tx) error {
		ids = nil
		for i := range n {
			k, err := tx.Keys.Create(t.Context(), catalog.Key{Name: fmt.Sprint(i)})
			if err != nil {
				return err
			}
			ids = append(ids, k.ID)
		}
		return nil
	}))
	return ids
}

func TestRelayRefuses(t *testing.T) {
	foreign := func(t *testing.T) (*world, *world) {
		a, b := newWorld(t, ""), newWorld(t, "")
		ok[snapshot.Head](t)(a.relay.Sync(t.Context()))
		b.pub = a.pub
		b.relay = b.newRelay()
		return a, b
	}
	t.Run("another catalog's snapshot", func(t *testing.T) {
		_, b := foreign(t)
		if _, err := b.relay.Sync(t.Context()); !errors.Is(err, snapshot.ErrForeign) {
			t.Errorf("Sync: %v, want ErrForeign", err)
		}
		if _, err := b.relay.Resync(t.Context(), snapshot.ResyncOptions{}); !errors.Is(err, snapshot.ErrForeign) {
			t.Errorf("Resync: %v, want ErrForeign", err)
		}
		head, err := b.relay.Resync(t.Context(), snapshot.ResyncOptions{Force: true})
		if err != nil || !head.Forced {
			t.Errorf("forced: %+v, %v", head, err)
		}
		ok[snapshot.Head](t)(b.relay.Sync(t.Context()))
	})
	t.Run("to lose most of it", func(t *testing.T) {
		w, ctx := newWorld(t, syncKey), t.Context()
		createKeys(t, w, 20)
		ok[snapshot.Head](t)(w.relay.Sync(ctx))
		// The catalog is restored to a state of long ago, with its identity.
		lost := newWorld(t, syncKey)
		lost.tables, lost.pub = catalog.NewTables(impostor{lost.tables.Store(), w.at(t).Store},
			catalog.NewRandomKeyRing(), nil), w.pub
		createKeys(t, lost, 1)
		relay := lost.newRelay()
		before, now := lost.at(t), time.Now()
		lost.clock = func() time.Time { return now }
		if _, err := relay.Sync(ctx); !errors.Is(err, snapshot.ErrWaiting) {
			t.Errorf("Sync: %v, want ErrWaiting", err)
		}
		now = now.Add(5 * time.Second)
		for range 3 {
			if _, err := relay.Sync(ctx); !errors.Is(err, snapshot.ErrShrinks) {
				t.Errorf("Sync: %v, want ErrShrinks", err)
			}
		}
		if _, err := relay.Resync(ctx, snapshot.ResyncOptions{}); !errors.Is(err, snapshot.ErrShrinks) {
			t.Errorf("Resync: %v, want ErrShrinks", err)
		}
		if at := lost.at(t); at != before {
			t.Errorf("what was refused has moved the catalog from %+v to %+v", before, at)
		}
		head := ok[snapshot.Head](t)(relay.Resync(ctx, snapshot.ResyncOptions{Force: true}))
		if n := len(published(t, w.pub, w.keys)); n != 1 || !head.Forced {
			t.Errorf("%d documents, want 1; %+v", n, head)
		}
	})
	t.Run("not what the feed explains", func(t *testing.T) {
		w, ctx := newWorld(t, syncKey), t.Context()
		ids := createKeys(t, w, 20)
		ok[snapshot.Head](t)(w.relay.Sync(ctx))
		for _, id := range ids[:15] {
			ok[catalog.Revision](t)(w.tables.Keys.Delete(ctx, id, 0))
		}
		ok[snapshot.Head](t)(w.relay.Resync(ctx, snapshot.ResyncOptions{}))
		if n := len(published(t, w.pub, w.keys)); n != 5 {
			t.Errorf("%d documents, want 5", n)
		}
	})
	t.Run("keys that are not held", func(t *testing.T) {
		w, ctx := newWorld(t, syncKey), t.Context()
		ok[snapshot.Head](t)(w.relay.Sync(ctx))
		w.keys = nil
		clear := w.newRelay()
		if _, err := clear.Sync(ctx); !errors.Is(err, snapshot.ErrOutranked) {
			t.Errorf("Sync: %v, want ErrOutranked", err)
		}
		if head := ok[snapshot.Head](t)(clear.Resync(ctx, snapshot.ResyncOptions{})); head.Seal != "" {
			t.Errorf("re-sealed under %q", head.Seal)
		}
	})
}

// impostor is a store under another name.
type impostor struct {
	catalog.Store
	name string
}

func (i impostor) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	return i.Store.Read(ctx, func(r catalog.Reader) error { return fn(named{r, i.name}) })
}

type named struct {
	catalog.Reader
	name string
}

func (n named) Head() catalog.Head {
	h := n.Reader.Head()
	h.Store = n.name
	return h
}

func TestResyncIsAlwaysNewer(t *testing.T) {
	w, ctx := newWorld(t, ""), t.Context()
	first := ok[snapshot.Head](t)(w.relay.Sync(ctx))
	second := ok[snapshot.Head](t)(w.relay.Resync(ctx, snapshot.ResyncOptions{}))
	third := ok[snapshot.Head](t)(w.relay.Resync(ctx, snapshot.ResyncOptions{NewEpoch: true}))
	if !second.Position.After(first.Position) || second.Position.Epoch != first.Position.Epoch {
		t.Errorf("%s after %s", second.Position, first.Position)
	}
	if third.Position.Epoch <= second.Position.Epoch {
		t.Errorf("%s after %s: not a new epoch", third.Position, second.Position)
	}
}
