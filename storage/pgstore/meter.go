package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

const (
	// sqlTell goes on after the sums of a fold, and leaves what they add to what was spent.
	sqlTell = `spent as (
    select starts, key_id, project, sum(cost_nano_usd) as cost, sum(unpriced)::bigint as unpriced
    from sums group by 1, 2, 3 having sum(cost_nano_usd) <> 0 or sum(unpriced) <> 0
), told as (
    insert into usage_folds (rows, starts, key_ids, projects, costs_nano_usd, unpriced)
    select count(*), array_agg(starts), array_agg(key_id), array_agg(project), array_agg(cost), array_agg(unpriced)
    from spent having count(*) > 0
)`

	sqlWaiting = `select clock_timestamp(), exists (select from usage_pending)`

	// sqlFolds begins with the fold that is known already.
	sqlFolds = `
select number, mark::text, rows from usage_folds where number >= $1 order by number limit ` + rollup.FoldsRead
	sqlTold = `
select number, t.starts, key_id, project, cost::text, t.unpriced
from usage_folds as f cross join lateral
    unnest(f.starts, key_ids, projects, costs_nano_usd, f.unpriced) as t (starts, key_id, project, cost, unpriced)
where number > $1 and number <= $2 order by number`

	sqlLastFold = `select number, mark::text from usage_folds order by number desc limit 1`

	sqlForgetFolds = `
delete from usage_folds where number = any (array(
    select number from usage_folds
    where at < $1::timestamptz and number < (select max(number) from usage_folds) order by number limit $2))`

	// sqlSpentOfKeys and sqlSpentOfProjects add up closed days, quarters and what is set aside.
	sqlSpentOfKeys = `
select a.key_id, sum(u.cost_nano_usd)::text, sum(u.unpriced)::bigint
from (select distinct unnest($5::bigint[]) as key_id) as a cross join lateral (%s) as u
group by 1 having sum(u.cost_nano_usd) <> 0 or sum(u.unpriced) <> 0`
	sqlSpentOfProjects = `
select a.path, sum(u.cost_nano_usd)::text, sum(u.unpriced)::bigint
from (select distinct unnest($5::text[]) as path) as a cross join lateral (%s) as u
group by 1 having sum(u.cost_nano_usd) <> 0 or sum(u.unpriced) <> 0`
	sqlSpentOf = `
    select cost_nano_usd, unpriced from %[2]s
    where %[1]s and starts >= $2::timestamptz and starts < $3::timestamptz
    union all
    select cost_nano_usd, unpriced from %[3]s
    where %[1]s and starts >= $1::timestamptz and starts < $2::timestamptz
    union all
    select cost_nano_usd, unpriced from %[3]s
    where %[1]s and starts >= $3::timestamptz and starts < $4::timestamptz
    union all
    select cost_nano_usd, unpriced from usage_aside
    where %[1]s and starts >= $1::timestamptz and starts < $4::timestamptz`
	sqlOfKey     = `key_id = a.key_id`
	sqlOfProject = `(project = a.path or project >= a.path || '/' and project < a.path || '0')` // 0 comes after /

	foldsForgo = 200 // folds that one transaction forgets
)

var _ logbuf.Meter = (*Sink)(nil)

// Fold adds up what is pending; see [logbuf.Meter].
func (s *Sink) Fold(ctx context.Context) error {
	var now time.Time
	var waiting bool
	err := s.readNow(ctx, sqlReadBegin+sqlReadSettings, func(conn *pgx.Conn) error {
		return queryRow(ctx, conn, sqlWaiting, nil, &now, &waiting)
	})
	if err == nil && waiting {
		_, err = s.fold(ctx, logbuf.MaintenanceOptions{Now: now})
	}
	if err == nil || errors.Is(err, logbuf.ErrBusy) {
		return err
	}
	return explainSink(ctx, "fold usage", err)
}

// Folds returns what folds have added; see [logbuf.Meter].
func (s *Sink) Folds(ctx context.Context, after logbuf.FoldMark) (page logbuf.FoldPage, err error) {
	err = s.readNow(ctx, sqlReadBegin+sqlReadSettings, func(conn *pgx.Conn) error {
		page, err = foldsAfter(ctx, conn, after)
		return err
	})
	if err == nil || errors.Is(err, logbuf.ErrGap) {
		return page, err
	}
	return page, explainSink(ctx, "read folds of usage", err)
}

