package costs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// RepricePrices says which prices entries are priced by.
type RepricePrices string

// The prices to price by.
const (
	PricesNow  RepricePrices = "now"  // of the catalog as it is
	PricesThen RepricePrices = "then" // of the catalog as it was at an entry's time
)

// A RepriceRequest says which stored entries are to be priced anew, and how.
type RepriceRequest struct {
	// Query selects the entries. Since is required, and Until defaults to now. Cursor is
	// the Next of a run whose budget was used up. Limit is not heeded. With Unpriced set, only
	// entries without a cost are selected.
	Query logbuf.LogQuery

	// Prices defaults to PricesNow.
	Prices RepricePrices

	// Own selects entries whose cost the balancer brought, too.
	Own bool

	// DryRun changes nothing.
	DryRun bool

	// Budget is how long the run may take, until it ends with a report that says where to
	// go on; a step that is at work then has half a minute more. Defaults to no limit.
	Budget time.Duration
}

// A RepriceReport says what was done, or would be.
type RepriceReport struct {
	Read       int64            // entries selected
	Changed    int64            // entries that have another cost now
	Priced     int64            // entries that have a cost and had none
	Unpriced   int64            // entries that have none, as before
	CostBefore *big.Int         // nano-USD, of the changed entries
	CostAfter  *big.Int         // likewise
	Revision   catalog.Revision // that the run took before its first change; 0 when it has changed nothing
	Next       string           // where to go on, when the budget was used up
}

const (
	repriceBatch = 1000             // entries in one transaction
	repriceTries = 5                // at one batch, before the run ends
	repriceSlack = 30 * time.Second // beyond the budget, before the step that is at work is broken off
	repricePause = 200 * time.Millisecond
)

// Catalog is what a [Repricer] needs of [catalog.Tables].
type Catalog interface {
	Store() catalog.Store
	Now(ctx context.Context) (time.Time, error)
	Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error)
}

// A Repricer computes the costs of stored entries anew. It is safe for concurrent use.
type Repricer struct {
	catalog   Catalog
	sink      logbuf.Repricer // nil: the log sink cannot
	completer *Completer      // whose prices are those of now
	logTime   func() time.Time

	running sync.Mutex // held by the run that is at work
}

// NewRepricer returns what computes the costs of a sink's entries anew. The time is that by which entries are dated:
// a run that is not told where to end ends there.
func NewRepricer(tables Catalog, sink logbuf.Sink, completer *Completer, logTime func() time.Time) *Repricer {
	r := &Repricer{catalog: tables, completer: completer, logTime: logTime}
	r.sink, _ = sink.(logbuf.Repricer)
	return r
}

// Reprice computes the costs of stored entries anew: entries and their usage together, in one
// transaction for each thousand. A cost that is known is never replaced by none. Before its first
// change the run takes a revision without entities, with the action reprice, so that it leaves a trace
// however it ends. A run that is continued by its cursor takes no other.
//
// One run is at work at a time: while another is, here or elsewhere, the error wraps
// logbuf.ErrBusy. When ctx ends, what was done stays done, the report says what that was, and
// the run can be repeated. The error wraps catalog.ErrCompacted when the change feed does not
// tell of the prices at Since, and logbuf.ErrUnsupported when the log sink is no logbuf.Repricer.
func (c *Repricer) Reprice(ctx context.Context, r RepriceRequest) (RepriceReport, error) {
	report := RepriceReport{CostBefore: new(big.Int), CostAfter: new(big.Int)}
	if c.sink == nil {
		return report, fmt.Errorf("costs: reprice: %w", logbuf.ErrUnsupported)
	}
	if !c.running.TryLock() {
		return report, fmt.Errorf("costs: reprice: %w", logbuf.ErrBusy)
	}
	defer c.running.Unlock()
	if r.Query.Since.IsZero() {
		return report, &logbuf.FieldError{Field: "since", Message: "must be given"}
	}
	if r.Query.Until.IsZero() {
		r.Query.Until = c.logTime()
	}
	r.Query.Limit = repriceBatch
	price, err := c.pricer(ctx, r)
	if err != nil {
		return report, err
	}
	b := logbuf.RepriceBatch{Query: r.Query, Own: r.Own, DryRun: r.DryRun, Price: price}
	run, ok := runOf(r.Query.Cursor)
	if ok {
		if ok, err = c.hasTaken(ctx, run.revision); err != nil {
			return report, err
		}
	}
	if !ok {
		return report, &logbuf.FieldError{Field: "cursor", Message: "must be the next_cursor of the request before"}
	}
	b.Run, b.Query.Cursor = run.id, run.at
	err = c.run(ctx, b, r.Budget, run.revision, &report)
	return report, err
}

