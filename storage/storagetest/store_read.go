package storagetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
)

func testReadError(t testing.TB, h StoreHarness) {
	mine := errors.New("mine")
	//nolint:errorlint // as it is
	if err := h.Store.Read(t.Context(), func(catalog.Reader) error { return mine }); err != mine {
		t.Errorf("Read: %#v; want what fn returned", err)
	}
	mustRead(t, h.Store, func(catalog.Reader) {}) // nothing is left locked
	mustCommit(t, h.Store, create(entity(catalog.KindKey, mustIDs(t, h.Store, 1))))
}

// testReadFind: values are looked for in one kind and one index.
func testReadFind(t testing.TB, h StoreHarness) {
	id := mustIDs(t, h.Store, 2)
	e := entity(catalog.KindKey, id, natural("n"), external("x"), hashes("a", "b"))
	bare := entity(catalog.KindKey, id+1, hashes())
	rev := mustCommit(t, h.Store, create(e), create(bare))
	mustLook(t, h.Second, written(e, rev), written(bare, rev))
	mustRead(t, h.Store, func(r catalog.Reader) {
		for _, k := range catalog.Kinds() {
			if _, err := r.Get(t.Context(), k, id); k != catalog.KindKey {
				mustFail(t, "Get of another kind", err, catalog.ErrNotFound)
			}
			for _, by := range []catalog.Index{catalog.ByNaturalKey, catalog.ByExternalID, catalog.ByHash} {
				for _, value := range []string{"n", "x", "a", "b", "N", "X", "A", "%", "*", "", " n", "n "} {
					_, err := r.Find(t.Context(), k, by, value)
					if k == catalog.KindKey && slices.Contains(uniques(e)[by], value) {
						if err != nil {
							t.Errorf("Find %s by %s %q: %v", k, by, value, err)
						}
						continue
					}
					mustFail(t, fmt.Sprintf("Find %s by %s %q", k, by, value), err, catalog.ErrNotFound)
				}
			}
		}
	})
}

// ids lists the entities' ids, from the first on.
func ids(entities []catalog.Entity, first int64) []int64 {
	list := make([]int64, len(entities))
	for i, e := range entities {
		list[i] = e.ID - first
	}
	return list
}

