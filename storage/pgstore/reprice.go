package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

const (
	// sqlLease takes or renews the lease of a run; nothing comes back while another has it.
	sqlLease = `
insert into log_reprice as l (run, until) values ($1::uuid, clock_timestamp() + $2::bigint * interval '1 microsecond')
on conflict (singleton) do update set run = excluded.run, until = excluded.until
where l.run = excluded.run or l.until < clock_timestamp()
returning run::text`

	sqlEndLease = `delete from log_reprice where run = $1::uuid`

	// No statement of a step takes long: it looks through a short time.
	sqlRepriceTimeout = `set local statement_timeout = '30s'`

	sqlNewCosts = `
update access_logs l set cost_nano_usd = n.cost, priced_revision = n.revision
from unnest($1::timestamptz[], $2::text[], $3::bigint[], $4::bigint[]) as n (ts, id, cost, revision)
where l.ts = n.ts and l.id = n.id::uuid and l.ts >= $5::timestamptz and l.ts <= $6::timestamptz`
)

// errRepricing says that another run prices entries anew.
var errRepricing = fmt.Errorf("pgstore: another run prices entries anew: %w", logbuf.ErrBusy)

// Reprice prices the next entries anew; see [logbuf.Repricer]. What their costs change by goes to
// usage_pending in the same transaction.
func (s *Sink) Reprice(ctx context.Context, b logbuf.RepriceBatch) (result logbuf.RepriceResult, err error) {
	r, err := b.Query.Resolve(s.clock())
	if err != nil {
		return result, fmt.Errorf("pgstore: reprice: %w", err)
	}
	step := repriceStep{batch: &b, r: &r, now: s.clock()}
	if b.DryRun {
		// One run is at work at a time: it need not wait with the queries, nor they for it.
		err = s.readNow(ctx, sqlReadBegin+sqlReadSettings, func(conn *pgx.Conn) error { return step.look(ctx, conn) })
	} else {
		// Costs of stored entries are changed under this lock alone. Whoever does not get it need not
		// wait for the batch that is at work.
		err = s.alone(ctx, repriceLock, func(tx pgx.Tx) error { return step.run(ctx, tx) })
	}
	if errors.Is(err, logbuf.ErrBusy) {
		return result, errRepricing
	}
	if err != nil {
		return result, explainSink(ctx, "reprice", err)
	}
	return step.Result, nil
}

// A repriceStep is one try of a batch.
type repriceStep struct {
	batch *logbuf.RepriceBatch
	r     *logbuf.LogRange
	now   time.Time
	rollup.Repricing
}

func (p *repriceStep) run(ctx context.Context, tx pgx.Tx) error {
	lease := []any{p.batch.Run.String(), logbuf.RepriceLease.Microseconds()}
	var holder string
	switch err := queryRow(ctx, tx.Conn(), sqlLease, lease, &holder); {
	case errors.Is(err, pgx.ErrNoRows):
		return errRepricing
	case err != nil:
		return err
	}
	if err := p.look(ctx, tx.Conn()); err != nil {
		return err
	}
	if err := p.store(ctx, tx); err != nil {
		return err
	}
	if p.Result.Next == "" {
		_, err := affect(ctx, tx, sqlEndLease, p.batch.Run.String())
		return err
	}
	return nil
}

// look reads the next entries, and prices them.
func (p *repriceStep) look(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, sqlRepriceTimeout, pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	return p.Walk(p.batch, *p.r, func(part logbuf.LogRange) ([]logbuf.Entry, error) {
		l := newLogSearch(&p.batch.Query, &part)
		l.conn, l.notOwn = conn, !p.batch.Own
		return l.entries(ctx, p.now)
	})
}

// store stores the new costs, and what usage changes by. It does so for all entries or none.
func (p *repriceStep) store(ctx context.Context, tx pgx.Tx) error {
	n := len(p.Changed)
	if n == 0 {
		return nil
	}
	times, ids, costs, revisions := make([]time.Time, n), make([]string, n), make([]*int64, n), make([]int64, n)
	for i := range p.Changed {
		e := &p.Changed[i]
		times[i], ids[i], costs[i], revisions[i] = e.Time, e.ID.String(), e.CostNanoUSD, e.PricedRevision
	}
	first, last := times[n-1], times[0] // newest first
	changed, err := affect(ctx, tx, sqlNewCosts, times, ids, costs, revisions, first, last)
	if err != nil {
		return err
	}
	if changed != int64(n) {
		return &shortfall{int64(n), changed}
	}
	return copyFrom(ctx, tx.Conn(), sqlCopyUsage, usageRows(p.Usage.Rows))
}
