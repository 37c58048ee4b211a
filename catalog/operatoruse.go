package catalog

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// useInterval is how old the record of an operator's last use becomes before it is written anew:
// each time is a revision of the catalog.
const useInterval = time.Hour

// maxNotedUses bounds the operators whose use one commit records.
const maxNotedUses = 1000

// NoteUse records when operators were used last, where what is recorded is an hour older or more.
// The operators keep their revisions, so that nobody's precondition fails. One that somebody
// changes meanwhile is recorded the next time.
func (o Operators) NoteUse(ctx context.Context, used map[int64]time.Time) error {
	ctx = WithMachine(ctx, "maintenance", "the last use of operators")
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(used)), maxNotedUses) {
		_, err := o.core.transact(ctx, guarded, func(tx *txn) error {
			entities, err := tx.list(ctx, KindOperator, Query{IDs: ids})
			for i := 0; i < len(entities) && err == nil; i++ {
				err = tx.noteUse(entities[i], micros(used[entities[i].ID].Truncate(time.Minute)))
			}
			return err
		})
		if err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return nil
}

func (tx *txn) noteUse(e Entity, at time.Time) error {
	var before, after Operator
	if before.decode(e, tx.core.keeper) != nil || after.decode(e, tx.core.keeper) != nil {
		return nil // it cannot have been used
	}
	if at.Sub(before.LastUsedAt) < useInterval {
		return nil
	}
	after.LastUsedAt = at
	return tx.putQuietly(&before, &after)
}