func foldsAfter(ctx context.Context, conn *pgx.Conn, after logbuf.FoldMark) (page logbuf.FoldPage, err error) {
	rows, err := query(ctx, conn, sqlFolds, after.Number)
	if err != nil {
		return page, err
	}
	var number, count int64
	var mark string
	var folds rollup.FoldList
	_, err = pgx.ForEachRow(rows, []any{&number, &mark, &count}, func() error {
		id, err := uuid.Parse(mark)
		folds.Add(logbuf.FoldMark{Number: number, Mark: id}, count)
		return err
	})
	if err != nil {
		return page, err
	}
	if page.At, page.More, err = folds.Page(after); err != nil || page.At == after {
		return page, err
	}
	if rows, err = query(ctx, conn, sqlTold, after.Number, page.At.Number); err != nil {
		return page, err
	}
	var r logbuf.FoldRow
	var cost string
	_, err = pgx.ForEachRow(rows, []any{&r.Fold, &r.Starts, &r.KeyID, &r.Project, &cost, &r.Unpriced}, func() error {
		row := r
		row.Starts = r.Starts.UTC()
		page.Rows = append(page.Rows, row)
		return setCost(&page.Rows[len(page.Rows)-1].Sum, cost)
	})
	return page, err
}

// setCost reads a whole number.
func setCost(s *logbuf.Sum, cost string) error {
	if _, ok := s.CostNanoUSD.SetString(cost, 10); !ok {
		return fmt.Errorf("a cost is no whole number: %q", cost)
	}
	return nil
}

// Spent sums up what was spent; see [logbuf.Meter].
func (s *Sink) Spent(ctx context.Context, q logbuf.SpentQuery) (sums logbuf.SpentSums, err error) {
	sums.Keys, sums.Projects = map[int64]logbuf.Sum{}, map[string]logbuf.Sum{}
	err = s.readNow(ctx, sqlReadBegin+sqlReadSettings, func(conn *pgx.Conn) error {
		st, err := s.readUsageState(ctx, conn)
		if err != nil {
			return err
		}
		var mark string
		if err := queryRow(ctx, conn, sqlLastFold, nil, &sums.At.Number, &mark); err != nil {
			return err
		}
		if sums.At.Mark, err = uuid.Parse(mark); err != nil {
			return err
		}
		p := st.PlanSpent(&q)
		span := []any{p.Since, p.DaysFrom, p.DaysUntil, p.Until}
		err = sumSpent(ctx, conn, spentOf(sqlSpentOfKeys, sqlOfKey, foldTargets()[0]), span, q.Keys, sums.Keys)
		if err != nil {
			return err
		}
		return sumSpent(ctx, conn, spentOf(sqlSpentOfProjects, sqlOfProject, foldTargets()[1]), span, q.Projects,
			sums.Projects)
	})
	if err != nil {
		return logbuf.SpentSums{}, explainSink(ctx, "sum up what was spent", err)
	}
	return sums, nil
}

// spentOf returns the statement that adds up what some have spent, by the tables that tell them apart.
func spentOf(statement, condition string, t foldTarget) string {
	return fmt.Sprintf(statement, fmt.Sprintf(sqlSpentOf, condition, t.days, t.quarters))
}

// sumSpent adds up what each of some accounts has spent.
func sumSpent[K comparable](
	ctx context.Context, conn *pgx.Conn, sql string, span []any, accounts []K, sums map[K]logbuf.Sum,
) error {
	if len(accounts) == 0 {
		return nil
	}
	rows, err := query(ctx, conn, sql, append(span[:len(span):len(span)], accounts)...)
	if err != nil {
		return err
	}
	var of K
	var cost string
	var unpriced int64
	_, err = pgx.ForEachRow(rows, []any{&of, &cost, &unpriced}, func() error {
		sum := logbuf.Sum{Unpriced: unpriced}
		err := setCost(&sum, cost)
		sums[of] = sum
		return err
	})
	return err
}

// forgetFolds deletes what folds have added that is too old to be followed, but for the last.
func (s *Sink) forgetFolds(ctx context.Context, o logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	for n := int64(foldsForgo); n == foldsForgo; report.Done += n {
		err := s.alone(ctx, forgetLock, func(tx pgx.Tx) (err error) {
			n, err = affect(ctx, tx, sqlForgetFolds, o.Now.Add(-logbuf.FoldsKept), int64(foldsForgo))
			return err
		})
		if err != nil {
			return report, err
		}
	}
	return report, nil
}
