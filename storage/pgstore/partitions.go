package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	// sqlHeld finds what partitions hold of a time, which is finite as they may not be.
	sqlHeld = `
select greatest(since, $1::timestamptz), least(until, $2::timestamptz) from ezapi_log_partitions()
where since < $2::timestamptz and until > $1::timestamptz order by 1`

	// sqlOldPartitions finds those that hold nothing but entries from before a time.
	sqlOldPartitions = `
select partition, partition::regclass::text, until from ezapi_log_partitions()
where until <= $1::timestamptz and isfinite(until) order by until`

	sqlPartitionSchema = `
select nspname::text from pg_class join pg_namespace n on n.oid = relnamespace
where pg_class.oid = 'access_logs'::regclass`

	sqlIsTaken = `select exists (select from pg_class where relname = $2
    and relnamespace = (select oid from pg_namespace where nspname = $1))`

	// Functions of the owner's, see migrations/0012_log_partitions.sql: the role may be another.
	sqlAddPartition  = `select ezapi_add_log_partition($1, $2::timestamptz, $3::timestamptz)`
	sqlDropPartition = `select ezapi_drop_log_partition($1::oid, $2::timestamptz)`
	sqlDeleteOther   = `select ezapi_delete_other_logs($1::timestamptz, $2)`

	// sqlShortWait is for what may as well be done with the next maintenance. Everybody else waits
	// behind the one who waits to drop a partition.
	sqlShortWait = `set local lock_timeout = '200ms'`

	partitionPrefix = "access_logs_" // the day follows, and a number where somebody has a table of that name
	partitionDay    = "20060102"
	daysAhead       = 2 // partitions that are there before their day begins
)

// A gap is a part of a day, often the whole, that no partition holds.
type gap struct{ day, since, until time.Time }

// findGaps finds what no partition holds of some days, in the order of time.
func findGaps(ctx context.Context, conn *pgx.Conn, days []time.Time) (gaps []gap, err error) {
	if len(days) == 0 {
		return nil, nil
	}
	days = slices.SortedFunc(slices.Values(days), time.Time.Compare)
	rows, err := query(ctx, conn, sqlHeld, days[0], endOf(days[len(days)-1]))
	if err != nil {
		return nil, err
	}
	held, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s span, err error) {
		err = row.Scan(&s.since, &s.until)
		return s, err
	})
	for _, day := range days {
		open := day
		for _, h := range held { // they do not overlap
			if since := earliest(h.since, endOf(day)); since.After(open) {
				gaps = append(gaps, gap{day, open, since})
			}
			open = latest(open, h.until)
		}
		if open.Before(endOf(day)) {
			gaps = append(gaps, gap{day, open, endOf(day)})
		}
	}
	return gaps, err
}

// endOf returns when a day, in UTC, ends.
func endOf(day time.Time) time.Time { return day.Add(24 * time.Hour) }

// A partition is a table attached to access_logs, which holds entries from before a time.
type partition struct {
	oid   uint32
	name  string
	until time.Time
}

// oldPartitions lists those that hold nothing but entries from before a time, the oldest first.
func oldPartitions(ctx context.Context, conn *pgx.Conn, before time.Time) ([]partition, error) {
	rows, err := query(ctx, conn, sqlOldPartitions, before)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p partition, err error) {
		err = row.Scan(&p.oid, &p.name, &p.until)
		return p, err
	})
}

// withConn runs fn on a connection, without a transaction.
func (s *Sink) withConn(ctx context.Context, fn func(*pgx.Conn) error) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return fn(conn.Conn())
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
	var days []time.Time
	for i := range daysAhead + 1 {
		days = append(days, o.Now.UTC().Truncate(24*time.Hour).AddDate(0, 0, i))
	}
	var gaps []gap
	err = s.withConn(ctx, func(conn *pgx.Conn) (err error) {
		gaps, err = findGaps(ctx, conn, days)
		return err
	})
	// Each day by itself: that one is in the way keeps no other from being made.
	errs := []error{err}
	for _, day := range days {
		if !slices.ContainsFunc(gaps, func(g gap) bool { return g.day.Equal(day) }) {
			continue
		}
		made, err := s.addPartitions(ctx, []time.Time{day})
		report.Done += int64(made)
		errs = append(errs, err)
	}
	return report, errors.Join(errs...)
}

// addPartitions makes partitions for what none holds of some days, unless such entries go to a
// DEFAULT partition that has some already.
func (s *Sink) addPartitions(ctx context.Context, days []time.Time) (made int, err error) {
	var names []string
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := affect(ctx, tx, sqlLock, int64(partitionLock)); err != nil {
			return err
		}
		gaps, err := findGaps(ctx, tx.Conn(), days)
		if err != nil {
			return err
		}
		var schema string
		if err := tx.QueryRow(ctx, sqlPartitionSchema, pgx.QueryExecModeExec).Scan(&schema); err != nil {
			return err
		}
		for _, g := range gaps {
			name, err := addPartition(ctx, tx, schema, g)
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

// addPartition makes one, and returns its name; none when the entries go elsewhere.
func addPartition(ctx context.Context, tx pgx.Tx, schema string, g gap) (string, error) {
	name, err := freeName(ctx, tx, schema, partitionPrefix+g.day.UTC().Format(partitionDay))
	if err != nil {
		return "", err
	}
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // a savepoint
		if _, err := affect(ctx, tx, sqlAddPartition, name, g.since, g.until); err != nil {
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
// that is being detached, or the DEFAULT one, which has some of them.
func isServed(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == stateOverlap || pg.Code == stateCheck)
}

// dropPartitions drops those that hold nothing but entries from before a time, one at a time, and
// deletes what is as old from a DEFAULT one. At the first that somebody uses it stops: whoever waits
// for its lock holds up all writes.
func (s *Sink) dropPartitions(ctx context.Context, o logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	if o.Before.IsZero() {
		return report, ctx.Err()
	}
	report.Done, err = s.deleteOther(ctx, o.Before.UTC().Truncate(24*time.Hour))
	errs := []error{err}
	var old []partition
	err = s.withConn(ctx, func(conn *pgx.Conn) (err error) {
		old, err = oldPartitions(ctx, conn, o.Before)
		return err
	})
	errs = append(errs, err)
	for _, p := range old {
		dropped, err := s.dropPartition(ctx, p, o.Before)
		if err != nil {
			report.Behind = max(report.Behind, o.Before.Sub(p.until))
			if !isLockTimeout(err) {
				errs = append(errs, fmt.Errorf("drop the partition %s: %w", p.name, err))
				continue
			}
			s.logger.InfoContext(ctx, "pgstore: a log partition is in use and will be dropped later", "partition", p.name)
			break
		}
		if dropped {
			report.Done++
			s.logger.InfoContext(ctx, "pgstore: dropped a log partition", "partition", p.name)
		}
	}
	return report, errors.Join(errs...)
}

// dropPartition drops one that holds nothing but entries from before a time. It reports false when
// another process was faster, or the bounds have changed.
func (s *Sink) dropPartition(ctx context.Context, p partition, before time.Time) (dropped bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlShortWait); err != nil {
			return err
		}
		if _, err := affect(ctx, tx, sqlLock, int64(partitionLock)); err != nil {
			return err
		}
		return tx.QueryRow(ctx, sqlDropPartition, pgx.QueryExecModeExec, p.oid, before).Scan(&dropped)
	})
	return dropped, err
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
