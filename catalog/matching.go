package catalog

import (
	"context"
	"slices"
	"strings"
)

// fetchSize is how many values a query of a plan asks for at once.
const fetchSize = 1000

// storedEntities are those of one kind that a plan has read, by all that is unique about them.
type storedEntities struct {
	byID       map[int64]Entity
	byKey      map[string]int64
	byExternal map[string]int64
}

// of returns what was read of a kind.
func (p *planner) of(k Kind) *storedEntities {
	s := p.stored[k]
	if s == nil {
		s = &storedEntities{map[int64]Entity{}, map[string]int64{}, map[string]int64{}}
		p.stored[k] = s
	}
	return s
}

func (s *storedEntities) add(entities []Entity) {
	for _, e := range entities {
		s.byID[e.ID] = e
		if e.NaturalKey != "" {
			s.byKey[e.NaturalKey] = e.ID
		}
		if e.ExternalID != "" {
			s.byExternal[e.ExternalID] = e.ID
		}
	}
}

// fetch reads the entities of a kind that have one of the values, so many at a time.
func fetch[T any](ctx context.Context, p *planner, k Kind, values []T, where func(*Query, []T)) error {
	for some := range slices.Chunk(values, fetchSize) {
		var q Query
		where(&q, some)
		entities, err := p.tx.reader.List(ctx, k, q)
		if err != nil {
			return err
		}
		p.of(k).add(entities)
	}
	return nil
}

func byIDs(q *Query, ids []int64)            { q.IDs = ids }
func byNaturalKeys(q *Query, keys []string)  { q.NaturalKeys = keys }
func byExternalIDs(q *Query, names []string) { q.ExternalIDs = names }

// idScope says what the ids in a desired state are worth.
type idScope int

const (
	idsMeanNothing idScope = iota // nobody says of which store they are
	idsOfThisStore
	idsOfAnother
)

func scopeOf(store, here string) idScope {
	switch store {
	case "":
		return idsMeanNothing
	case here:
		return idsOfThisStore
	}
	return idsOfAnother
}

// match finds the entities that the targets of a kind are to replace: by external id, or else
// by natural key, if that entity has no external id. Those without an external id are found by
// id first, in the store that gave it.
func (p *planner) match(ctx context.Context, k Kind, targets []*target, scope idScope) error {
	if err := p.read(ctx, k, targets, scope); err != nil {
		return err
	}
	p.refuseTwins(k, targets)
	stored := p.of(k)
	for _, t := range targets {
		if t.hidden.externalID {
			continue
		}
		id, found := t.want.meta().ID, false
		if name := t.externalID(); name != "" {
			id, found = stored.byExternal[name]
		} else if scope == idsOfThisStore {
			_, found = stored.byID[id]
		}
		if found {
			if err := p.claim(t, stored.byID[id]); err != nil {
				return err
			}
		}
	}
	for _, t := range targets { // an entity that was claimed may give up its natural key to another
		if t.before != nil {
			continue
		}
		id, found := stored.byKey[t.key()]
		if e := stored.byID[id]; found && p.claimed[place{k, id}] == nil && e.ExternalID == "" {
			if err := p.claim(t, e); err != nil {
				return err
			}
		} else if len(k.facts().key) == 0 && t.want.meta().ExternalID == "" {
			p.refuse(t, ErrInvalid, "external_id", "%s", nothingTells(k, t.want.meta().ID, scope))
		}
	}
	return nil
}

// nothingTells says why an entity without natural key needs an external id.
func nothingTells(k Kind, id int64, scope idScope) string {
	switch {
	case id != 0 && scope == idsOfThisStore:
		return "is required: no " + k.Noun() + " has this id any more"
	case id != 0 && scope == idsOfAnother:
		return "is required, because the ids are those of another catalog"
	}
	return "is required, because nothing else tells whether the " + k.Noun() + " exists already"
}

// read reads all that the targets may replace or collide with, and with Prune all that is the
// owner's.
func (p *planner) read(ctx context.Context, k Kind, targets []*target, scope idScope) error {
	stored := p.of(k)
	if p.opts.Prune {
		owned, err := p.tx.reader.List(ctx, k, Query{Labels: map[string]string{LabelOwner: p.opts.Owner}})
		if err != nil {
			return err
		}
		stored.add(owned)
	}
	var ids []int64
	var names []string
	for _, t := range targets {
		m := t.want.meta()
		if name := t.externalID(); name != "" {
			if _, known := stored.byExternal[name]; !known {
				names = append(names, name)
			}
		}
		if _, known := stored.byID[m.ID]; m.ExternalID == "" && m.ID != 0 && scope == idsOfThisStore && !known {
			ids = append(ids, m.ID)
		}
	}
	if err := fetch(ctx, p, k, names, byExternalIDs); err != nil {
		return err
	}
	if err := fetch(ctx, p, k, ids, byIDs); err != nil {
		return err
	}
	var keys []string
	for _, t := range targets {
		key := t.key()
		if _, known := stored.byKey[key]; key != "" && !known {
			keys = append(keys, key)
		}
	}
	return fetch(ctx, p, k, keys, byNaturalKeys)
}

// refuseTwins refuses targets that are the same entity as one before.
func (p *planner) refuseTwins(k Kind, targets []*target) {
	names, keys := map[string]*target{}, map[string]*target{}
	for _, t := range targets {
		name, key := t.want.meta().ExternalID, t.want.naturalKey()
		switch {
		case t.wrong:
			continue
		case name != "" && names[name] != nil:
			p.refuse(t, ErrInvalid, string(ByExternalID), "is the same as that of %s", names[name].at)
		case key != "" && keys[key] != nil:
			fields := k.facts().key
			p.refuse(t, ErrInvalid, fields[len(fields)-1], "is taken: %s has the same %s", keys[key].at,
				strings.Join(fields, ", "))
		}
		names[name], keys[key] = t, t
	}
}

// claim makes a target the successor of an entity, if it may be.
func (p *planner) claim(t *target, e Entity) error {
	at := place{e.Kind, e.ID}
	if other := p.claimed[at]; other != nil {
		p.refuse(t, ErrInvalid, "", "is the same %s as %s", e.Kind.Noun(), other.at)
		return nil
	}
	p.claimed[at] = t
	if t.want.meta().ExternalID == "" && e.ExternalID != "" {
		p.refuse(t, ErrExists, string(ByExternalID), "is needed, because the %s has one by now", e.Kind.Noun())
	}
	if owner := p.opts.Owner; owner != "" && !p.opts.TakeOver {
		switch e.Labels[LabelOwner] {
		case owner:
		case "":
			p.refuse(t, ErrOwned, "", "has no owner; take_over=true makes it this owner's")
		default:
			p.refuse(t, ErrOwned, "", "belongs to another owner; take_over=true makes it this owner's")
		}
	}
	var err error
	t.before, err = show(e, p.tx.core.keeper)
	return err
}
