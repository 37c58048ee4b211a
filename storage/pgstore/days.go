package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	sqlChooseZone = `update usage_state set zone = $1::text where zone is null`

	sqlFirstUsage = `
select min(starts) from (
    (select starts from usage_quarters order by starts limit 1) union all (select starts from usage_pending order by starts limit 1)
) as first`

	// sqlCloseDay adds up the quarters of a day.
	sqlCloseDay = `
insert into %[1]s (%[2]s, ` + usageCounts + `)
select %[3]s, ` + sqlSummed + `
from (select $1::timestamptz as day, * from %[4]s where starts >= $1::timestamptz and starts < $2::timestamptz) as quarters
group by %[3]s order by %[3]s`

	sqlClosed = `update usage_state set closed_until = $1::timestamptz`

	sqlQuartersFrom = `update usage_state set quarters_from = $1::timestamptz where quarters_from < $1::timestamptz`

	sqlPruneQuarters = `
delete from %[1]s where ctid = any (array(
    select ctid from %[1]s where starts < $1::timestamptz limit $2))`

	pruneSize = 20_000 // rows in one transaction
)

// closeDays adds up the days that ended an hour ago, each in a transaction. From then on the fold
// adds what comes late to both tables, under the same lock.
func (s *Sink) closeDays(ctx context.Context, o logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	for more := true; more && err == nil; {
		more = false
		err = s.alone(ctx, usageLock, func(tx pgx.Tx) error {
			if _, err := affect(ctx, tx, sqlChooseZone, s.zone.String()); err != nil {
				return err
			}
			st, err := s.readUsageState(ctx, tx.Conn())
			if err != nil {
				return err
			}
			report.Warning = st.OtherZone(s.zone)
			first := o.Now
			if st.ClosedUntil.IsZero() {
				var earliest *time.Time
				if err := queryRow(ctx, tx.Conn(), sqlFirstUsage, nil, &earliest); err != nil {
					return err
				}
				if earliest != nil && earliest.Before(first) {
					first = *earliest
				}
			}
			day, ok := st.Closable(first, o.Now)
			if !ok {
				return nil
			}
			report.Behind = o.Now.Sub(day.Until.Add(time.Hour))
			for _, t := range foldTargets() {
				sql := fmt.Sprintf(sqlCloseDay, t.days, t.group, t.dayGroup(), t.quarters)
				if _, err := affect(ctx, tx, sql, day.From, day.Until); err != nil {
					return err
				}
			}
			_, err = affect(ctx, tx, sqlClosed, day.Until)
			more = err == nil
			return err
		})
		if more && err == nil {
			report.Done++
			report.Behind = 0
		}
	}
	return report, err
}

// pruneQuarters forgets quarters that are too old, of days that are closed. Before the first is
// gone, queries and the fold know that they are not to be looked for.
func (s *Sink) pruneQuarters(ctx context.Context, o logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	if o.UsageBefore.IsZero() {
		return report, ctx.Err()
	}
	var from time.Time
	err = s.alone(ctx, usageLock, func(tx pgx.Tx) error {
		st, err := s.readUsageState(ctx, tx.Conn())
		if err != nil || st.ClosedUntil.IsZero() {
			return err
		}
		before := o.UsageBefore
		if st.ClosedUntil.Before(before) {
			before = st.ClosedUntil
		}
		from = st.DayStart(before)
		_, err = affect(ctx, tx, sqlQuartersFrom, from)
		return err
	})
	for _, t := range foldTargets() {
		sql := fmt.Sprintf(sqlPruneQuarters, t.quarters)
		for n := int64(pruneSize); err == nil && !from.IsZero() && n == pruneSize; {
			report.Behind = o.UsageBefore.Sub(from)
			err = s.alone(ctx, pruneLock, func(tx pgx.Tx) (err error) {
				n, err = affect(ctx, tx, sql, from, int64(pruneSize))
				return err
			})
			report.Done += n
		}
	}
	if err == nil {
		report.Behind = 0
	}
	return report, err
}
