package snapshot_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// TestWatcherPassesOverStrays: what somebody has put after the published head, and what leads nowhere, costs a source
// that nobody clears up no more than a few calls a second, is told once, and is no fault of the node.
func TestWatcherPassesOverStrays(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		var log bytes.Buffer
		w := watch(t, s, snapshot.WatcherOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		<-w.Ready()
		forged := s.snap(1, 1, "first").next(keyPut(t, "forged"))
		fields := forged.Head.Fields()
		fields["sig"] = strings.Repeat("0", 64)
		var err error
		if forged.Head, err = snapshot.ParseHead(fields); err != nil {
			t.Fatal(err)
		}
		s.Tamper(func(c *memstore.Contents) { c.Deltas = append(c.Deltas, forged) })
		time.Sleep(10 * time.Second)
		s.called("Next")
		s.called("Load")
		s.reports()
		log.Reset()
		const long = 5 * time.Minute
		time.Sleep(long)
		synctest.Wait()
		serves(t, w, "first")
		if calls := s.called("Next") + s.called("Load"); calls > 5*int(long/time.Second) {
			t.Errorf("%d calls in %s", calls, long)
		}
		if lines := bytes.Count(log.Bytes(), []byte("\n")); lines > 2 {
			t.Errorf("%d lines of log:\n%.1000s", lines, log.Bytes())
		}
		for _, n := range s.reports() {
			if n.Error != "" {
				t.Fatalf("reported %q, though what is published is served", n.Error)
			}
		}
		s.delta("next")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		serves(t, w, "first", "next")
		if got := w.Status(); got.Error != "" || got.Phase != snapshot.PhaseFollowing {
			t.Errorf("status %+v", got)
		}
	})
}
