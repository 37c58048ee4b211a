package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// reportAll reports many at once, and returns as many errors.
func reportAll(t testing.TB, r snapshot.BatchReporter, nodes ...snapshot.Node) []error {
	t.Helper()
	errs := r.ReportAll(t.Context(), nodes)
	if len(errs) != len(nodes) {
		t.Fatalf("ReportAll of %d reports returned %d errors", len(nodes), len(errs))
	}
	return errs
}

func mustReportAll(t testing.TB, r snapshot.BatchReporter, nodes ...snapshot.Node) {
	t.Helper()
	if err := errors.Join(reportAll(t, r, nodes...)...); err != nil {
		t.Fatalf("ReportAll: %v", err)
	}
}

// batchReporter returns a publisher as a [snapshot.BatchReporter].
func batchReporter(t testing.TB, p snapshot.Publisher) (snapshot.BatchReporter, bool) {
	r, ok := p.(snapshot.BatchReporter)
	if !ok {
		t.Log("this publisher takes reports one by one only")
	}
	return r, ok
}

// testBatch records many reports at once, large ones among them, each as it was given.
func testBatch(t testing.TB, h PublisherHarness) {
	r, ok := batchReporter(t, h.Publisher)
	if !ok {
		return
	}
	mustReportAll(t, r)
	want := map[string]snapshot.Node{}
	var nodes []snapshot.Node
	for i := range 1234 {
		n := snapshot.Node{ID: fmt.Sprintf("node-%d-é", i), Position: at(10, catalog.Revision(i)), Version: "v1"}
		if i%3 == 0 {
			n.Error = strings.Repeat(`"`, 1024)
		}
		want[n.ID] = n
		nodes = append(nodes, n)
	}
	mustReportAll(t, r, nodes...)
	list := mustNodes(t, h.Second, snapshot.NodeQuery{})
	if list.Total != len(nodes) || len(list.Nodes) != len(nodes) {
		t.Fatalf("of %d reports that came at once %d are kept, and %d are counted",
			len(nodes), len(list.Nodes), list.Total)
	}
	for _, n := range list.Nodes {
		w := want[n.ID]
		w.SeenAt = n.SeenAt
		if !n.Equal(w) {
			t.Fatalf("a report came back as %+v, want %+v", n, w)
		}
		if age := list.Now.Sub(n.SeenAt); age < 0 || age > patience {
			t.Fatalf("%s was seen %s ago", n.ID, age)
		}
	}

	// Those that leave take their reports away, and say so.
	mustReportAll(t, r, snapshot.Node{ID: nodes[0].ID, Leaving: true}, snapshot.Node{ID: "stays"},
		snapshot.Node{ID: nodes[1].ID, Leaving: true})
	list = mustNodes(t, h.Second, snapshot.NodeQuery{})
	if ids := nodeIDs(list); list.Total != len(nodes)-1 || !slices.Contains(ids, "stays") ||
		slices.Contains(ids, nodes[0].ID) || slices.Contains(ids, nodes[1].ID) {
		t.Errorf("after two have left and one has come there are %d reports", list.Total)
	}
	var left []string
	for _, n := range list.Left {
		left = append(left, n.ID)
	}
	if !slices.Equal(left, []string{nodes[0].ID, nodes[1].ID}) {
		t.Errorf("the nodes that have left are %v", left)
	}
}

