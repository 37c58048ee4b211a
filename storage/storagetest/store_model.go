package storagetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
)

// storeModel is a store that is a list of entities, and no more than what
// catalog.Store says.
type storeModel struct {
	epoch    catalog.Epoch
	revision catalog.Revision
	time     time.Time        // of the last commit
	entities []catalog.Entity // in order of id
	feed     []catalog.Change
}

// commit applies c, or returns all the errors that catalog.Store names for it. A
// store may say any one of them.
func (m *storeModel) commit(c catalog.Commit) []error {
	if c.Base != 0 && c.Base != m.revision {
		return []error{catalog.ErrConflict}
	}
	if len(c.Writes) == 0 && !c.Sync {
		return nil
	}
	wrong := map[error]bool{}
	after := slices.Clone(m.entities)
	for _, w := range c.Writes {
		i, found := slices.BinarySearchFunc(after, w.Entity.ID,
			func(e catalog.Entity, id int64) int { return int(e.ID - id) })
		is := catalog.Revision(0)
		if found {
			is = after[i].Revision
			after = slices.Delete(after, i, i+1)
		}
		if is != w.If {
			wrong[catalog.ErrConflict] = true
		}
		if !w.Delete {
			after = slices.Insert(after, i, written(w.Entity, m.revision+1))
		}
	}
	for i, e := range after {
		if slices.ContainsFunc(after[:i], func(o catalog.Entity) bool { return collide(e, o) }) {
			wrong[catalog.ErrExists] = true
		}
		if e.Ref != "" && !slices.ContainsFunc(after, func(o catalog.Entity) bool { return e.Kind.RefTo(o) == e.Ref }) {
			wrong[catalog.ErrReferenced] = true
		}
	}
	if wrong[catalog.ErrConflict] { // and so what would be there is not what was meant
		return []error{catalog.ErrConflict, catalog.ErrExists, catalog.ErrReferenced}
	}
	if len(wrong) > 0 {
		return slices.Collect(maps.Keys(wrong))
	}
	m.revision++
	m.time = c.Time
	m.entities = after
	m.feed = append(m.feed, recorded(c, m.revision)...)
	if c.Sync {
		m.epoch = max(m.epoch, c.Epoch)
	}
	return nil
}

// collide reports whether two entities hold a unique value of the same kind.
func collide(a, b catalog.Entity) bool {
	for by, values := range uniques(a) {
		for _, value := range uniques(b)[by] {
			if a.Kind == b.Kind && slices.Contains(values, value) {
				return true
			}
		}
	}
	return false
}

// testStoreModel commits at random, and compares every answer, and all that
// there then is to read, with a model.
func testStoreModel(t testing.TB, h StoreHarness) {
	first := mustIDs(t, h.Store, len(catalog.Kinds())*each)
	handle := rapid.SampledFrom([]string{"Store", "Second"})
	handles := map[string]catalog.Store{"Store": h.Store, "Second": h.Second}
	rapid.Check(t, func(r *rapid.T) {
		t := inRapid{t, r}
		m := afresh(t, h.Store, first)
		start := m.revision
		for range rapid.IntRange(1, 3).Draw(r, "commits") {
			c := randomCommit(r, m, first)
			want := m.commit(c)
			rev, err := handles[handle.Draw(r, "handle")].Commit(t.Context(), c)
			expected := err == nil && want == nil || slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) })
			if !expected || err == nil && rev != m.revision {
				t.Fatalf("Commit %+v: %d, %v; want %d, %v", c, rev, err, m.revision, want)
			}
		}
		mustModel(t, handles[handle.Draw(r, "handle")], m, start)
	})
}

// afresh deletes all that is in a store, and writes a little of each kind. It
// returns the model of what there then is.
func afresh(t testing.TB, s catalog.Store, first int64) *storeModel {
	t.Helper()
	m := &storeModel{}
	c := commitOf()
	mustRead(t, s, func(r catalog.Reader) {
		m.epoch, m.revision, m.time = r.Head().Epoch, r.Head().Revision, r.Head().Time
		for _, k := range catalog.Kinds() {
			all, err := r.List(t.Context(), k, catalog.Query{})
			if err != nil {
				t.Fatalf("List %s: %v", k, err)
			}
			m.entities = append(m.entities, all...)
			for _, e := range all {
				c.Writes = append(c.Writes, remove(e, e.Revision))
			}
		}
	})
	slices.SortFunc(m.entities, func(a, b catalog.Entity) int { return int(a.ID - b.ID) })
	some := commitOf()
	for i, k := range catalog.Kinds() {
		e := entity(k, first+int64(each*i), natural("a"), external("b"))
		if k.HasTokens() {
			e.Hashes = []string{"a", "b"}
		}
		if refs := randomRefs(k, first); len(refs) > 0 && k != catalog.KindProject {
			e.Ref = refs[0]
		}
		some.Writes = append(some.Writes, create(e))
	}
	for _, c := range []catalog.Commit{c, some} {
		wrong := m.commit(c)
		if rev, got := s.Commit(t.Context(), c); wrong != nil || got != nil || rev != m.revision {
			t.Fatalf("Commit that begins afresh: %d, %v; want %d, %v", rev, got, m.revision, wrong)
		}
	}
	m.feed = nil
	return m
}

