package sqlitestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

const (
	sqlAddFold = `
insert into usage_folds (number, mark, at, rows)
select max(number) + 1, randomblob(16), ?, ? from usage_folds returning number`
	sqlTell = `
insert into usage_spent (number, starts, key_id, project, cost_nano_usd, unpriced) values (?, ?, ?, ?, ?, ?)`

	sqlFolds = `select number, mark, rows from usage_folds where number >= ? order by number limit ` + rollup.FoldsRead
	sqlTold  = `
select number, starts, key_id, project, cost_nano_usd, unpriced
from usage_spent where number > ? and number <= ? order by number`
	sqlLastFold = `select number, mark from usage_folds order by number desc limit 1`

	sqlForgetFolds = `
delete from usage_folds where number in (
    select number from usage_folds
    where at < ?1 and number < (select max(number) from usage_folds) order by number limit ?2)`
	sqlForgetTold = `
delete from usage_spent where rowid in (
    select rowid from usage_spent where number < (select min(number) from usage_folds) limit ?2) and ?1 > 0`

	sqlSpentOfKeys = `
with asked (account) as (select distinct value from json_each(?1))
select account, sum(high), sum(low), sum(unpriced) from (
    select account, cost_nano_usd_high as high, cost_nano_usd_low as low, unpriced from asked
        cross join usage_days indexed by usage_days_by_key on key_id = account and starts >= ?3 and starts < ?4
    union all
    select account, cost_nano_usd_high, cost_nano_usd_low, unpriced from asked
        cross join usage_quarters indexed by usage_quarters_by_key on key_id = account and starts >= ?2 and starts < ?3
    union all
    select account, cost_nano_usd_high, cost_nano_usd_low, unpriced from asked
        cross join usage_quarters indexed by usage_quarters_by_key on key_id = account and starts >= ?4 and starts < ?5
) group by account`

	// Below a path are those from path/ until path0, because 0 comes after the slash.
	sqlSpentOfProjects = `
with asked (account, since, until) as (
    select distinct value, value, value || char(0) from json_each(?1)
    union all
    select distinct value, value || '/', value || '0' from json_each(?1)
)
select account, sum(high), sum(low), sum(unpriced) from (
    select account, cost_nano_usd_high as high, cost_nano_usd_low as low, unpriced from asked
        cross join usage_days indexed by usage_days_by_project
        on project >= since and project < until and starts >= ?3 and starts < ?4
    union all
    select account, cost_nano_usd_high, cost_nano_usd_low, unpriced from asked
        cross join usage_quarters indexed by usage_quarters_by_project
        on project >= since and project < until and starts >= ?2 and starts < ?3
    union all
    select account, cost_nano_usd_high, cost_nano_usd_low, unpriced from asked
        cross join usage_quarters indexed by usage_quarters_by_project
        on project >= since and project < until and starts >= ?4 and starts < ?5
) group by account`
)

var _ logbuf.Meter = (*Sink)(nil)

// Fold has nothing to do, because usage is added up as it is written; see [logbuf.Meter].
func (s *Sink) Fold(ctx context.Context) error { return ctx.Err() }

// tell leaves what rows of usage add to what was spent.
func (s *Sink) tell(ctx context.Context, tx *sqlx.Tx, rows []rollup.Row) error {
	spent := rollup.Spent(0, rows)
	if len(spent) == 0 {
		return nil
	}
	var number int64
	if err := tx.QueryRowxContext(ctx, sqlAddFold, s.clock().UnixMicro(), len(spent)).Scan(&number); err != nil {
		return err
	}
	insert, err := tx.PrepareContext(ctx, sqlTell)
	if err != nil {
		return err
	}
	defer insert.Close() //nolint:errcheck // with the transaction at the latest
	for i := range spent {
		r := &spent[i]
		if _, err := insert.ExecContext(ctx, number, r.Starts.UnixMicro(), r.KeyID, r.Project, r.CostNanoUSD.String(),
			r.Unpriced); err != nil {
			return err
		}
	}
	return nil
}

// Folds returns what batches have added; see [logbuf.Meter].
func (s *Sink) Folds(ctx context.Context, after logbuf.FoldMark) (page logbuf.FoldPage, err error) {
	err = s.inReadTx(ctx, s.keys, func(tx *sqlx.Tx) error {
		page, err = foldsAfter(ctx, tx, after)
		return err
	})
	if err == nil || errors.Is(err, logbuf.ErrGap) {
		return page, err
	}
	return page, s.fail(ctx, "read folds of usage", err)
}

