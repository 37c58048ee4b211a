package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	usageGroup  = `starts, project, provider_id, namespace, model, route_group`
	usageKey    = `key_id, ` + usageGroup
	usageCounts = `requests, errors, unpriced, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
        cost_nano_usd, last_at`

	// sqlTake takes some rows of usage_pending and adds them up, in the order of the tables' indexes: rows that
	// follow each other lie in the same pages, and one sort does for all that is made of them.
	sqlTake = `
with taken as (
    delete from usage_pending where ctid = any (array(select ctid from usage_pending %[1]s limit $1)) returning *
), sums as (
    select ` + usageKey + `, ` + sqlSummed + `
    from taken group by ` + usageKey + ` order by ` + usageKey + `
), totals as (
    select ` + usageGroup + `, ` + sqlSummed + `
    from sums group by ` + usageGroup + ` order by ` + usageGroup + `
)`
	sqlSummed = `sum(requests)::bigint as requests, sum(errors)::bigint as errors, sum(unpriced)::bigint as unpriced,
        sum(input_tokens) as input_tokens, sum(cache_read_tokens) as cache_read_tokens,
        sum(cache_write_tokens) as cache_write_tokens, sum(output_tokens) as output_tokens,
        sum(cost_nano_usd) as cost_nano_usd, max(last_at) as last_at`

	// sqlAdd adds sums to the rows of a table that are told apart by some columns.
	sqlAdd = `%[1]s as (
    insert into %[2]s as u (%[3]s, ` + usageCounts + `)
    %[4]s
    on conflict (%[3]s) do update set
        requests           = u.requests + excluded.requests,
        errors             = u.errors + excluded.errors,
        unpriced           = u.unpriced + excluded.unpriced,
        input_tokens       = u.input_tokens + excluded.input_tokens,
        cache_read_tokens  = u.cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = u.cache_write_tokens + excluded.cache_write_tokens,
        output_tokens      = u.output_tokens + excluded.output_tokens,
        cost_nano_usd      = u.cost_nano_usd + excluded.cost_nano_usd,
        last_at            = greatest(u.last_at, excluded.last_at)
)`

	sqlOfSums = `select %s, ` + usageCounts + ` from %s`

	// sqlOfDays adds up sums by the days whose beginnings are a parameter.
	sqlOfDays = `select %[1]s, ` + sqlSummed + `
    from (select ($2::timestamptz[])[width_bucket(starts, $2::timestamptz[])] as day, * from %[2]s
        where starts < $3::timestamptz) as late
    group by %[1]s order by %[1]s`

	sqlTaken = `
select count(*) from taken`

	// sqlProbeFold adds a row with nothing in it to a table that is told apart by usageKey or usageGroup.
	sqlProbeFold = `insert into %s (%s, ` + usageCounts + `) values (%s, 0, 0, 0, 0, 0, 0, 0, 0, now())`
	probedGroup  = `now(), '', 0, '', gen_random_uuid()::text, ''`
	probedKey    = `0, ` + probedGroup

	// sqlEarliest finds whether usage of closed days is pending.
	sqlEarliest = `select min(starts) from usage_pending where starts < $1::timestamptz`

	sqlLocateOne = `select ctid::text from usage_pending %s limit $1`
	sqlSetAside  = `
with sums as (
    delete from usage_pending where ctid = $1::tid returning *
), ` + sqlTell + `
insert into usage_aside select *, now(), $2::text, $3::text from sums`

	sqlFolded       = `update usage_state set folded_at = greatest(folded_at, $1::timestamptz)`
	sqlHasPending   = `select exists (select from usage_pending)`
	sqlPendingSize  = `select pg_relation_size('usage_pending')`
	sqlPendingFew   = `select count(*) from (select from usage_pending limit $1) as few`
	sqlTrimPending  = `truncate usage_pending`
	sqlLockPending  = `set local lock_timeout = '50ms'; lock table usage_pending in access exclusive mode`
	pendingSize     = 8 << 20 // of usage_pending, in bytes, from which on it is trimmed
	foldSize        = 50_000  // rows of usage_pending in one transaction
	trimSize        = 5_000   // rows that are folded while writes wait
	asideAtOnce     = 1_000   // rows that one run sets aside
	sqlAsideWaiting = `select count(*) from usage_aside`

	sqlOldestPending = `select min(starts) from usage_pending`
)

