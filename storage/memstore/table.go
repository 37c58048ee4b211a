package memstore

import (
	"fmt"
	"slices"

	"github.com/ez-api/ez-api/catalog"
)

// table holds the entities of one kind.
type table struct {
	ids     []int64 // in order
	chains  map[int64][]version
	holders map[held][]int64   // ids, in order, of which some version holds the value
	refs    map[string][]int64 // ids, in order, of which some version has the Ref
	named   map[string][]int64 // ids, in order, of which some version mentions the name
}

// version is what an entity is from a revision on; nil when it is gone.
type version struct {
	revision catalog.Revision
	entity   *catalog.Entity // never changed
}

type held struct {
	by    catalog.Index
	value string
}

func newTable() *table {
	return &table{chains: map[int64][]version{}, holders: map[held][]int64{}, refs: map[string][]int64{},
		named: map[string][]int64{}}
}

// at returns what an entity was at a revision, nil when it was not there.
func (t *table) at(id int64, revision catalog.Revision) *catalog.Entity {
	chain := t.chains[id]
	for i := len(chain) - 1; i >= 0; i-- {
		if chain[i].revision <= revision {
			return chain[i].entity
		}
	}
	return nil
}

// newest returns what an entity is.
func (t *table) newest(id int64) *catalog.Entity {
	chain := t.chains[id]
	if len(chain) == 0 {
		return nil
	}
	return chain[len(chain)-1].entity
}

// values lists what is unique about an entity.
func values(e *catalog.Entity) []held {
	var all []held
	if e.NaturalKey != "" {
		all = append(all, held{catalog.ByNaturalKey, e.NaturalKey})
	}
	if e.ExternalID != "" {
		all = append(all, held{catalog.ByExternalID, e.ExternalID})
	}
	for _, h := range e.Hashes {
		all = append(all, held{catalog.ByHash, h})
	}
	return all
}

// holder returns the id of the entity that holds a value now.
func (t *table) holder(by catalog.Index, value string) (int64, bool) {
	return t.holderAt(by, value, t.newest)
}

// holderAt returns the id of the entity that holds a value in what see returns.
func (t *table) holderAt(by catalog.Index, value string, see func(id int64) *catalog.Entity) (int64, bool) {
	h := held{by, value}
	for _, id := range t.holders[h] {
		if e := see(id); e != nil && slices.Contains(values(e), h) {
			return id, true
		}
	}
	return 0, false
}

// refersTo reports whether an entity has the Ref now.
func (t *table) refersTo(ref string) bool {
	return slices.ContainsFunc(t.refs[ref], func(id int64) bool {
		e := t.newest(id)
		return e != nil && e.Ref == ref
	})
}

// checkRevision refuses a write whose precondition does not hold.
func (t *table) checkRevision(w catalog.Write) error {
	var is catalog.Revision
	if e := t.newest(w.Entity.ID); e != nil {
		is = e.Revision
	}
	if is != w.If {
		return fmt.Errorf("%s %d is at revision %d: %w", w.Entity.Kind.Noun(), w.Entity.ID, is, catalog.ErrConflict)
	}
	return nil
}

// checkUnique refuses a write whose values another entity holds, when all is written.
func (t *table) checkUnique(w catalog.Write) error {
	if w.Delete {
		return nil
	}
	for _, h := range values(&w.Entity) {
		if t.heldByAnother(h, w.Entity.ID) {
			return catalog.Exists(w.Entity.Kind, h.by)
		}
	}
	return nil
}

func (t *table) heldByAnother(h held, id int64) bool {
	return slices.ContainsFunc(t.holders[h], func(other int64) bool {
		e := t.newest(other)
		return other != id && e != nil && slices.Contains(values(e), h)
	})
}

func (t *table) put(id int64, v version) {
	if _, known := t.chains[id]; !known {
		i, _ := slices.BinarySearch(t.ids, id)
		t.ids = slices.Insert(t.ids, i, id)
	}
	t.chains[id] = append(t.chains[id], v)
	if v.entity == nil {
		return
	}
	for _, h := range values(v.entity) {
		t.holders[h] = include(t.holders[h], id)
	}
	if v.entity.Ref != "" {
		t.refs[v.entity.Ref] = include(t.refs[v.entity.Ref], id)
	}
	for _, name := range v.entity.Mentions {
		t.named[name] = include(t.named[name], id)
	}
}

// undo takes back what put has done in the revision.
func (t *table) undo(id int64, revision catalog.Revision) {
	t.drop(id, func(v version) bool { return v.revision == revision })
}

// forget drops what is of use only before the revision.
func (t *table) forget(id int64, revision catalog.Revision) {
	chain := t.chains[id]
	base := -1 // the version that is valid at the revision
	for i, v := range chain {
		if v.revision <= revision {
			base = i
		}
	}
	if base < 0 {
		return
	}
	valid := chain[base]
	t.drop(id, func(v version) bool {
		return v.revision < valid.revision || v.revision == valid.revision && valid.entity == nil
	})
}

// drop removes versions of an entity, and its traces in the indexes where no
// version is left that holds them.
func (t *table) drop(id int64, gone func(version) bool) {
	chain := t.chains[id]
	kept := make([]version, 0, len(chain))
	for _, v := range chain {
		if !gone(v) {
			kept = append(kept, v)
		}
	}
	if len(kept) == len(chain) {
		return
	}
	if len(kept) == 0 {
		delete(t.chains, id)
		if i, ok := slices.BinarySearch(t.ids, id); ok {
			t.ids = slices.Delete(t.ids, i, i+1)
		}
	} else {
		t.chains[id] = kept
	}
	still := map[held]bool{}
	refs, named := map[string]bool{}, map[string]bool{}
	for _, v := range kept {
		if v.entity != nil {
			refs[v.entity.Ref] = true
			for _, name := range v.entity.Mentions {
				named[name] = true
			}
			for _, h := range values(v.entity) {
				still[h] = true
			}
		}
	}
	for _, v := range chain {
		if v.entity == nil {
			continue
		}
		for _, h := range values(v.entity) {
			if !still[h] {
				exclude(t.holders, h, id)
			}
		}
		if r := v.entity.Ref; r != "" && !refs[r] {
			exclude(t.refs, r, id)
		}
		for _, name := range v.entity.Mentions {
			if !named[name] {
				exclude(t.named, name, id)
			}
		}
	}
}

// include puts an id into a list in order. Looking for it from the start would make
// a million keys that mention one model cost a trillion steps.
func include(ids []int64, id int64) []int64 {
	i, found := slices.BinarySearch(ids, id)
	if found {
		return ids
	}
	return slices.Insert(ids, i, id)
}

func exclude[K comparable](index map[K][]int64, key K, id int64) {
	ids := index[key]
	if i, found := slices.BinarySearch(ids, id); found {
		ids = slices.Delete(ids, i, i+1)
	}
	if len(ids) == 0 {
		delete(index, key)
		return
	}
	index[key] = ids
}
