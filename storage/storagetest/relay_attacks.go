package storagetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// testRevokedStays: somebody who can read and write what is published, and holds
// no key, does not bring a revoked key back.
func testRevokedStays(t *testing.T, w *town) {
	victim := w.create(t, "stolen")
	w.sync(t)
	hash := victim.Tokens[0].Hash
	doc, before := w.Meddler.Doc(t, catalog.KindKey, hash), w.Meddler.Head(t)
	if doc == nil {
		t.Fatal("the key is not published")
	}
	if _, err := w.tables.Keys.Delete(t.Context(), victim.ID, 0); err != nil {
		t.Fatal(err)
	}
	revoked := w.sync(t).Position

	// All that can be tried: the document, with the head as it is, with the counts and
	// digests of before, with all of the head of before but its position; and an innocent
	// commit after each.
	for i, fields := range [][]string{nil, {"counts"}, {"counts", "digest"}, {"counts", "digest", "sig"},
		{"counts", "digest", "sig", "mark"}} {
		head := w.Meddler.Head(t)
		for _, name := range fields {
			head[name] = before[name]
		}
		w.Meddler.SetDoc(t, catalog.KindKey, hash, doc)
		w.Meddler.SetHead(t, head)
		w.create(t, fmt.Sprint("innocent ", i))
		w.sound(t, fmt.Sprint("after the try with ", fields))
	}
	w.everTaken(func(set takenSet) {
		if _, there := set.docs["keys/"+hash]; there && !revoked.After(set.head.Position) {
			t.Fatalf("the revoked key is in what was taken at %s; it was revoked at %s", set.head.Position, revoked)
		}
	})
}

