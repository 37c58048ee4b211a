package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrOutside says that a caller who is limited to a project may see something, and not change it.
var ErrOutside = errors.New("outside of the caller's project")

type scopeKey struct{}

// WithinProject returns a context that limits the tables to a project and all below it; "" limits
// nothing. Keys, projects and holds that belong elsewhere, and all providers and operators, are
// ErrNotFound, as if they did not exist. Models, bindings and the project itself can be read; a
// write to one of them is ErrOutside, and so is what is about the whole catalog: plans, exports and its
// state at a revision. Keys, the projects below, and their holds can be read and
// changed.
func WithinProject(ctx context.Context, path string) context.Context {
	return context.WithValue(ctx, scopeKey{}, path)
}

// ProjectOf returns the project that [WithinProject] has limited a context to; "" is none.
func ProjectOf(ctx context.Context) string {
	path, _ := ctx.Value(scopeKey{}).(string)
	return path
}

// whole returns ErrOutside where the caller is limited to a project, for what is about the whole catalog.
func whole(ctx context.Context) error {
	if path := ProjectOf(ctx); path != "" {
		return fmt.Errorf("this is about the whole catalog, and the caller is limited to a project: %w", ErrOutside)
	}
	return nil
}

// sees reports whether a caller is shown an entity.
func (tx *txn) sees(ctx context.Context, e Entity) (bool, error) {
	scope := ProjectOf(ctx)
	if scope == "" {
		return true, nil
	}
	switch e.Kind {
	case KindProject:
		return under(e.NaturalKey, scope), nil
	case KindKey:
		return under(e.Ref, scope), nil
	case KindModel, KindBinding:
		return true, nil
	case KindHold:
		seen, err := tx.seesTargets(ctx, scope, e)
		return seen[e.ID], err
	}
	return false, nil
}

// seesTargets returns which of some holds a caller is shown: those of the keys and projects that
// the caller is shown. It asks for keys whatever the holds are of, so that the time that it takes does not
// tell.
func (tx *txn) seesTargets(ctx context.Context, scope string, holds ...Entity) (seen map[int64]bool, err error) {
	seen = map[int64]bool{}
	byKey := map[int64][]int64{} // holds
	for _, e := range holds {
		switch t, _ := KindHold.Target(e.Ref); t.Kind {
		case KindProject:
			seen[e.ID] = under(t.NaturalKey, scope)
		case KindKey:
			byKey[t.ID] = append(byKey[t.ID], e.ID)
		}
	}
	ids := []int64{-1} // which nothing has
	for id := range byKey {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	keys, err := tx.list(ctx, KindKey, Query{IDs: ids, RefUnder: scope})
	for _, k := range keys {
		for _, hold := range byKey[k.ID] {
			seen[hold] = true
		}
	}
	return seen, err
}

// get returns an entity that the caller is shown, or ErrNotFound.
func (t Table[T]) get(ctx context.Context, tx *txn, id int64) (Entity, error) {
	e, err := tx.get(ctx, t.Kind(), id)
	return t.shown(ctx, tx, e, err)
}

// find does the same by a unique value.
func (t Table[T]) find(ctx context.Context, tx *txn, by Index, value string) (Entity, error) {
	e, err := tx.find(ctx, t.Kind(), by, value)
	return t.shown(ctx, tx, e, err)
}

func (t Table[T]) shown(ctx context.Context, tx *txn, e Entity, err error) (Entity, error) {
	if err != nil {
		if scope := ProjectOf(ctx); scope != "" && t.Kind() == KindHold {
			_, _ = tx.seesTargets(ctx, scope) // what does not exist takes as long as what is of others
		}
		return e, err
	}
	switch sees, err := tx.sees(ctx, e); {
	case err != nil:
		return Entity{}, err
	case !sees:
		return Entity{}, fmt.Errorf("%s: %w", t.Kind().Noun(), ErrNotFound)
	}
	return e, nil
}

// list returns what the caller is shown of what a query selects.
func (t Table[T]) list(ctx context.Context, tx *txn, q Query) ([]Entity, error) {
	k, scope := t.Kind(), ProjectOf(ctx)
	if scope == "" || k == KindModel || k == KindBinding {
		return tx.list(ctx, k, q)
	}
	switch k {
	case KindProject:
		return tx.list(ctx, k, narrow(&q, &q.KeyUnder, scope))
	case KindKey:
		return tx.list(ctx, k, narrow(&q, &q.RefUnder, scope))
	case KindHold:
		return tx.listHolds(ctx, scope, q)
	}
	return nil, nil
}

// narrow limits a query to a project. path points to the field of it that does that, and may be
// set already.
func narrow(q *Query, path *string, scope string) Query {
	switch asked := *path; {
	case asked == "" || under(scope, asked):
		*path = scope
	case !under(asked, scope):
		q.IDs = []int64{-1} // which nothing has
	}
	return *q
}

// listHolds reads page by page, until there are as many as were asked for.
func (tx *txn) listHolds(ctx context.Context, scope string, q Query) (shown []Entity, err error) {
	limit := q.Limit
	q.Limit = pageSize
	for {
		page, err := tx.list(ctx, KindHold, q)
		if err != nil {
			return nil, err
		}
		seen, err := tx.seesTargets(ctx, scope, page...)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			q.After = e.ID
			if seen[e.ID] {
				shown = append(shown, e)
			}
			if limit > 0 && len(shown) == limit {
				return shown, nil
			}
		}
		if len(page) < pageSize {
			return shown, ctx.Err()
		}
	}
}

