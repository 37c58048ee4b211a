package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// maxErrors bounds how many errors one round of maintenance repeats.
const maxErrors = 10

// maxEnded is how many ended holds a commit removes.
const maxEnded = 1000

// Maintain does what has come due: it removes rotated tokens whose grace is over, and holds
// that have ended. What cannot be done for one entity holds up no other; the error tells of up to
// ten of each kind.
func (t *Tables) Maintain(ctx context.Context) error {
	now, err := t.core.storeTime(ctx)
	if err != nil {
		return fmt.Errorf("read the store's clock: %w", err)
	}
	var errs []error
	for _, k := range Kinds() {
		if k.HasTokens() {
			errs = append(errs, t.core.expireTokens(ctx, k, now))
		}
	}
	return errors.Join(append(errs, t.core.removeEnded(ctx, now))...)
}

// expireTokens removes the tokens of a kind whose grace is over.
func (c *core) expireTokens(ctx context.Context, k Kind, now time.Time) error {
	ctx = WithMachine(ctx, "maintenance", "grace of a rotated token is over")
	return c.eachDue(ctx, k, now, pageSize, func(page []Entity) (errs []error) {
		for _, e := range page {
			if err := c.expire(ctx, k, e.ID, now); err != nil && !errors.Is(err, ErrNotFound) {
				errs = append(errs, fmt.Errorf("remove ended tokens of %s %d: %w", k.Noun(), e.ID, err))
			}
		}
		return errs
	})
}

// eachDue calls do with the entities of a kind that are due, page by page, as they are stored:
// one that cannot be decoded is no reason to see none.
func (c *core) eachDue(ctx context.Context, k Kind, now time.Time, size int, do func([]Entity) []error) error {
	q := Query{DueBefore: now.Add(time.Microsecond), Limit: size}
	var errs []error
	for ctx.Err() == nil {
		var page []Entity
		err := c.store.Read(ctx, func(r Reader) (err error) {
			page, err = r.List(ctx, k, q)
			return err
		})
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("list the %s that are due: %w", k, err))...)
		}
		if len(page) > 0 {
			q.After = page[len(page)-1].ID
			for _, err := range do(page) {
				if len(errs) < maxErrors {
					errs = append(errs, err)
				}
			}
		}
		if len(page) < size {
			return errors.Join(errs...)
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// expire removes the ended tokens of an entity. It does not ask whether the entity is
// acceptable by the rules of today: what has ended has to go all the same. What people see of it
// stays as it is, and so does its revision.
func (c *core) expire(ctx context.Context, k Kind, id int64, now time.Time) error {
	_, err := c.transact(ctx, guarded, func(tx *txn) error {
		e, err := tx.get(ctx, k, id)
		if err != nil {
			return err
		}
		before, after := k.facts().new(), k.facts().new().(holder)
		if err := errors.Join(before.decode(e, c.keeper), after.decode(e, c.keeper)); err != nil {
			return err
		}
		after.credential().expire(now)
		if before.hidden() == after.hidden() {
			return nil
		}
		return tx.putQuietly(before, after)
	})
	return err
}

// removeEnded removes the holds that have ended, many in a commit; those for health once nobody
// needs to know of them any more.
func (c *core) removeEnded(ctx context.Context, now time.Time) error {
	ctx = WithMachine(ctx, "maintenance", "the hold has ended")
	return c.eachDue(ctx, KindHold, now, maxEnded, func(page []Entity) (errs []error) {
		var ended []*Hold
		for _, e := range page {
			var h Hold
			if err := h.decode(e, c.keeper); err != nil {
				errs = append(errs, err)
				continue
			}
			ended = append(ended, &h)
		}
		err := c.removeHolds(ctx, ended)
		if err == nil {
			return errs
		}
		if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnconfirmed) || ctx.Err() != nil {
			return append(errs, err)
		}
		// Somebody has changed one of them, or the store refuses one: the others go one by one.
		for _, h := range ended {
			if err := c.removeHolds(ctx, []*Hold{h}); err != nil && !errors.Is(err, ErrConflict) {
				errs = append(errs, fmt.Errorf("remove ended holds: %w", err))
			}
		}
		return errs
	})
}

// removeHolds removes holds that are as they were read.
func (c *core) removeHolds(ctx context.Context, holds []*Hold) error {
	tx := &txn{core: c, now: c.now()}
	for _, h := range holds {
		if err := tx.remove(h); err != nil {
			return err
		}
	}
	if len(holds) == 0 {
		return nil
	}
	err := c.read(ctx, func(r Reader) error {
		tx.reader = r
		return tx.noteProjects(ctx)
	})
	if err != nil {
		return err
	}
	_, err = c.commit(ctx, tx, 0)
	return err
}
