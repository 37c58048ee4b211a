package pgstore

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// One sequence serves all nouns. Those who reserve several ids shut out the
// others while they move it, so that a block is theirs alone. Nobody waits for a disk or a standby here: the commit
// that stores an id does, and keeps what was written before it.
const (
	sqlID = `
with quick as materialized (select set_config('synchronous_commit', 'off', true)),
     turn as materialized (select pg_advisory_xact_lock_shared($1) from quick)
select nextval('catalog_ids') from turn`

	sqlIDs = `
with quick as materialized (select set_config('synchronous_commit', 'off', true)),
     turn as materialized (select pg_advisory_xact_lock($1) from quick),
     block as materialized (select nextval('catalog_ids') as first from turn)
select first from block where setval('catalog_ids', first + $2::bigint - 1) > 0`

	idLock = 0x65_7a_61_70_69_02 // "ezapi", 2: key of the advisory lock
)

// NextIDs reserves n ids; see [catalog.Store].
func (s *Store) NextIDs(ctx context.Context, n int) (first int64, err error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	if n < 1 {
		return 0, fmt.Errorf("pgstore: reserve %d ids: must be at least 1", n)
	}
	query, args := sqlID, []any{int64(idLock)}
	if n > 1 {
		query, args = sqlIDs, append(args, int64(n))
	}
	// A transaction block costs more, and is for roles whose settings are in the way.
	if err = s.db.GetContext(ctx, &first, query, args...); isReadOnly(err) || isLockTimeout(err) || isCanceled(err) {
		err = s.inTx(ctx, func(tx *sqlx.Tx) error { return tx.GetContext(ctx, &first, query, args...) })
	}
	if err != nil {
		return 0, s.fail(ctx, "reserve ids", err)
	}
	return first, nil
}
