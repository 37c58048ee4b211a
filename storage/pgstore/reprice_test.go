package pgstore_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
)

// Entries of a key or a request are found through the blocks, not by passing over all others.
func TestRepriceLooksThroughBlocks(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	open(t, pool, nil)
	sink := newSink(pool)
	entries := logEntries(0, 3000)
	for i := range entries {
		entries[i].KeyID, entries[i].PricedRevision = 1+int64(i%500), 1
	}
	store(t, sink, entries...)
	read := func(q logbuf.LogQuery) int {
		t.Helper()
		q.Since, q.Until, q.Limit = logDay, logDay.AddDate(0, 0, 9), 1000
		r, err := sink.Reprice(t.Context(), logbuf.RepriceBatch{Query: q, DryRun: true, Price: func(*logbuf.Entry) {}})
		if err != nil {
			t.Fatal(err)
		}
		return r.Read
	}
	key, request := logbuf.LogQuery{KeyID: 7}, logbuf.LogQuery{RequestID: entries[5].RequestID}
	if ofKey, ofRequest := read(key), read(request); ofKey != 6 || ofRequest != 1 {
		t.Errorf("read %d entries of the key and %d of the request; want 6 and 1", ofKey, ofRequest)
	}
	execute(t, pool, `truncate log_blocks`)
	if ofKey, ofRequest := read(key), read(request); ofKey+ofRequest != 0 {
		t.Errorf("without blocks %d and %d entries were read: all others were passed over", ofKey, ofRequest)
	}
}

// While a run prices entries, another is turned away at once, also when the lease of the first has run
// out under a slow batch; then it may begin. What usage counts stays what the entries cost.
func TestRepriceRunsAlone(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	open(t, pool, nil)
	first, second := newSink(pool), newSink(pool)
	store(t, first, logEntries(0, 40)...)
	batch := func(limit int, cost int64) logbuf.RepriceBatch {
		return logbuf.RepriceBatch{
			Run: uuid.New(), Own: true, Price: func(e *logbuf.Entry) { e.CostNanoUSD, e.PricedRevision = new(cost), 7 },
			Query: logbuf.LogQuery{Since: logDay, Until: logDay.AddDate(0, 0, 2), Limit: limit},
		}
	}
	slow := batch(10, 5)
	at, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	price := slow.Price
	slow.Price = func(e *logbuf.Entry) {
		once.Do(func() { close(at); <-goOn })
		price(e)
	}
	var done sync.WaitGroup
	defer done.Wait()
	var next string
	done.Go(func() {
		r, err := first.Reprice(t.Context(), slow)
		if err != nil || r.Changed != 10 {
			t.Errorf("the slow batch: %+v, %v", r, err)
		}
		next = r.Next
	})
	<-at
	other := batch(1000, 9)
	begin := time.Now()
	if _, err := second.Reprice(t.Context(), other); !errors.Is(err, logbuf.ErrBusy) {
		t.Errorf("beside a batch at work: %v; want ErrBusy", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it was turned away after %v", took)
	}
	trial := other
	trial.DryRun = true
	if r, err := second.Reprice(t.Context(), trial); err != nil || r.Changed != 40 {
		t.Errorf("a trial beside a batch at work: %+v, %v", r, err)
	}
	close(goOn)
	done.Wait()
	if _, err := second.Reprice(t.Context(), other); !errors.Is(err, logbuf.ErrBusy) {
		t.Errorf("between two batches of a run: %v; want ErrBusy", err)
	}
	execute(t, pool, `update log_reprice set until = now() - interval '1 second'`)
	if r, err := second.Reprice(t.Context(), other); err != nil || r.Changed != 40 || r.CostBefore < 50 {
		t.Errorf("after the lease: %+v, %v", r, err)
	}
	slow.Query.Cursor = next // whoever was kept out goes on
	if r, err := first.Reprice(t.Context(), slow); err != nil || r.Changed != 10 {
		t.Errorf("the rest of the slow run: %+v, %v", r, err)
	}
	var spent int64
	for _, u := range usageOf(t, first) {
		spent += u.CostNanoUSD
	}
	if cost := count(t, pool, `select sum(cost_nano_usd)::bigint from access_logs`); cost != spent || cost != 30*9+10*5 {
		t.Errorf("entries cost %d, and usage counts %d; want %d", cost, spent, 30*9+10*5)
	}
}

// Where a trigger keeps an entry's cost as it is, usage stays as it is, too, and the run fails.
func TestRepricePassedOver(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	open(t, pool, nil)
	sink := newSink(pool)
	entries := logEntries(0, 40)
	store(t, sink, entries...)
	execute(t, pool, `create function keep() returns trigger language plpgsql as $$ begin return null; end $$;
create trigger keep before update on access_logs
    for each row when (old.request_id = 'request-7') execute function keep()`)
	batch := logbuf.RepriceBatch{
		Run: uuid.New(), Own: true, Price: func(e *logbuf.Entry) { e.CostNanoUSD, e.PricedRevision = new(int64(9)), 7 },
		Query: logbuf.LogQuery{Since: logDay, Until: logDay.AddDate(0, 0, 2), Limit: 100},
	}
	if r, err := sink.Reprice(t.Context(), batch); !errors.Is(err, logbuf.ErrPaused) {
		t.Errorf("%+v, %v; want ErrPaused", r, err)
	}
	wantLedger(t, pool, sink, entries)
	execute(t, pool, `drop trigger keep on access_logs`)
	if r, err := sink.Reprice(t.Context(), batch); err != nil || r.Changed != 40 {
		t.Errorf("without the trigger: %+v, %v", r, err)
	}
}