// pricer returns what prices an entry.
func (c *Repricer) pricer(ctx context.Context, r RepriceRequest) (func(*logbuf.Entry), error) {
	fill := func(e *logbuf.Entry, q catalog.Quote) {
		if cost, ok := priceFor(e, q.Prices).Cost(e); ok && (e.CostNanoUSD == nil || *e.CostNanoUSD != cost) {
			e.CostNanoUSD, e.PricedRevision = &cost, int64(q.Revision)
		}
	}
	switch r.Prices {
	case "", PricesNow:
		if _, err := c.completer.follower.Refresh(ctx); err != nil {
			return nil, err
		}
		return func(e *logbuf.Entry) {
			if q, ok := c.completer.prices.Quote(priceKey(e)); ok {
				fill(e, q)
			}
		}, nil
	case PricesThen:
		history, err := catalog.ReadPriceHistory(ctx, c.catalog.Store())
		if err != nil {
			return nil, err
		}
		if begins := history.Begins(); r.Query.Since.Before(begins) {
			return nil, fmt.Errorf("costs: the change feed tells of prices from %s on: %w",
				begins.UTC().Format(time.RFC3339), catalog.ErrCompacted)
		}
		return func(e *logbuf.Entry) {
			if q, ok := history.Quote(priceKey(e), e.Time); ok {
				fill(e, q)
			}
		}, nil
	}
	return nil, &logbuf.FieldError{Field: "prices", Message: "must be now or then"}
}

// run does batch after batch. The revision is that of the run, if it has one.
func (c *Repricer) run(ctx context.Context, b logbuf.RepriceBatch, budget time.Duration,
	revision catalog.Revision, report *RepriceReport,
) error {
	begun, first := time.Now(), b.Query.Cursor
	tried := false // a try whose answer was lost may still be at work, and keep this run out for a while
	caller := ctx
	if budget > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, budget+repriceSlack)
		defer cancel()
	}
	next := func(at string) string { return repriceRun{b.Run, revision, at}.String() }
	for tries := 0; ; {
		r, err := c.step(ctx, b, &revision)
		if err != nil {
			if ctx.Err() != nil && caller.Err() == nil && b.Query.Cursor != first {
				report.Next = next(b.Query.Cursor)
				return nil // what was done before counts
			}
			var field *logbuf.FieldError
			tries++
			anothers := errors.Is(err, logbuf.ErrBusy) && !tried
			if ctx.Err() != nil || errors.As(err, &field) || anothers || tries == repriceTries {
				return fmt.Errorf("costs: reprice: %w", err)
			}
			tried = true
			select {
			case <-ctx.Done():
				return fmt.Errorf("costs: reprice: %w", err)
			case <-time.After(repricePause << tries):
			}
			continue
		}
		tries = 0
		if report.add(r); r.Changed > 0 && !b.DryRun {
			report.Revision = revision
		}
		if r.Next == "" {
			return nil
		}
		b.Query.Cursor = r.Next
		if budget > 0 && time.Since(begun) >= budget {
			report.Next = next(r.Next)
			return nil
		}
	}
}