// testForgedProvider: a provider's moved address is never signed, whether it is there while
// its document is published anew, or before and after.
func testForgedProvider(t *testing.T, w *town) {
	p, err := w.tables.Providers.Create(t.Context(), catalog.Provider{
		Name: "openai", Type: "openai", BaseURL: "https://api.openai.com", APIKey: catalog.NewSecret(
			"sk-very-secret-upstream"),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.sync(t)
	key := fmt.Sprint(p.ID)
	good := w.Meddler.Doc(t, catalog.KindProvider, key)
	evil := []byte(strings.Replace(string(good), "https://api.openai.com", "https://evil.example", 1))
	if string(good) == string(evil) {
		t.Fatal("there is nothing to move")
	}
	restore := w.Meddler.Save(t)
	for i := range 3 {
		w.Meddler.SetDoc(t, catalog.KindProvider, key, evil)
		_, err := w.tables.Providers.Edit(t.Context(), p.ID, func(p *catalog.Provider) error {
			p.ExternalID = fmt.Sprint("ticket-", i) // which is not published
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		w.sync(t)
		if i == 1 {
			restore()
		}
		w.Meddler.SetDoc(t, catalog.KindProvider, key, evil)
		w.create(t, fmt.Sprint("innocent ", i))
		w.sound(t, "after the provider was moved")
	}
	w.everTaken(func(set takenSet) {
		if strings.Contains(set.docs["providers/"+key], "evil") {
			t.Fatalf("the moved provider is in what was taken at %s", set.head.Position)
		}
	})
}

// testRemovedBeforehand: that a document is not there is no reason to leave its
// end out of the delta. A reader that has it would keep it.
func testRemovedBeforehand(t *testing.T, w *town) {
	w.stop() // nobody repairs
	victim := w.create(t, "stolen")
	before := w.sync(t)
	hash := victim.Tokens[0].Hash
	doc := w.Meddler.Doc(t, catalog.KindKey, hash)
	w.Meddler.SetDoc(t, catalog.KindKey, hash, nil)
	if _, err := w.tables.Keys.Delete(t.Context(), victim.ID, 0); err != nil {
		t.Fatal(err)
	}
	after := w.sync(t)
	d, err := w.Publisher.Next(t.Context(), before.Position)
	if err != nil {
		t.Fatal(err)
	}
	if d.Head.Position != after.Position ||
		!slices.ContainsFunc(d.Changes, func(c snapshot.Change) bool { return c.Key == hash && c.Doc == nil }) {
		t.Fatalf("the delta to %s has %d changes, and not the end of the key", d.Head.Position, len(d.Changes))
	}
	w.Meddler.SetDoc(t, catalog.KindKey, hash, doc)
	w.Meddler.SetHead(t, after.Fields())
	inBackground(t, w.newRelay().Run)
	w.sound(t, "after the document was put back")
	w.everTaken(func(set takenSet) {
		if _, there := set.docs["keys/"+hash]; there && !after.Position.After(set.head.Position) {
			t.Fatalf("the revoked key is in what was taken at %s", set.head.Position)
		}
	})
}

// testMended: documents that are wrong, swapped, missing or surplus are written again where they
// are. The head stays as it is, so no reader loads anew.
func testMended(t *testing.T, w *town) {
	a, b := w.create(t, "a"), w.create(t, "b")
	if _, err := w.tables.Models.Create(t.Context(), catalog.Model{Name: "gpt-4o"}); err != nil {
		t.Fatal(err)
	}
	head := w.sync(t)
	hashA, hashB := a.Tokens[0].Hash, b.Tokens[0].Hash
	good, err := w.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set := func(kind catalog.Kind, key string, doc []byte) func() {
		return func() { w.Meddler.SetDoc(t, kind, key, doc) }
	}
	docA, docB := w.Meddler.Doc(t, catalog.KindKey, hashA), w.Meddler.Doc(t, catalog.KindKey, hashB)
	for _, damage := range []struct {
		name string
		do   func()
	}{
		{"changed", set(catalog.KindKey, hashA, []byte(`{"id":1,"name":"forged"}`))},
		{"no JSON", set(catalog.KindKey, hashA, []byte(`{`))},
		{"empty", set(catalog.KindKey, hashA, []byte{})},
		{"swapped", func() { set(catalog.KindKey, hashA, docB)(); set(catalog.KindKey, hashB, docA)() }},
		{"missing", set(catalog.KindKey, hashA, nil)},
		{"surplus", set(catalog.KindKey, strings.Repeat("0", 64), docA)},
		{"a surplus provider", set(catalog.KindProvider, "no number", []byte(`{"id":7}`))},
		{"a surplus model", set(catalog.KindModel, "nobody.knows", []byte(`{}`))},
		{"a missing binding", set(catalog.KindBinding, "default.gpt-4o", nil)},
		{"one for another", func() {
			set(catalog.KindKey, hashA, nil)()
			set(catalog.KindKey, strings.Repeat("1", 64),
				docA)()
		}},
		{"all of a kind missing", func() { w.Meddler.Drop(t, catalog.KindKey) }},
	} {
		damage.do()
		until(t, damage.name, func() error {
			got, err := w.look(t.Context())
			if err == nil && !same(got.docs, good.docs) {
				err = errors.New("the documents are not those that were published")
			}
			return err
		})
	}
	now, err := w.Publisher.Head(t.Context())
	if err != nil || !now.Equal(head) {
		t.Errorf("the head has moved from %s to %s: %v", head.Position, now.Position, err)
	}
	w.everTaken(func(got takenSet) {
		if got.head.Position == head.Position && !same(got.docs, good.docs) {
			t.Error("a reader took documents that were not published")
		}
	})
}

// testUnnameable: a surplus document whose name is not text goes, and nobody has to load for it.
func testUnnameable(t *testing.T, w *town) {
	before := w.revision(t)
	w.Meddler.SetDoc(t, catalog.KindKey, "\xff\xfe", []byte("x"))
	until(t, "a document with an odd name", func() error {
		if w.Meddler.Doc(t, catalog.KindKey, "\xff\xfe") != nil {
			return errors.New("it is still there")
		}
		return nil
	})
	if at := w.revision(t); at != before {
		t.Errorf("%d revisions were made of it", at.Revision-before.Revision)
	}
	w.sound(t, "after a document with an odd name")
	if doc := w.Meddler.Doc(t, catalog.KindKey, "\xff\xfe"); doc != nil {
		t.Error("it is still there")
	}
}

func testStray(t *testing.T, w *town) {
	before := w.revision(t)
	w.Meddler.Stray(t)
	w.create(t, "after the stray")
	w.sound(t, "after a stray")
	if _, err := w.relay.Resync(t.Context(), snapshot.ResyncOptions{NewEpoch: true, Force: true}); err != nil {
		t.Errorf("Resync: %v", err)
	}
	if made := w.revision(t).Revision - before.Revision; made > 4 {
		t.Errorf("%d revisions were made of it", made)
	}
}

// testStrayAtRest: a stray does not stay until the next commit, because every reader looks at it until then.
func testStrayAtRest(t *testing.T, w *town) {
	head, at := w.sync(t), w.revision(t)
	w.Meddler.Stray(t)
	if !w.Meddler.Strayed(t) {
		t.Fatal("there is no stray")
	}
	until(t, "a stray while nothing changes", func() error {
		if w.Meddler.Strayed(t) {
			return errors.New("it is still there")
		}
		return nil
	})
	if now, err := w.Publisher.Head(t.Context()); err != nil || !now.Equal(head) || w.revision(t) != at {
		t.Errorf("the head went to %s, the catalog to %d: %v", now.Position, w.revision(t).Revision, err)
	}
	if s := w.relay.Status(); s.LastError != "" {
		t.Errorf("status afterwards: %+v", s)
	}
}

// testAbsurdReports: reports that are not signed, whatever they say, move nobody.
func testAbsurdReports(t *testing.T, w *town) {
	before, replaces := w.revision(t), w.relay.Status().Replaces
	report := func(n snapshot.Node) {
		if _, err := w.Publisher.Report(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	for start := time.Now(); time.Since(start) < 6*time.Second; time.Sleep(200 * time.Millisecond) {
		for i, epoch := range []catalog.Epoch{math.MaxInt64, math.MaxInt64 - 1, before.Epoch + 1,
			catalog.Epoch(time.Now().Unix() + 3600)} {
			report(snapshot.Node{
				ID: fmt.Sprint("odd ", i), Store: before.Store, Position: snapshot.Position{Epoch: epoch, Revision: math.MaxInt64},
				Error: "damaged: it says", Kinds: snapshot.Kinds(),
			})
		}
	}
	// One that is signed, and absurd all the same.
	signed := snapshot.Node{ID: "signed", Store: before.Store, Position: snapshot.Position{Epoch: math.MaxInt64 - 1},
		Kinds: snapshot.Kinds()}
	w.keys.SignNode(&signed)
	for range 10 {
		report(signed)
		time.Sleep(500 * time.Millisecond)
	}
	if at := w.revision(t); at != before || w.relay.Status().Replaces != replaces {
		t.Errorf("the catalog went from %+v to %+v, with %d Replaces", before, at, w.relay.Status().Replaces-replaces)
	}
	if s := w.relay.Fleet().Standing(w.sync(t)); s.Unverified != 4 || s.Lagging != 1 || s.Applied != 0 {
		t.Errorf("standing %+v", s)
	}
	w.sound(t, "after absurd reports")
}

// testOvertaken: a balancer that vouches for a position ahead is overtaken, once.
func testOvertaken(t *testing.T, w *town) {
	at := w.revision(t)
	ahead := snapshot.Node{ID: "ahead", Store: at.Store,
		Position: snapshot.Position{Epoch: at.Epoch + 100, Revision: 5}, Kinds: snapshot.Kinds()}
	w.keys.SignNode(&ahead)
	replaces := w.relay.Status().Replaces
	reports := inBackground(t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			if _, err := w.Publisher.Report(ctx, ahead); err != nil {
				return err
			}
			time.Sleep(300 * time.Millisecond)
		}
		return nil
	})
	until(t, "overtaken", func() error {
		head, err := w.Publisher.Head(t.Context())
		if err == nil && !head.Position.After(ahead.Position) {
			err = fmt.Errorf("published is %s", head.Position)
		}
		return err
	})
	time.Sleep(5 * time.Second) // it still reports what it did
	reports()
	if n := w.relay.Status().Replaces - replaces; n != 1 {
		t.Errorf("%d Replaces, want 1", n)
	}
	w.sound(t, "after a balancer was ahead")
}

// testOldState: what was once signed is put back whole. Nothing of it is
// extended wrongly, and the present state comes back.
func testOldState(t *testing.T, w *town) {
	victim := w.create(t, "stolen")
	w.sync(t)
	restore := w.Meddler.Save(t)
	if _, err := w.tables.Keys.Delete(t.Context(), victim.ID, 0); err != nil {
		t.Fatal(err)
	}
	revoked := w.sync(t).Position
	restore()
	w.sound(t, "after an old state was put back")
	w.everTaken(func(set takenSet) {
		if _, there := set.docs["keys/"+victim.Tokens[0].Hash]; there && !revoked.After(set.head.Position) {
			t.Fatalf("the revoked key is in what was taken at %s", set.head.Position)
		}
	})
}

// testOldEpoch: a verified head of an epoch that is over is not extended, and
// replaced.
func testOldEpoch(t *testing.T, w *town) {
	old := w.sync(t)
	restore := w.Meddler.Save(t)
	if _, err := w.relay.Resync(t.Context(), snapshot.ResyncOptions{NewEpoch: true}); err != nil {
		t.Fatal(err)
	}
	restore()
	w.create(t, "after the old epoch")
	w.sound(t, "after an old epoch was put back")
	w.everTaken(func(set takenSet) {
		if set.head.Position.Epoch == old.Position.Epoch && set.head.Position.After(old.Position) {
			t.Errorf("the old epoch was extended to %s", set.head.Position)
		}
	})
}

// testForgedBeat: a beat that is not signed, in the future, or of another
// store, does not keep the relay from beating.
func testForgedBeat(t *testing.T, w *town) {
	at := w.revision(t)
	position := snapshot.Position{Epoch: at.Epoch, Revision: at.Revision}
	replayed := snapshot.Beat{Store: "another", Position: position, At: time.Now().Add(time.Hour)}
	w.keys.SignBeat(&replayed)
	future := snapshot.Beat{Store: at.Store, Position: position, At: time.Now().Add(time.Hour)}
	w.keys.SignBeat(&future)
	for _, forged := range []snapshot.Beat{
		{Store: at.Store, Position: position, At: time.Now().Add(2 * time.Second), Seal: w.keys.Active(),
			Sig: strings.Repeat("0", 64)},
		{Store: at.Store, Position: position, At: time.Now().Add(time.Hour)}, future, replayed,
	} {
		if err := w.Publisher.SetBeat(t.Context(), forged); err != nil {
			t.Fatal(err)
		}
		until(t, "a true beat", func() error {
			b, err := w.Publisher.LastBeat(t.Context())
			if err == nil {
				err = w.keys.VerifyBeat(b)
			}
			if age := time.Since(b.At); err == nil && (b.Store != at.Store || age < -2*time.Second || age > 10*time.Second) {
				err = fmt.Errorf("it is %+v", b)
			}
			return err
		})
	}
}

func testAllGone(t *testing.T, w *town) {
	before := w.revision(t)
	w.Meddler.SetHead(t, nil)
	for _, kind := range snapshot.Kinds() {
		w.Meddler.Drop(t, kind)
	}
	w.sound(t, "after everything was gone")
	if at := w.revision(t); at.Epoch <= before.Epoch || at.Revision-before.Revision > 3 {
		t.Errorf("from %+v to %+v", before, at)
	}
}

// testTwoRelays: of two relays that serve one catalog one scrubs, both beat as
// one, and damage that comes while they race is mended.
func testTwoRelays(t *testing.T, w *town) {
	other := w.newRelay()
	inBackground(t, other.Run)
	for i := range 40 {
		k := w.create(t, fmt.Sprint("race ", i))
		relay := []*snapshot.Relay{w.relay, other}[i%2]
		if _, err := relay.Sync(t.Context()); err != nil && !errors.Is(err, snapshot.ErrCorrupt) {
			t.Errorf("Sync: %v", err)
		}
		if i%8 == 0 {
			w.Meddler.SetDoc(t, catalog.KindKey, k.Tokens[0].Hash, nil)
		}
	}
	w.sound(t, "after two relays raced")
	if n := w.relay.Status().Replaces + other.Status().Replaces; n > 2 {
		t.Errorf("%d Replaces", n)
	}
}

// testMistyped: whatever is of another type than it should be is replaced.
func testMistyped(t *testing.T, w *town) {
	m, ok := w.Meddler.(Mistyper)
	if !ok {
		t.Log("the keys of this engine have no types")
		return
	}
	for name, spoil := range m.Mistyped(t) {
		before := w.revision(t)
		spoil()
		w.sound(t, name+" is of another type")
		most := catalog.Revision(3)
		if name == string(catalog.KindKey) || name == string(catalog.KindModel) {
			most = 1 // what sound creates: documents are written again at their position
		}
		if made := w.revision(t).Revision - before.Revision; made > most {
			t.Errorf("%s: %d revisions were made of it", name, made)
		}
		n := snapshot.Node{ID: "b", Store: before.Store, Kinds: snapshot.Kinds()}
		w.keys.SignNode(&n)
		until(t, name+" is of another type, and reports are taken", func() error {
			if _, err := w.Publisher.Report(t.Context(), n); err != nil {
				return err
			}
			list, err := w.Publisher.Nodes(t.Context(), snapshot.NodeQuery{})
			if err == nil && len(list.Nodes) != 1 {
				err = fmt.Errorf("%d reports", len(list.Nodes))
			}
			return err
		})
	}
}
