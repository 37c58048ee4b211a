package storagetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// holding is a way in which an entity holds a unique value.
type holding struct {
	kind  catalog.Kind
	by    catalog.Index
	value func(string) func(*catalog.Entity)
}

// holdings lists them all.
func holdings() (all []holding) {
	token := func(value string) func(*catalog.Entity) {
		return func(e *catalog.Entity) { e.Hashes = append([]string{"f" + e.Hashes[0][1:]}, value) }
	}
	for _, k := range catalog.Kinds() {
		all = append(all, holding{k, catalog.ByNaturalKey, natural}, holding{k, catalog.ByExternalID, external})
		if k.HasTokens() {
			all = append(all, holding{k, catalog.ByHash, token})
		}
	}
	return all
}

func (o holding) String() string { return fmt.Sprintf("%s by %s", o.kind, o.by) }

// mustBeFound checks which entity holds a value, 0 for none.
func mustBeFound(t testing.TB, s catalog.Store, o holding, value string, want int64) {
	t.Helper()
	mustRead(t, s, func(r catalog.Reader) {
		e, err := r.Find(t.Context(), o.kind, o.by, value)
		if want == 0 {
			mustFail(t, fmt.Sprintf("Find %s", o), err, catalog.ErrNotFound)
		} else if err != nil || e.ID != want {
			t.Fatalf("Find %s %q: %d, %v; want %d", o, value, e.ID, err, want)
		}
	})
}

func testStoreUnique(t testing.TB, h StoreHarness) {
	for _, o := range holdings() {
		id := mustIDs(t, h.Store, 4)
		holder, rival, third := entity(o.kind, id, o.value("mine")), entity(o.kind, id+1), entity(o.kind, id+2)
		rev := mustCommit(t, h.Store, create(holder), create(rival))
		taking := func(e catalog.Entity, value string) catalog.Entity {
			e = e.Clone()
			o.value(value)(&e)
			return e
		}
		var attempts []attempt
		for name, commit := range map[string]catalog.Commit{
			"create":              commitOf(create(taking(third, "mine"))),
			"update":              commitOf(update(taking(rival, "mine"), rev)),
			"create two of a new": commitOf(create(taking(third, "new")), create(taking(entity(o.kind, id+3), "new"))),
		} {
			attempts = append(attempts, attempt{fmt.Sprintf("%s: %s", o, name), commit, catalog.ErrExists})
		}
		mustRefuse(t, h, attempts...)
		mustBeFound(t, h.Second, o, "mine", holder.ID)
		mustBeFound(t, h.Second, o, "MINE", 0)
		mustBeFound(t, h.Second, o, "new", 0)
		mustBeFound(t, h.Second, o, "", 0)

		// Letters of another case are another value; one's own is no obstacle.
		rev = mustCommit(t, h.Store, update(taking(holder, "mine"), rev), create(taking(third, "MINE")))
		mustBeFound(t, h.Second, o, "mine", holder.ID)
		mustBeFound(t, h.Second, o, "MINE", third.ID)
		mustCommit(t, h.Store, remove(third, rev))
	}

	// What one kind and one index hold is free in the others: every holding has its "mine".
	for _, o := range holdings() {
		id := mustIDs(t, h.Store, 2)
		e := entity(o.kind, id)
		e.NaturalKey, e.ExternalID = "", ""
		other := e.Clone()
		other.ID = id + 1
		e.Hashes, other.Hashes = nil, nil
		mustCommit(t, h.Store, create(e), create(other)) // nothing unique about them
	}
}

// testStoreHandover: what counts is what the last write leaves, so values may change
// hands in a commit in whatever order its writes come, in a small one and in a large one.
func testStoreHandover(t testing.TB, h StoreHarness) {
	for _, o := range holdings() {
		testHandover(t, h, o, 0)
		if o.kind == catalog.KindKey && o.by == catalog.ByHash || o.kind == catalog.KindModel {
			testHandover(t, h, o, 101)
		}
	}
}