// fold moves what is in usage_pending into usage_quarters, and what is of closed days into
// usage_days, too. A batch that takes too long, or is refused, is halved, down to the row that is
// at fault: that one goes to usage_aside, where it still counts.
func (s *Sink) fold(ctx context.Context, o logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	size, aside := int64(foldSize), 0
	for err == nil {
		var n int64
		n, err = s.foldSome(ctx, size)
		switch {
		case err == nil:
			report.Done += n
			if n < size {
				report.Aside, err = s.folded(ctx, o.Now)
				return s.foldReport(ctx, o, report, err)
			}
			size = min(2*size, foldSize)
		case ctx.Err() != nil, errors.Is(err, logbuf.ErrBusy):
		case size > 1 && (isTimeout(err) || s.isRefused(ctx, err)):
			size /= 2
			err = nil
		case aside < asideAtOnce && s.isRefused(ctx, err):
			aside++
			err = s.setAside(ctx, err)
		}
	}
	return s.foldReport(ctx, o, report, err)
}

// folded notes that everything from before a time is folded, but for what is set aside, and
// returns how many rows that are.
func (s *Sink) folded(ctx context.Context, now time.Time) (aside int64, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := affect(ctx, tx, sqlFolded, now); err != nil {
			return err
		}
		return queryRow(ctx, tx.Conn(), sqlAsideWaiting, nil, &aside)
	})
	return aside, err
}

