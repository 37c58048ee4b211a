package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	sqlTryLock = `select pg_try_advisory_xact_lock($1)`

	// sqlFold moves some of usage_pending into usage_hourly.
	sqlFold = `
with taken as (
    delete from usage_pending where ctid = any (array(select ctid from usage_pending limit $1)) returning *
), folded as (
    insert into usage_hourly as h (` + usageColumns + `)
    select hour, key_id, provider_id, sum(requests), sum(errors),
        least(sum(input_tokens), 9223372036854775807), least(sum(cache_read_tokens), 9223372036854775807),
        least(sum(cache_write_tokens), 9223372036854775807), least(sum(output_tokens), 9223372036854775807),
        least(sum(cost_nano_usd), 9223372036854775807), sum(unpriced), namespace, model, route_group, project
    from taken group by hour, key_id, provider_id, namespace, model, route_group, project
    on conflict (key_id, hour, provider_id, namespace, model, route_group, project) do update set
        requests           = h.requests + excluded.requests,
        errors             = h.errors + excluded.errors,
        input_tokens       = least(h.input_tokens::numeric + excluded.input_tokens, 9223372036854775807),
        cache_read_tokens  = least(h.cache_read_tokens::numeric + excluded.cache_read_tokens, 9223372036854775807),
        cache_write_tokens = least(h.cache_write_tokens::numeric + excluded.cache_write_tokens, 9223372036854775807),
        output_tokens      = least(h.output_tokens::numeric + excluded.output_tokens, 9223372036854775807),
        cost_nano_usd      = least(h.cost_nano_usd::numeric + excluded.cost_nano_usd, 9223372036854775807),
        unpriced           = h.unpriced + excluded.unpriced
)
select count(*) from taken`

	sqlPendingSize = `select pg_relation_size('usage_pending')`

	// The fold leaves room behind that vacuum frees but keeps. Everybody else
	// waits behind the one who waits for this lock, therefore not for long: it is had soon,
	// or the next time.
	sqlLockPending = `set local lock_timeout = '50ms'; lock table usage_pending in access exclusive mode`
	sqlTrimPending = `truncate usage_pending`

	// A segment is gone long before its checkpoint, which is needed only while
	// somebody may still send the segment.
	sqlForgetCheckpoints = `delete from log_checkpoints where updated_at < now() - interval '1 year'`

	foldSize    = 50_000  // rows of usage_pending in one transaction
	pendingSize = 8 << 20 // of usage_pending, in bytes, from which on it is trimmed
	daysAhead   = 2       // partitions that are there before their day begins
)

// Tasks lists what there is to do; see [logbuf.Maintainer]. Usage is never dropped.
func (s *Sink) Tasks() []logbuf.Task {
	task := func(name string, bound time.Duration, run func(context.Context, logbuf.MaintenanceOptions) error) logbuf.Task {
		return logbuf.Task{Name: name, Bound: bound, Run: func(ctx context.Context, o logbuf.MaintenanceOptions) (logbuf.TaskReport, error) {
			return logbuf.TaskReport{}, explainTask(ctx, name, run(ctx, o))
		}}
	}
	return []logbuf.Task{
		task("partitions", time.Minute, s.makeAhead),
		task("drop", time.Minute, func(ctx context.Context, o logbuf.MaintenanceOptions) error {
			if o.Before.IsZero() {
				return ctx.Err()
			}
			return s.dropPartitions(ctx, o.Before)
		}),
		task("fold", 5*time.Minute, func(ctx context.Context, _ logbuf.MaintenanceOptions) error { return s.fold(ctx) }),
		task("tidy", time.Minute, func(ctx context.Context, _ logbuf.MaintenanceOptions) error { return s.tidy(ctx) }),
	}
}

func (s *Sink) makeAhead(ctx context.Context, o logbuf.MaintenanceOptions) error {
	today := o.Now.UTC().Truncate(24 * time.Hour)
	var ahead []time.Time
	for i := range daysAhead + 1 {
		ahead = append(ahead, today.AddDate(0, 0, i))
	}
	return s.ensurePartitions(ctx, ahead)
}

func explainTask(ctx context.Context, name string, err error) error {
	if err == nil || errors.Is(err, logbuf.ErrBusy) {
		return err
	}
	return explainSink(ctx, name, err)
}

// errBusy says that another process does maintenance.
var errBusy = fmt.Errorf("pgstore: maintenance: %w", logbuf.ErrBusy)

// alone runs fn in a transaction of maintenance, or returns errBusy.
func (s *Sink) alone(ctx context.Context, fn func(pgx.Tx) error) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		if err := lockMaintenance(ctx, tx); err != nil {
			return err
		}
		return fn(tx)
	})
}

// lockMaintenance keeps others from maintenance until the transaction ends, or returns errBusy.
func lockMaintenance(ctx context.Context, tx pgx.Tx) error {
	var locked bool
	err := tx.QueryRow(ctx, sqlTryLock, int64(maintainLock)).Scan(&locked)
	if err == nil && !locked {
		return errBusy
	}
	return err
}

// fold moves what is in usage_pending now into usage_hourly.
func (s *Sink) fold(ctx context.Context) error {
	for {
		var folded int
		err := s.alone(ctx, func(tx pgx.Tx) (err error) {
			folded, err = foldSome(ctx, tx)
			return err
		})
		if err != nil || folded < foldSize {
			return err
		}
	}
}

// foldSome is planned each time: a plan that was made while the table was small
// compares each row with each, which takes minutes when it is not.
func foldSome(ctx context.Context, tx pgx.Tx) (folded int, err error) {
	err = tx.QueryRow(ctx, sqlFold, pgx.QueryExecModeExec, int64(foldSize)).Scan(&folded)
	return folded, err
}

// trim makes the file of usage_pending small again, in which every query of
// usage has to look: after a backlog it has hundreds of megabytes.
func (s *Sink) trim(ctx context.Context) error {
	return s.alone(ctx, func(tx pgx.Tx) error {
		var size int64
		if err := tx.QueryRow(ctx, sqlPendingSize).Scan(&size); err != nil || size < pendingSize {
			return err
		}
		if _, err := tx.Exec(ctx, sqlLockPending, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		// What came since the fold.
		if folded, err := foldSome(ctx, tx); err != nil || folded == foldSize {
			return err
		}
		_, err := tx.Exec(ctx, sqlTrimPending)
		return err
	})
}

// tidy does what only costs time and room when it is left undone.
func (s *Sink) tidy(ctx context.Context) error {
	err := s.alone(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sqlForgetCheckpoints)
		return err
	})
	if err == nil {
		err = s.gatherBlocks(ctx)
	}
	if err == nil {
		err = s.trim(ctx)
	}
	if errors.Is(err, errBusy) || isLockTimeout(err) { // the next time will do
		return nil
	}
	return err
}

// ensurePartitions is addPartitions without a lock when there is nothing to do.
func (s *Sink) ensurePartitions(ctx context.Context, days []time.Time) error {
	existing, err := partitions(ctx, s.pool)
	if err != nil {
		return err
	}
	have := make(map[time.Time]bool, len(existing))
	for _, name := range existing {
		if day, ok := dayOf(name); ok {
			have[day] = true
		}
	}
	var missing []time.Time
	for _, day := range days {
		if !have[day] {
			missing = append(missing, day)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return s.addPartitions(ctx, missing)
}