// testHandover adds so many other writes to each commit.
func testHandover(t testing.TB, h StoreHarness, o holding, others int) {
	t.Helper()
	id := mustIDs(t, h.Store, 4)
	as := func(n int64, value string) catalog.Entity { return entity(o.kind, id+n, o.value(value)) }
	crowd := func(writes ...catalog.Write) []catalog.Write {
		if others == 0 {
			return writes
		}
		first := mustIDs(t, h.Store, others)
		for i := range others {
			writes = append(writes, create(entity(catalog.KindModel, first+int64(i))))
		}
		return writes
	}
	name := func(v string) string { return fmt.Sprint(v, others) }
	commit := func(s catalog.Store, holders map[string]int64, writes ...catalog.Write) catalog.Revision {
		t.Helper()
		rev := mustCommit(t, s, crowd(writes...)...)
		for value, n := range holders {
			want := id + n
			if n < 0 {
				want = 0
			}
			mustBeFound(t, h.Store, o, name(value), want)
		}
		return rev
	}
	a, b, gone := name("a"), name("b"), name("gone")
	rev := commit(h.Store, map[string]int64{"a": 0, "b": 1}, create(as(0, a)), create(as(1, b)))

	// They swap, and an edit takes what a later delete lets go.
	rev = commit(h.Second, map[string]int64{"a": 1, "b": 0}, update(as(0, b), rev), update(as(1, a), rev))
	rev = commit(h.Store, map[string]int64{"a": 0, "b": -1}, update(as(0, a), rev), remove(as(1, a), rev))
	rev = commit(h.Second, map[string]int64{"a": 2, "gone": -1}, create(as(2, a)), remove(as(0, a), rev))
	rev3 := commit(h.Store, map[string]int64{"a": 2, "b": 3}, create(as(3, b)))

	// A ring of three, one of them new, and back.
	again := commit(h.Second, map[string]int64{"a": 3, "b": 1, "gone": 2}, update(as(2, gone), rev), create(as(1, b)),
		update(as(3, a), rev3))
	rev = commit(h.Store, map[string]int64{"a": 2, "b": 3, "gone": 1}, update(as(1, gone), again),
		update(as(2, a), again), update(as(3, b), again))

	// What two have after the last write is refused, whatever came between.
	mustRefuse(t, h,
		attempt{"two have it", commitOf(crowd(update(as(1, a), rev), update(as(3, gone), rev))...), catalog.ErrExists},
		attempt{"one keeps it", commitOf(crowd(update(as(1, b), rev), remove(as(2, a), rev))...), catalog.ErrExists},
		attempt{"two new ones", commitOf(crowd(remove(as(1, gone), rev), create(as(0, gone)),
			update(as(2, gone), rev))...), catalog.ErrExists},
		attempt{"at another revision", commitOf(crowd(update(as(1, name("new")), rev+5))...), catalog.ErrConflict},
		attempt{"deleted at another revision", commitOf(crowd(remove(as(1, gone), rev+5))...), catalog.ErrConflict},
		attempt{"there already", commitOf(crowd(create(as(1, name("new"))))...), catalog.ErrConflict},
		attempt{"written twice", commitOf(crowd(update(as(1, name("x")), rev), remove(as(1, gone), rev))...),
			catalog.ErrInvalid},
	)
	commit(h.Second, map[string]int64{"a": -1, "b": -1, "gone": -1}, remove(as(1, gone), rev), remove(as(2, a), rev),
		remove(as(3, b), rev))
}