// testBatchPassedOn: each report of many was seen when it says, and is not taken where a newer one is kept.
func testBatchPassedOn(t testing.TB, h PublisherHarness) {
	r, ok := batchReporter(t, h.Publisher)
	if !ok {
		return
	}
	mustReportAll(t, r,
		snapshot.Node{ID: "9s", Position: at(10, 5), Age: 9 * time.Second},
		snapshot.Node{ID: "6s", Position: at(10, 5), Age: 6 * time.Second},
		snapshot.Node{ID: "now", Position: at(10, 5)})
	list := mustNodes(t, h.Second, snapshot.NodeQuery{})
	sameIDs(t, "reports of some age", list, "9s", "6s", "now")
	for i, age := range []time.Duration{9 * time.Second, 6 * time.Second, 0} {
		if got := list.Now.Sub(list.Nodes[i].SeenAt); got < age || got > age+patience {
			t.Errorf("%s was seen %s ago", list.Nodes[i].ID, got)
		}
	}
	// The older ones change nothing, whether what is newer came before or comes in the same call.
	mustReportAll(t, r,
		snapshot.Node{ID: "9s", Position: at(10, 4), Age: time.Minute},
		snapshot.Node{ID: "6s", Leaving: true, Age: time.Minute},
		snapshot.Node{ID: "now", Position: at(10, 6), Age: -time.Hour},
		snapshot.Node{ID: "twice", Position: at(10, 6), Age: time.Second},
		snapshot.Node{ID: "twice", Position: at(10, 4), Age: time.Minute})
	list = mustNodes(t, h.Second, snapshot.NodeQuery{})
	if len(list.Nodes) != 4 || len(list.Left) > 0 {
		t.Fatalf("Nodes: %v, and %d have left", nodeIDs(list), len(list.Left))
	}
	for _, n := range list.Nodes {
		want := at(10, 5)
		if n.ID == "now" || n.ID == "twice" {
			want = at(10, 6)
		}
		if n.Position != want || n.SeenAt.After(list.Now.Add(patience)) {
			t.Errorf("after older reports: %+v", n)
		}
	}
	// A newer one is taken, also where it is older than when the one before came.
	mustReportAll(t, r,
		snapshot.Node{ID: "9s", Position: at(10, 7), Age: 5 * time.Second},
		snapshot.Node{ID: "6s", Position: at(10, 7), Age: 5 * time.Second})
	for _, n := range mustNodes(t, h.Second, snapshot.NodeQuery{}).Nodes {
		if strings.HasSuffix(n.ID, "s") && n.Position != at(10, 7) {
			t.Errorf("after newer reports: %+v", n)
		}
	}
}

// testBatchRefused: reports that are refused keep no others out.
func testBatchRefused(t testing.TB, h PublisherHarness) {
	r, ok := batchReporter(t, h.Publisher)
	if !ok {
		return
	}
	bad := []snapshot.Node{
		{}, {ID: strings.Repeat("i", 201)},
		{ID: "n", Kinds: []catalog.Kind{"head"}}, {ID: "n", Position: at(-1, 0)},
	}
	var nodes []snapshot.Node
	for i, n := range bad {
		nodes = append(nodes, n, snapshot.Node{ID: fmt.Sprint("good-", i)})
	}
	nodes = append(nodes, snapshot.Node{})
	for i, err := range reportAll(t, r, nodes...) {
		if refused := i%2 == 0; refused != errors.Is(err, catalog.ErrInvalid) || !refused && err != nil {
			t.Errorf("ReportAll: error %d, of %q, is %v", i, nodes[i].ID, err)
		}
	}
	list := mustNodes(t, h.Second, snapshot.NodeQuery{})
	ids := slices.Sorted(slices.Values(nodeIDs(list)))
	if !slices.Equal(ids, []string{"good-0", "good-1", "good-2", "good-3"}) {
		t.Errorf("beside reports that were refused, those of %v were taken", ids)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	late := []snapshot.Node{{ID: "late"}, {ID: "later"}}
	errs := r.ReportAll(ended, late)
	if len(errs) != len(late) {
		t.Fatalf("ReportAll of %d reports returned %d errors", len(late), len(errs))
	}
	for _, err := range errs {
		mustFail(t, "ReportAll after its context has ended", err, context.Canceled)
	}
	if n := mustNodes(t, h.Second, snapshot.NodeQuery{}).Total; n != len(bad) {
		t.Errorf("%d reports are kept, want %d", n, len(bad))
	}
}