func testReadFilters(t testing.TB, h StoreHarness) {
	id := mustIDs(t, h.Store, 7)
	due := storeTime.Add(time.Hour)
	mustCommit(t, h.Store,
		create(entity(catalog.KindModel, id+5, natural("m"))), create(entity(catalog.KindModel, id+6, natural("n"))),
		create(entity(catalog.KindBinding, id, natural("zero"), refer("m"), func(e *catalog.Entity) {
			e.Name, e.Status, e.Namespaces, e.Groups = "a", "active", []string{"x", "y"}, []string{"g", "h"}
			e.Mentions = []string{"gpt", "a/b"}
			e.ExternalID = "Straße 100%"
			e.Labels, e.DueAt = map[string]string{"team": "blue", "tier": "1"}, due
		})),
		create(entity(catalog.KindBinding, id+1, natural("one"), refer("n"), func(e *catalog.Entity) {
			e.Name, e.Status, e.Namespaces, e.Groups = "a", "disabled", []string{"y"}, []string{"h"}
			e.Mentions = []string{"gp", "a/b"}
			e.ExternalID = "ÉCLAIR_1000"
			e.Labels, e.DueAt = map[string]string{"team": "blue", "empty": ""}, due.Add(-time.Microsecond)
		})),
		create(entity(catalog.KindBinding, id+2, natural("two"), refer("m"), func(e *catalog.Entity) {
			e.Name, e.Namespaces, e.Groups = "b", []string{"xy", "X"}, []string{"gh"}
			e.Labels = map[string]string{"team": "red", "blue": "team"}
		})),
		create(entity(catalog.KindBinding, id+3, natural("three"), func(e *catalog.Entity) {
			e.Name, e.Status, e.Namespaces, e.Groups, e.DueAt = "", "", nil, nil, due.AddDate(1, 0, 0)
		})),
	)
	for _, tt := range []struct {
		name  string
		query catalog.Query
		want  []int64
	}{
		{"nothing", catalog.Query{}, []int64{0, 1, 2, 3}},
		{"empty sets", catalog.Query{IDs: []int64{}, Names: []string{}, Labels: map[string]string{}}, []int64{0, 1, 2, 3}},
		{"after", catalog.Query{After: id + 1}, []int64{2, 3}},
		{"after none", catalog.Query{After: id + 4}, nil},
		{"limit", catalog.Query{Limit: 3}, []int64{0, 1, 2}},
		{"limit above", catalog.Query{Limit: 9}, []int64{0, 1, 2, 3}},
		{"after and limit", catalog.Query{After: id, Limit: 2}, []int64{1, 2}},
		{"ids in any order", catalog.Query{IDs: []int64{id + 3, id + 9, id, id + 3}}, []int64{0, 3}},
		{"ids, after, limit", catalog.Query{IDs: []int64{id + 3, id + 2, id}, After: id, Limit: 1}, []int64{2}},
		{"ids of another kind", catalog.Query{IDs: []int64{id + 5}}, nil},
		{"natural keys", catalog.Query{NaturalKeys: []string{"two", "none", "zero", "two"}}, []int64{0, 2}},
		{"natural keys of another kind", catalog.Query{NaturalKeys: []string{"m"}}, nil},
		{"refs", catalog.Query{Refs: []string{"n", "none"}}, []int64{1}},
		{"refs, twice", catalog.Query{Refs: []string{"n", "m"}}, []int64{0, 1, 2}},
		{"refs and limit", catalog.Query{Refs: []string{"m"}, Limit: 1}, []int64{0}},
		{"names", catalog.Query{Names: []string{"a"}}, []int64{0, 1}},
		{"names, two", catalog.Query{Names: []string{"b", "a", "A", "c"}}, []int64{0, 1, 2}},
		{"names, limit counts what is selected", catalog.Query{Names: []string{"b"}, Limit: 1}, []int64{2}},
		{"external ids", catalog.Query{ExternalIDs: []string{"ÉCLAIR_1000", "éclair_1000", "none"}}, []int64{1}},
		{"external ids, one wrong", catalog.Query{ExternalIDs: []string{"Straße 100%"}, After: id}, nil},
		{"text in a name", catalog.Query{Text: "B"}, []int64{2}},
		{"text in an external id", catalog.Query{Text: "cLaiR"}, []int64{1}},
		{"text with marks", catalog.Query{Text: "éCLA"}, []int64{1}},
		{"text in either", catalog.Query{Text: "A"}, []int64{0, 1}},
		{"text that spans both", catalog.Query{Text: "aÉ"}, nil},
		{"text is no pattern", catalog.Query{Text: "100%"}, []int64{0}},
		{"text is no pattern of one letter", catalog.Query{Text: "_100"}, []int64{1}},
		{"text in a script without case", catalog.Query{Text: "ß"}, []int64{0}},
		{"text that nothing has", catalog.Query{Text: "%%"}, nil},
		{"status", catalog.Query{Status: "active"}, []int64{0, 2}},
		{"status of none", catalog.Query{Status: "Active"}, nil},
		{"namespace", catalog.Query{Namespace: "y"}, []int64{0, 1}},
		{"namespace is not part of one", catalog.Query{Namespace: "x"}, []int64{0}},
		{"namespace with a case", catalog.Query{Namespace: "X"}, []int64{2}},
		{"groups", catalog.Query{Groups: []string{"g"}}, []int64{0}},
		{"groups share one", catalog.Query{Groups: []string{"gh", "h"}}, []int64{0, 1, 2}},
		{"mentions", catalog.Query{Mentions: []string{"gpt"}}, []int64{0}},
		{"mentions share one", catalog.Query{Mentions: []string{"gp", "none", "gpt"}}, []int64{0, 1}},
		{"mentions of none", catalog.Query{Mentions: []string{"GPT", "a"}}, nil},
		{"labels", catalog.Query{Labels: map[string]string{"team": "blue"}}, []int64{0, 1}},
		{"labels, all of them", catalog.Query{Labels: map[string]string{"team": "blue", "tier": "1"}}, []int64{0}},
		{"labels, one is wrong", catalog.Query{Labels: map[string]string{"team": "blue", "tier": "2"}}, nil},
		{"a label that is empty", catalog.Query{Labels: map[string]string{"empty": ""}}, []int64{1}},
		{"due", catalog.Query{DueBefore: due}, []int64{1}},
		{"due a microsecond later", catalog.Query{DueBefore: due.Add(time.Microsecond)}, []int64{0, 1}},
		{"due at all", catalog.Query{DueBefore: due.AddDate(10, 0, 0)}, []int64{0, 1, 3}},
		{"everything holds", catalog.Query{
			IDs: []int64{id, id + 1}, NaturalKeys: []string{"zero", "two"}, Refs: []string{"m"}, Names: []string{"a"},
			Status:    "active",
			Namespace: "x", Groups: []string{"h"}, Labels: map[string]string{"tier": "1"},
			DueBefore: due.Add(time.Hour), After: id - 1, Limit: 1,
		}, []int64{0}},
		{"two sets that do not meet", catalog.Query{IDs: []int64{id + 1}, NaturalKeys: []string{"zero"}}, nil},
	} {
		mustRead(t, h.Second, func(r catalog.Reader) {
			got, err := r.List(t.Context(), catalog.KindBinding, tt.query)
			if err != nil || !slices.Equal(ids(got, id), tt.want) {
				t.Errorf("%s: List %+v: %v, %v; want %v", tt.name, tt.query, ids(got, id), err, tt.want)
			}
			all := tt.query
			all.After, all.Limit = 0, 0
			list, err := r.List(t.Context(), catalog.KindBinding, all)
			n, countErr := r.Count(t.Context(), catalog.KindBinding, tt.query)
			if n != int64(len(list)) || err != nil || countErr != nil {
				t.Errorf("%s: Count %+v: %d, %v, %v; want %d", tt.name, tt.query, n, err, countErr, len(list))
			}
		})
	}
}

