package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/claim"
	"github.com/ez-api/ez-api/storage/internal/gate"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

const (
	// sqlSinkSettings bound what a frozen process can do to others, as for the
	// catalog, and make sure that a commit which is answered is on disk: the spool forgets what is
	// stored.
	sqlSinkSettings = sqlBegin + `;` + sqlSettings + `, set_config('statement_timeout', '5min', true)`

	// The row is made first, so that there is one to lock: a write whose
	// answer was lost may still be at work.
	sqlSinkCheckpoint = `;
insert into log_checkpoints (segment, position) values ('%[1]s', 0) on conflict do nothing;
select position from log_checkpoints where segment = '%[1]s' for update`

	// It changes nothing when the segment is stored further than that, or not as far as
	// the batch begins; then it says where it is, which is nowhere when there is no row.
	sqlSinkAdvance = `
insert into log_checkpoints (segment, position) select '%[1]s', 0 where %[2]d = 0 on conflict do nothing;
update log_checkpoints set position = %[3]d, updated_at = now()
where segment = '%[1]s' and position >= %[2]d and position < %[3]d;
select position from log_checkpoints where segment = '%[1]s'`

	// sqlSinkMark has the commit wait for synchronous standbys, as one that changes nothing does not.
	sqlSinkMark = `select pg_logical_emit_message(true, 'ezapi', '')`

	// sqlBlocking finds those who wait for this transaction to end.
	sqlBlocking = `
select from pg_locks where locktype = 'transactionid' and transactionid = pg_current_xact_id_if_assigned()::xid and not granted`

	sqlPosition = `select position from log_checkpoints where segment = $1`

	sqlCopyLogs  = `copy access_logs (` + logColumns + `) from stdin (format binary)`
	sqlCopyUsage = `copy usage_pending (` + usageColumns + `) from stdin (format binary)`
)

// SinkOptions change how a [Sink] works. The zero value is fine, and so is nil.
type SinkOptions struct {
	// Logger is told of partitions that come and go. Defaults to slog.Default().
	Logger *slog.Logger

	// Clock tells the present time, for queries that do not say until when they look. Defaults to
	// time.Now.
	Clock func() time.Time

	// QueryConns is how many of the pool's connections Logs and Usage may use at once; others wait,
	// and those that wait for too long, or are too many, get an error that wraps
	// logbuf.ErrTooManyQueries. KeyUsage may use two more. At least half of the pool is left to
	// writes. Defaults to 4.
	QueryConns int

	// Owner returns which catalog the logs belong to: the Store of its head. The database remembers
	// the first catalog that comes. A sink of another one does nothing there, and fails with
	// [logbuf.ErrForeign]: otherwise the usage of two catalogs would be added up, and maintenance
	// for one would delete the entries of the other. Defaults to none: nothing is checked.
	Owner func(ctx context.Context) (string, error)

	// UsageZone is the time zone of the days by which usage is kept when its quarters of an hour
	// are too old. The first maintenance of a database fixes it. Defaults to UTC.
	UsageZone *time.Location
}

// Sink stores access logs in PostgreSQL, and answers questions about them. It
// is safe for concurrent use, beside any number of others on the same database.
//
// A batch is one transaction: a binary COPY into the daily partitions of access_logs, the usage it
// adds, the blocks by which it is found, and the checkpoint. Entries that the database refuses go
// to log_dead_letter. Errors about tables that are missing or not as they should be, and about
// permissions, wrap [logbuf.ErrPaused].
type Sink struct {
	pool   *pgxpool.Pool
	logger *slog.Logger
	clock  func() time.Time
	zone   *time.Location
	claims *claim.Claim

	queries, keys *gate.Gate // see newGates

	// replaying is set while batches hold duplicates: the next will, too.
	replaying atomic.Bool

	notes sync.Pool // of *notes

	// withoutTemp is set once the role turned out not to be allowed temporary tables.
	withoutTemp atomic.Bool
}

var (
	_ logbuf.Sink         = (*Sink)(nil)
	_ logbuf.Archive      = (*Sink)(nil)
	_ logbuf.Pipeliner    = (*Sink)(nil)
	_ logbuf.Checkpointer = (*Sink)(nil)
	_ logbuf.Maintainer   = (*Sink)(nil)
	_ logbuf.Timekeeper   = (*Sink)(nil)
	_ logbuf.Repricer     = (*Sink)(nil)
	_ logbuf.HealthKeeper = (*Sink)(nil)
)

// NewSink returns a sink in the database that the pool leads to. It does not
// reach for it: a server may take logs into its spool while the database is
// down. [Open] makes the tables. The pool stays the caller's.
func NewSink(pool *pgxpool.Pool, opts *SinkOptions) *Sink {
	if opts == nil {
		opts = &SinkOptions{}
	}
	s := &Sink{pool: pool, logger: opts.Logger, clock: opts.Clock, zone: opts.UsageZone, claims: claim.New(opts.Owner)}
	s.queries, s.keys = newGates(pool, opts.QueryConns)
	if s.logger == nil {
		s.logger = slog.Default()
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.zone == nil {
		s.zone = time.UTC
	}
	return s
}

// Write stores a batch; see [logbuf.Sink].
func (s *Sink) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
	return s.WriteAfter(ctx, b, func(context.Context) error { return nil })
}