// foldReport says how old the oldest usage may be that is pending.
func (s *Sink) foldReport(
	ctx context.Context, o logbuf.MaintenanceOptions, report logbuf.TaskReport, err error,
) (logbuf.TaskReport, error) {
	if err == nil || errors.Is(err, logbuf.ErrBusy) || errors.Is(ctx.Err(), context.Canceled) { // nobody asks any more
		return report, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = s.inTx(ctx, func(tx pgx.Tx) error { // it is a report of a failure, and the failure is what counts
		st, stateErr := s.readUsageState(ctx, tx.Conn())
		if stateErr != nil {
			return stateErr
		}
		since := st.foldedAt
		if since.IsZero() { // it never worked
			var oldest *time.Time
			if err := queryRow(ctx, tx.Conn(), sqlOldestPending, nil, &oldest); err != nil || oldest == nil {
				return err
			}
			since = *oldest
		}
		report.Behind = max(0, o.Now.Sub(since))
		return nil
	})
	return report, err
}

// foldSome folds so many rows, in one transaction.
func (s *Sink) foldSome(ctx context.Context, size int64) (n int64, err error) {
	err = s.alone(ctx, usageLock, func(tx pgx.Tx) (err error) {
		n, err = s.foldIn(ctx, tx, size)
		return err
	})
	return n, err
}

// A foldTarget is where a fold adds what it has summed up: with the keys, or without.
type foldTarget struct {
	sums           string // of the statement
	group, probe   string // columns that tell rows apart, and values of them
	quarters, days string // tables
}

func foldTargets() []foldTarget {
	return []foldTarget{
		{"sums", usageKey, probedKey, "usage_quarters", "usage_days"},
		{"totals", usageGroup, probedGroup, "usage_quarter_totals", "usage_day_totals"},
	}
}

// dayGroup has the day in the place of the quarter.
func (t foldTarget) dayGroup() string { return strings.Replace(t.group, "starts", "day", 1) }

// foldIn folds so many rows within a transaction that holds usageLock.
func (s *Sink) foldIn(ctx context.Context, tx pgx.Tx, size int64) (n int64, err error) {
	st, err := s.readUsageState(ctx, tx.Conn())
	if err != nil {
		return 0, err
	}
	args := []any{size}
	only, parts := "", []string{}
	var earliest *time.Time
	if !st.ClosedUntil.IsZero() {
		if err := queryRow(ctx, tx.Conn(), sqlEarliest, []any{st.ClosedUntil}, &earliest); err != nil {
			return 0, err
		}
		if earliest == nil { // what comes meanwhile is for the next time
			only = "where starts >= $2::timestamptz"
			args = append(args, st.ClosedUntil)
		}
	}
	if earliest != nil {
		days := st.Days(*earliest, st.ClosedUntil)
		only = "where starts >= ($2::timestamptz[])[1]"
		args = append(args, days, st.ClosedUntil)
		for _, t := range foldTargets() {
			of := fmt.Sprintf(sqlOfDays, t.dayGroup(), t.sums)
			parts = append(parts, fmt.Sprintf(sqlAdd, "days_of_"+t.sums, t.days, t.group, of))
		}
	}
	kept := ""
	if !st.QuartersFrom.IsZero() {
		args = append(args, st.QuartersFrom)
		kept = fmt.Sprintf(" where starts >= $%d::timestamptz", len(args))
	}
	for _, t := range foldTargets() {
		of := fmt.Sprintf(sqlOfSums, t.group, t.sums) + kept
		parts = append(parts, fmt.Sprintf(sqlAdd, "quarters_of_"+t.sums, t.quarters, t.group, of))
	}
	parts = append(parts, sqlTell)
	sql := fmt.Sprintf(sqlTake, only) + ", " + strings.Join(parts, ", ") + sqlTaken
	err = queryRow(ctx, tx.Conn(), sql, args, &n)
	return n, err
}

// setAside moves the next row out of the way of the others.
func (s *Sink) setAside(ctx context.Context, cause error) error {
	var pg *pgconn.PgError
	if !errors.As(cause, &pg) {
		return cause
	}
	return s.alone(ctx, usageLock, func(tx pgx.Tx) error {
		var row string
		err := tx.QueryRow(ctx, fmt.Sprintf(sqlLocateOne, ""), pgx.QueryExecModeExec, int64(1)).Scan(&row)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := affect(ctx, tx, sqlSetAside, row, pg.Code, pg.Message); err != nil {
			return fmt.Errorf("set a row of usage aside: %w", err)
		}
		s.logger.ErrorContext(ctx, "pgstore: a row of usage cannot be added up and is set aside in usage_aside",
			"sqlstate", pg.Code, "reason", pg.Message)
		return nil
	})
}

// trim makes the file of usage_pending small again, which every query of usage reads: after a
// backlog it has hundreds of megabytes. While trim waits for the table's lock, everybody else waits
// behind it. So it waits only for a short time, and otherwise leaves the work to the next run.
func (s *Sink) trim(ctx context.Context, _ logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	err = s.alone(ctx, usageLock, func(tx pgx.Tx) error {
		var size, left int64
		if err := tx.QueryRow(ctx, sqlPendingSize, pgx.QueryExecModeExec).Scan(&size); err != nil || size < pendingSize {
			return err
		}
		if _, err := tx.Exec(ctx, sqlLockPending, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, sqlPendingFew, pgx.QueryExecModeExec, int64(trimSize)).Scan(&left)
		if err != nil || left >= trimSize {
			return err
		}
		// What came since the fold.
		if n, err := s.foldIn(ctx, tx, trimSize); err != nil || n < left {
			return err
		}
		if _, err := tx.Exec(ctx, sqlTrimPending); err != nil {
			return err
		}
		report.Done = size
		return nil
	})
	if isLockTimeout(err) {
		err = nil
	}
	return report, err
}

// isTimeout reports whether a statement took too long, or waited too long for a lock.
func isTimeout(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == stateCanceled || pg.Code == stateLockTimeout || pg.Code == stateDeadlock)
}

// isRefused reports whether a row is at fault. Of an error about tables it is when the tables take a
// row with nothing in it.
func (s *Sink) isRefused(ctx context.Context, err error) bool {
	switch faultOf(err) {
	case faultData:
		return true
	case faultDuplicate:
		return isUnique(err)
	case faultSchema:
		return s.probeFold(ctx)
	}
	return false
}

var errProbed = errors.New("the tables of usage take rows")

// probeFold reports whether a fold would go through but for its rows. It changes nothing.
func (s *Sink) probeFold(ctx context.Context) bool {
	err := s.alone(ctx, usageLock, func(tx pgx.Tx) error {
		if _, err := s.foldIn(ctx, tx, 0); err != nil {
			return err
		}
		for _, t := range foldTargets() {
			for _, table := range []string{t.quarters, t.days} {
				if _, err := affect(ctx, tx, fmt.Sprintf(sqlProbeFold, table, t.group, t.probe)); err != nil {
					return err
				}
			}
		}
		return errProbed
	})
	return errors.Is(err, errProbed) || faultOf(err) == faultData || isUnique(err)
}
