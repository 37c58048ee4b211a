package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	sqlPartitions = `
select relname::text, nspname::text, pg_get_expr(relpartbound, c.oid) = 'DEFAULT'
from pg_inherits join pg_class c on c.oid = inhrelid join pg_namespace n on n.oid = relnamespace
where inhparent = 'access_logs'::regclass order by relname`

	sqlPartitionSchema = `
select nspname::text from pg_class join pg_namespace n on n.oid = relnamespace
where pg_class.oid = 'access_logs'::regclass`

	sqlIsTaken = `select exists (select from pg_class where relname = $2
    and relnamespace = (select oid from pg_namespace where nspname = $1))`

	// Functions of the owner's, see migrations/0012_log_partitions.sql: the role may be another.
	sqlAddPartition  = `select ezapi_add_log_partition($1, $2::date)`
	sqlDropPartition = `select ezapi_drop_log_partition($1)`
	sqlDeleteOther   = `select ezapi_delete_other_logs($1::timestamptz, $2)`

	// sqlShortWait is for what may as well be done with the next maintenance. Everybody else waits
	// behind the one who waits to drop a partition.
	sqlShortWait = `set local lock_timeout = '200ms'`

	partitionPrefix = "access_logs_"
	partitionDay    = "20060102"
	daysAhead       = 2 // partitions that are there before their day begins
)

// A partition is a table that is attached to access_logs.
type partition struct {
	schema, name string
	isDefault    bool
}

// day returns the day that a partition is for; false when its name is not of ours. Ours are called
// after the day, and by a number where somebody had a table of that name.
func (p partition) day() (time.Time, bool) {
	suffix, ok := strings.CutPrefix(p.name, partitionPrefix)
	suffix, number, numbered := strings.Cut(suffix, "_")
	if !ok || numbered && strings.Trim(number, "0123456789") != "" {
		return time.Time{}, false
	}
	day, err := time.Parse(partitionDay, suffix)
	return day, err == nil
}

// partitions lists the partitions by name.
func partitions(ctx context.Context, conn *pgx.Conn) ([]partition, error) {
	rows, err := query(ctx, conn, sqlPartitions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p partition, err error) {
		err = row.Scan(&p.name, &p.schema, &p.isDefault)
		return p, err
	})
}

// listPartitions lists the partitions without a transaction.
func (s *Sink) listPartitions(ctx context.Context) ([]partition, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	return partitions(ctx, conn.Conn())
}

// daysOf returns the days, in UTC, that entries belong to.
func daysOf(entries []logbuf.Entry) []time.Time {
	var days []time.Time
	for i := range entries {
		day := entries[i].Time.UTC().Truncate(24 * time.Hour)
		if y := day.Year(); y >= 1 && y <= 9999 && !slices.Contains(days, day) {
			days = append(days, day)
		}
	}
	return days
}

// makeAhead makes the partitions of today and the next days.
func (s *Sink) makeAhead(ctx context.Context, o logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	existing, err := s.listPartitions(ctx)
	if err != nil {
		return report, err
	}
	today := o.Now.UTC().Truncate(24 * time.Hour)
	var missing []time.Time
	for i := range daysAhead + 1 {
		day := today.AddDate(0, 0, i)
		if !slices.ContainsFunc(existing, func(p partition) bool { d, ok := p.day(); return ok && d.Equal(day) }) {
			missing = append(missing, day)
		}
	}
	// Each by itself: that one is in the way keeps no other from being made.
	var errs []error
	for _, day := range missing {
		made, err := s.addPartitions(ctx, []time.Time{day})
		report.Done += int64(made)
		errs = append(errs, err)
	}
	return report, errors.Join(errs...)
}

// addPartitions makes the partitions of those days that have none, unless the entries of a day go
// elsewhere: to a partition of somebody else's that spans it, or to a DEFAULT one that has some
// already.
func (s *Sink) addPartitions(ctx context.Context, days []time.Time) (made int, err error) {
	var names []string
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := affect(ctx, tx, sqlLock, int64(partitionLock)); err != nil {
			return err
		}
		existing, err := partitions(ctx, tx.Conn())
		if err != nil {
			return err
		}
		var schema string
		if err := tx.QueryRow(ctx, sqlPartitionSchema, pgx.QueryExecModeExec).Scan(&schema); err != nil {
			return err
		}
		for _, day := range days {
			if slices.ContainsFunc(existing, func(p partition) bool { d, ok := p.day(); return ok && d.Equal(day) }) {
				continue
			}
			name, err := addPartition(ctx, tx, schema, day)
			if err != nil {
				return err
			}
			if name != "" {
				names = append(names, name)
			}
		}
		return nil
	})
	if err == nil && len(names) > 0 {
		s.logger.InfoContext(ctx, "pgstore: made log partitions", "partitions", names)
	}
	return len(names), err
}