// step does a batch. The first one that is going to change something is tried without changing
// anything, which also makes sure that no other run is at work, and then the run takes its revision.
func (c *Repricer) step(ctx context.Context, b logbuf.RepriceBatch,
	revision *catalog.Revision,
) (logbuf.RepriceResult, error) {
	if b.DryRun || *revision != 0 {
		return c.sink.Reprice(ctx, b)
	}
	changes, trial := false, b
	trial.Price = func(e *logbuf.Entry) {
		after := e.Clone()
		b.Price(&after)
		had, has := e.CostNanoUSD, after.CostNanoUSD
		changes = changes || after.PricedRevision != e.PricedRevision || (had == nil) != (has == nil) ||
			had != nil && *had != *has
	}
	r, err := c.sink.Reprice(ctx, trial)
	if err != nil || !changes {
		return r, err
	}
	if *revision, err = c.record(ctx, b); err != nil {
		return logbuf.RepriceResult{}, err
	}
	return c.sink.Reprice(ctx, b)
}

// A repriceRun is where a run goes on. Whoever goes on by its text is the same run.
type repriceRun struct {
	id       uuid.UUID
	revision catalog.Revision // 0: it has changed nothing so far
	at       string           // the cursor of the sink
}

// String returns the cursor.
func (r repriceRun) String() string { return fmt.Sprintf("%s.%d.%s", r.id, r.revision, r.at) }

// runOf takes a cursor apart. Without one, the run is a new one.
func runOf(cursor string) (r repriceRun, ok bool) {
	if cursor == "" {
		return repriceRun{id: uuid.New()}, true
	}
	parts := strings.SplitN(cursor, ".", 3)
	if len(parts) != 3 {
		return r, false
	}
	id, err := uuid.Parse(parts[0])
	revision, bad := strconv.ParseInt(parts[1], 10, 64)
	r.id, r.revision, r.at = id, catalog.Revision(revision), parts[2]
	return r, err == nil && bad == nil && revision >= 0
}

func (r *RepriceReport) add(b logbuf.RepriceResult) {
	r.Read += int64(b.Read)
	r.Changed += int64(b.Changed)
	r.Priced += int64(b.Priced)
	r.Unpriced += int64(b.Unpriced)
	r.CostBefore.Add(r.CostBefore, big.NewInt(b.CostBefore))
	r.CostAfter.Add(r.CostAfter, big.NewInt(b.CostAfter))
}

// hasTaken reports whether a run has taken a revision, as its cursor says. With one that is made up, costs
// would change and the feed would not tell.
func (c *Repricer) hasTaken(ctx context.Context, revision catalog.Revision) (taken bool, err error) {
	if revision == 0 {
		return true, nil
	}
	err = c.catalog.Store().Read(ctx, func(r catalog.Reader) error {
		changes, err := r.Changes(ctx, catalog.Cursor{Revision: revision - 1}, 1)
		taken = len(changes) == 1 && changes[0].Revision == revision && changes[0].Action == catalog.ActionReprice
		return err
	})
	if errors.Is(err, catalog.ErrCompacted) {
		return false, nil
	}
	return taken, err
}

// record takes the revision of a run.
func (c *Repricer) record(ctx context.Context, b logbuf.RepriceBatch) (catalog.Revision, error) {
	now, err := c.catalog.Now(ctx)
	if err != nil {
		return 0, fmt.Errorf("costs: the change feed cannot be told: %w", err)
	}
	actor, reason := catalog.ActorFrom(ctx)
	reason = cmp.Or(reason, fmt.Sprintf("costs of log entries from %s to %s are computed anew",
		b.Query.Since.UTC().Format(time.RFC3339), b.Query.Until.UTC().Format(time.RFC3339)))
	revision, err := c.catalog.Commit(ctx, catalog.Commit{
		Sync: true, SyncAction: catalog.ActionReprice, Time: now, Actor: actor, Reason: reason,
	})
	if err != nil {
		return 0, fmt.Errorf("costs: the change feed cannot be told: %w", err)
	}
	return revision, nil
}
