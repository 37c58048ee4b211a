package pgstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/catalog"
)

const (
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

	// sqlBump takes the next revision. On another base than the first
	// parameter the revision becomes null, which the table refuses. The last three verbs
	// are the numbers of the parameters: base, mark, epoch. The first is the
	// settings, which end with the transaction, and come before the lock.
	sqlBump = `
settings as materialized (%s),
head as (
    update catalog_head as h
    set revision = case when $%d::bigint in (0, revision) then revision + 1 end,
        mark     = $%d::uuid,
        epoch    = greatest(epoch, $%d::bigint)
    from settings
    returning h.revision, h.mark, pg_notify('ezapi_catalog', store || ' ' || revision)
)`

	// sqlBumped is for the statements after the one that bumped.
	sqlBumped = `
head as (select revision, mark from catalog_head)`

	// sqlBumpAlone is for commits whose first write cannot carry the bump.
	sqlBumpAlone = `with %s
select revision from head`

	// sqlDurable makes sure that what was answered as done is on the server's disk, also where the role
	// does not ask for that.
	sqlDurable = `set_config('synchronous_commit',
               coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), true)`

	// sqlCap refuses the commit, because the table refuses the null, where a count (%[1]s) is above
	// a parameter.
	sqlCap = `update catalog_head set store = null where (%[1]s) > $%[2]d::bigint`

	// sqlNoSurprises undoes what a role may have set that no transaction of ours can live with: an end after
	// a time (PostgreSQL 17 has that), an end of the connection at the first error, and an index that
	// finds some of the rows only.
	sqlNoSurprises = `case when current_setting('transaction_timeout', true) is not null
               then set_config('transaction_timeout', '0', true) end,
           set_config('exit_on_error', 'off', true), set_config('gin_fuzzy_search_limit', '0', true)`

	// sqlSettings bounds what a process that freezes in the middle of a commit can do to the
	// others. The server waits 5 s for its next part, and the others wait 10 s for the lock, so
	// they get it when the frozen one is given up. Keepalives are for a network that goes away
	// within a part, which no timeout of the server covers.
	sqlSettings = `
    select ` + sqlDurable + `, ` + sqlNoSurprises + `,
           set_config('lock_timeout', '10s', true),
           set_config('idle_in_transaction_session_timeout', '5s', true),
           set_config('tcp_keepalives_idle', '5', true),
           set_config('tcp_keepalives_interval', '2', true),
           set_config('tcp_keepalives_count', '3', true)`

	// sqlSettingsAlone is for the commit that is one statement outside a
	// transaction block: the server has all of it before it locks anything. Where
	// the connection's default is another isolation, it yields no row, and the
	// statement does nothing.
	sqlSettingsAlone = `
    select ` + sqlDurable + `, ` + sqlNoSurprises + `, set_config('lock_timeout', '10s', true)
    where current_setting('transaction_isolation') = 'read committed'`

	// sqlReplicates says whether the server waits for another one before it answers a commit.
	sqlReplicates = `
select current_setting('synchronous_standby_names') <> '' and current_setting('synchronous_commit') <> 'local'`

	// sqlPatience precedes the statements of a commit where the role's statement_timeout is shorter
	// than a commit may wait for others. No statement can prolong its own.
	sqlPatience = `
select set_config('statement_timeout', '2min', true)`
)

// A commitMode is how commits go to the server: each costs more than the one before, and goes on where
// that one stopped at what the role has set.
type commitMode int32

const (
	alone    commitMode = iota // in one statement outside a transaction block, if one suffices
	explicit                   // in a transaction block, which sets the isolation and may write
	patient                    // and no statement has the role's timeout
)

// next returns the mode to try again in after an error; the same mode is none.
func (m commitMode) next(ctx context.Context, err error) commitMode {
	switch {
	case m == alone && (errors.Is(err, pgx.ErrNoRows) || isReadOnly(err)): // see sqlSettingsAlone
		return explicit
	case m != patient && ctx.Err() == nil && isCanceled(err):
		return patient
	}
	return m
}

// Commit applies c in one transaction, and unless it is large in one round
// trip; see [catalog.Store]. When ctx ends meanwhile, Commit asks the server to stop
// and returns what really happened: ctx.Err() when nothing did, and no error
// when it was too late to stop. Where commits wait for synchronous standbys, it is not known then
// whether a standby has the commit, and the error wraps ErrUnconfirmed.
func (s *Store) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	if err := c.Check(); err != nil {
		return 0, fmt.Errorf("pgstore: commit: %w", err)
	}
	if len(c.Writes) == 0 && !c.Sync {
		return s.commitNothing(ctx, c.Base)
	}
	mode := commitMode(s.mode.Load())
	rev, err := s.commit(ctx, c, mode)
	for next := mode.next(ctx, err); next != mode; next = mode.next(ctx, err) {
		mode = next
		s.mode.Store(int32(mode))
		rev, err = s.commit(ctx, c, mode)
	}
	if isForbidden(err) && len(c.Writes) > manyWrites && !s.withoutTemp.Swap(true) {
		s.logger.InfoContext(ctx, "pgstore: the role may not make temporary tables; commits of many writes take longer")
		rev, err = s.commit(ctx, c, mode)
	}
	if err != nil {
		return 0, fmt.Errorf("pgstore: commit: %w", s.explain(ctx, c, err))
	}
	s.head.Raise(rev)
	return rev, nil
}