// testStoreReferences: what counts is what the last write leaves.
func testStoreReferences(t testing.TB, h StoreHarness) {
	id := mustIDs(t, h.Store, 20)
	model := func(n int64, key string) catalog.Entity { return entity(catalog.KindModel, id+n, natural(key)) }
	binding := func(n int64, key string) catalog.Entity { return entity(catalog.KindBinding, id+n, refer(key)) }
	refuse := func(dangling bool, name string, writes ...catalog.Write) {
		t.Helper()
		mustRefuse(t, h, attempt{name, commitOf(writes...), catalog.ErrReferenced})
		if _, err := h.Store.Commit(t.Context(), commitOf(writes...)); catalog.IsDangling(err) != dangling {
			t.Errorf("%s: the error %q is the wrong one of the two ends", name, err)
		}
	}

	// A name that others have, but no model.
	mustCommit(t, h.Store,
		create(entity(catalog.KindProvider, id, natural("m"))), create(entity(catalog.KindBinding, id+1, natural("m"))),
		create(entity(catalog.KindModel, id+2, natural("M"), external("m"), func(e *catalog.Entity) { e.Name = "m" })))
	refuse(true, "a binding without a model", create(binding(3, "m")))
	refuse(true, "one of two without a model", create(model(4, "m")), create(binding(3, "m")), create(binding(5, "none")))

	rev := mustCommit(t, h.Store, create(binding(3, "m")), create(model(4, "m"))) // in either order
	mustCommit(t, h.Store, create(model(5, "n")), create(binding(6, "n")))
	rev6 := rev + 1
	refuse(true, "a binding goes astray", update(binding(3, "none"), rev))
	refuse(false, "delete a model with a binding", remove(model(4, "m"), rev))
	refuse(false, "rename a model with a binding", update(model(4, "renamed"), rev))
	refuse(false, "a model loses its name", update(model(4, ""), rev))
	refuse(false, "delete a model, and the binding of another", remove(model(4, "m"), rev), remove(binding(6, "n"), rev6))

	// Bindings may go elsewhere, and refer to nothing.
	rev = mustCommit(t, h.Store, update(model(4, "m"), rev), update(binding(3, "n"), rev))
	rev = mustCommit(t, h.Store, update(model(4, "renamed"), rev), update(binding(3, "renamed"), rev))
	rev = mustCommit(t, h.Store, update(binding(3, "m"), rev), update(model(4, "m"), rev))
	mustCommit(t, h.Store, update(binding(6, ""), rev6))
	mustCommit(t, h.Store, remove(model(5, "n"), rev6))

	// Another model takes the place.
	rev7 := mustCommit(t, h.Store, remove(model(4, "m"), rev), create(model(7, "m")))
	refuse(false, "delete the model that took the place", remove(model(7, "m"), rev7))
	rev8 := mustCommit(t, h.Store, update(model(7, "away"), rev7), create(model(8, "m")))
	refuse(false, "rename the model that took the place", update(model(8, "x"), rev8))
	mustCommit(t, h.Store, update(model(7, "n"), rev8), create(binding(9, "n")))

	// Both go, in either order.
	mustCommit(t, h.Store, remove(model(8, "m"), rev8), remove(binding(3, "m"), rev))
	mustCommit(t, h.Store, remove(binding(9, "n"), rev8+1), remove(model(7, "n"), rev8+1))
	refuse(true, "a binding to what is gone", create(binding(10, "m")))
}

// testStoreEveryReference takes each way in which one noun refers to another through its life.
func testStoreEveryReference(t testing.TB, h StoreHarness) {
	for _, from := range catalog.Kinds() {
		for _, to := range from.Refers() {
			testReference(t, h, from, to)
		}
		if len(from.Refers()) == 0 {
			bad := entity(from, mustIDs(t, h.Store, 1), refer("a"))
			mustRefuse(t, h, attempt{string(from) + " refer to something", commitOf(create(bad)), catalog.ErrInvalid})
		}
	}
	for _, ref := range []string{"key", "key/", "key/x", "key/01", "key/-1", "provider/1/m", "project/", "model/1",
		"x", "/"} {
		bad := entity(catalog.KindHold, mustIDs(t, h.Store, 1), refer(ref))
		mustRefuse(t, h, attempt{"a hold of " + ref, commitOf(create(bad)), catalog.ErrInvalid})
	}
}