func foldsAfter(ctx context.Context, tx *sqlx.Tx, after logbuf.FoldMark) (page logbuf.FoldPage, err error) {
	var list rollup.FoldList
	err = eachRow(ctx, tx, sqlFolds, []any{after.Number}, func(rows *sqlx.Rows) error {
		var rowsOf int64
		fold, err := scanMark(rows, &rowsOf)
		list.Add(fold, rowsOf)
		return err
	})
	if err != nil {
		return page, err
	}
	if page.At, page.More, err = list.Page(after); err != nil || page.At == after {
		return page, err
	}
	err = eachRow(ctx, tx, sqlTold, []any{after.Number, page.At.Number}, func(rows *sqlx.Rows) error {
		var r logbuf.FoldRow
		var micros int64
		var cost string
		if err := rows.Scan(&r.Fold, &micros, &r.KeyID, &r.Project, &cost, &r.Unpriced); err != nil {
			return err
		}
		r.Starts = time.UnixMicro(micros).UTC()
		if _, ok := r.CostNanoUSD.SetString(cost, 10); !ok {
			return fmt.Errorf("a cost is no whole number: %q", cost)
		}
		page.Rows = append(page.Rows, r)
		return nil
	})
	return page, err
}

// scanMark reads a fold, and what else a row has.
func scanMark(rows interface{ Scan(into ...any) error }, more ...any) (fold logbuf.FoldMark, err error) {
	var mark []byte
	err = rows.Scan(append([]any{&fold.Number, &mark}, more...)...)
	copy(fold.Mark[:], mark)
	return fold, err
}

// eachRow calls do for each row of a query.
func eachRow(ctx context.Context, tx *sqlx.Tx, query string, args []any, do func(*sqlx.Rows) error) error {
	rows, err := tx.QueryxContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err says what there is to say
	for rows.Next() {
		if err := do(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Spent sums up what was spent; see [logbuf.Meter].
func (s *Sink) Spent(ctx context.Context, q logbuf.SpentQuery) (sums logbuf.SpentSums, err error) {
	sums.Keys, sums.Projects = map[int64]logbuf.Sum{}, map[string]logbuf.Sum{}
	err = s.inReadTx(ctx, s.keys, func(tx *sqlx.Tx) error {
		st, err := s.usageState(ctx, tx)
		if err != nil {
			return err
		}
		if sums.At, err = scanMark(tx.QueryRowxContext(ctx, sqlLastFold)); err != nil {
			return err
		}
		p := st.PlanSpent(&q)
		span := []any{p.Since.UnixMicro(), p.DaysFrom.UnixMicro(), p.DaysUntil.UnixMicro(), p.Until.UnixMicro()}
		if err := sumSpent(ctx, tx, sqlSpentOfKeys, span, q.Keys, sums.Keys); err != nil {
			return err
		}
		return sumSpent(ctx, tx, sqlSpentOfProjects, span, q.Projects, sums.Projects)
	})
	if err != nil {
		return logbuf.SpentSums{}, s.fail(ctx, "sum up what was spent", err)
	}
	return sums, nil
}

// sumSpent adds up what each of some accounts has spent.
func sumSpent[K comparable](
	ctx context.Context, tx *sqlx.Tx, query string, span []any, accounts []K, sums map[K]logbuf.Sum,
) error {
	if len(accounts) == 0 {
		return nil
	}
	asked, err := json.Marshal(accounts)
	if err != nil {
		return err
	}
	return eachRow(ctx, tx, query, append([]any{string(asked)}, span...), func(rows *sqlx.Rows) error {
		var of K
		var high, low, unpriced int64
		if err := rows.Scan(&of, &high, &low, &unpriced); err != nil {
			return err
		}
		counts := rollup.Counts{CostNanoUSD: rollup.FromHalves(high, low), Unpriced: unpriced}
		if sum := counts.Sum(); !sum.IsZero() {
			sums[of] = sum
		}
		return nil
	})
}

// forgetFolds deletes what was added by batches that are too old to be followed, but for the last.
func (s *Sink) forgetFolds(ctx context.Context, o logbuf.MaintenanceOptions) (logbuf.TaskReport, error) {
	before := o.Now.Add(-logbuf.FoldsKept)
	report, err := s.deleteSome(ctx, "forget folds of usage", sqlForgetFolds, before)
	if err != nil {
		return report, err
	}
	told, err := s.deleteSome(ctx, "forget what folds of usage have added", sqlForgetTold, before)
	report.Done += told.Done
	return report, err
}
