package pgstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/catalog"
)

const (
	// lockTimeout is how long a commit waits for those before it. It is longer than
	// idleTimeout, so that those behind a frozen writer outlive it.
	lockTimeout = 10 * time.Second

	// idleTimeout is how long the server waits for a writer that went silent
	// between two parts of its commit, before it rolls the commit back.
	idleTimeout = 5 * time.Second

	// cancelGrace is how long a commit whose context has ended may take to
	// say what became of it, before its connection is given up.
	cancelGrace = 5 * time.Second

	// partSize is about how many bytes of a commit go to the server at once.
	// What fits a socket buffer is on its way even if this process freezes.
	partSize = 64 << 10
)

const (
	sqlBegin    = `begin isolation level read committed read write`
	sqlEnd      = `commit`
	sqlRollback = `rollback`

	// The settings end with the transaction. Keepalives are for a network
	// that went away in the middle of a part: no timeout of the server covers that.
	sqlSettings = `
select set_config('lock_timeout', $1, true),
       set_config('idle_in_transaction_session_timeout', $2, true),
       set_config('tcp_keepalives_idle', '5', true),
       set_config('tcp_keepalives_interval', '2', true),
       set_config('tcp_keepalives_count', '3', true)`

	// sqlBump is the first statement that locks anything. On another base than
	// $1 the revision becomes null, which the table refuses.
	sqlBump = `
update catalog_head
set revision = case when $1::bigint in (0, revision) then revision + 1 end,
    mark     = $2::uuid,
    epoch    = greatest(epoch, $3::bigint)
returning revision, pg_notify('ezapi_catalog', store || ' ' || revision)::text`
)

// Commit applies c in one transaction, and unless it is large in one round
// trip; see [catalog.Store]. When ctx ends meanwhile, Commit asks the server to stop
// and returns what really happened: ctx.Err() when nothing did, and no error
// when it was too late to stop.
func (s *Store) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	if len(c.Writes) == 0 && !c.Sync {
		return s.commitNothing(ctx, c.Base)
	}
	var rev catalog.Revision
	statements, err := plan(c, &rev)
	if err != nil {
		return 0, fmt.Errorf("pgstore: commit: %w", err)
	}
	if err := s.run(ctx, statements); err != nil {
		return 0, fmt.Errorf("pgstore: commit: %w", s.explain(ctx, c, err))
	}
	s.head.Raise(rev)
	return rev, nil
}

// commitNothing answers a commit without writes.
func (s *Store) commitNothing(ctx context.Context, base catalog.Revision) (catalog.Revision, error) {
	rev, err := s.readRevision(ctx)
	if err != nil {
		return 0, err
	}
	if base != 0 && base != rev {
		return 0, fmt.Errorf("pgstore: commit: the catalog is at another revision: %w", catalog.ErrConflict)
	}
	return rev, nil
}

// statement is one step of a transaction.
type statement struct {
	sql  string
	args []any
	size int // about, in bytes, of the arguments
	read func(pgx.Row) error
}

// plan lists the statements of a commit, which leave its revision in rev.
func plan(c catalog.Commit, rev *catalog.Revision) ([]statement, error) {
	mark := make([]byte, 16)
	rand.Read(mark)
	var epoch catalog.Epoch
	if c.Sync {
		epoch = c.Epoch
	}

	statements := make([]statement, 0, len(c.Writes)+5)
	statements = append(statements,
		statement{sql: sqlBegin},
		statement{sql: sqlSettings, args: []any{milliseconds(lockTimeout), milliseconds(idleTimeout)}},
		statement{
			sql:  sqlBump,
			args: []any{int64(c.Base), uuid.UUID(mark).String(), int64(epoch)},
			read: func(row pgx.Row) error { return row.Scan(rev, nil) },
		},
	)
	for i, w := range c.Writes {
		st, err := planWrite(c, w, i+1)
		if err != nil {
			return nil, err
		}
		statements = append(statements, st)
	}
	if c.Sync {
		st, err := planSync(c, len(c.Writes)+1)
		if err != nil {
			return nil, err
		}
		statements = append(statements, st)
	}
	return append(statements, statement{sql: sqlEnd}), nil
}

// run sends the statements, in parts, on one connection of the pool.
func (s *Store) run(ctx context.Context, statements []statement) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return &notCommitted{err}
	}
	defer conn.Release()
	if err := ctx.Err(); err != nil {
		return &notCommitted{err}
	}

	// From here on only the server knows what happened, so ctx does not cut the
	// connection, as it does by default: it cancels the statement, and the
	// answer tells.
	running, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	canceled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(canceled)
		grace, cancel := context.WithTimeout(running, cancelGrace)
		defer cancel()
		conn.Conn().PgConn().CancelRequest(grace) //nolint:errcheck // the answer to the statement counts
		<-grace.Done()
		giveUp()
	})
	err = send(running, ctx.Err, conn, statements)
	if !stop() {
		giveUp()
		<-canceled
		// The request to cancel may still be on its way: it must not
		// hit whoever gets this connection next.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Conn().Close(closing)
	}
	return err
}

// send stops between two parts when stopped returns an error.
func send(ctx context.Context, stopped func() error, conn *pgxpool.Conn, statements []statement) error {
	for len(statements) > 0 {
		if err := stopped(); err != nil {
			rollback(ctx, conn)
			return &notCommitted{err}
		}
		var part pgx.Batch
		n, size := 0, 0
		for n < len(statements) && (n == 0 || size+statements[n].size <= partSize) {
			st := statements[n]
			query := part.Queue(st.sql, st.args...)
			if st.read != nil {
				query.QueryRow(st.read)
			}
			size += st.size
			n++
		}
		if err := conn.SendBatch(ctx, &part).Close(); err != nil {
			rollback(ctx, conn)
			return err
		}
		statements = statements[n:]
	}
	return nil
}

// rollback does its best: the pool does not reuse a connection that is still
// in a transaction.
func rollback(ctx context.Context, conn *pgxpool.Conn) {
	if conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, cancelGrace)
	defer cancel()
	conn.Exec(ctx, sqlRollback) //nolint:errcheck // see above
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// sqlIDs reserves one id. Those who reserve several shut out the others while
// they move the sequence, so that a block is theirs alone.
const (
	sqlID = `
with turn as materialized (select pg_advisory_xact_lock_shared($1))
select nextval('catalog_ids') from turn`

	sqlIDs = `
with turn as materialized (select pg_advisory_xact_lock($1)),
     block as materialized (select nextval('catalog_ids') as first from turn)
select first from block where setval('catalog_ids', first + $2::bigint - 1) > 0`

	idLock = 0x65_7a_61_70_69_02 // "ezapi", 2: key of the advisory lock
)

// NextIDs reserves n ids; see [catalog.Store].
func (s *Store) NextIDs(ctx context.Context, n int) (first int64, err error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	switch {
	case n < 1:
		return 0, fmt.Errorf("pgstore: reserve %d ids: must be at least 1", n)
	case n == 1:
		err = s.db.GetContext(ctx, &first, sqlID, int64(idLock))
	default:
		err = s.db.GetContext(ctx, &first, sqlIDs, int64(idLock), int64(n))
	}
	if err != nil {
		return 0, s.fail(ctx, "reserve ids", err)
	}
	return first, nil
}
