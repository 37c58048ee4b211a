package snapshot_test

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// edition is everything that is published at a position, put together by hand.
type edition struct {
	keys *snapshot.Keys
	head snapshot.Head
	docs map[catalog.Kind]map[string][]byte
}

// newEdition is at revision 1 of epoch 1 of the catalog "s".
func newEdition(keys *snapshot.Keys, docs ...snapshot.Document) *edition {
	e := &edition{keys: keys, docs: map[catalog.Kind]map[string][]byte{}, head: snapshot.Head{
		Format: snapshot.Format, Store: "s", Position: snapshot.Position{Epoch: 1, Revision: 1},
		Mark: "00112233445566778899aabbccddeeff", Renderer: snapshot.Renderer, UpdatedAt: time.Unix(1_700_000_000, 0).UTC(),
	}}
	for _, d := range docs {
		e.put(snapshot.Change(d))
	}
	e.sign()
	return e
}

func (e *edition) put(c snapshot.Change) {
	if e.docs[c.Kind] == nil {
		e.docs[c.Kind] = map[string][]byte{}
	}
	if c.Doc == nil {
		delete(e.docs[c.Kind], c.Key)
		return
	}
	e.docs[c.Kind][c.Key] = c.Doc
}

// sign makes the head that of the documents.
func (e *edition) sign() {
	e.head.Counts, e.head.Digest = snapshot.Counts{}, snapshot.Digests{}
	for _, kind := range append(snapshot.Kinds(), slices.Collect(maps.Keys(e.docs))...) {
		var sum snapshot.Digest
		for key, doc := range e.docs[kind] {
			sum = sum.Add(e.keys.Hash(kind, key, doc))
		}
		e.head.Counts[kind], e.head.Digest[kind] = len(e.docs[kind]), e.keys.Digest(kind, sum)
	}
	e.keys.SignHead(&e.head)
}

// next returns the delta to the next revision, and moves there.
func (e *edition) next(changes ...snapshot.Change) snapshot.Delta {
	return e.move(e.head.Position.Epoch, e.head.Position.Revision+1, changes...)
}

func (e *edition) move(epoch catalog.Epoch, revision catalog.Revision, changes ...snapshot.Change) snapshot.Delta {
	d := snapshot.Delta{From: e.head.Position, Changes: changes}
	for _, c := range changes {
		e.put(c)
	}
	e.head.Position = snapshot.Position{Epoch: epoch, Revision: revision}
	e.sign()
	d.Head = e.head
	return d
}

// all returns the documents in order.
func (e *edition) all(kinds ...catalog.Kind) (all []snapshot.Change) {
	for _, kind := range kinds {
		for _, key := range slices.Sorted(maps.Keys(e.docs[kind])) {
			all = append(all, snapshot.Change{Kind: kind, Key: key, Doc: e.docs[kind][key]})
		}
	}
	return all
}

// give gives everything to a loader.
func (e *edition) give(into snapshot.Loader) error {
	kinds, err := into.Begin(e.head)
	if err != nil {
		return err
	}
	if err := into.Add(e.all(kinds...)); err != nil {
		return err
	}
	return into.End(e.head)
}

// published returns a publisher of the edition.
func (e *edition) published(t testing.TB) *memstore.Publisher {
	t.Helper()
	pub := memstore.NewPublisher()
	e.replace(t, pub)
	return pub
}

// replace publishes the whole over whatever there is.
func (e *edition) replace(t testing.TB, pub *memstore.Publisher) {
	t.Helper()
	ctx := context.Background()
	head, _ := pub.Head(ctx) // none, or spoilt: its base counts
	staging, err := pub.Stage(ctx)
	if err == nil {
		err = staging.Add(ctx, e.all(slices.Collect(maps.Keys(e.head.Counts))...))
	}
	if err == nil {
		err = staging.Publish(ctx, head.Base(), e.head)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// loaded is a source that can be loaded from and no more.
type loaded struct {
	snapshot.Source
	*edition
}

func (l loaded) Load(_ context.Context, into snapshot.Loader) error { return l.give(into) }

func loadView(t testing.TB, e *edition, keys *snapshot.Keys) (*snapshot.View, error) {
	return snapshot.LoadView(t.Context(), loaded{edition: e}, keys)
}

// doc makes a document that is right.
func doc[T snapshot.Doc](t testing.TB, key string, v T) snapshot.Document {
	t.Helper()
	d, err := snapshot.Encode(key, v)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// keyDoc is a key in namespace "default" and group "default", changed by with.
func keyDoc(t testing.TB, token string, with func(*snapshot.KeyDoc)) snapshot.Document {
	t.Helper()
	k := snapshot.KeyDoc{
		ID: 1, Name: "k", Status: catalog.Active, Group: "default",
		Namespaces: []string{"default"}, DefaultNamespace: "default",
	}
	if with != nil {
		with(&k)
	}
	return doc(t, catalog.HashToken(token), k)
}

// keyPut and keyGone are changes of the key with a token.
func keyPut(t testing.TB, token string) snapshot.Change {
	return snapshot.Change(keyDoc(t, token, nil))
}

func keyGone(token string) snapshot.Change {
	return snapshot.Change{Kind: catalog.KindKey, Key: catalog.HashToken(token)}
}

func mustView(t testing.TB, docs ...snapshot.Document) *snapshot.View {
	t.Helper()
	v, err := loadView(t, newEdition(nil, docs...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newDraw returns what draws below n: half of the time 0.
func newDraw(seed uint64) func(n int) int {
	r := rand.New(rand.NewPCG(seed, 0))
	return func(n int) int {
		if r.IntN(2) == 0 {
			return 0
		}
		return r.IntN(n)
	}
}

func cmpOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