// testReadUnstorable: for a text that no entity can have the answer is that none has it, and the view
// stays good.
func testReadUnstorable(t testing.TB, h StoreHarness) {
	id := mustIDs(t, h.Store, 1)
	e := entity(catalog.KindKey, id, natural("n"), external("n"), hashes("n"), func(e *catalog.Entity) {
		e.Name, e.Status, e.Namespaces, e.Groups, e.Mentions = "n", "n", []string{"n"}, []string{"n"}, []string{"n"}
		e.Labels = map[string]string{"n": "n"}
	})
	rev := mustCommit(t, h.Store, create(e))
	mustRead(t, h.Store, func(r catalog.Reader) {
		for _, text := range []string{"\x00", "n\x00", "\x00n", "n\x00n", "\xff", "n\xc3", "\xed\xa0\x80"} {
			for _, by := range []catalog.Index{catalog.ByNaturalKey, catalog.ByExternalID, catalog.ByHash} {
				_, err := r.Find(t.Context(), e.Kind, by, text)
				mustFail(t, fmt.Sprintf("Find by %s %q", by, text), err, catalog.ErrNotFound)
			}
			one := []string{text}
			for i, q := range []catalog.Query{
				{NaturalKeys: one}, {Refs: one}, {RefUnder: text}, {KeyUnder: text}, {Names: one}, {ExternalIDs: one},
				{Text: text}, {Status: text}, {Namespace: text}, {Groups: one}, {Mentions: one},
				{Labels: map[string]string{text: "n"}}, {Labels: map[string]string{"n": text}},
			} {
				list, err := r.List(t.Context(), e.Kind, q)
				n, countErr := r.Count(t.Context(), e.Kind, q)
				if err != nil || countErr != nil || len(list) != 0 || n != 0 {
					t.Errorf("%q by query %d: %d entities, %v; %d counted, %v", text, i, len(list), err, n, countErr)
				}
			}
			list, err := r.List(t.Context(), e.Kind, catalog.Query{Names: []string{text, "n"}})
			if err != nil || len(list) != 1 {
				t.Errorf("%q beside a name that is there: %d, %v", text, len(list), err)
			}
		}
	})
	mustLook(t, h.Store, written(e, rev))
}