// addPartition makes one, and returns its name; none when the day's entries go elsewhere.
func addPartition(ctx context.Context, tx pgx.Tx, schema string, day time.Time) (string, error) {
	name, err := freeName(ctx, tx, schema, partitionPrefix+day.Format(partitionDay))
	if err != nil {
		return "", err
	}
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // a savepoint
		if _, err := affect(ctx, tx, sqlAddPartition, name, day.Format(time.DateOnly)); err != nil {
			return fmt.Errorf("make the partition %s: %w", name, err)
		}
		return nil
	})
	if isServed(err) {
		return "", nil
	}
	return name, err
}

// freeName returns a name that no table has. A partition that somebody has detached keeps its own.
func freeName(ctx context.Context, tx pgx.Tx, schema, name string) (string, error) {
	for n := 1; ; n++ {
		candidate := name
		if n > 1 {
			candidate = fmt.Sprintf("%s_%d", name, n)
		}
		var taken bool
		err := tx.QueryRow(ctx, sqlIsTaken, pgx.QueryExecModeExec, schema, candidate).Scan(&taken)
		if err != nil || !taken {
			return candidate, err
		}
	}
}

// isServed reports whether a partition could not be attached because its entries go to another: one
// that overlaps it, or the DEFAULT one, which has some of them.
func isServed(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == stateOverlap || pg.Code == stateCheck)
}

// dropPartitions drops those whose day ended before a time, one at a time, and deletes what is as
// old from a DEFAULT one. At the first that somebody uses it stops: whoever waits for its lock
// holds up all writes.
func (s *Sink) dropPartitions(ctx context.Context, o logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	if o.Before.IsZero() {
		return report, ctx.Err()
	}
	existing, err := s.listPartitions(ctx)
	if err != nil {
		return report, err
	}
	var errs []error
	if slices.ContainsFunc(existing, func(p partition) bool { return p.isDefault }) {
		n, err := s.deleteOther(ctx, o.Before.UTC().Truncate(24*time.Hour))
		report.Done += n
		errs = append(errs, err)
	}
	for _, p := range existing {
		day, ok := p.day()
		if !ok || p.isDefault || day.AddDate(0, 0, 1).After(o.Before) {
			continue
		}
		err := s.dropPartition(ctx, p)
		if err != nil {
			report.Behind = o.Before.Sub(day.AddDate(0, 0, 1))
			if !isLockTimeout(err) {
				errs = append(errs, fmt.Errorf("drop the partition %s: %w", p.name, err))
				continue
			}
			s.logger.InfoContext(ctx, "pgstore: a log partition is in use and will be dropped later", "partition", p.name)
			break
		}
		report.Done++
		s.logger.InfoContext(ctx, "pgstore: dropped a log partition", "partition", p.name)
	}
	return report, errors.Join(errs...)
}

// dropPartition drops one, unless another process was faster.
func (s *Sink) dropPartition(ctx context.Context, p partition) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlShortWait); err != nil {
			return err
		}
		if _, err := affect(ctx, tx, sqlLock, int64(partitionLock)); err != nil {
			return err
		}
		current, err := partitions(ctx, tx.Conn())
		if err != nil || !slices.Contains(current, p) {
			return err
		}
		_, err = affect(ctx, tx, sqlDropPartition, p.name)
		return err
	})
}

// deleteOther deletes old entries from the DEFAULT partition.
func (s *Sink) deleteOther(ctx context.Context, before time.Time) (deleted int64, err error) {
	for n := int64(forgetSize); n == forgetSize && err == nil; deleted += n {
		err = s.inTx(ctx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, sqlDeleteOther, pgx.QueryExecModeExec, before, int64(forgetSize)).Scan(&n)
		})
	}
	return deleted, err
}
