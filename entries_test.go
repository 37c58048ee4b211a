package ezapi_test

import (
	"testing"
	"testing/synctest"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// A key that was made a moment ago, of which this control plane has not heard yet, has its project all
// the same when an entry of it leaves.
func TestEntriesOfANewKeyGetItsProject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, keeper, sink := memstore.New(nil), catalog.NewRandomKeyRing(), memstore.NewSink(nil)
		other := newPlane(t, ezapi.Config{Catalog: store, Keeper: keeper})
		if _, err := other.Projects.Create(t.Context(), catalog.Project{Name: "a"}); err != nil {
			t.Fatal(err)
		}
		plane := runPlane(t, ezapi.Config{Catalog: deaf{store}, Keeper: keeper, LogSink: sink,
			Publisher: deafPublisher{memstore.NewPublisher()}})
		eventually(t, "the catalog is known", func() bool { return plane.Stats().Copies.Revision == 1 })
		key, err := other.Keys.Create(t.Context(), ezapi.Key{Name: "k", Project: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if err := plane.AppendLogs(t.Context(), ezapi.LogEntry{KeyID: key.ID}); err != nil {
			t.Fatal(err)
		}
		if err := plane.Logs().Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		page, err := sink.Logs(t.Context(), logbuf.LogQuery{})
		if err != nil || len(page.Entries) != 1 || page.Entries[0].Project != "a" {
			t.Errorf("%+v, %v", page.Entries, err)
		}
	})
}

// An entry without a project gets that of its key: the one that it has at acceptance, or, where the
// balancer knew of a later revision or the catalog did not answer, the one when it leaves.
func TestEntriesGetTheProjectOfTheirKey(t *testing.T) {
	for name, c := range map[string]struct {
		entry ezapi.LogEntry
		want  string
	}{
		"of the key":                    {ezapi.LogEntry{}, "a"},
		"with a cost of its own":        {ezapi.LogEntry{CostNanoUSD: new(int64(1))}, "a"},
		"its own":                       {ezapi.LogEntry{Project: "b/c"}, "b/c"},
		"no path":                       {ezapi.LogEntry{Project: "B and C"}, "a"},
		"of no key":                     {ezapi.LogEntry{KeyID: -1}, ""},
		"of a key that is not there":    {ezapi.LogEntry{KeyID: 999}, ""},
		"knows more":                    {ezapi.LogEntry{Revision: "5-5"}, "b"},
		"knows more, and its own cost":  {ezapi.LogEntry{Revision: "5-5", CostNanoUSD: new(int64(1))}, "b"},
		"knows as much":                 {ezapi.LogEntry{Revision: "5-4"}, "a"},
		"knows more, and its own whole": {ezapi.LogEntry{Revision: "5-5", CostNanoUSD: new(int64(1)), Project: "x"}, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, keeper := memstore.New(nil), catalog.NewRandomKeyRing()
				other := newPlane(t, ezapi.Config{Catalog: store, Keeper: keeper})
				if _, err := store.Commit(t.Context(), catalog.Commit{Sync: true, Epoch: 5, Time: other.Now()}); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"a", "b"} {
					if _, err := other.Projects.Create(t.Context(), catalog.Project{Name: name}); err != nil {
						t.Fatal(err)
					}
				}
				key, err := other.Keys.Create(t.Context(), ezapi.Key{Name: "k", Project: "a"})
				if err != nil {
					t.Fatal(err)
				}
				sink := memstore.NewSink(nil)
				plane := runPlane(t, ezapi.Config{Catalog: deaf{store}, Keeper: keeper, LogSink: sink,
					Publisher: deafPublisher{memstore.NewPublisher()}})
				eventually(t, "the catalog is known", func() bool { return plane.Stats().Copies.Revision == 4 })
				if _, err := other.Keys.Edit(t.Context(), key.ID, func(k *ezapi.Key) error {
					k.Project = "b"
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				switch c.entry.KeyID {
				case 0:
					c.entry.KeyID = key.ID
				case -1:
					c.entry.KeyID = 0
				}
				if err := plane.AppendLogs(t.Context(), c.entry); err != nil {
					t.Fatal(err)
				}
				if err := plane.Logs().Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				page, err := sink.Logs(t.Context(), logbuf.LogQuery{})
				if err != nil || len(page.Entries) != 1 {
					t.Fatalf("%d entries, %v", len(page.Entries), err)
				}
				if e := page.Entries[0]; e.Project != c.want || (e.CostNanoUSD != nil) != (c.entry.CostNanoUSD != nil) {
					t.Errorf("project %q, cost %v; want %q", e.Project, e.CostNanoUSD, c.want)
				}
				if replaced := plane.Stats().Logs.Replaced; replaced != 0 != (name == "no path") {
					t.Errorf("%d texts were replaced", replaced)
				}
			})
		})
	}
}
