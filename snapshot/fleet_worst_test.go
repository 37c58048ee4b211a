package snapshot_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/snapshot"
)

// A data plane that keeps up with commits that go on is behind whenever anybody looks, and never for
// long. One that stands still, or follows something else, is behind for longer and longer, also
// where somebody who cannot sign writes reports under its name.
func TestBehind(t *testing.T) {
	for _, tc := range []struct {
		name  string
		stuck bool
		serve func(n *snapshot.Node, before snapshot.Head)
	}{
		{"keeps up", false, func(n *snapshot.Node, before snapshot.Head) {
			n.Position, n.Head = before.Position, before.Sig
		}},
		{"has it at once", false, nil},
		{"stands still", true, func(n *snapshot.Node, _ snapshot.Head) { n.Position.Revision, n.Head = 1, "" }},
		{"serves another catalog", true, func(n *snapshot.Node, _ snapshot.Head) { n.Store = "other" }},
		{"serves something else at each position", true, func(n *snapshot.Node, _ snapshot.Head) { n.Head = "00" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarbour(t, syncKey)
				worst := func() snapshot.Worst {
					t.Helper()
					if err := h.fleet.Refresh(t.Context()); err != nil {
						t.Fatal(err)
					}
					return h.fleet.Worst(h.head)
				}
				const looks, every = 30, 4 * time.Second
				for i := range looks {
					before := h.head
					createKeys(t, h.world, 1)
					h.head = ok[snapshot.Head](t)(h.relay.Sync(t.Context()))
					h.report(t, "b", func(n *snapshot.Node) {
						if tc.serve != nil {
							tc.serve(n, before)
						}
					})
					w := worst()
					if tc.name == "keeps up" && w.Lag == 0 {
						t.Fatal("it is not behind: the test says nothing")
					}
					want := time.Duration(0)
					if tc.stuck {
						want = time.Duration(i) * every
					}
					if w.Behind < want || w.Behind > want+every {
						t.Fatalf("look %d: behind for %v; want %v", i, w.Behind, want)
					}
					if tc.stuck && i == looks/2 {
						h.report(t, "b", func(n *snapshot.Node) { n.Sig = "00" })
						worst()
					}
					time.Sleep(every)
				}
				h.report(t, "b", nil)
				if w := worst(); w.Behind != 0 {
					t.Errorf("it has all, and is behind for %v", w.Behind)
				}
			})
		})
	}
}
