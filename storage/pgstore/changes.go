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
where (revision, seq) > ($1, $2::int) and ($4::text[] is null or kind = any ($4))
order by revision, seq
limit $3`

	// sqlReaches tells whether a revision is not in the beginning that was pruned.
	sqlReaches = `select exists (select from changes where revision <= $1)`

	sqlMark = `select replace(mark::text, '-', '') from changes where revision = $1 limit 1`

	// sqlKeep is the first revision that is too young to be forgotten, of those after $3. It
	// reads what is to be forgotten, and needs no index by time. Who dated a revision
	// so many seconds ahead of now had a wrong clock.
	sqlKeep = `
select coalesce(
    (select revision from changes
     where revision > $3 and time >= $1 and time <= now() + make_interval(secs => $2)
     order by revision limit 1),
    (select revision from catalog_head))`

	// sqlPrune deletes the oldest revisions below $1, about $2 of them.
	sqlPrune = `
delete from changes
where revision < $1 and revision < (select min(revision) + $2::bigint from changes)`

	sqlThinnedTo = `select thinned from catalog_head`

	// sqlThinned precedes what it tells of, so that no view lacks changes and does not say so.
	sqlThinned = `update catalog_head set thinned = $1 where thinned < $1`

	// sqlThin deletes what machines did in the oldest revisions below $1.
	sqlThin = `
delete from changes
where machine and revision < $1 and revision < (select min(revision) + $2::bigint from changes where machine)`

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

func (r *reader) Changes(
	ctx context.Context, after catalog.Cursor, limit int, kinds ...catalog.Kind,
) ([]catalog.Change, error) {
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
	var names []string // a type of its own is not encoded in every mode of a pool
	for _, k := range kinds {
		names = append(names, string(k))
	}
	if err := r.conn.SelectContext(ctx, &rows, sqlChanges, after.Revision, seq, limit, names); err != nil {
		return nil, r.store.fail(ctx, "read changes", err)
	}
	// The places within a revision have no gaps. Where revisions have one, they were thinned out, or are
	// not of the kinds, unless nothing is left before it: then they were pruned.
	next := after.Revision
	if after.Seq == 0 {
		next++
	}
	there := len(rows) > 0 && rows[0].Revision == next
	if !there {
		if err := r.conn.GetContext(ctx, &there, sqlReaches, next); err != nil {
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
	keep, err := s.firstKept(ctx, before, 0)
	if err != nil {
		return 0, err
	}
	return s.forget(ctx, sqlPrune, keep)
}

// ThinChanges forgets what machines did long ago, in batches, as PruneChanges does.
func (s *Store) ThinChanges(ctx context.Context, before time.Time) (int64, error) {
	var thinned catalog.Revision
	if err := s.alive(); err != nil {
		return 0, err
	}
	if err := s.db.GetContext(ctx, &thinned, sqlThinnedTo); err != nil {
		return 0, s.fail(ctx, "thin changes", err)
	}
	keep, err := s.firstKept(ctx, before, thinned)
	if err != nil {
		return 0, err
	}
	if _, err := s.change(ctx, sqlThinned, keep-1); err != nil {
		return 0, s.fail(ctx, "thin changes", err)
	}
	return s.forget(ctx, sqlThin, keep)
}

// firstKept returns the first revision after another that is too young to be forgotten.
func (s *Store) firstKept(ctx context.Context, before time.Time, after catalog.Revision) (
	keep catalog.Revision, err error,
) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	err = s.db.GetContext(ctx, &keep, sqlKeep, before, catalog.MaxSkew.Seconds(), after)
	if err != nil {
		return 0, s.fail(ctx, "prune changes", err)
	}
	return keep, nil
}

// forget repeats a statement that deletes changes below a revision, until none is left.
func (s *Store) forget(ctx context.Context, statement string, below catalog.Revision) (gone int64, err error) {
	for {
		n, err := s.change(ctx, statement, below, pruneBatch)
		if err != nil {
			return gone, s.fail(ctx, "prune changes", err)
		}
		if n == 0 {
			return gone, nil
		}
		gone += n
	}
}