// WriteAfter stores a batch while the one before is being stored; see [logbuf.Pipeliner].
func (s *Sink) WriteAfter(ctx context.Context, b logbuf.Batch,
	prior func(context.Context) error) (logbuf.Result, error) {
	if len(b.Entries) == 0 && b.Segment == uuid.Nil {
		return logbuf.Result{}, ctx.Err()
	}
	mode := fast
	if s.replaying.Load() {
		mode = careful
	}
	// At most: no partition, then duplicates or bad data, then a partition
	// that was dropped meanwhile. Who stores the same at the same time may meet
	// more deadlocks than one.
	for attempt := 0; ; attempt++ {
		r, err := s.write(ctx, b, mode, prior)
		if err == nil {
			return r, nil
		}
		switch f := faultOf(err); {
		case attempt == 3 || ctx.Err() != nil:
		case f == faultPartition:
			if _, err = s.addPartitions(ctx, daysOf(b.Entries)); err == nil {
				continue
			}
		case f == faultDuplicate, mode == fast && (f == faultData || f == faultSchema):
			mode = careful
			continue
		}
		return logbuf.Result{}, explainSink(ctx, "write logs", err)
	}
}

// A writeMode is how a batch is written.
type writeMode int

const (
	// fast takes for granted that no entry is stored yet, and that all are fit to be: one COPY, and
	// the checkpoint last. The transaction fails when that is not so.
	fast writeMode = iota

	// careful locks the checkpoint first, passes over entries that are stored already, and puts those
	// that the database refuses into the dead letters.
	careful
)

// write tries once, in one transaction.
func (s *Sink) write(ctx context.Context, b logbuf.Batch, mode writeMode,
	prior func(context.Context) error) (logbuf.Result, error) {
	// The careful mode locks the checkpoint first, which the batch before locks last. So the batch
	// before has to be stored first, or both would wait for ever. The same holds when the pool has
	// only one connection: this batch would keep it from the batch before.
	if mode == careful || s.pool.Stat().MaxConns() < 2 {
		if err := prior(ctx); err != nil {
			return logbuf.Result{}, err
		}
	}
	conn, err := s.acquire(ctx)
	if err != nil {
		return logbuf.Result{}, err
	}
	defer conn.Release()
	defer rollback(ctx, conn)

	again, err := beginBatch(ctx, conn, b, mode)
	if err != nil {
		return logbuf.Result{}, err
	}
	if again {
		// The batch counts as stored only when a synchronous standby has it, too. This commit waits
		// for the standby as the first one did, because the lock on the row is in the WAL.
		return logbuf.Result{Duplicate: len(b.Entries)}, run(ctx, conn, sqlEnd)
	}
	n := s.newNotes()
	defer s.keepNotes(n)
	r := logbuf.Result{Stored: len(b.Entries)}
	if mode == careful {
		r, err = s.storeCarefully(ctx, conn, b, n.add)
	} else if len(b.Entries) > 0 {
		err = copyFrom(ctx, conn.Conn(), sqlCopyLogs, logRows(b.Entries, n.add))
	}
	if err != nil {
		return logbuf.Result{}, err
	}
	if r.Stored > 0 {
		if err := copyFrom(ctx, conn.Conn(), sqlCopyUsage, usageRows(n.usage.Rows)); err != nil {
			return logbuf.Result{}, err
		}
		if err := copyFrom(ctx, conn.Conn(), sqlCopyBlocks, blockRows(n.blocks.blocks())); err != nil {
			return logbuf.Result{}, err
		}
	}
	if mode == fast {
		if err := s.awaitPrior(ctx, conn, prior); err != nil {
			return logbuf.Result{}, err
		}
	}
	if r.Stored == 0 && b.Segment == uuid.Nil { // the others may be stored where no standby has them yet
		if err := run(ctx, conn, sqlSinkMark); err != nil {
			return logbuf.Result{}, err
		}
	}
	if err := endBatch(ctx, conn, b); err != nil {
		return logbuf.Result{}, err
	}
	s.replaying.Store(r.Duplicate > 0)
	return r, nil
}

// notes are what is written of a batch beside its entries.
type notes struct {
	usage  rollup.Table
	blocks blockBuilder
}

func (n *notes) add(e *logbuf.Entry) {
	n.usage.Add(e)
	n.blocks.add(blockEntry{e.Time.UnixMicro(), hashKey(e.KeyID), hashRequest(e.RequestID)})
}

