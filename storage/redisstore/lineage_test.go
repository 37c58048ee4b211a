package redisstore_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

var unsigned *snapshot.Keys

// world is what a test publishes: documents, and the head that counts them.
type world struct {
	head snapshot.Head
	docs map[catalog.Kind]map[string]string
}

func newWorld(at snapshot.Position, changes ...snapshot.Change) *world {
	w := &world{head: snapshot.Head{Position: at}, docs: make(map[catalog.Kind]map[string]string)}
	w.change(at, changes...)
	return w
}

// change makes the delta to a position, and is there afterwards.
func (w *world) change(to snapshot.Position, changes ...snapshot.Change) snapshot.Delta {
	from := w.head.Position
	for _, c := range changes {
		if w.docs[c.Kind] == nil {
			w.docs[c.Kind] = make(map[string]string)
		}
		if c.Doc == nil {
			delete(w.docs[c.Kind], c.Key)
		} else {
			w.docs[c.Kind][c.Key] = string(c.Doc)
		}
	}
	w.head = snapshot.Head{
		Format: snapshot.Format, Store: "store", Position: to, Mark: "0123456789abcdef0123456789abcdef",
		UpdatedAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		Counts:    make(snapshot.Counts), Digest: make(snapshot.Digests),
	}
	for _, k := range snapshot.Kinds() {
		w.head.Counts[k] = len(w.docs[k])
		var sum snapshot.Digest
		for key, doc := range w.docs[k] {
			sum = sum.Add(unsigned.Hash(k, key, []byte(doc)))
		}
		w.head.Digest[k] = unsigned.Digest(k, sum)
	}
	return snapshot.Delta{From: from, Head: w.head, Changes: changes}
}

// next makes the delta to the next revision.
func (w *world) next(changes ...snapshot.Change) snapshot.Delta {
	to := w.head.Position
	to.Revision++
	return w.change(to, changes...)
}

// whole returns all documents.
func (w *world) whole() []snapshot.Change {
	var all []snapshot.Change
	for k, docs := range w.docs {
		for key, doc := range docs {
			all = append(all, snapshot.Change{Kind: k, Key: key, Doc: []byte(doc)})
		}
	}
	return all
}

func keyDoc(key, doc string) snapshot.Change {
	return snapshot.Change{Kind: catalog.KindKey, Key: key, Doc: []byte(doc)}
}

// publish makes w the whole, over whatever is there.
func publish(ctx context.Context, p *redisstore.Publisher, w *world) error {
	head, err := p.Head(ctx)
	over := head.Base()
	if err != nil && over == (snapshot.Head{}).Base() {
		over = snapshot.Base{}
	}
	staged, err := p.Stage(ctx)
	if err != nil {
		return err
	}
	defer staged.Discard(ctx)
	for docs := range slices.Chunk(w.whole(), 5_000) {
		if err := staged.Add(ctx, docs); err != nil {
			return err
		}
	}
	return staged.Publish(ctx, over, w.head)
}

// follow publishes the next delta of w.
func follow(t testing.TB, p snapshot.Publisher, w *world, changes ...snapshot.Change) snapshot.Delta {
	t.Helper()
	over := w.head.Base()
	d := w.next(changes...)
	must(t, p.Apply(t.Context(), over, d))
	return d
}

// loaded is a loader that keeps what it gets and verifies it.
type loaded struct {
	head snapshot.Head
	docs map[catalog.Kind]map[string]string
}

func (l *loaded) Begin(h snapshot.Head) ([]catalog.Kind, error) {
	l.docs = make(map[catalog.Kind]map[string]string)
	return slices.Sorted(maps.Keys(h.Counts)), nil
}

func (l *loaded) Add(changes []snapshot.Change) error {
	for _, c := range changes {
		if l.docs[c.Kind] == nil {
			l.docs[c.Kind] = make(map[string]string)
		}
		if c.Doc == nil {
			delete(l.docs[c.Kind], c.Key)
		} else {
			l.docs[c.Kind][c.Key] = string(c.Doc)
		}
	}
	return nil
}

func (l *loaded) End(h snapshot.Head) error {
	l.head = h
	for k, n := range h.Counts {
		var sum snapshot.Digest
		for key, doc := range l.docs[k] {
			sum = sum.Add(unsigned.Hash(k, key, []byte(doc)))
		}
		if len(l.docs[k]) != n || unsigned.Digest(k, sum) != h.Digest[k] {
			return fmt.Errorf("%d %s are not those of the head: %w", len(l.docs[k]), k, snapshot.ErrCorrupt)
		}
	}
	return nil
}

// holds checks that everything that w holds is published, and can be loaded.
func holds(t testing.TB, p snapshot.Source, w *world) {
	t.Helper()
	l := new(loaded)
	if err := p.Load(t.Context(), l); err != nil {
		t.Fatalf("Load: %v", err)
	}
	if l.head.Base() != w.head.Base() {
		t.Fatalf("the head is %+v, want %+v", l.head.Base(), w.head.Base())
	}
	for k := range w.head.Counts {
		if !maps.Equal(l.docs[k], w.docs[k]) {
			t.Fatalf("the %s are %v, want %v", k, l.docs[k], w.docs[k])
		}
	}
}

// nextSoon returns what Next gives within a few seconds.
func nextSoon(t testing.TB, p snapshot.Source, after snapshot.Position) (snapshot.Delta, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	return p.Next(ctx, after)
}