// commit tries once.
func (s *Store) commit(ctx context.Context, c catalog.Commit, mode commitMode) (catalog.Revision, error) {
	var rev catalog.Revision
	planned := plan
	if len(c.Writes) > manyWrites && !s.withoutTemp.Load() {
		planned = planMany
	}
	statements, err := planned(c, mode, &rev)
	if err != nil {
		return 0, &notCommitted{err}
	}
	if mode == patient { // after the one that begins the transaction
		statements = slices.Insert(statements, 1, statement{sql: sqlPatience})
	}
	err = s.run(ctx, statements)
	return rev, err
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
	copy *copyRows // in place of all the others
}

// plan lists the statements of a commit, which leave its revision in rev.
func plan(c catalog.Commit, mode commitMode, rev *catalog.Revision) ([]statement, error) {
	mark := make([]byte, 16)
	rand.Read(mark) //nolint:errcheck // it never fails
	var epoch catalog.Epoch
	if c.Sync {
		epoch = c.Epoch
	}
	b := bump{
		settings: sqlSettings,
		args:     []any{int64(c.Base), uuid.UUID(mark).String(), int64(epoch)},
		read:     func(row pgx.Row) error { return row.Scan(rev) },
	}
	releases := planReleases(c)
	// A delete at 0 needs a snapshot from after the lock, see sqlDelete.
	carried := len(c.Writes) > 0 && (!c.Writes[0].Delete || c.Writes[0].If != 0) && len(releases) == 0
	if mode == alone && carried && len(c.Writes) == 1 && !c.Sync && len(c.Caps) == 0 {
		b.settings = sqlSettingsAlone
		st, err := planWrite(c, c.Writes[0], 1, &b)
		return []statement{st}, err
	}

	statements := make([]statement, 0, len(c.Writes)+4)
	statements = append(statements, statement{sql: sqlBegin})
	if !carried {
		head, args := b.after(nil)
		statements = append(statements, statement{sql: fmt.Sprintf(sqlBumpAlone, head), args: args, read: b.read})
	}
	statements = append(statements, releases...)
	for i, w := range c.Writes {
		var carry *bump
		if i == 0 && carried {
			carry = &b
		}
		st, err := planWrite(c, w, i+1, carry)
		if err != nil {
			return nil, err
		}
		statements = append(statements, st)
	}
	return planEnd(c, statements)
}

// planEnd adds what ends every commit.
func planEnd(c catalog.Commit, statements []statement) ([]statement, error) {
	for _, limit := range c.Caps {
		where, args, err := conditions(catalog.Query{RefUnder: limit.RefUnder})
		if err != nil {
			return nil, err
		}
		args = append(args, limit.Max)
		sql := fmt.Sprintf(sqlCap, fmt.Sprintf(sqlCount, limit.Kind)+where, len(args))
		statements = append(statements, newStatement(sql, args))
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

// bump is what the first statement does besides.
type bump struct {
	settings string
	args     []any
	read     func(pgx.Row) error
}

// after returns the head's part of a statement, and all its arguments. A nil
// bump is that of the statements after the first.
func (b *bump) after(args []any) (head string, all []any) {
	if b == nil {
		return sqlBumped, args
	}
	n := len(args)
	return fmt.Sprintf(sqlBump, b.settings, n+1, n+2, n+3), append(args, b.args...)
}

// acquireWithin is how long a commit waits for a connection. It is less than the time after which whoever made it is
// told that its outcome is not known: what was never sent was never done.
const acquireWithin = 15 * time.Second

// acquire returns a connection of the pool, or an error that wraps ErrUnavailable when none is free for too long.
func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	within, cancel := context.WithTimeout(ctx, acquireWithin)
	defer cancel()
	conn, err := s.pool.Acquire(within)
	if err != nil && ctx.Err() == nil && within.Err() != nil {
		return nil, fmt.Errorf("%w: no connection was free within %s", catalog.ErrUnavailable, acquireWithin)
	}
	return conn, err
}

// run sends the statements, in parts, on one connection of the pool.
func (s *Store) run(ctx context.Context, statements []statement) error {
	conn, err := s.acquire(ctx)
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
		if err == nil && mayReplicate(closing, conn.Conn()) {
			err = errNotReplicated
		}
		conn.Conn().Close(closing)
	}
	return err
}

// errNotReplicated says that a commit was stopped, perhaps while it waited for a standby: then the server answers that
// it is done, and it may not survive a failover.
var errNotReplicated = errors.New("the commit was given up, perhaps before a standby had it")

// mayReplicate reports whether the server waits for another one before it answers a commit, or cannot be asked. The
// request to cancel the commit may stop the first question, too.
func mayReplicate(ctx context.Context, conn *pgx.Conn) (waits bool) {
	err := conn.QueryRow(ctx, sqlReplicates, pgx.QueryExecModeExec).Scan(&waits)
	if isCanceled(err) {
		err = conn.QueryRow(ctx, sqlReplicates, pgx.QueryExecModeExec).Scan(&waits)
	}
	return waits || err != nil
}

// send stops between two parts when stopped returns an error.
func send(ctx context.Context, stopped func() error, conn *pgxpool.Conn, statements []statement) error {
	if len(statements) == 1 { // a batch of one does the same, but costs more
		st := statements[0]
		return st.read(conn.QueryRow(ctx, st.sql, st.args...))
	}
	for len(statements) > 0 {
		if err := stopped(); err != nil {
			rollback(ctx, conn)
			return &notCommitted{err}
		}
		var part pgx.Batch
		n, size := 0, 0
		if rows := statements[0].copy; rows != nil {
			if _, err := conn.CopyFrom(ctx, rows.table, rows.columns, rows); err != nil {
				rollback(ctx, conn)
				return err
			}
			statements = statements[1:]
			continue
		}
		for n < len(statements) && statements[n].copy == nil && (n == 0 || size+statements[n].size <= partSize) {
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