// each is how many entities there are at most of a kind: few, so that they meet.
const each = 2

func randomCommit(r *rapid.T, m *storeModel, first int64) catalog.Commit {
	often := func(what string, one int) bool { return rapid.IntRange(1, one).Draw(r, what) == one }
	c := catalog.Commit{Sync: often("sync", 6), Time: storeTime.Add(time.Duration(m.revision) * time.Second),
		Actor: fmt.Sprint("actor ", m.revision)}
	if often("epoch", 6) {
		c.Epoch = max(0, m.epoch+catalog.Epoch(rapid.IntRange(-1, 2).Draw(r, "raise")))
	}
	if often("base", 6) {
		c.Base = max(0, m.revision+catalog.Revision(rapid.IntRange(-1, 1).Draw(r, "off")))
	}

	is := make(map[int64]catalog.Revision)
	for _, e := range m.entities {
		is[e.ID] = e.Revision
	}
	for range rapid.IntRange(0, 4).Draw(r, "writes") {
		e := randomEntity(r, first)
		at := is[e.ID]
		if slices.ContainsFunc(c.Writes, func(w catalog.Write) bool { return w.Entity.ID == e.ID }) {
			continue // an entity is written once
		}
		if often("another revision", 20) {
			at = max(0, rapid.SampledFrom([]catalog.Revision{0, at - 1, m.revision}).Draw(r, "if"))
		}
		switch {
		case often("delete", 4):
			c.Writes = append(c.Writes, remove(e, at))
		case at == 0:
			c.Writes = append(c.Writes, create(e))
		default:
			c.Writes = append(c.Writes, update(e, at))
		}
	}
	return c
}

func randomEntity(r *rapid.T, first int64) catalog.Entity {
	value := rapid.SampledFrom([]string{"", "a", "b"})
	n := rapid.IntRange(0, len(catalog.Kinds())*each-1).Draw(r, "entity")
	e := entity(catalog.Kinds()[n/each], first+int64(n), natural(value.Draw(r, "natural key")))
	e.Name = value.Draw(r, "name")
	if rapid.Bool().Draw(r, "has an external id") {
		e.ExternalID = value.Draw(r, "external id")
	}
	e.Hashes = nil
	if e.Kind.HasTokens() {
		e.Hashes = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2, rapid.ID).Draw(r, "hashes")
	}
	if refs := randomRefs(e.Kind, first); len(refs) > 0 {
		e.Ref = rapid.SampledFrom(append(refs, "")).Draw(r, "ref")
	}
	return e
}

// randomRefs lists what entities of a kind may refer to, whether it is there or not.
func randomRefs(k catalog.Kind, first int64) (refs []string) {
	for _, to := range k.Refers() {
		at := first + int64(each*slices.Index(catalog.Kinds(), to))
		a, b := entity(to, at, natural("a")), entity(to, at+1, natural("b"))
		refs = append(refs, k.RefTo(a), k.RefTo(b))
	}
	return refs
}

// mustModel compares all that can be read, the feed after a revision.
func mustModel(t testing.TB, s catalog.Store, m *storeModel, after catalog.Revision) {
	t.Helper()
	mustRead(t, s, func(r catalog.Reader) {
		head := r.Head()
		want := contents{Head: catalog.Head{Store: head.Store, Mark: head.Mark, Epoch: m.epoch, Revision: m.revision,
			Time: m.time}, Changes: m.feed}
		got := contents{Head: head}
		want.Entities, got.Entities = make(map[catalog.Kind][]catalog.Entity), make(map[catalog.Kind][]catalog.Entity)
		var err error
		for _, k := range catalog.Kinds() {
			want.Entities[k] = nil
			if got.Entities[k], err = r.List(t.Context(), k, catalog.Query{}); err != nil {
				t.Fatalf("List %s: %v", k, err)
			}
		}
		for _, e := range m.entities {
			want.Entities[e.Kind] = append(want.Entities[e.Kind], e)
			for by, values := range uniques(e) {
				for _, value := range values {
					if found, err := r.Find(t.Context(), e.Kind, by, value); err != nil || found.ID != e.ID {
						t.Fatalf("Find %s by %s %q: %d, %v; want %d", e.Kind, by, value, found.ID, err, e.ID)
					}
				}
			}
		}
		if got.Changes, err = r.Changes(t.Context(), catalog.Cursor{Revision: after}, 1<<20); err != nil {
			t.Fatalf("Changes after %d: %v", after, err)
		}
		if diff := differ(want, got, byValue()); diff != "" {
			t.Fatalf("the store is not like its model (-want +got):\n%s", diff)
		}
	})
}