// count counts what the caller is shown.
func (t Table[T]) count(ctx context.Context, tx *txn, q Query) (int64, error) {
	k, scope := t.Kind(), ProjectOf(ctx)
	if scope == "" || k == KindModel || k == KindBinding {
		return tx.count(ctx, k, q)
	}
	switch k {
	case KindProject:
		return tx.count(ctx, k, narrow(&q, &q.KeyUnder, scope))
	case KindKey:
		return tx.count(ctx, k, narrow(&q, &q.RefUnder, scope))
	case KindHold:
		all, err := tx.listHolds(ctx, scope, q)
		return int64(len(all)), err
	}
	return 0, nil
}

// noteProjects notes with each change of a hold the project that its key is in, which is who the change
// is shown to later, wherever the key is by then.
func (tx *txn) noteProjects(ctx context.Context) error {
	byKey := map[int64][]*pendingWrite{}
	for _, w := range tx.writes {
		if w == nil || w.Entity.Kind != KindHold {
			continue
		}
		hold, ok := w.after.(*Hold)
		if !ok {
			hold, ok = w.before.(*Hold)
		}
		if !ok {
			continue
		}
		if t, _ := ParseHoldTarget(hold.Target); t.KeyID != 0 {
			byKey[t.KeyID] = append(byKey[t.KeyID], w)
		}
	}
	note := func(key Entity) {
		for _, w := range byKey[key.ID] {
			if key.Ref != "" {
				w.Change.Touches.Refs = []string{key.Ref}
			}
		}
	}
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(byKey)), pageSize) {
		keys, err := tx.reader.List(ctx, KindKey, Query{IDs: ids}) // as they were: one may be deleted with its holds
		if err != nil {
			return err
		}
		for _, key := range keys {
			note(key)
		}
		for _, id := range ids {
			if w := tx.pending(KindKey, id); w != nil && !w.Delete {
				note(w.Entity)
			}
		}
	}
	return ctx.Err()
}

// permit refuses a write that the caller must not make. before is nil for a new record, and
// was seen; after is nil when it is deleted.
func (tx *txn) permit(ctx context.Context, before, after record) error {
	scope := ProjectOf(ctx)
	if scope == "" {
		return nil
	}
	r := after
	if r == nil {
		r = before
	}
	switch v := r.(type) {
	case *Key:
		if !under(v.Project, scope) {
			return &FieldError{Field: "project", Message: "must be " + scope + ", or a project below it"}
		}
		return nil
	case *Project:
		switch {
		case v.Name == scope:
			return fmt.Errorf("the project itself is not the caller's to change: %w", ErrOutside)
		case !under(v.Name, scope):
			return &FieldError{Field: "name", Message: "must be below " + scope}
		}
		return nil
	case *Hold:
		return tx.permitHold(ctx, scope, v)
	}
	return fmt.Errorf("the caller changes no %s: %w", r.kind(), ErrOutside)
}

// permitHold lets a caller hold the keys of the project and below it, and the projects below it.
// Whether others exist is not told.
func (tx *txn) permitHold(ctx context.Context, scope string, h *Hold) error {
	t, _ := ParseHoldTarget(h.Target)
	if t.Project == scope {
		return fmt.Errorf("the project itself is not the caller's to hold: %w", ErrOutside)
	}
	if under(t.Project, scope) {
		return nil
	}
	if t.KeyID != 0 {
		e, err := tx.get(ctx, KindKey, t.KeyID)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil && under(e.Ref, scope) {
			return nil
		}
	}
	return Dangling(KindHold)
}
