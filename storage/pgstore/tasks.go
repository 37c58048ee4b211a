package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
)

// Keys of advisory locks: a kind of work is done by one process at a time.
const (
	partitionLock = 0x65_7a_61_70_69_10 + iota // "ezapi", 16: to make or drop partitions
	usageLock                                  // what is in usage_quarters and usage_days
	forgetLock                                 // dead letters, checkpoints, blocks
	gatherLock                                 // blocks
	pruneLock                                  // quarters that are too old
	repriceLock                                // costs of stored entries
)

const (
	sqlLock    = `select pg_advisory_xact_lock($1)`
	sqlTryLock = `select pg_try_advisory_xact_lock($1)`

	// sqlTaskSettings undo what the role may have set. A statement of maintenance may take long,
	// but nobody waits for it; and its sorts are small but many.
	sqlTaskSettings = sqlSettings + `,
    set_config('statement_timeout', '2min', true), set_config('work_mem', '64MB', true), set_config('jit', 'off', true),
    set_config('synchronize_seqscans', 'off', true)`
)

// Tasks lists what there is to do; see [logbuf.Maintainer]. Usage itself is never dropped.
func (s *Sink) Tasks() []logbuf.Task {
	tasks := []logbuf.Task{
		{Name: "drop", Bound: time.Minute, Run: s.dropPartitions},
		{Name: "partitions", Bound: time.Minute, Run: s.makeAhead},
		{Name: "forget", Bound: time.Minute, Run: s.forget},
		{Name: "folds", Bound: time.Minute, Run: s.forgetFolds},
		{Name: "fold", Bound: 4 * time.Minute, Run: s.fold},
		{Name: "days", Bound: time.Minute, Run: s.closeDays},
		{Name: "prune", Bound: time.Minute, Run: s.pruneQuarters},
		{Name: "trim", Bound: 10 * time.Second, Run: s.trim},
		{Name: "blocks", Bound: time.Minute, Run: s.gatherBlocks},
	}
	for i := range tasks {
		run, name := tasks[i].Run, tasks[i].Name
		tasks[i].Run = func(ctx context.Context, o logbuf.MaintenanceOptions) (logbuf.TaskReport, error) {
			report, err := run(ctx, o)
			if err == nil || errors.Is(err, logbuf.ErrBusy) {
				return report, err
			}
			return report, explainSink(ctx, name, err)
		}
	}
	return tasks
}

// errBusy says that another process does the same.
var errBusy = fmt.Errorf("pgstore: maintenance: %w", logbuf.ErrBusy)

// inTx runs fn in a transaction with the bounds that every one of ours has.
func (s *Sink) inTx(ctx context.Context, fn func(pgx.Tx) error) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return inTxOn(ctx, conn, fn)
}

// inTxOn is inTx on a connection that is there.
func inTxOn(ctx context.Context, conn *pgxpool.Conn, fn func(pgx.Tx) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	return pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlTaskSettings); err != nil {
			return err
		}
		return fn(tx)
	})
}

// alone runs fn in a transaction that holds a lock, or returns errBusy.
func (s *Sink) alone(ctx context.Context, lock int64, fn func(pgx.Tx) error) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		var locked bool
		switch err := tx.QueryRow(ctx, sqlTryLock, pgx.QueryExecModeExec, lock).Scan(&locked); {
		case err != nil:
			return err
		case !locked:
			return errBusy
		}
		return fn(tx)
	})
}

// affect executes a statement and returns how many rows it affected.
func affect(ctx context.Context, tx pgx.Tx, sql string, args ...any) (int64, error) {
	tag, err := tx.Exec(ctx, sql, append([]any{pgx.QueryExecModeExec}, args...)...)
	return tag.RowsAffected(), err
}

const (
	// A segment is gone long before its checkpoint, which is needed only while somebody may still
	// send the segment.
	sqlForgetCheckpoints = `
delete from log_checkpoints where segment = any (array(
    select segment from log_checkpoints where updated_at < $1::timestamptz - interval '1 year' limit $2))`

	sqlForgetDead = `
delete from log_dead_letter where ctid = any (array(
    select ctid from log_dead_letter where at < $1::timestamptz limit $2))`

	// Blocks of days that are gone. Both bounds are of use to the index.
	sqlForgetBlocks = `
delete from log_blocks where ctid = any (array(
    select ctid from log_blocks where until < $1::timestamptz limit $2))`

	forgetSize = 5_000 // rows in one transaction
)

// forget deletes what is too old: dead letters, checkpoints, and blocks of entries that are gone.
func (s *Sink) forget(ctx context.Context, o logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	type kind struct {
		sql    string
		before time.Time
	}
	kinds := []kind{{sqlForgetCheckpoints, o.Now}}
	if !o.Before.IsZero() {
		kinds = append(kinds, kind{sqlForgetDead, o.Before}, kind{sqlForgetBlocks, o.Before.UTC().Truncate(24 * time.Hour)})
	}
	var errs []error
	for _, k := range kinds {
		for n := int64(forgetSize); n == forgetSize; {
			err := s.alone(ctx, forgetLock, func(tx pgx.Tx) (err error) {
				n, err = affect(ctx, tx, k.sql, k.before, int64(forgetSize))
				return err
			})
			if errors.Is(err, logbuf.ErrBusy) {
				return report, err
			}
			if err != nil {
				errs = append(errs, err)
				break
			}
			report.Done += n
		}
	}
	return report, errors.Join(errs...)
}

// Clock returns the database's time; see [logbuf.Timekeeper].
func (s *Sink) Clock(ctx context.Context) (now time.Time, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return now, explainSink(ctx, "ask for the time", err)
	}
	defer conn.Release()
	if err := queryRow(ctx, conn.Conn(), `select clock_timestamp()`, nil, &now); err != nil {
		return now, explainSink(ctx, "ask for the time", err)
	}
	return now.UTC(), nil
}
