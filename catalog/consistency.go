package catalog

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// checkUnique refuses targets that would take what another entity has, and keeps.
func (p *planner) checkUnique() {
	for _, t := range p.targets {
		k, m := t.want.kind(), t.want.meta()
		stored := p.of(k)
		taken := func(id int64, found bool) bool { return found && id != m.ID && p.tx.pending(k, id) == nil }
		if t.wrong || p.tx.pending(k, m.ID) == nil {
			continue
		}
		if id, found := stored.byExternal[m.ExternalID]; taken(id, found) {
			p.refuseTaken(t, ByExternalID, id)
		}
		if id, found := stored.byKey[t.want.naturalKey()]; taken(id, found) {
			p.refuseTaken(t, ByNaturalKey, id)
		}
	}
}

// refuseTaken says that the entity with the id has what a target wants.
func (p *planner) refuseTaken(t *target, by Index, id int64) {
	for _, f := range FieldsOf(Exists(t.want.kind(), by)) {
		p.refuse(t, ErrExists, f.Field, "%s; it is %s %d, which has to go or to get another one first", f.Message,
			t.want.kind().Noun(), id)
	}
}

// checkHashes does the same for tokens. It asks for one after the other, so it is only for
// finding out which of them the store has refused.
func (p *planner) checkHashes(ctx context.Context) error {
	for _, t := range p.targets {
		w := p.tx.pending(t.want.kind(), t.want.meta().ID)
		if t.wrong || t.before != nil || w == nil {
			continue
		}
		for _, h := range w.Entity.Hashes {
			e, err := p.tx.reader.Find(ctx, w.Entity.Kind, ByHash, h)
			if err == nil && p.tx.pending(e.Kind, e.ID) == nil {
				p.refuseTaken(t, ByHash, e.ID)
			}
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	return nil
}

// checkReferences refuses targets that refer to nothing, and removals and new names of what is
// still referred to.
func (p *planner) checkReferences(ctx context.Context) error {
	wanted := map[Kind]map[string]bool{} // also by targets that were refused: one error is enough
	for _, t := range p.targets {
		k := t.want.kind()
		if wanted[k] == nil {
			wanted[k] = map[string]bool{}
		}
		wanted[k][t.want.naturalKey()] = true
	}
	if err := p.readReferences(ctx); err != nil {
		return err
	}
	for _, t := range p.targets {
		w := p.tx.pending(t.want.kind(), t.want.meta().ID)
		if t.wrong || w == nil || w.Entity.Ref == "" {
			continue
		}
		k := t.want.kind().refersTo()
		if !wanted[k][w.Entity.Ref] && !p.exists(k, w.Entity.Ref) {
			for _, f := range FieldsOf(Dangling(t.want.kind())) {
				p.refuse(t, ErrInvalid, f.Field, "%s", f.Message)
			}
		}
	}
	return p.checkLeft(ctx, wanted)
}

// readReferences reads what the targets refer to.
func (p *planner) readReferences(ctx context.Context) error {
	unknown := map[Kind]map[string]bool{}
	for _, t := range p.targets {
		k := t.want.kind().refersTo()
		w := p.tx.pending(t.want.kind(), t.want.meta().ID)
		if k == "" || w == nil || w.Entity.Ref == "" {
			continue
		}
		if _, known := p.of(k).byKey[w.Entity.Ref]; known {
			continue
		}
		if unknown[k] == nil {
			unknown[k] = map[string]bool{}
		}
		unknown[k][w.Entity.Ref] = true
	}
	for k, refs := range unknown {
		if err := fetch(ctx, p, k, slices.Sorted(maps.Keys(refs)), byNaturalKeys); err != nil {
			return err
		}
	}
	return nil
}

// exists reports whether an entity has a natural key at the end. It must have been read.
func (p *planner) exists(k Kind, key string) bool {
	if _, written := p.tx.held[heldValue{k, ByNaturalKey, key}]; written {
		return true
	}
	id, stored := p.of(k).byKey[key]
	return stored && p.tx.pending(k, id) == nil
}

// checkLeft refuses that something goes, or takes another name, while something else still
// refers to it.
func (p *planner) checkLeft(ctx context.Context, wanted map[Kind]map[string]bool) error {
	left := map[Kind]map[string]string{} // natural keys that nobody has any more, and who had them
	note := func(before record, at string) {
		k, key := before.kind(), before.naturalKey()
		if key == "" || wanted[k][key] || p.exists(k, key) {
			return
		}
		if left[k] == nil {
			left[k] = map[string]string{}
		}
		left[k][key] = at
	}
	for _, t := range p.targets {
		if t.before != nil && !t.wrong {
			note(t.before, t.at)
		}
	}
	for _, r := range p.removed {
		note(r, pathOf(r.kind(), r.meta().ID))
	}
	for _, k := range Kinds() {
		for keys := range slices.Chunk(slices.Sorted(maps.Keys(left[k.refersTo()])), fetchSize) {
			entities, err := p.tx.list(ctx, k, Query{Refs: keys, Limit: maxPlanErrors})
			if err != nil {
				return err
			}
			for _, e := range entities {
				if p.tx.pending(k, e.ID) != nil { // what is written was looked at above
					continue
				}
				p.refused.add(ErrReferenced, left[k.refersTo()][e.Ref],
					"is still referred to by %s; change or delete that, too", pathOf(k, e.ID))
			}
		}
	}
	return nil
}
