package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/catalog"
)

func testStoreEmpty(t testing.TB, h StoreHarness) {
	head := mustContents(t, h.Store).Head
	if err := uuid.Validate(head.Store); err != nil {
		t.Errorf("the store is called %q: %v", head.Store, err)
	}
	want := contents{Head: catalog.Head{Store: head.Store}, Marks: []catalog.Mark{""}}
	want.Entities = map[catalog.Kind][]catalog.Entity{}
	for _, k := range catalog.Kinds() {
		want.Entities[k] = nil
	}
	for name, s := range map[string]catalog.Store{"Store": h.Store, "Second": h.Second} {
		if diff := differ(want, mustContents(t, s), byValue()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	mustRead(t, h.Store, func(r catalog.Reader) {
		for _, k := range catalog.Kinds() {
			_, err := r.Get(t.Context(), k, 1)
			mustFail(t, "Get", err, catalog.ErrNotFound)
		}
		_, err := r.MarkAt(t.Context(), 1)
		mustFail(t, "MarkAt(1)", err, catalog.ErrNotFound)
	})
}

// testStoreFields takes an entity of each kind, with every field, through its
// life, and looks at it in every way.
func testStoreFields(t testing.TB, h StoreHarness) {
	for _, k := range catalog.Kinds() {
		id := mustIDs(t, h.Store, 3)
		others := []catalog.Entity{entity(k, id), entity(k, id+2)}
		rev := mustCommit(t, h.Store, create(others[0]), create(others[1]))
		others[0].Revision, others[1].Revision = rev, rev

		e := full(k, id+1)
		if refers := k.Refers(); len(refers) > 0 {
			target := entity(refers[0], mustIDs(t, h.Store, 1), natural("the target of "+e.NaturalKey))
			targetAt := mustCommit(t, h.Store, create(target))
			e.Ref = k.RefTo(target)
			if refers[0] == k {
				others = append(others, written(target, targetAt))
			}
		}
		lean := entity(k, e.ID) // has few fields: the others go
		e.Revision = 12345      // is the store's to set
		rev = mustCommit(t, h.Store, create(e))
		beside := func(e catalog.Entity) []catalog.Entity { return slices.Insert(slices.Clone(others), 1, e) }
		mustLook(t, h.Second, beside(written(e, rev))...)
		rev = mustCommit(t, h.Second, update(lean, rev))
		mustLook(t, h.Store, beside(written(lean, rev))...)
		rev = mustCommit(t, h.Store, update(e, rev))
		mustLook(t, h.Second, beside(written(e, rev))...)
		mustCommit(t, h.Store, remove(e, rev))
		mustLook(t, h.Second, others...)
		mustRead(t, h.Store, func(r catalog.Reader) {
			_, err := r.Get(t.Context(), k, e.ID)
			mustFail(t, "Get what was deleted", err, catalog.ErrNotFound)
			for by, values := range uniques(e) {
				for _, value := range values {
					_, err := r.Find(t.Context(), k, by, value)
					mustFail(t, "Find what was deleted", err, catalog.ErrNotFound)
				}
			}
		})
	}
}

// uniques lists what Find finds an entity by.
func uniques(e catalog.Entity) map[catalog.Index][]string {
	all := map[catalog.Index][]string{catalog.ByHash: e.Hashes}
	if e.NaturalKey != "" {
		all[catalog.ByNaturalKey] = []string{e.NaturalKey}
	}
	if e.ExternalID != "" {
		all[catalog.ByExternalID] = []string{e.ExternalID}
	}
	return all
}

// mustLook checks that exactly these, of one kind, are in the store, whichever way
// one looks.
func mustLook(t testing.TB, s catalog.Store, want ...catalog.Entity) {
	t.Helper()
	mustEntities(t, s, want[0].Kind, want...)
	same := func(how string, want, got catalog.Entity, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if diff := differ(want, got, byValue()); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", how, diff)
		}
	}
	mustRead(t, s, func(r catalog.Reader) {
		for _, e := range want {
			got, err := r.Get(t.Context(), e.Kind, e.ID)
			same("Get", e, got, err)
			for by, values := range uniques(e) {
				for _, value := range values {
					got, err := r.Find(t.Context(), e.Kind, by, value)
					same("Find by "+string(by), e, got, err)
				}
			}
		}
	})
}

// testStoreUnaltered: Commit writes nothing into what it was given, and
// nothing but the entities that it names changes.
func testStoreUnaltered(t testing.TB, h StoreHarness) {
	id := mustIDs(t, h.Store, 3)
	c := commitOf(create(full(catalog.KindKey, id)), create(full(catalog.KindModel, id+1)),
		create(entity(catalog.KindBinding, id+2, refer(full(catalog.KindModel, id+1).NaturalKey))))
	c.Sync, c.Epoch = true, 3
	given := cloned(c)
	if _, err := h.Store.Commit(t.Context(), given); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	if diff := differ(c, given); diff != "" {
		t.Errorf("Commit changed what it was given (-before +after):\n%s", diff)
	}

	before := mustContents(t, h.Store)
	other := entity(catalog.KindKey, mustIDs(t, h.Store, 1))
	other.Revision = mustCommit(t, h.Store, create(other))
	after := mustContents(t, h.Second)
	before.Entities[catalog.KindKey] = append(before.Entities[catalog.KindKey], other)
	if diff := differ(before.Entities, after.Entities, byValue()); diff != "" {
		t.Errorf("creating a key changed others (-before +after):\n%s", diff)
	}
	old := len(before.Changes)
	if diff := differ(before.Changes, after.Changes[:old], byValue()); diff != "" {
		t.Errorf("history changed (-before +after):\n%s", diff)
	}
	if diff := differ(before.Marks, after.Marks[:len(before.Marks)]); diff != "" {
		t.Errorf("marks changed (-before +after):\n%s", diff)
	}
	want := recorded(commitOf(create(other)), other.Revision)
	if diff := differ(want, after.Changes[old:], byValue()); diff != "" {
		t.Errorf("the feed (-want +got):\n%s", diff)
	}
}

// attempt is a commit that must fail.
type attempt struct {
	name   string
	commit catalog.Commit
	want   error
}

// mustRefuse tries commits that must fail, each with its error, and without a trace.
func mustRefuse(t testing.TB, h StoreHarness, attempts ...attempt) {
	t.Helper()
	before := mustContents(t, h.Store)
	for _, a := range attempts {
		_, err := h.Store.Commit(t.Context(), a.commit)
		mustFail(t, a.name, err, a.want)
		for _, other := range []error{catalog.ErrConflict, catalog.ErrExists, catalog.ErrReferenced} {
			if other != a.want && errors.Is(err, other) {
				t.Errorf("%s: the error %q wraps %q too", a.name, err, other)
			}
		}
		if rev := revisionOf(t, h.Store); rev != before.Head.Revision {
			t.Fatalf("%s: was refused, and moved the head from %d to %d", a.name, before.Head.Revision, rev)
		}
	}
	if diff := differ(before, mustContents(t, h.Second), byValue()); diff != "" {
		t.Fatalf("commits that were refused left (-before +after):\n%s", diff)
	}
}

func testStoreIf(t testing.TB, h StoreHarness) {
	for _, k := range catalog.Kinds() {
		id := mustIDs(t, h.Store, 3)
		e, absent, gone := entity(k, id), entity(k, id+1), entity(k, id+2)
		first := mustCommit(t, h.Store, create(e))
		second := mustCommit(t, h.Store, update(e, first), create(gone))
		third := mustCommit(t, h.Store, remove(gone, second))
		var attempts []attempt
		for name, commit := range map[string]catalog.Commit{
			"create what exists":          commitOf(create(e)),
			"update an older revision":    commitOf(update(e, first)),
			"update a revision of others": commitOf(update(e, third)),
			"update a revision to come":   commitOf(update(e, third+1)),
			"update what never was":       commitOf(update(absent, first)),
			"update what is gone":         commitOf(update(gone, second)),
			"delete an older revision":    commitOf(remove(e, first)),
			"delete a revision to come":   commitOf(remove(e, third+1)),
			"delete what must not exist":  commitOf(remove(e, 0)),
			"delete what never was":       commitOf(remove(absent, first)),
			"delete what is gone":         commitOf(remove(gone, second)),
			"fail after a write":          commitOf(create(absent), update(e, first)),
			"fail before a write":         commitOf(update(e, first), create(absent)),
		} {
			attempts = append(attempts, attempt{string(k) + ": " + name, commit, catalog.ErrConflict})
		}
		mustRefuse(t, h, attempts...)

		// An id may be used again, and absence be demanded.
		rev := mustCommit(t, h.Second, create(gone), remove(absent, 0))
		mustEntities(t, h.Store, k, written(e, second), written(gone, rev))
		mustCommit(t, h.Store, remove(e, second))
		again := mustCommit(t, h.Store, create(e))
		mustEntities(t, h.Second, k, written(e, again), written(gone, rev))
	}
}

// testStoreQuiet: a quiet change leaves the entity's revision, and is a commit like
// any other for the head and the feed. A loud one of the same revision still fits.
func testStoreQuiet(t testing.TB, h StoreHarness) {
	for _, others := range []int{0, 120} {
		id := mustIDs(t, h.Store, 2+others)
		p, k := entity(catalog.KindProvider, id), entity(catalog.KindKey, id+1)
		rev := mustCommit(t, h.Store, create(p), create(k))
		for i := range 2 {
			p.Spec = []byte(fmt.Sprintf(`{"sealed":"anew %d"}`, i))
			quiet := update(p, rev)
			quiet.Quiet = true
			writes := []catalog.Write{quiet, update(k, rev+catalog.Revision(i))}
			for j := range others * i {
				writes = append(writes, create(entity(catalog.KindModel, id+2+int64(j))))
			}
			at := mustCommit(t, h.Second, writes...)
			if at != rev+1+catalog.Revision(i) {
				t.Fatalf("a quiet commit has revision %d after %d", at, rev)
			}
			mustLook(t, h.Store, written(p, rev))
			mustLook(t, h.Store, written(k, at))
			if changes := since(t, h.Store, at-1); len(changes) != len(writes) || changes[0].Revision != at {
				t.Errorf("the feed has %+v", changes)
			}
		}
		stale := update(p, rev+1)
		stale.Quiet = true
		bad, worse := create(entity(catalog.KindProvider, id+50_000)), remove(p, rev)
		bad.Quiet, worse.Quiet = true, true
		mustRefuse(t, h, attempt{"quiet, at another revision", commitOf(stale), catalog.ErrConflict},
			attempt{"a quiet create", commitOf(bad), catalog.ErrInvalid}, attempt{"a quiet delete", commitOf(worse),
				catalog.ErrInvalid})
		loud := mustCommit(t, h.Store, update(p, rev))
		mustLook(t, h.Second, written(p, loud))
		mustCommit(t, h.Store, remove(p, loud), remove(k, rev+2))
	}
}

func testStoreBase(t testing.TB, h StoreHarness) {
	id := mustIDs(t, h.Store, 4)
	key := func(n int64) catalog.Entity { return entity(catalog.KindKey, id+n) }
	based := func(base catalog.Revision, c catalog.Commit) catalog.Commit {
		c.Base = base
		return c
	}
	mustRefuse(t, h, attempt{"ahead of an empty store", based(1, commitOf(create(key(0)))), catalog.ErrConflict})
	mustCommit(t, h.Store, create(key(0)))
	rev := mustCommit(t, h.Store, create(key(1)))
	for _, base := range []catalog.Revision{1, rev + 1, 1 << 40} {
		mustRefuse(t, h,
			attempt{fmt.Sprint("a write at ", base), based(base, commitOf(create(key(2)))), catalog.ErrConflict},
			attempt{fmt.Sprint("two writes at ", base), based(base, commitOf(create(key(2)), create(key(3)))),
				catalog.ErrConflict},
			attempt{fmt.Sprint("no write at ", base), based(base, commitOf()), catalog.ErrConflict},
			attempt{fmt.Sprint("a sync at ", base), based(base, catalog.Commit{Sync: true, Epoch: 9, Time: storeTime}),
				catalog.ErrConflict},
		)
	}
	for name, c := range map[string]catalog.Commit{
		"a write":    commitOf(create(key(2))),
		"two writes": commitOf(create(key(3)), remove(key(0), 1)),
		"a sync":     {Sync: true, Time: storeTime},
	} {
		got, err := h.Store.Commit(t.Context(), based(rev, c))
		if rev++; err != nil || got != rev {
			t.Fatalf("%s at the head: revision %d, %v; want %d", name, got, err, rev)
		}
	}
	if got, err := h.Store.Commit(t.Context(), based(rev, commitOf())); err != nil || got != rev {
		t.Fatalf("no write at the head: revision %d, %v; want %d", got, err, rev)
	}
}

// testStoreNothing: a commit that changes nothing leaves no trace, whatever it says besides.
func testStoreNothing(t testing.TB, h StoreHarness) {
	for rev := range catalog.Revision(3) {
		before := mustContents(t, h.Store)
		for _, s := range []catalog.Store{h.Store, h.Second} {
			c := commitOf()
			c.Epoch = 100
			got, err := s.Commit(t.Context(), c)
			if err != nil || got != rev {
				t.Fatalf("a commit without writes: revision %d, %v; want %d", got, err, rev)
			}
		}
		if diff := differ(before, mustContents(t, h.Second), byValue()); diff != "" {
			t.Fatalf("a commit without writes left (-before +after):\n%s", diff)
		}
		mustCommit(t, h.Store, create(entity(catalog.KindKey, mustIDs(t, h.Store, 1))))
	}
}

func testStoreSync(t testing.TB, h StoreHarness) {
	e := entity(catalog.KindKey, mustIDs(t, h.Store, 1))
	var feed []catalog.Change
	for i, step := range []struct {
		commit catalog.Commit
		epoch  catalog.Epoch // that the head then has
	}{
		{catalog.Commit{Sync: true}, 0},
		{catalog.Commit{Sync: true, Epoch: 5}, 5},
		{catalog.Commit{Sync: true, Epoch: 4}, 5},
		{catalog.Commit{Sync: true}, 5},
		{commitOf(create(e)), 5},
		{catalog.Commit{Epoch: 9, Writes: []catalog.Write{update(e, 5)}}, 5}, // is no sync
		{catalog.Commit{Epoch: 9, Writes: []catalog.Write{update(e, 6)}, Sync: true}, 9},
		{catalog.Commit{Epoch: 1 << 50, Sync: true}, 1 << 50},
	} {
		c := step.commit
		c.Time, c.Actor, c.Reason = storeTime.AddDate(0, 0, i), fmt.Sprint("actor ", i), fmt.Sprint("reason ", i)
		rev, err := h.Store.Commit(t.Context(), c)
		if want := catalog.Revision(i + 1); err != nil || rev != want {
			t.Fatalf("step %d: revision %d, %v; want %d", i, rev, err, want)
		}
		feed = append(feed, recorded(c, rev)...)
		got := mustContents(t, h.Second)
		if got.Head.Epoch != step.epoch || got.Head.Revision != rev {
			t.Fatalf("step %d: the head is %+v; want epoch %d, revision %d", i, got.Head, step.epoch, rev)
		}
		if diff := differ(feed, got.Changes, byValue()); diff != "" {
			t.Fatalf("step %d: the feed (-want +got):\n%s", i, diff)
		}
	}
	mustRefuse(t, h, attempt{"a sync with a write that fails",
		catalog.Commit{Sync: true, Epoch: 1 << 51, Time: storeTime, Writes: []catalog.Write{create(e)}}, catalog.ErrConflict})
}

// testStoreLarge does in one commit more than an engine does one by one: of every
// kind, with every field, new, changed and gone.
func testStoreLarge(t testing.TB, h StoreHarness) {
	const n = 60 // of each kind
	kinds := catalog.Kinds()
	id := mustIDs(t, h.Store, 2*n*len(kinds)+1)
	make := func(i int64) catalog.Entity {
		e := full(kinds[i/(2*n)], id+i)
		if refers := e.Kind.Refers(); len(refers) > 0 { // one that stays: every third of each kind does
			at := int64(slices.Index(kinds, refers[i%int64(len(refers))]))
			if to := at*2*n + 2; to < i {
				e.Ref = e.Kind.RefTo(full(kinds[at], id+to))
			}
		}
		return e
	}
	var first, second []catalog.Write
	now := map[catalog.Kind][]catalog.Entity{}
	for k := range int64(len(kinds)) {
		for i := k * 2 * n; i < k*2*n+n; i++ {
			first = append(first, create(make(i)))
		}
	}
	key := make(int64(slices.Index(kinds, catalog.KindKey)) * 2 * n)
	refused := append(slices.Clone(first), create(
		entity(catalog.KindKey, id+2*n*int64(len(kinds)), hashes(key.Hashes[1]))))
	mustRefuse(t, h, attempt{"a large commit whose last write fails", commitOf(refused...), catalog.ErrExists})

	rev := mustCommit(t, h.Store, first...)
	for _, k := range kinds {
		var want []catalog.Entity
		for _, w := range first {
			if w.Entity.Kind == k {
				want = append(want, written(w.Entity, rev))
			}
		}
		mustEntities(t, h.Second, k, want...)
		now[k] = want
	}
	if diff := differ(recorded(commitOf(first...), rev), since(t, h.Second, 0), byValue()); diff != "" {
		t.Errorf("the feed (-want +got):\n%s", diff)
	}

	for k := range int64(len(kinds)) {
		kind, left := kinds[k], []catalog.Entity(nil)
		for j, e := range now[kind] {
			switch {
			case j%3 == 0:
				second = append(second, remove(e, rev))
			case j%3 == 1:
				changed := e.Clone()
				changed.Status, changed.ExternalID, changed.Mentions, changed.DueAt = "changed", "", nil, time.Time{}
				if kind.HasTokens() {
					changed.Hashes = append(changed.Hashes[1:], fmt.Sprintf("3%063x", changed.ID))
				}
				second = append(second, update(changed, rev))
				left = append(left, written(changed, rev+1))
			default:
				left = append(left, e)
			}
		}
		for i := k*2*n + n; i < (k+1)*2*n; i++ {
			second = append(second, create(make(i)))
			left = append(left, written(make(i), rev+1))
		}
		now[kind] = left
	}
	mustCommit(t, h.Second, second...)
	for _, k := range kinds {
		mustEntities(t, h.Store, k, now[k]...)
	}
	if diff := differ(recorded(commitOf(second...), rev+1), since(t, h.Second, rev), byValue()); diff != "" {
		t.Errorf("the feed of the second (-want +got):\n%s", diff)
	}
	for _, k := range kinds {
		for _, e := range now[k] {
			for _, hash := range e.Hashes {
				mustBeFound(t, h.Store, holding{kind: k, by: catalog.ByHash}, hash, e.ID)
			}
		}
	}
}

func testStoreCanceled(t testing.TB, h StoreHarness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := entity(catalog.KindKey, mustIDs(t, h.Store, 1))
	before := mustContents(t, h.Store)
	_, err := h.Store.Commit(ctx, commitOf(create(e)))
	mustFail(t, "Commit", err, context.Canceled)
	_, err = h.Store.Commit(ctx, catalog.Commit{Sync: true, Time: storeTime})
	mustFail(t, "Commit of a sync", err, context.Canceled)
	_, err = h.Store.NextIDs(ctx, 1)
	mustFail(t, "NextIDs", err, context.Canceled)
	err = h.Store.Read(ctx, func(catalog.Reader) error { return nil })
	mustFail(t, "Read", err, context.Canceled)
	if diff := differ(before, mustContents(t, h.Second), byValue()); diff != "" {
		t.Fatalf("canceled commits left (-before +after):\n%s", diff)
	}
	mustCommit(t, h.Store, create(e))
}
