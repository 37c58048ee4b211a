package pgstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// twoSinks returns two sinks, as two processes would have, in one database.
func twoSinks(tb testing.TB) (sinks [2]*pgstore.Sink, pool *pgxpool.Pool) {
	tb.Helper()
	cfg := pgtest.Migrated(tb)
	pool = pgtest.Connect(tb, cfg)
	open(tb, pool, nil)
	return [2]*pgstore.Sink{newSink(pool), newSink(pgtest.Connect(tb, cfg))}, pool
}

// keepMaintaining does maintenance again and again until the function it returns
// is called.
func keepMaintaining(tb testing.TB, before time.Time, sinks ...*pgstore.Sink) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	var all sync.WaitGroup
	for _, s := range sinks {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := tryMaintain(ctx, s, before); err != nil && ctx.Err() == nil {
					tb.Errorf("maintain: %v", err)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// thrice is a sink that sends every batch three times, to one after the other.
type thrice struct {
	sinks   [2]*pgstore.Sink
	batches atomic.Int64
	t       testing.TB
}

func (s *thrice) Write(ctx context.Context, b logbuf.Batch) (logbuf.Result, error) {
	first, err := s.sinks[0].Write(ctx, b)
	if err != nil {
		return first, err
	}
	s.batches.Add(1)
	for _, again := range []*pgstore.Sink{s.sinks[1], s.sinks[0]} {
		if r, err := again.Write(ctx, b); err != nil || r != (logbuf.Result{Duplicate: len(b.Entries)}) {
			s.t.Errorf("the same batch again: %+v, %v; want %d duplicates", r, err, len(b.Entries))
		}
	}
	return first, nil
}

// Every batch is sent three times, to two processes: there are as many rows as
// there are ids, usage counts as many, and the cost is exact.
func TestBatchesThrice(t *testing.T) {
	t.Parallel()
	for _, durability := range []logbuf.Durability{logbuf.Disk, logbuf.Memory} {
		t.Run(string(durability), func(t *testing.T) {
			t.Parallel()
			sinks, pool := twoSinks(t)
			dir := ""
			if durability == logbuf.Disk {
				dir = t.TempDir()
			}
			s := &thrice{sinks: sinks, t: t}
			q := openQueue(t, s, dir, func(o *logbuf.Options) { o.BatchSize = 500 })
			stop := keepMaintaining(t, time.Time{}, sinks[:]...)
			n := scaled(3_000, 100_000)
			for from := 0; from < n; from += 100 {
				if err := q.Append(t.Context(), logEntries(from, from+100)...); err != nil {
					t.Fatal(err)
				}
			}
			stats := flush(t, q)
			stop()
			if stats.Stored != int64(n) || s.batches.Load() < int64(n/500) {
				t.Errorf("%d stored in %d batches; want %d", stats.Stored, s.batches.Load(), n)
			}
			wantLedger(t, pool, sinks[0], logEntries(0, n))
		})
	}
}

// Who may write what is stored already waits for a write of the same batch that is still at work before
// writing anything, and then has nothing to write.
func TestCarefulBatchWaitsForItsTwin(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cfg := pgtest.Migrated(t)
	pool := pgtest.Connect(t, cfg)
	open(t, pool, nil)
	sink := newSink(pgtest.Connect(t, cfg))
	entries, segment := logEntries(0, 20), uuid.New()
	store(t, sink, entries[:10]...)
	want(t, sink, logbuf.Batch{Entries: entries[:10]}, logbuf.Result{Duplicate: 10}) // careful from here on

	exec := func(on interface {
		Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	}, sql string) {
		t.Helper()
		if _, err := on.Exec(ctx, sql, segment); err != nil {
			t.Fatal(err)
		}
	}
	exec(pool, `insert into log_checkpoints (segment, position) values ($1, 0)`)
	twin, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer twin.Rollback(context.WithoutCancel(ctx))                         //nolint:errcheck // it may be committed
	exec(twin, `select from log_checkpoints where segment = $1 for update`) // as every careful batch begins
	done := make(chan error, 1)
	go func() {
		r, err := sink.Write(ctx, logbuf.Batch{Segment: segment, To: 10, Entries: entries[10:]})
		if err == nil && r.Duplicate != 10 {
			err = fmt.Errorf("%+v; want 10 duplicates", r)
		}
		done <- err
	}()
	const waiting = `
select count(distinct w.pid), count(l.pid)
from pg_locks w join pg_database d on d.datname = current_database()
    left join pg_locks l on l.pid = w.pid and l.database = d.oid and l.mode = 'RowExclusiveLock'
        and l.relation::regclass::text like 'access_logs%'
where not w.granted and w.locktype = 'transactionid'
    and w.pid in (select pid from pg_locks where database = d.oid)`
	for begun, waits := time.Now(), 0; waits == 0; time.Sleep(5 * time.Millisecond) {
		var written int
		if err := pool.QueryRow(ctx, waiting).Scan(&waits, &written); err != nil {
			t.Fatal(err)
		}
		if written > 0 {
			t.Fatal("the batch was written before its twin had ended")
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatal("the batch does not wait for its twin")
		}
	}
	exec(twin, `update log_checkpoints set position = 10 where segment = $1`)
	if err := twin.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// One connection is enough, although a queue with a backlog writes two batches at once.
func TestSinkWithOneConnection(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	direct := pgtest.Connect(t, cfg)
	open(t, direct, nil)
	cfg.MaxConns = 1
	q := openQueue(t, newSink(pgtest.Connect(t, cfg)), "", func(o *logbuf.Options) { o.BatchSize = 100 })
	for from := 0; from < 5_000; from += 1000 {
		if err := q.Append(t.Context(), logEntries(from, from+1000)...); err != nil {
			t.Fatal(err)
		}
	}
	if s := flush(t, q); s.Retries > 0 {
		t.Errorf("%d writes were tried again", s.Retries)
	}
	wantLedger(t, direct, newSink(direct), logEntries(0, 5_000))
}

// Batches that wait for their turn do not keep all connections from those they wait for.
func TestSinksThatShareConnections(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	direct := pgtest.Connect(t, cfg)
	open(t, direct, nil)
	cfg.MaxConns = 2
	sink := newSink(pgtest.Connect(t, cfg))
	batch := func(from int) logbuf.Batch { return logbuf.Batch{Entries: logEntries(from, from+10)} }
	var first, second sync.WaitGroup
	var stored [2]chan struct{}
	for i := range stored {
		begun := make(chan struct{})
		begin := sync.OnceFunc(func() { close(begun) })
		stored[i] = make(chan struct{})
		second.Go(func() {
			_, err := sink.WriteAfter(t.Context(), batch(20*i+10), func(ctx context.Context) error {
				begin()
				select {
				case <-stored[i]:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			if err != nil { // it gave way
				_, err = sink.Write(t.Context(), batch(20*i+10))
			}
			if err != nil {
				t.Error(err)
			}
		})
		<-begun
	}
	for i := range stored {
		first.Go(func() {
			defer close(stored[i])
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := sink.Write(ctx, batch(20*i)); err != nil {
				t.Errorf("the batch before: %v", err)
			}
		})
	}
	first.Wait()
	second.Wait()
	wantLedger(t, direct, newSink(direct), logEntries(0, 40))
}

// The same entries come three times at once, each time in other batches and
// another order, with and without a spool.
func TestEntriesThriceAtOnce(t *testing.T) {
	t.Parallel()
	sinks, pool := twoSinks(t)
	stop := keepMaintaining(t, time.Time{}, sinks[:]...)
	n := scaled(2_000, 50_000)
	var senders sync.WaitGroup
	var stored, duplicate, retries atomic.Int64
	for i, size := range []int{500, 700, 333} {
		senders.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			entries := logEntries(0, n)
			random.Shuffle(n, func(a, b int) { entries[a], entries[b] = entries[b], entries[a] })
			segment, from := uuid.Nil, int64(0)
			if i > 0 {
				segment = uuid.New()
			}
			for batch := range slices.Chunk(entries, size) {
				b := logbuf.Batch{Segment: segment, From: from, To: from + int64(len(batch)), Entries: batch}
				from = b.To
				for {
					r, err := sinks[i%2].Write(t.Context(), b)
					if err == nil {
						stored.Add(int64(r.Stored))
						duplicate.Add(int64(r.Duplicate))
						break
					}
					if retries.Add(1) > 1000 {
						t.Errorf("write: %v", err)
						return
					}
				}
			}
		})
	}
	senders.Wait()
	stop()
	if stored.Load() != int64(n) || duplicate.Load() != 2*int64(n) {
		t.Errorf("%d stored and %d duplicate; want %d and twice as many", stored.Load(), duplicate.Load(), n)
	}
	t.Logf("%d writes were tried again", retries.Load())
	wantLedger(t, pool, sinks[0], logEntries(0, n))
}

// Two processes store the same entries at once, in opposite orders. They do not
// fail in each other's arms.
func TestSameEntriesBackwards(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		replaying bool // both have seen duplicates before, and expect some
	}{{"as new", false}, {"as duplicates", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sinks, pool := twoSinks(t)
			const size = 3000
			rounds := scaled(2, 20)
			store(t, sinks[0], logEntry(0))
			for round := range rounds {
				from := 1 + round*size
				var all sync.WaitGroup
				var stored atomic.Int64
				for i, s := range sinks {
					if c.replaying {
						want(t, s, logbuf.Batch{Entries: logEntries(0, 1)}, logbuf.Result{Duplicate: 1})
					}
					entries := logEntries(from, from+size)
					if i == 1 {
						slices.Reverse(entries)
					}
					all.Go(func() {
						r, err := s.Write(t.Context(), logbuf.Batch{Entries: entries})
						if err != nil {
							t.Errorf("write: %v", err)
						}
						stored.Add(int64(r.Stored))
					})
				}
				all.Wait()
				if stored.Load() != size {
					t.Errorf("%d stored; want %d", stored.Load(), size)
				}
			}
			wantLedger(t, pool, sinks[0], logEntries(0, 1+rounds*size))
		})
	}
}

// Two processes find at once that there is no partition for a day, or for many.
func TestPartitionsMadeAtOnce(t *testing.T) {
	t.Parallel()
	sinks, pool := twoSinks(t)
	stop := keepMaintaining(t, time.Time{}, sinks[:]...) // makes some, too, though of other days
	rounds := scaled(10, 100)
	const writers, spread = 4, 3 // each writes to so many days at once
	for round := range rounds {
		var all sync.WaitGroup
		begin := make(chan struct{})
		for w := range writers {
			all.Go(func() {
				batch := make([]logbuf.Entry, 0, spread)
				for i := range spread {
					e := logEntry((round*writers+w)*spread + i)
					e.Time = logDay.AddDate(0, 0, round*spread+(w+i)%spread) // in another order each
					batch = append(batch, e)
				}
				<-begin
				if r, err := sinks[w%2].Write(t.Context(), logbuf.Batch{Entries: batch}); err != nil || r.Stored != spread {
					t.Errorf("write: %+v, %v; want %d stored", r, err, spread)
				}
			})
		}
		close(begin)
		all.Wait()
	}
	stop()
	var days []string
	for _, day := range partitions(t, pool) {
		if at, err := time.Parse("20060102", day); err == nil && at.Before(logDay.AddDate(0, 0, rounds*spread)) {
			days = append(days, day)
		}
	}
	if len(days) != rounds*spread {
		t.Errorf("%d partitions; want %d, one a day", len(days), rounds*spread)
	}
	if rows, ids := count(t, pool, `select count(*) from access_logs`), rounds*writers*spread; rows != int64(ids) {
		t.Errorf("%d rows; want %d", rows, ids)
	}
}

// Two processes drop partitions while both still write to them: writes go
// through, and usage misses none.
func TestPartitionsDroppedMeanwhile(t *testing.T) {
	t.Parallel()
	sinks, pool := twoSinks(t)
	stop := keepMaintaining(t, logDay.AddDate(0, 0, 2), sinks[:]...) // the first two days
	var writers sync.WaitGroup
	var sent, retries atomic.Int64
	var last sync.Map
	rounds := scaled(20, 400)
	for w := range 4 {
		writers.Go(func() {
			for round := range rounds {
				var batch []logbuf.Entry
				for i := range 9 { // of three days
					e := logEntry((round*4+w)*9 + i)
					e.Time = logDay.AddDate(0, 0, i%3).Add(time.Duration(e.KeyID) * time.Minute)
					batch = append(batch, e)
				}
				sent.Add(9)
				for {
					r, err := sinks[w%2].Write(t.Context(), logbuf.Batch{Entries: batch})
					if err == nil && r.Stored == 9 {
						break
					}
					last.Store("error", err)
					if retries.Add(1) > 1000 || err == nil {
						t.Errorf("write: %+v, %v", r, err)
						return
					}
				}
			}
		})
	}
	writers.Wait()
	stop()
	err, _ := last.Load("error")
	t.Logf("%d writes were tried again, the last after %v", retries.Load(), err)
	var requests int64
	for _, u := range usageOf(t, sinks[1]) {
		requests += u.Requests
	}
	if requests != sent.Load() {
		t.Errorf("usage counts %d requests; want %d", requests, sent.Load())
	}
	eventually(t, "only the third day is left", func() bool { // the last ones may still have locks
		maintain(t, sinks[0], logDay.AddDate(0, 0, 2))
		return count(t, pool, `select count(*) from access_logs`) == sent.Load()/3
	})
}
