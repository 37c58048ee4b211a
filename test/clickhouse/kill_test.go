//go:build clickhouse

package clickhouse_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/chstore"
	"github.com/ez-api/ez-api/test/clickhouse"
)

// The server is killed again and again while entries are written and hours are closed, and so is,
// as far as it can tell, the process that writes. Nothing that was accepted is lost, and nothing
// counts twice.
func TestKilled(t *testing.T) {
	own, err := clickhouse.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Stop)
	sink, err := chstore.NewSink(own.DSN("killed"), &chstore.SinkOptions{Settle: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	const n, kills = 20_000, 6
	var cost int64
	for i := range n {
		if e := spent(i); e.CostNanoUSD != nil {
			cost += *e.CostNanoUSD
		}
	}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		for range kills {
			time.Sleep(time.Duration(200+rand.IntN(700)) * time.Millisecond)
			own.Kill()
			if err := own.Run(); err != nil {
				t.Error(err)
				return
			}
			maintainBriefly(t.Context(), sink)
		}
	}()
	dir := t.TempDir()
	ended := false
	for sent := 0; !ended; {
		var q *logbuf.Queue
		var err error
		eventually(t, time.Minute, "a write that a kill has cut off lets go of the spool", func() bool {
			q, err = logbuf.Open(sink, &logbuf.Options{
				Dir: dir, BatchSize: 700, FlushInterval: 10 * time.Millisecond, WriteTimeout: 20 * time.Second,
				MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
			})
			return err == nil
		})
		for i := range 5000 {
			if sent > 0 && i%5 == 0 { // one that was sent, in another batch
				if err := q.Append(t.Context(), spent(rand.IntN(sent))); err != nil {
					t.Fatal(err)
				}
			}
			if sent < n {
				if err := q.Append(t.Context(), spent(sent)); err != nil {
					t.Fatal(err)
				}
				sent++
			}
		}
		limit := 300 * time.Millisecond
		if sent == n {
			select {
			case <-killed:
				limit, ended = time.Minute, true
			default:
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		err = q.Close(ctx) // what is not stored by then waits in the spool for the next
		cancel()
		if ended && err != nil {
			t.Fatal(err)
		}
	}
	maintainBriefly(t.Context(), sink)
	page, err := sink.Usage(
		t.Context(),
		logbuf.UsageQuery{Interval: logbuf.Month, Since: day, Until: day.AddDate(0, 0, 11)},
	)
	if err != nil || len(page.Rows) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	if u := page.Rows[0]; u.Requests != n || u.CostNanoUSD != cost {
		t.Errorf("%d requests for %d; want %d for %d", u.Requests, u.CostNanoUSD, n, cost)
	}
	if closed, err := sink.Clock(t.Context()); err != nil {
		t.Errorf("%s, %v", closed, err)
	}
}

// maintainBriefly runs all tasks; the server may be killed meanwhile.
func maintainBriefly(ctx context.Context, s *chstore.Sink) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	logbuf.Maintain(ctx, s, logbuf.MaintenanceOptions{Now: day.AddDate(0, 1, 0)})
}
