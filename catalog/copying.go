package catalog

import (
	"context"
	"maps"
	"slices"
)

// What a [Copy] does with a [Reader]: it reads all of a kind once, and then what the feed names.

// eachEntity calls fn with every entity of a kind, in the order of ids.
func eachEntity(ctx context.Context, r Reader, kind Kind, fn func(Entity)) error {
	for after := int64(0); ; {
		page, err := r.List(ctx, kind, Query{After: after, Limit: feedPage})
		if err != nil {
			return err
		}
		for _, e := range page {
			fn(e)
			after = e.ID
		}
		if len(page) < feedPage {
			return nil
		}
	}
}

// readTouched returns the ids of those that some changes touch, and those entities of them that there are.
func readTouched(ctx context.Context, r Reader, kind Kind, changes []Change, touches func(*Change) bool) (
	ids []int64, now []Entity, err error) {
	touched := map[int64]bool{}
	for i := range changes {
		if changes[i].Kind == kind && touches(&changes[i]) {
			touched[changes[i].ID] = true
		}
	}
	ids = slices.Sorted(maps.Keys(touched))
	for part := range slices.Chunk(ids, feedPage) {
		page, err := r.List(ctx, kind, Query{IDs: part})
		if err != nil {
			return nil, nil, err
		}
		now = append(now, page...)
	}
	return ids, now, nil
}
