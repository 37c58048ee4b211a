package storagetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ez-api/ez-api/catalog"
)

// storeTime is when the commits of tests happen, in the microseconds that a
// store must keep.
var storeTime = time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC)

// entity makes an entity as package catalog would, changed by edits.
func entity(k catalog.Kind, id int64, edits ...func(*catalog.Entity)) catalog.Entity {
	e := catalog.Entity{
		Kind: k, ID: id, CreatedAt: storeTime, UpdatedAt: storeTime,
		Name: fmt.Sprintf("%s-%d", k.Noun(), id), Status: "active",
		Namespaces: []string{"default"}, Groups: []string{"default"}, Spec: json.RawMessage(`{}`),
	}
	if k.HasTokens() {
		e.Hashes = []string{fmt.Sprintf("%064x", id)}
	} else {
		e.NaturalKey = "default." + e.Name
	}
	for _, edit := range edits {
		edit(&e)
	}
	return e
}

// The edits that tests need often.

func natural(key string) func(*catalog.Entity)   { return func(e *catalog.Entity) { e.NaturalKey = key } }
func external(id string) func(*catalog.Entity)   { return func(e *catalog.Entity) { e.ExternalID = id } }
func hashes(all ...string) func(*catalog.Entity) { return func(e *catalog.Entity) { e.Hashes = all } }
func refer(key string) func(*catalog.Entity)     { return func(e *catalog.Entity) { e.Ref = key } }
func spec(text string) func(*catalog.Entity) {
	return func(e *catalog.Entity) { e.Spec = json.RawMessage(text) }
}

// create makes the write of a new entity.
func create(e catalog.Entity) catalog.Write {
	return catalog.Write{Entity: e, Change: catalog.Change{
		Action: catalog.ActionCreate, Kind: e.Kind, ID: e.ID, After: describe(e), Touches: touched(e),
	}}
}

// update makes the write of an entity that is at a revision.
func update(e catalog.Entity, is catalog.Revision) catalog.Write {
	return catalog.Write{Entity: e, If: is, Change: catalog.Change{
		Action: catalog.ActionUpdate, Kind: e.Kind, ID: e.ID, Before: describe(e), After: describe(e), Touches: touched(e),
	}}
}

// remove makes the write that deletes an entity that is at a revision.
func remove(e catalog.Entity, is catalog.Revision) catalog.Write {
	return catalog.Write{
		Entity: catalog.Entity{Kind: e.Kind, ID: e.ID}, If: is, Delete: true,
		Change: catalog.Change{Action: catalog.ActionDelete, Kind: e.Kind, ID: e.ID, Before: describe(e),
			Touches: touched(e)},
	}
}

func describe(e catalog.Entity) json.RawMessage {
	name, _ := json.Marshal(e.Name) //nolint:errchkjson // a text
	return fmt.Appendf(nil, `{"id":%d,"name":%s}`, e.ID, name)
}

func touched(e catalog.Entity) catalog.Touches {
	t := catalog.Touches{Hashes: slices.Clone(e.Hashes), Groups: slices.Clone(e.Groups)}
	if e.NaturalKey != "" {
		t.NaturalKeys = []string{e.NaturalKey}
	}
	if e.Ref != "" {
		t.Refs = []string{e.Ref}
	}
	return t
}

// commitOf makes a commit of writes.
func commitOf(writes ...catalog.Write) catalog.Commit {
	return catalog.Commit{Writes: writes, Time: storeTime, Actor: "tester", Reason: "a test"}
}

func mustCommit(t testing.TB, s catalog.Store, writes ...catalog.Write) catalog.Revision {
	t.Helper()
	rev, err := s.Commit(t.Context(), commitOf(writes...))
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return rev
}

// mustIDs reserves n ids and returns the first.
func mustIDs(t testing.TB, s catalog.Store, n int) int64 {
	t.Helper()
	first, err := s.NextIDs(t.Context(), n)
	if err != nil {
		t.Fatalf("NextIDs(%d): %v", n, err)
	}
	return first
}

func mustRead(t testing.TB, s catalog.Store, fn func(r catalog.Reader)) {
	t.Helper()
	err := s.Read(t.Context(), func(r catalog.Reader) error {
		fn(r)
		return nil
	})
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
}

// contents is all that can be read of a store at one revision.
type contents struct {
	Head     catalog.Head
	Entities map[catalog.Kind][]catalog.Entity
	Changes  []catalog.Change
	Marks    []catalog.Mark // from revision 0 on
}

func mustContents(t testing.TB, s catalog.Store) (c contents) {
	t.Helper()
	mustRead(t, s, func(r catalog.Reader) { c = contentsOf(t, r) })
	return c
}

