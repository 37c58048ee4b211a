package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

const (
	sqlChanges = `
select revision, seq, time, actor, reason, action, kind, id, before, after, touches
from changes
where (revision, seq) > (?, ?)
order by revision, seq
limit ?`

	sqlHasRevision = `select exists (select 1 from changes where revision = ?)`

	sqlMark = `select mark from changes where revision = ? limit 1`

	// sqlKeep is the first revision that is too young to be pruned. It reads
	// what is to be pruned, and needs no index by time. Who dated a revision after the
	// second parameter had a wrong clock.
	sqlKeep = `
select coalesce(
    (select revision from changes where time >= ? and time <= ? order by revision limit 1),
    (select revision from catalog_head))`

	// sqlPrune deletes the oldest revisions below the first parameter, about
	// as many as the second.
	sqlPrune = `delete from changes where revision < ? and revision < (select min(revision) + ? from changes)`

	// pruneBatch keeps each transaction short: commits wait for it.
	pruneBatch = 5000
)

type changeRow struct {
	Revision catalog.Revision
	Seq      int
	Time     int64 // microseconds
	Actor    string
	Reason   string
	Action   catalog.Action
	Kind     catalog.Kind
	ID       int64
	Before   []byte
	After    []byte
	Touches  []byte
}

func (r *changeRow) change() (catalog.Change, error) {
	c := catalog.Change{
		Revision: r.Revision, Seq: r.Seq, Time: microseconds(r.Time), Actor: r.Actor, Reason: r.Reason,
		Action: r.Action, Kind: r.Kind, ID: r.ID, Before: r.Before, After: r.After,
	}
	return c, decode(r.Touches, &c.Touches)
}

func (r *reader) Changes(ctx context.Context, after catalog.Cursor, limit int) ([]catalog.Change, error) {
	if after.Revision > r.head.Revision || after.Revision == r.head.Revision && after.Seq == 0 {
		return nil, nil
	}
	seq := after.Seq
	if seq == 0 {
		seq = math.MaxInt32
	}
	if limit <= 0 {
		limit = math.MaxInt32
	}
	var rows []changeRow
	if err := r.tx.SelectContext(ctx, &rows, sqlChanges, after.Revision, seq, limit); err != nil {
		return nil, r.store.fail(ctx, "read changes", err)
	}
	// Revisions and the places within them have no gaps: what is missing was pruned.
	there := len(rows) > 0 && rows[0].Revision == after.Revision+1
	if after.Seq > 0 {
		if err := r.tx.GetContext(ctx, &there, sqlHasRevision, after.Revision); err != nil {
			return nil, r.store.fail(ctx, "read changes", err)
		}
	}
	if !there {
		return nil, fmt.Errorf("sqlitestore: changes after %s: %w", after, catalog.ErrCompacted)
	}
	changes := make([]catalog.Change, len(rows))
	for i := range rows {
		var err error
		if changes[i], err = rows[i].change(); err != nil {
			return nil, fmt.Errorf("sqlitestore: read changes: %w", err)
		}
	}
	return changes, nil
}

func (r *reader) MarkAt(ctx context.Context, rev catalog.Revision) (catalog.Mark, error) {
	switch {
	case rev == 0:
		return "", nil
	case rev == r.head.Revision:
		return r.head.Mark, nil
	case rev > r.head.Revision:
		return "", fmt.Errorf("sqlitestore: revision %d is ahead of the head: %w", rev, catalog.ErrNotFound)
	}
	var mark catalog.Mark
	err := r.tx.GetContext(ctx, &mark, sqlMark, rev)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", fmt.Errorf("sqlitestore: mark of revision %d: %w", rev, catalog.ErrCompacted)
	case err != nil:
		return "", r.store.fail(ctx, "read a mark", err)
	}
	return mark, nil
}

// PruneChanges forgets old changes, in batches; see [catalog.Pruner]. When it
// fails half-way, what it has pruned stays pruned and is counted.
func (s *Store) PruneChanges(ctx context.Context, before time.Time) (int64, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	var keep catalog.Revision
	if err := s.read.GetContext(ctx, &keep, sqlKeep, before.UnixMicro(),
		time.Now().Add(catalog.MaxSkew).UnixMicro()); err != nil {
		return 0, s.fail(ctx, "prune changes", err)
	}
	var pruned int64
	for {
		result, err := s.write.ExecContext(ctx, sqlPrune, keep, pruneBatch)
		if err != nil {
			return pruned, s.fail(ctx, "prune changes", err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return pruned, s.fail(ctx, "prune changes", err)
		}
		if n == 0 {
			return pruned, nil
		}
		pruned += n
	}
}