func testReference(t testing.TB, h StoreHarness, from, to catalog.Kind) {
	t.Helper()
	id := mustIDs(t, h.Store, 6)
	name := fmt.Sprintf("%s to %s", from, to)
	target, other := entity(to, id, natural(fmt.Sprint("t-", id))), entity(to, id+1, natural(fmt.Sprint("o-", id)))
	e := entity(from, id+2, refer(from.RefTo(target)))
	refuse := func(want error, what string, writes ...catalog.Write) {
		t.Helper()
		mustRefuse(t, h, attempt{name + ": " + what, commitOf(writes...), catalog.ErrReferenced})
		if _, err := h.Store.Commit(t.Context(), commitOf(writes...)); !strings.HasSuffix(err.Error(), want.Error()) {
			t.Errorf("%s: %s: the error is %q; want %q", name, what, err, want)
		}
	}
	dangling, referenced := catalog.Dangling(from), catalog.Referenced(to)
	elsewhere := func(e catalog.Entity) catalog.Entity {
		e = e.Clone()
		e.Ref = from.RefTo(other)
		return e
	}

	refuse(dangling, "the target is not there", create(e))
	refuse(dangling, "nor with another", create(e), create(other))
	rev := mustCommit(t, h.Store, create(e), create(target), create(other)) // in either order
	refuse(referenced, "the target goes", remove(target, rev))
	refuse(dangling, "it goes astray", update(entity(from, e.ID, refer(from.RefTo(entity(to, id+5)))), rev))
	refuse(referenced, "the target goes beside a large commit", append(crowd(t, h), remove(target, rev))...)

	rev2 := mustCommit(t, h.Second, update(elsewhere(e), rev), remove(target, rev))
	refuse(referenced, "the new target goes", remove(other, rev))
	mustCommit(t, h.Store, create(target))
	mustRead(t, h.Second, func(r catalog.Reader) {
		got, err := r.List(t.Context(), from, catalog.Query{Refs: []string{from.RefTo(other)}})
		if err != nil || len(got) != 1 || got[0].ID != e.ID {
			t.Errorf("%s: what refers to the target: %+v, %v", name, got, err)
		}
	})
	renamed := other.Clone()
	renamed.NaturalKey += "-renamed"
	if from.RefTo(renamed) != from.RefTo(other) {
		refuse(referenced, "the target is renamed", update(renamed, rev))
		rev = mustCommit(t, h.Store, create(entity(to, id+3, natural(other.NaturalKey))), update(renamed, rev))
		mustCommit(t, h.Store, remove(renamed, rev)) // another has taken its place
		mustCommit(t, h.Second, remove(elsewhere(e), rev2), remove(entity(to, id+3), rev))
		return
	}
	mustCommit(t, h.Second, remove(other, rev), remove(elsewhere(e), rev2)) // both, in either order
}

// crowd returns so many writes that an engine does them in another way.
func crowd(t testing.TB, h StoreHarness) (writes []catalog.Write) {
	first := mustIDs(t, h.Store, 120)
	for i := range int64(120) {
		writes = append(writes, create(entity(catalog.KindModel, first+i)))
	}
	return writes
}

// testStoreRollback: the last write fails, in each of the ways, and all that came before it,
// of every kind, is as if it had never been.
func testStoreRollback(t testing.TB, h StoreHarness) {
	id := mustIDs(t, h.Store, 20)
	held := entity(catalog.KindKey, id, natural("held"), external("held"))
	model := entity(catalog.KindModel, id+1, natural("model"))
	bound := entity(catalog.KindBinding, id+2, refer("model"))
	gone := entity(catalog.KindKey, id+3)
	rev := mustCommit(t, h.Store, create(held), create(model), create(bound), create(gone))

	good := []catalog.Write{
		create(full(catalog.KindProvider, id+4)), create(full(catalog.KindModel, id+5)), create(full(catalog.KindKey, id+6)),
		create(entity(catalog.KindBinding, id+7, refer(full(catalog.KindModel, id+5).NaturalKey))),
		update(entity(catalog.KindKey, id, natural("renamed"), hashes("aa", "bb")), rev),
		update(entity(catalog.KindModel, id+1, natural("model"), external("x")), rev),
		remove(gone, rev),
	}
	attempts := []attempt{
		{"at another revision", commitOf(update(bound, rev+7)), catalog.ErrConflict},
		{"a name that is taken", commitOf(create(entity(catalog.KindModel, id+8, natural("model")))), catalog.ErrExists},
		{"an external id that is taken", commitOf(create(entity(catalog.KindModel, id+8, external("x")))), catalog.ErrExists},
		{"a token that is taken", commitOf(create(entity(catalog.KindKey, id+8, hashes("bb")))), catalog.ErrExists},
		{"a binding without a model", commitOf(create(entity(catalog.KindBinding, id+8, refer("none")))),
			catalog.ErrReferenced},
	}
	for i := range attempts {
		a := &attempts[i]
		a.commit.Writes = append(good[:len(good):len(good)], a.commit.Writes...)
		a.commit.Sync, a.commit.Epoch = true, 7
	}
	mustRefuse(t, h, attempts...)

	// Nothing keeps the good ones from being written, nor what they hold from others.
	mustCommit(t, h.Store, create(entity(catalog.KindKey, id+8, natural("renamed"), hashes("aa", "bb"))),
		remove(gone, rev))
	got := mustCommit(t, h.Second, good[:4]...)
	if got != rev+2 {
		t.Errorf("the commit after the refused ones has revision %d; want %d", got, rev+2)
	}
	mustLook(t, h.Store, written(full(catalog.KindProvider, id+4), got))
}