// testReadPaths: a path is found with all below it, and nothing that only begins so.
func testReadPaths(t testing.TB, h StoreHarness) {
	paths := []string{"a", "a/b", "a/b/c", "a-b", "ab", "a0", "a/", "A/b", "a/é", "b", "_/x", "a_b", "aXb"}
	id := mustIDs(t, h.Store, 2*len(paths))
	var writes []catalog.Write
	for i, path := range paths {
		writes = append(writes, create(entity(catalog.KindProject, id+int64(i), natural(path))),
			create(entity(catalog.KindKey, id+int64(len(paths)+i), refer(path))))
	}
	mustCommit(t, h.Store, writes...)
	for path, want := range map[string][]int64{
		"a": {0, 1, 2, 6, 8}, "a/b": {1, 2}, "a/b/c": {2}, "A": {7}, "a/b/": nil, "_": {10}, "a_b": {11}, "%": nil, "x": nil,
	} {
		mustRead(t, h.Second, func(r catalog.Reader) {
			projects, err := r.List(t.Context(), catalog.KindProject, catalog.Query{KeyUnder: path})
			if got := ids(projects, id); err != nil || !slices.Equal(got, want) {
				t.Errorf("natural keys under %q: %v, %v; want %v", path, got, err, want)
			}
			keys, err := r.List(t.Context(), catalog.KindKey, catalog.Query{RefUnder: path})
			if got := ids(keys, id+int64(len(paths))); err != nil || !slices.Equal(got, want) {
				t.Errorf("references under %q: %v, %v; want %v", path, got, err, want)
			}
			n, err := r.Count(t.Context(), catalog.KindKey, catalog.Query{RefUnder: path})
			if err != nil || n != int64(len(want)) {
				t.Errorf("references under %q: counted %d, %v; want %d", path, n, err, len(want))
			}
		})
	}
}