// contentsOf reads everything, of a store of which nothing was pruned.
func contentsOf(t testing.TB, r catalog.Reader) contents {
	t.Helper()
	c := contents{Head: r.Head(), Entities: make(map[catalog.Kind][]catalog.Entity)}
	var err error
	for _, k := range catalog.Kinds() {
		if c.Entities[k], err = r.List(t.Context(), k, catalog.Query{}); err != nil {
			t.Fatalf("List %s: %v", k, err)
		}
	}
	if c.Changes, err = r.Changes(t.Context(), catalog.Cursor{}, 1<<20); err != nil {
		t.Fatalf("Changes: %v", err)
	}
	for rev := range c.Head.Revision + 1 {
		mark, err := r.MarkAt(t.Context(), rev)
		if err != nil {
			t.Fatalf("MarkAt(%d): %v", rev, err)
		}
		c.Marks = append(c.Marks, mark)
	}
	return c
}

// byValue compares what a store keeps: nil and empty are one, JSON is kept byte
// for byte, and times must be in UTC as they were given.
func byValue() cmp.Option {
	return cmp.Options{
		cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) && a.Location() == b.Location() }),
	}
}

// mustEntities compares what the store has of a kind.
func mustEntities(t testing.TB, s catalog.Store, k catalog.Kind, want ...catalog.Entity) {
	t.Helper()
	mustRead(t, s, func(r catalog.Reader) {
		got, err := r.List(t.Context(), k, catalog.Query{})
		if err != nil {
			t.Fatalf("List %s: %v", k, err)
		}
		if diff := differ(want, got, byValue()); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", k, diff)
		}
	})
}

func revisionOf(t testing.TB, s catalog.Store) (rev catalog.Revision) {
	t.Helper()
	mustRead(t, s, func(r catalog.Reader) { rev = r.Head().Revision })
	return rev
}

// since returns the changes after a revision, all at once.
func since(t testing.TB, s catalog.Store, after catalog.Revision) (changes []catalog.Change) {
	t.Helper()
	mustRead(t, s, func(r catalog.Reader) {
		var err error
		if changes, err = r.Changes(t.Context(), catalog.Cursor{Revision: after}, 1<<20); err != nil {
			t.Fatalf("Changes after %d: %v", after, err)
		}
	})
	return changes
}

// written returns the entity as it is once a commit gave it the revision.
func written(e catalog.Entity, rev catalog.Revision) catalog.Entity {
	e.Revision = rev
	return e
}

// recorded lists the changes that a commit leaves in the feed.
func recorded(c catalog.Commit, rev catalog.Revision) (changes []catalog.Change) {
	for _, w := range c.Writes {
		changes = append(changes, w.Change)
	}
	if c.Sync {
		changes = append(changes, catalog.Change{Action: catalog.ActionSync})
	}
	for i := range changes {
		ch := &changes[i]
		ch.Revision, ch.Seq, ch.Time, ch.Actor, ch.Reason = rev, i+1, c.Time, c.Actor, c.Reason
	}
	return changes
}

// cloned returns a commit that shares no memory with c.
func cloned(c catalog.Commit) catalog.Commit {
	c.Writes, c.Caps = slices.Clone(c.Writes), slices.Clone(c.Caps)
	for i := range c.Writes {
		w := &c.Writes[i]
		w.Entity, w.Change = w.Entity.Clone(), w.Change.Clone()
	}
	return c
}

// full makes an entity of a kind with every field that the kind may have. Its
// texts are what careless escaping would trip over.
func full(k catalog.Kind, id int64) catalog.Entity {
	odd := fmt.Sprintf(`it's "%d" \ %%s $1 {a,b} [1] -- ; `, id) + "é 漢字 😀\t\n"
	e := entity(k, id, natural("n "+odd), external("x "+odd), spec(
		`{"zz" : 1, "zz2":1e300,"big":12345678901234567890,"float":0.10,"deep":{"a":[1,null,true,{"b":"\u00e9\\\""}]},"odd":`+quoted(odd)+`,"empty":""}`))
	e.CreatedAt, e.UpdatedAt, e.DueAt = storeTime.Add(-time.Hour), storeTime.Add(time.Microsecond), storeTime.AddDate(
		100, 0, 0)
	e.Name, e.Status = "name "+odd, "status "+odd
	e.Namespaces, e.Groups = []string{"z", "a", odd, ""}, []string{"9", "10", odd}
	e.Mentions = []string{"m/1", odd, "a"}
	e.Labels = map[string]string{"team": odd, odd: "x", "empty": ""}
	if k.HasTokens() {
		e.Hashes = []string{fmt.Sprintf("f%063x", id), fmt.Sprintf("0%063x", id), fmt.Sprintf("7%063x", id)}
	}
	return e
}

func quoted(s string) string {
	text, _ := json.Marshal(s) // strings always marshal
	return string(text)
}
