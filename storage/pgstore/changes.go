package pgstore

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
where (revision, seq) > ($1, $2::int)
order by revision, seq
limit $3`

	sqlHasRevision = `select exists (select from changes where revision = $1)`

	sqlMark = `select replace(mark::text, '-', '') from changes where revision = $1 limit 1`

	// sqlKeep is the first revision that is too young to be pruned. It reads
	// what is to be pruned, and needs no index by time. Who dated a revision
	// so many seconds ahead of now had a wrong clock.
	sqlKeep = `
select coalesce(
    (select revision from changes where time >= $1 and time <= now() + make_interval(secs => $2)
     order by revision limit 1),
    (select revision from catalog_head))`

	// sqlPrune deletes the oldest revisions below $1, about $2 of them.
	sqlPrune = `
delete from changes
where revision < $1 and revision < (select min(revision) + $2::bigint from changes)`

	// pruneBatch keeps each transaction short.
	pruneBatch = 5000
)

type changeRow struct {
	Revision catalog.Revision
	Seq      int
	Time     time.Time
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
		Revision: r.Revision, Seq: r.Seq, Time: r.Time.UTC(), Actor: r.Actor, Reason: r.Reason,
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
	if err := r.conn.SelectContext(ctx, &rows, sqlChanges, after.Revision, seq, limit); err != nil {
		return nil, r.store.fail(ctx, "read changes", err)
	}
	// Revisions and the places within them have no gaps: what is missing was pruned.
	there := len(rows) > 0 && rows[0].Revision == after.Revision+1
	if after.Seq > 0 {
		if err := r.conn.GetContext(ctx, &there, sqlHasRevision, after.Revision); err != nil {
			return nil, r.store.fail(ctx, "read changes", err)
		}
	}
	if !there {
		return nil, fmt.Errorf("pgstore: changes after %s: %w", after, catalog.ErrCompacted)
	}
	changes := make([]catalog.Change, len(rows))
	for i := range rows {
		var err error
		if changes[i], err = rows[i].change(); err != nil {
			return nil, fmt.Errorf("pgstore: read changes: %w", err)
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
		return "", fmt.Errorf("pgstore: revision %d is ahead of the head: %w", rev, catalog.ErrNotFound)
	}
	var mark catalog.Mark
	err := r.conn.GetContext(ctx, &mark, sqlMark, rev)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", fmt.Errorf("pgstore: mark of revision %d: %w", rev, catalog.ErrCompacted)
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
	if err := s.db.GetContext(ctx, &keep, sqlKeep, before, catalog.MaxSkew.Seconds()); err != nil {
		return 0, s.fail(ctx, "prune changes", err)
	}
	var pruned int64
	for {
		n, err := s.change(ctx, sqlPrune, keep, pruneBatch)
		if err != nil {
			return pruned, s.fail(ctx, "prune changes", err)
		}
		if n == 0 {
			return pruned, nil
		}
		pruned += n
	}
}