// words are few, so that they meet, and trip over careless matching.
var words = []string{"a", "A", "b", "ab", "a b", `"a"`, "{a,b}", "a%", "é", "'", `\`}

// populate writes random bindings, and returns them.
func populate(t testing.TB, s catalog.Store, n int) []catalog.Entity {
	first := mustIDs(t, s, n+len(words))
	var writes []catalog.Write
	for i, word := range words {
		writes = append(writes, create(entity(catalog.KindModel, first+int64(n+i), natural(word))))
	}
	some := rapid.SliceOfNDistinct(rapid.SampledFrom(words), 0, 3, rapid.ID)
	word := rapid.OneOf(rapid.Just(""), rapid.SampledFrom(words))
	generate := rapid.Custom(func(r *rapid.T) catalog.Entity {
		e := catalog.Entity{
			Kind: catalog.KindBinding, CreatedAt: storeTime, UpdatedAt: storeTime,
			Ref: word.Draw(r, "ref"), Name: word.Draw(r, "name"), Status: word.Draw(r, "status"),
			Namespaces: some.Draw(r, "namespaces"), Groups: some.Draw(r, "groups"), Mentions: some.Draw(r, "mentions"),
			Labels: rapid.MapOfN(rapid.SampledFrom(words), word, 0, 3).Draw(r, "labels"), Spec: []byte(`{}`),
		}
		if rapid.Bool().Draw(r, "due") {
			e.DueAt = storeTime.Add(time.Duration(rapid.IntRange(0, 9).Draw(r, "at")) * time.Microsecond)
		}
		return e
	})
	entities := make([]catalog.Entity, n)
	for i := range entities {
		e := generate.Example(i)
		e.ID = first + int64(i)
		if i%4 > 0 {
			e.ExternalID = strings.Repeat(words[(i+3)%len(words)], 1+i/len(words)) + strconv.Itoa(i)
		}
		if i%3 > 0 {
			e.NaturalKey = strings.Repeat(words[i%len(words)], 1+i/len(words))
		}
		entities[i] = e
		writes = append(writes, create(e))
	}
	rev := mustCommit(t, s, writes...)
	for i := range entities {
		entities[i].Revision = rev
	}
	return entities
}

// testReadQueries asks at random, and compares with what Query.Match selects.
func testReadQueries(t testing.TB, h StoreHarness) {
	all := populate(t, h.Store, 60)
	first := all[0].ID
	named := slices.DeleteFunc(slices.Clone(all), func(e catalog.Entity) bool { return e.ExternalID == "" })
	some := rapid.OneOf(rapid.Just([]string(nil)), rapid.SliceOfN(rapid.SampledFrom(words), 1, 6))
	word := rapid.OneOf(rapid.Just(""), rapid.Just(""), rapid.SampledFrom(words))
	rapid.Check(t, func(r *rapid.T) {
		q := catalog.Query{
			Limit: rapid.IntRange(0, 5).Draw(r, "limit"),
			Refs:  some.Draw(r, "refs"), Names: some.Draw(r, "names"), NaturalKeys: some.Draw(r, "natural keys"),
			Status: word.Draw(r, "status"), Namespace: word.Draw(r, "namespace"), Groups: some.Draw(r, "groups"),
			Mentions: some.Draw(r, "mentions"),
			Text:     rapid.OneOf(word, rapid.StringOfN(rapid.RuneFrom([]rune("aAbBéÉ1%_\\'")), 0, 3, -1)).Draw(r, "text"),
		}
		if rapid.Bool().Draw(r, "external ids") {
			q.ExternalIDs = []string{"none", rapid.SampledFrom(named).Draw(r, "its").ExternalID}
		}
		if rapid.Bool().Draw(r, "after") {
			q.After = first + rapid.Int64Range(-1, 60).Draw(r, "id")
		}
		if rapid.Bool().Draw(r, "ids") {
			q.IDs = rapid.SliceOfN(rapid.Int64Range(first-1, first+61), 1, 60).Draw(r, "of")
		}
		if rapid.Bool().Draw(r, "labels") {
			q.Labels = rapid.MapOfN(rapid.SampledFrom(words), word, 0, 2).Draw(r, "all of")
		}
		if rapid.Bool().Draw(r, "due") {
			q.DueBefore = storeTime.Add(time.Duration(rapid.IntRange(-1, 10).Draw(r, "before")) * time.Microsecond)
		}
		q = keepSome(r, q)

		var want []catalog.Entity
		total, whole := int64(0), q
		whole.After = 0
		for _, e := range all {
			if q.Match(e) && (q.Limit == 0 || len(want) < q.Limit) {
				want = append(want, e)
			}
			if whole.Match(e) {
				total++
			}
		}
		var got []catalog.Entity
		var counted int64
		err := h.Second.Read(t.Context(), func(reader catalog.Reader) (err error) {
			if got, err = reader.List(t.Context(), catalog.KindBinding, q); err != nil {
				return err
			}
			counted, err = reader.Count(t.Context(), catalog.KindBinding, q)
			return err
		})
		if counted != total {
			r.Fatalf("Count %+v: %d; want %d", q, counted, total)
		}
		if diff := differ(want, got, byValue()); err != nil || diff != "" {
			r.Fatalf("List %+v: %v (-want +got):\n%s", q, err, diff)
		}
	})
}

// keepSome drops most conditions: all together select nothing.
func keepSome(r *rapid.T, q catalog.Query) catalog.Query {
	drop := map[string]func(){
		"natural keys": func() { q.NaturalKeys = nil }, "refs": func() { q.Refs = nil }, "names": func() { q.Names = nil },
		"status": func() { q.Status = "" }, "namespace": func() { q.Namespace = "" },
		"groups": func() { q.Groups = nil }, "mentions": func() { q.Mentions = nil },
		"labels": func() { q.Labels = nil }, "due": func() { q.DueBefore = time.Time{} }, "ids": func() { q.IDs = nil },
		"external ids": func() { q.ExternalIDs = nil }, "text": func() { q.Text = "" },
	}
	kept := rapid.SliceOfN(rapid.SampledFrom(slices.Sorted(maps.Keys(drop))), 0, 4).Draw(r, "keep")
	for name, fn := range drop {
		if !slices.Contains(kept, name) {
			fn()
		}
	}
	return q
}

// testReadPages walks through all, a page at a time, whatever the size.
func testReadPages(t testing.TB, h StoreHarness) {
	all := populate(t, h.Store, 30)
	mustRead(t, h.Second, func(r catalog.Reader) {
		for _, base := range []catalog.Query{{}, {Groups: []string{"a", "b", "ab"}}, {Refs: words}} {
			var want []catalog.Entity
			for _, e := range all {
				if base.Match(e) {
					want = append(want, e)
				}
			}
			if len(want) < 5 {
				t.Fatalf("%d entities are no test", len(want))
			}
			for _, limit := range []int{1, 2, 3, len(want) - 1, len(want), len(want) + 1} {
				q := base
				q.Limit = limit
				var got []catalog.Entity
				for {
					page, err := r.List(t.Context(), catalog.KindBinding, q)
					if err != nil {
						t.Fatalf("List %+v: %v", q, err)
					}
					got = append(got, page...)
					if len(page) < limit {
						break
					}
					q.After = page[limit-1].ID
				}
				if diff := differ(want, got, byValue()); diff != "" {
					t.Fatalf("all in pages of %d (-want +got):\n%s", limit, diff)
				}
			}
		}
	})
}
