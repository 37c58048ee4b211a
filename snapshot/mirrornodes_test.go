package snapshot_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// eachSource runs a test with a mirror whose source takes many reports in a call, and with one whose source
// takes one, for which batch is false.
func eachSource(t *testing.T, test func(t *testing.T, r *regions, batch bool)) {
	for name, batch := range map[string]bool{"many in a call": true, "one by one": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegions(t)
				var src snapshot.Source = r.stage
				if !batch {
					src = struct{ snapshot.Source }{r.stage}
				}
				r.mirror = snapshot.NewMirror(src, r.region, &snapshot.MirrorOptions{Logger: quiet()})
				t.Cleanup(running(t, r.mirror.Run))
				time.Sleep(2 * time.Second)
				test(t, r, batch)
			})
		})
	}
}

// report makes n data planes report in the region, or leave.
func (r *regions) report(n int, leaving bool) {
	r.t.Helper()
	for i := range n {
		if _, err := r.region.Report(r.t.Context(),
			snapshot.Node{ID: fmt.Sprint("node-", i), Leaving: leaving}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// calls returns how many calls carried reports to the source since it was last asked.
func (r *regions) calls(batch bool) int {
	r.t.Helper()
	many, one := r.called("ReportAll"), r.called("Report")
	if batch && one > 0 || !batch && many > 0 {
		r.t.Errorf("%d calls carried many reports, and %d one", many, one)
	}
	return many + one
}

// Thousands of reports take few calls where the source takes many in one, and keep their age.
func TestMirrorPassesManyReports(t *testing.T) {
	eachSource(t, func(t *testing.T, r *regions, batch bool) {
		const n = 4200 // more than after one look
		for range 2 {  // the second time they are known
			r.report(n, false)
			seen := time.Now()
			time.Sleep(5 * time.Second)
			want := n
			if batch {
				want = n / 100
			}
			if calls := r.calls(batch); calls != want {
				t.Errorf("%d reports took %d calls, want %d", n, calls, want)
			}
			list := nodes(t, r.Publisher)
			if len(list) != n {
				t.Fatalf("the origin has %d reports, want %d", len(list), n)
			}
			for _, n := range list {
				if late := n.SeenAt.Sub(seen).Abs(); late > time.Millisecond {
					t.Fatalf("%s was seen at %s, the origin says %s", n.ID, seen, n.SeenAt)
				}
			}
		}
		if s := r.mirror.Status(); s.Reports != 2*n || s.Nodes != n || s.ReportError != "" {
			t.Errorf("the mirror: %+v", s)
		}
		r.report(n, true)
		time.Sleep(5 * time.Second)
		if list := nodes(t, r.Publisher); len(list) > 0 {
			t.Errorf("the origin has %d reports after all have left", len(list))
		}
		if calls := r.calls(batch); batch && calls > n/100 {
			t.Errorf("that all have left took %d calls", calls)
		}
	})
}

// A report that the source refuses keeps out no other, and is not sent again; one that does not arrive is.
func TestMirrorPassesOthersOn(t *testing.T) {
	eachSource(t, func(t *testing.T, r *regions, batch bool) {
		const n = 1000
		is := func(node snapshot.Node, numbers ...int) bool {
			for _, i := range numbers {
				if node.ID == fmt.Sprint("node-", i) {
					return true
				}
			}
			return false
		}
		fails := true
		r.set(func() {
			r.refuse = func(node snapshot.Node) error {
				switch {
				case is(node, 0, 555):
					return fmt.Errorf("refused: %w", catalog.ErrInvalid)
				case is(node, 1, 556) && fails:
					return errors.New("the connection is cut")
				}
				return nil
			}
		})
		r.report(n, false)
		time.Sleep(6 * time.Second)
		if list := nodes(t, r.Publisher); len(list) != n-4 {
			t.Errorf("the origin has %d reports, want %d", len(list), n-4)
		}
		if s := r.mirror.Status(); !strings.Contains(s.ReportError, "the connection is cut") {
			t.Errorf("the mirror: %+v", s)
		}
		r.set(func() { fails = false })
		time.Sleep(2 * time.Second)
		if list := nodes(t, r.Publisher); len(list) != n-2 {
			t.Errorf("the origin has %d reports, want %d", len(list), n-2)
		}
		if s := r.mirror.Status(); s.ReportError != "" || s.Reports != n {
			t.Errorf("the mirror: %+v", s)
		}
		sent := map[string]int{}
		for _, node := range r.reports() {
			sent[node.ID]++
			if again := is(node, 1, 556); sent[node.ID] > 1 && !again {
				t.Errorf("%s was sent %d times", node.ID, sent[node.ID])
			}
		}
		if sent["node-1"] < 5 || sent["node-556"] < 5 {
			t.Errorf("what did not arrive was sent %d and %d times", sent["node-1"], sent["node-556"])
		}

		// That one leaves can be refused, too.
		r.report(n, true)
		time.Sleep(3 * time.Second)
		if list := nodes(t, r.Publisher); len(list) > 0 {
			t.Errorf("the origin has %d reports after all have left", len(list))
		}
		if s := r.mirror.Status(); s.ReportError != "" || s.Nodes != 0 {
			t.Errorf("the mirror: %+v", s)
		}
	})
}
