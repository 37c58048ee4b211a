package pgstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	// Keys of advisory locks.
	partitionLock = 0x65_7a_61_70_69_10 // "ezapi", 16: one makes or drops partitions
	maintainLock  = 0x65_7a_61_70_69_11 // "ezapi", 17: one does maintenance

	sqlLock = `select pg_advisory_xact_lock($1)`

	sqlPartitions = `
select relname::text from pg_inherits join pg_class on oid = inhrelid
where inhparent = 'access_logs'::regclass`

	sqlPartitionSchema = `
select nspname::text from pg_class join pg_namespace n on n.oid = relnamespace
where pg_class.oid = 'access_logs'::regclass`

	// Made beside and then attached: to make it in place would wait for
	// everything that reads or writes logs, and stop it meanwhile.
	sqlCreatePartition = `create table %[1]s (like access_logs including defaults including constraints including storage)`
	sqlAttachPartition = `alter table access_logs attach partition %[1]s for values from ('%[2]s 00:00:00+00') to ('%[3]s 00:00:00+00')`

	sqlDropPartition = `drop table %s`

	// sqlShortWait is for what may as well be done with the next maintenance.
	// Everybody else waits behind the one who waits to drop a partition; and who waits
	// for a second makes PostgreSQL break off a vacuum.
	sqlShortWait = `set local lock_timeout = '500ms'`

	partitionPrefix = "access_logs_"
	partitionDay    = "20060102"
)

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

// dayOf returns the day that a partition is for; false when the name is not of ours.
func dayOf(partition string) (time.Time, bool) {
	suffix, ok := strings.CutPrefix(partition, partitionPrefix)
	if !ok {
		return time.Time{}, false
	}
	day, err := time.Parse(partitionDay, suffix)
	return day, err == nil
}

// addPartitions makes the partitions of those days that have none.
func (s *Sink) addPartitions(ctx context.Context, days []time.Time) error {
	var made []string
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlLock, int64(partitionLock)); err != nil {
			return err
		}
		existing, err := partitions(ctx, tx)
		if err != nil {
			return err
		}
		var schema string
		if err := tx.QueryRow(ctx, sqlPartitionSchema).Scan(&schema); err != nil {
			return err
		}
		for _, day := range days {
			name := partitionPrefix + day.Format(partitionDay)
			if slices.Contains(existing, name) {
				continue
			}
			table := pgx.Identifier{schema, name}.Sanitize()
			if _, err := tx.Exec(ctx, fmt.Sprintf(sqlCreatePartition, table)); err != nil {
				return fmt.Errorf("make the partition %s: %w", name, err)
			}
			attach := fmt.Sprintf(sqlAttachPartition, table, day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly))
			if _, err := tx.Exec(ctx, attach); err != nil {
				return fmt.Errorf("attach the partition %s: %w", name, err)
			}
			made = append(made, name)
		}
		return nil
	})
	if err == nil && len(made) > 0 {
		s.logger.InfoContext(ctx, "pgstore: made log partitions", "partitions", made)
	}
	return err
}

// dropPartitions drops those whose day ended before a time, one at a time.
func (s *Sink) dropPartitions(ctx context.Context, before time.Time) error {
	existing, err := partitions(ctx, s.pool)
	if err != nil {
		return err
	}
	for _, name := range existing {
		day, ok := dayOf(name)
		if !ok || day.AddDate(0, 0, 1).After(before) {
			continue
		}
		err := s.inTx(ctx, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, sqlShortWait); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, sqlLock, int64(partitionLock)); err != nil {
				return err
			}
			current, err := partitions(ctx, tx)
			if err != nil || !slices.Contains(current, name) { // another process was faster
				return err
			}
			var schema string
			if err := tx.QueryRow(ctx, sqlPartitionSchema).Scan(&schema); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, fmt.Sprintf(sqlDropPartition, pgx.Identifier{schema, name}.Sanitize())); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, sqlForgetBlocks, day, day.AddDate(0, 0, 1))
			return err
		})
		if isLockTimeout(err) {
			s.logger.InfoContext(ctx, "pgstore: a log partition is in use and will be dropped later", "partition", name)
			continue
		}
		if err != nil {
			return fmt.Errorf("drop the partition %s: %w", name, err)
		}
		s.logger.InfoContext(ctx, "pgstore: dropped a log partition", "partition", name)
	}
	return nil
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// partitions lists the partitions by name.
func partitions(ctx context.Context, db querier) ([]string, error) {
	rows, err := db.Query(ctx, sqlPartitions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// inTx runs fn in a transaction with the bounds that every one of ours has.
func (s *Sink) inTx(ctx context.Context, fn func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlSettings); err != nil {
			return err
		}
		return fn(tx)
	})
}
