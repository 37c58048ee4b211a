package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// maxErrors bounds how many errors one round of maintenance repeats.
const maxErrors = 10

// Maintain does what has come due: it removes rotated tokens whose grace is over.
// What cannot be done for one key holds up no other; the error tells of up to ten.
func (t *Tables) Maintain(ctx context.Context) error {
	ctx = WithActor(ctx, "maintenance", "grace of a rotated token is over")
	now := t.core.now()
	q := Query{DueBefore: now.Add(time.Microsecond), Limit: pageSize}
	var errs []error
	for ctx.Err() == nil {
		page, err := t.dueKeys(ctx, q)
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("list keys with ended tokens: %w", err))...)
		}
		for _, e := range page {
			q.After = e.ID
			err := t.core.expire(ctx, e.ID, now)
			if err != nil && !errors.Is(err, ErrNotFound) && len(errs) < maxErrors {
				errs = append(errs, fmt.Errorf("remove ended tokens of key %d: %w", e.ID, err))
			}
		}
		if len(page) < pageSize {
			return errors.Join(errs...)
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// dueKeys reads keys as they are stored: one that cannot be decoded is no reason
// to see none.
func (t *Tables) dueKeys(ctx context.Context, q Query) (page []Entity, err error) {
	err = t.core.store.Read(ctx, func(r Reader) error {
		page, err = r.List(ctx, KindKey, q)
		return err
	})
	return page, err
}

// expire removes the ended tokens of a key. It does not ask whether the key is
// acceptable by the rules of today: what has ended has to go all the same.
func (c *core) expire(ctx context.Context, id int64, now time.Time) error {
	_, err := c.transact(ctx, guarded, func(tx *txn) error {
		e, err := tx.get(ctx, KindKey, id)
		if err != nil {
			return err
		}
		var before, after Key
		if err := errors.Join(before.decode(e, c.keeper), after.decode(e, c.keeper)); err != nil {
			return err
		}
		after.expire(now)
		if before.hidden() == after.hidden() {
			return nil
		}
		after.UpdatedAt = tx.now
		return tx.put(&before, &after)
	})
	return err
}
