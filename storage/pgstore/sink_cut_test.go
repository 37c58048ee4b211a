package pgstore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
)

// appendUntil appends entries, in groups from several goroutines, until done
// says so, and returns those that were acknowledged.
func appendUntil(tb testing.TB, q *logbuf.Queue, done func() bool) (acknowledged []logbuf.Entry) {
	tb.Helper()
	const writers, group = 4, 25
	var mu sync.Mutex
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := w; !done(); n += writers {
				if q.Stats().Pending > 2000 {
					time.Sleep(time.Millisecond)
					n -= writers
					continue
				}
				entries := logEntries(n*group, (n+1)*group)
				if err := q.Append(tb.Context(), entries...); err != nil {
					tb.Errorf("append: %v", err)
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, entries...)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return acknowledged
}

// Connections are cut at commits, before and after the server has made them:
// nothing that was acknowledged is lost, and nothing is stored twice.
func TestSinkCommitsCut(t *testing.T) {
	t.Parallel()
	for _, durability := range []logbuf.Durability{logbuf.Disk, logbuf.Memory} {
		t.Run(string(durability), func(t *testing.T) {
			t.Parallel()
			cfg := pgtest.Migrated(t)
			direct := pgtest.Connect(t, cfg)
			open(t, direct, nil)
			wire, cfg := newProxy(t, cfg)
			sink := newSink(pgtest.Connect(t, cfg))
			dir := ""
			if durability == logbuf.Disk {
				dir = t.TempDir()
			}
			q := openQueue(t, sink, dir, func(o *logbuf.Options) { o.BatchSize = 60 })

			// Another process does maintenance meanwhile.
			maintained := make(chan error, 1)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go func() {
				var err error
				for other := newSink(direct); ctx.Err() == nil && err == nil; time.Sleep(10 * time.Millisecond) {
					err = tryMaintain(t.Context(), other, logDay.AddDate(0, 0, -1))
				}
				maintained <- err
			}()

			n := scaled(8, 100) * int(cuts) // each way so often
			wire.cutAll(n)
			deadline := time.Now().Add(90 * time.Second)
			acknowledged := appendUntil(t, q, func() bool { return wire.done.Load() >= int64(n) || time.Now().After(deadline) })
			s := flush(t, q)
			stop()
			if err := <-maintained; err != nil {
				t.Errorf("maintain: %v", err)
			}
			if got := wire.done.Load(); got != int64(n) {
				t.Errorf("%d commits were cut; want %d", got, n)
			}
			if s.Accepted != int64(len(acknowledged)) || s.Dead != 0 || s.Damaged != 0 || s.Retries < int64(n) {
				t.Errorf("accepted %d, dead %d, damaged %d, %d retries; want all of %d stored after at least %d",
					s.Accepted, s.Dead, s.Damaged, s.Retries, len(acknowledged), n)
			}
			if s.Duplicate == 0 {
				t.Error("no batch was sent again after its commit; want some")
			}
			wantLedger(t, direct, newSink(direct), acknowledged)
			t.Logf("%d commits cut, %d entries acknowledged, %d told to be duplicates", n, len(acknowledged), s.Duplicate)
		})
	}
}

// A network that goes away at a commit leaves both sides waiting. The write is
// given up, and tried again until the server has given up the old one.
func TestSinkCommitsFrozen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		how  cut
	}{{"before it was sent", freezeUnsent}, {"after it was made", freezeAnswer}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := pgtest.Migrated(t)
			direct := pgtest.Connect(t, cfg)
			open(t, direct, nil)
			wire, cfg := newProxy(t, cfg)
			defer wire.close() // or closing the pool would wait for its connections
			q := openQueue(t, newSink(pgtest.Connect(t, cfg)), t.TempDir(),
				func(o *logbuf.Options) { o.WriteTimeout = time.Second })
			entries := logEntries(0, 300)
			if err := q.Append(t.Context(), entries[:100]...); err != nil {
				t.Fatal(err)
			}
			flush(t, q)
			wire.cutNext(c.how)
			if err := q.Append(t.Context(), entries[100:200]...); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			flush(t, q)
			if took := time.Since(start); took < time.Second || took > 20*time.Second {
				t.Errorf("storing took %v; want it given up after a second, and the server after five", took)
			}
			if err := q.Append(t.Context(), entries[200:]...); err != nil {
				t.Fatal(err)
			}
			flush(t, q)
			if wire.done.Load() != 1 {
				t.Error("no commit was frozen")
			}
			wantLedger(t, direct, newSink(direct), entries)
		})
	}
}

// Folding whose commit's answer is lost is not done twice, and what is undone is
// done again.
func TestFoldCut(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	direct := pgtest.Connect(t, cfg)
	open(t, direct, nil)
	wire, cfg := newProxy(t, cfg)
	sink := newSink(pgtest.Connect(t, cfg))
	failed := 0
	for round := range scaled(6, 30) {
		store(t, newSink(direct), logEntries(round*100, (round+1)*100)...)
		wire.cutNext(cut(round)%cuts, cut(round/3)%cuts)
		for tryMaintain(t.Context(), sink, time.Time{}) != nil {
			failed++
		}
		wantLedger(t, direct, newSink(direct), logEntries(0, (round+1)*100))
	}
	if failed == 0 {
		t.Error("maintenance never failed")
	}
	if pending := count(t, direct, `select count(*) from usage_pending`); pending != 0 {
		t.Errorf("%d rows of usage are pending; want none", pending)
	}
}
