package catalog

import (
	"maps"
	"slices"
)

// listedBy is a value by which what was written in a transaction is found for a list.
type listedBy struct {
	kind   Kind
	column column
	value  string
}

type column int

const (
	wholeKind column = iota // without a value
	byRef
	byMention
	byGroup
)

// hold notes the unique values of a write, and forgets those of the one before it.
func (tx *txn) hold(before, after *pendingWrite) {
	if tx.held == nil {
		tx.held = map[heldValue]int64{}
	}
	each := func(w *pendingWrite, do func(heldValue)) {
		if w == nil || w.Delete {
			return
		}
		e := &w.Entity
		do(heldValue{e.Kind, ByNaturalKey, e.NaturalKey})
		do(heldValue{e.Kind, ByExternalID, e.ExternalID})
		for _, h := range e.Hashes {
			do(heldValue{e.Kind, ByHash, h})
		}
	}
	each(before, func(v heldValue) {
		if tx.held[v] == before.Entity.ID {
			delete(tx.held, v)
		}
	})
	each(after, func(v heldValue) {
		if v.value != "" {
			tx.held[v] = after.Entity.ID
		}
	})
}

// enlist notes by which values lists find a write. Values that an earlier write of the entity had
// stay: who finds it looks at it again.
func (tx *txn) enlist(w *pendingWrite) {
	if tx.listed == nil {
		tx.listed = map[listedBy][]int64{}
	}
	e := &w.Entity
	add := func(c column, values ...string) {
		for _, v := range values {
			at := listedBy{e.Kind, c, v}
			tx.listed[at] = append(tx.listed[at], e.ID)
		}
	}
	add(wholeKind, "")
	add(byRef, e.Ref)
	add(byMention, e.Mentions...)
	add(byGroup, e.Groups...)
}

// candidates returns the ids, in order, of written entities among which are all that q selects.
func (tx *txn) candidates(k Kind, q Query) []int64 {
	ids := map[int64]bool{}
	take := func(c column, values ...string) {
		for _, v := range values {
			for _, id := range tx.listed[listedBy{k, c, v}] {
				ids[id] = true
			}
		}
	}
	hold := func(by Index, values []string) {
		for _, v := range values {
			if id, ok := tx.held[heldValue{k, by, v}]; ok {
				ids[id] = true
			}
		}
	}
	switch {
	case len(q.IDs) > 0:
		for _, id := range q.IDs {
			ids[id] = true
		}
	case len(q.NaturalKeys) > 0:
		hold(ByNaturalKey, q.NaturalKeys)
	case len(q.ExternalIDs) > 0:
		hold(ByExternalID, q.ExternalIDs)
	case len(q.Refs) > 0:
		take(byRef, q.Refs...)
	case len(q.Mentions) > 0:
		take(byMention, q.Mentions...)
	case len(q.Groups) > 0:
		take(byGroup, q.Groups...)
	default:
		take(wholeKind, "")
	}
	return slices.Sorted(maps.Keys(ids))
}