// newNotes returns empty notes, in memory that an earlier batch no longer needs.
func (s *Sink) newNotes() *notes {
	if n, ok := s.notes.Get().(*notes); ok {
		return n
	}
	return new(notes)
}

func (s *Sink) keepNotes(n *notes) {
	n.usage.Reset()
	n.blocks.blocks() // ends those that a failed write has left open
	n.blocks.reset()
	s.notes.Put(n)
}

// beginBatch starts the transaction. When the batch may hold duplicates, it locks
// the checkpoint, and says whether that is past the batch: then it is stored.
func beginBatch(ctx context.Context, conn *pgxpool.Conn, b logbuf.Batch, mode writeMode) (again bool, err error) {
	if b.Segment == uuid.Nil || mode == fast {
		return false, run(ctx, conn, sqlSinkSettings)
	}
	results, err := conn.Conn().PgConn().Exec(ctx, sqlSinkSettings+fmt.Sprintf(sqlSinkCheckpoint, b.Segment)).ReadAll()
	if err != nil {
		return false, err
	}
	rows := results[len(results)-1].Rows
	if len(rows) != 1 {
		return false, errors.New("the checkpoint vanished")
	}
	position, err := strconv.ParseInt(string(rows[0][0]), 10, 64)
	if err == nil && position < b.From {
		return false, &logbuf.BehindError{Position: position}
	}
	return position >= b.To, err
}

const (
	// lookAfter is how often a batch that waits for its turn looks who waits for it.
	lookAfter = 100 * time.Millisecond

	// giveWayAfter is how long it waits at most. To be written beside another saves time only, and not
	// all that the other may wait for can be seen: a pooler may have no connection left but ours.
	giveWayAfter = time.Second
)

var errGaveWay = errors.New("others may wait for what this batch holds")

// awaitPrior waits, when all of this batch is written, until the batch before is stored. If
// somebody waits for a lock of this transaction, or may wait for the last connection, that may be
// the batch before, and both would wait for ever. So this batch gives way then.
func (s *Sink) awaitPrior(ctx context.Context, conn *pgxpool.Conn, prior func(context.Context) error) error {
	for begun := time.Now(); ; {
		wait, cancel := context.WithTimeout(ctx, lookAfter)
		err := prior(wait)
		late := wait.Err() != nil
		cancel()
		if err == nil || !late || ctx.Err() != nil {
			return err
		}
		if pool := s.pool.Stat(); pool.AcquiredConns() >= pool.MaxConns() || time.Since(begun) >= giveWayAfter {
			return errGaveWay
		}
		results, err := conn.Conn().PgConn().Exec(ctx, sqlBlocking).ReadAll()
		if err != nil {
			return err
		}
		if len(results[0].Rows) > 0 {
			return errGaveWay
		}
	}
}

// errStored says that a batch turned out to be stored when all of it was written.
var errStored = errors.New("the batch is stored already")

// endBatch moves the checkpoint and commits, unless that is past the batch, or before it: then
// the database has lost what it had.
func endBatch(ctx context.Context, conn *pgxpool.Conn, b logbuf.Batch) error {
	if b.Segment != uuid.Nil {
		results, err := conn.Conn().PgConn().Exec(ctx, fmt.Sprintf(sqlSinkAdvance, b.Segment, b.From, b.To)).ReadAll()
		if err != nil {
			return err
		}
		if results[1].CommandTag.RowsAffected() == 0 {
			var position int64
			if rows := results[2].Rows; len(rows) == 1 {
				if position, err = strconv.ParseInt(string(rows[0][0]), 10, 64); err != nil {
					return err
				}
			}
			if position < b.From {
				return &logbuf.BehindError{Position: position}
			}
			return errStored
		}
	}
	return run(ctx, conn, sqlEnd)
}

// run executes statements without parameters, in one round trip.
func run(ctx context.Context, conn *pgxpool.Conn, sql string) error {
	_, err := conn.Conn().PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// copyFrom streams rows into a table, and makes sure that it has stored them all.
func copyFrom(ctx context.Context, conn *pgx.Conn, sql string, rows *copyReader) error {
	tag, err := conn.PgConn().CopyFrom(ctx, rows, sql)
	sent, refused := rows.stop()
	if refused != nil {
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == stateCanceled { // as the protocol has it when we give up
			return refused
		}
	}
	if err == nil && tag.RowsAffected() != sent {
		return &shortfall{sent, tag.RowsAffected()}
	}
	return err
}

// Checkpoint says how far a segment is stored; see [logbuf.Checkpointer].
func (s *Sink) Checkpoint(ctx context.Context, segment uuid.UUID) (position int64, err error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return 0, explainSink(ctx, "read a checkpoint", err)
	}
	defer conn.Release()
	err = conn.QueryRow(ctx, sqlPosition, pgx.QueryExecModeExec, segment).Scan(&position)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, explainSink(ctx, "read a checkpoint", err)
	}
	return position, nil
}
