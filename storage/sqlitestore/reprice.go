package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

const (
	// sqlLease takes or renews the lease of a run; it changes nothing while another has it.
	sqlLease = `
insert into log_reprice (singleton, run, until) values (1, ?1, ?2)
on conflict (singleton) do update set run = excluded.run, until = excluded.until where run = ?1 or until < ?3`

	sqlEndLease = `delete from log_reprice where run = ?`
	sqlNewCost  = `update access_logs set cost_nano_usd = ?, priced_revision = ? where ts = ? and id = ?`
)

// errRepricing says that another run prices entries anew.
var errRepricing = fmt.Errorf("sqlitestore: another run prices entries anew: %w", logbuf.ErrBusy)

// Reprice prices the next entries anew; see [logbuf.Repricer].
func (s *Sink) Reprice(ctx context.Context, b logbuf.RepriceBatch) (result logbuf.RepriceResult, err error) {
	r, err := b.Query.Resolve(s.clock())
	if err != nil {
		return result, fmt.Errorf("sqlitestore: reprice: %w", err)
	}
	step := repriceStep{batch: &b, r: &r}
	if b.DryRun {
		err = s.fail(ctx, "reprice", s.inReadTx(ctx, s.queries, func(tx *sqlx.Tx) error { return step.look(ctx, tx) }))
	} else {
		err = s.inTx(ctx, "reprice", func(tx *sqlx.Tx) error { return step.run(ctx, s, tx) })
	}
	if errors.Is(err, logbuf.ErrBusy) {
		return result, errRepricing
	}
	if err != nil {
		return result, err
	}
	return step.Result, nil
}

// A repriceStep is one try of a batch.
type repriceStep struct {
	batch *logbuf.RepriceBatch
	r     *logbuf.LogRange
	rollup.Repricing
}

func (p *repriceStep) run(ctx context.Context, s *Sink, tx *sqlx.Tx) error {
	now := time.Now()
	done, err := tx.ExecContext(ctx, sqlLease, p.batch.Run[:], now.Add(logbuf.RepriceLease).UnixMicro(), now.UnixMicro())
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, errRepricing)
	}
	if err := p.look(ctx, tx); err != nil {
		return err
	}
	for i := range p.Changed {
		e := &p.Changed[i]
		if _, err := tx.ExecContext(ctx, sqlNewCost, e.CostNanoUSD, e.PricedRevision, e.Time.UnixMicro(),
			e.ID[:]); err != nil {
			return err
		}
	}
	if err := s.addUsage(ctx, tx, p.Usage.Rows); err != nil {
		return err
	}
	if p.Result.Next == "" {
		_, err = tx.ExecContext(ctx, sqlEndLease, p.batch.Run[:])
	}
	return err
}

// look reads the next entries, and prices them.
func (p *repriceStep) look(ctx context.Context, tx *sqlx.Tx) error {
	more := "(cost_nano_usd is null or priced_revision <> 0)"
	if p.batch.Own {
		more = ""
	}
	return p.Walk(p.batch, *p.r, func(part logbuf.LogRange) ([]logbuf.Entry, error) {
		query, args := selectLogs(&p.batch.Query, &part, more)
		return queryLogs(ctx, tx, query, args)
	})
}
