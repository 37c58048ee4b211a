package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

func mustReport(t testing.TB, r snapshot.Reporter, n snapshot.Node) snapshot.Answer {
	t.Helper()
	answer, err := r.Report(t.Context(), n)
	if err != nil {
		t.Fatalf("Report of %s: %v", n.ID, err)
	}
	return answer
}

func mustNodes(t testing.TB, p snapshot.Publisher, q snapshot.NodeQuery) snapshot.NodeList {
	t.Helper()
	list, err := p.Nodes(t.Context(), q)
	if err != nil {
		t.Fatalf("Nodes: %v", err)
	}
	return list
}

func nodeIDs(list snapshot.NodeList) (ids []string) {
	for _, n := range list.Nodes {
		ids = append(ids, n.ID)
	}
	return ids
}

func sameIDs(t testing.TB, what string, list snapshot.NodeList, want ...string) {
	t.Helper()
	if got := nodeIDs(list); !slices.Equal(got, want) {
		t.Fatalf("%s: got nodes %v, want %v", what, got, want)
	}
}

// testNodes carries every field of a report, and its signature.
func testNodes(t testing.TB, h PublisherHarness) {
	keys, err := snapshot.NewKeys(catalog.NamedKey{ID: "s1", Key: [32]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	full := snapshot.Node{
		ID: "host 1-é-" + strings.Repeat(
			"x",
			100,
		), Position: at(10, 1<<60), Head: strings.Repeat("ab", 32), Version: `v1.2 "3" \`,
		Error: "cannot read {\"a\":[1]}\nthe rest", Kinds: []catalog.Kind{"keys", "gizmos"}, Store: storeID,
		SeenAt: time.Unix(1, 0), // is the engine's to say
	}
	keys.SignNode(&full)
	for _, n := range []snapshot.Node{full, {ID: "bare"}} {
		mustReport(t, h.Publisher, n)
	}
	list := mustNodes(t, h.Second, snapshot.NodeQuery{})
	sameIDs(t, "two reports", list, full.ID, "bare")
	got := list.Nodes[0]
	if err := keys.VerifyNode(got); err != nil {
		t.Errorf("a report that comes back: %v", err)
	}
	full.SeenAt = got.SeenAt
	if !got.Equal(full) || !slices.Equal(got.Kinds, []catalog.Kind{"gizmos", "keys"}) {
		t.Errorf("a report came back as %+v, want %+v", got, full)
	}
	if err := keys.VerifyNode(list.Nodes[1]); !errors.Is(err, snapshot.ErrUnsigned) {
		t.Errorf("a report without a signature: %v", err)
	}
	if list.Total != 2 || list.Crowded {
		t.Errorf("Nodes: total %d, crowded %t", list.Total, list.Crowded)
	}
	for _, n := range list.Nodes {
		if since := time.Since(n.SeenAt); since < -patience || since > patience {
			t.Errorf("%s was seen %s ago", n.ID, since)
		}
		if n.SeenAt.After(list.Now) || list.Now.Sub(n.SeenAt) > patience {
			t.Errorf("%s was seen at %s, it is %s", n.ID, n.SeenAt, list.Now)
		}
	}

	// The last report counts, and who leaves is gone.
	mustReport(t, h.Second, snapshot.Node{ID: full.ID, Position: at(11, 2)})
	list = mustNodes(t, h.Publisher, snapshot.NodeQuery{})
	sameIDs(t, "a second report", list, "bare", full.ID)
	if n := list.Nodes[1]; n.Position != at(11, 2) || n.Error != "" || n.Sig != "" {
		t.Errorf("the second report came back as %+v", n)
	}
	mustReport(t, h.Publisher, snapshot.Node{ID: "bare", Leaving: true})
	mustReport(t, h.Publisher, snapshot.Node{ID: "never was", Leaving: true})
	list = mustNodes(t, h.Second, snapshot.NodeQuery{})
	sameIDs(t, "after one has left", list, full.ID)
	if n := len(list.Left); n != 2 || list.Left[0].ID != "bare" || !list.Left[0].Leaving {
		t.Errorf("%d nodes have left: %+v", n, list.Left)
	}
	mustReport(t, h.Publisher, snapshot.Node{ID: "bare"})
	sameIDs(t, "after it came again", mustNodes(t, h.Second, snapshot.NodeQuery{}), full.ID, "bare")
}

// testNodesAnswer: a report is answered with what is published, the beat, and how many nodes live.
func testNodesAnswer(t testing.TB, h PublisherHarness) {
	a := mustReport(t, h.Publisher, snapshot.Node{ID: "a"})
	if a.Head != (snapshot.Base{}) || !a.Beat.Equal(snapshot.Beat{}) || a.Live != 1 {
		t.Fatalf("an answer before anything was published: %+v", a)
	}
	l := published(t, h)
	over := l.base()
	l.head.Sig = strings.Repeat("5e", 32)
	mustApply(t, h.Publisher, over, l.next())
	beat := snapshot.Beat{
		Store:    storeID,
		Position: l.head.Position,
		At:       time.Unix(1_790_000_000, 123456000).UTC(),
	}
	if err := h.Publisher.SetBeat(t.Context(), beat); err != nil {
		t.Fatalf("SetBeat: %v", err)
	}
	for i := range 3 {
		a = mustReport(t, h.Second, snapshot.Node{ID: fmt.Sprint("more-", i)})
	}
	if a.Head != l.base() || !a.Beat.Equal(beat) || a.Live != 4 {
		t.Fatalf("an answer: %+v, want head %+v, beat %+v and 4 live nodes", a, l.base(), beat)
	}
	if a = mustReport(t, h.Second, snapshot.Node{ID: "more-1", Leaving: true}); a.Live != 3 {
		t.Fatalf("the answer to one who leaves: %d live nodes, want 3", a.Live)
	}
	if h.Age != nil {
		h.Age(t, snapshot.Liveness+time.Second)
		if a = mustReport(t, h.Second, snapshot.Node{ID: "late"}); a.Live != 1 {
			t.Fatalf("the answer to the only one who reports: %d live nodes, want 1", a.Live)
		}
	}
}

func testNodesQuery(t testing.TB, h PublisherHarness) {
	for i := range 10 {
		mustReport(t, h.Publisher, snapshot.Node{ID: fmt.Sprint("node-", i)})
		time.Sleep(2 * time.Millisecond) // so that no two share a microsecond
	}
	all := mustNodes(t, h.Second, snapshot.NodeQuery{})
	if len(all.Nodes) != 10 ||
		!slices.IsSortedFunc(all.Nodes, func(a, b snapshot.Node) int { return a.SeenAt.Compare(b.SeenAt) }) {
		t.Fatalf("Nodes: %v", nodeIDs(all))
	}
	for i, n := range all.Nodes {
		list := mustNodes(t, h.Second, snapshot.NodeQuery{Since: n.SeenAt})
		sameIDs(t, "since when one came", list, nodeIDs(all)[i:]...)
		if list.Total != 10 {
			t.Fatalf("Nodes: a total of %d", list.Total)
		}
	}
	sameIDs(t, "the latest three", mustNodes(t, h.Second, snapshot.NodeQuery{Limit: 3}), nodeIDs(all)[7:]...)
	sameIDs(
		t,
		"the latest two since the fifth",
		mustNodes(t, h.Second, snapshot.NodeQuery{Since: all.Nodes[4].SeenAt, Limit: 2}),
		nodeIDs(all)[8:]...)
	sameIDs(t, "since a time to come", mustNodes(t, h.Second, snapshot.NodeQuery{Since: all.Now.Add(time.Hour)}))

	// Whoever asks for what came since the last time misses nothing.
	since := mustNodes(t, h.Second, snapshot.NodeQuery{}).Now
	mustReport(t, h.Publisher, snapshot.Node{ID: "node-3"})
	list := mustNodes(t, h.Second, snapshot.NodeQuery{Since: since})
	if !slices.Contains(nodeIDs(list), "node-3") || len(list.Nodes) > 2 {
		t.Fatalf("Nodes since the last time: %v, want node-3", nodeIDs(list))
	}
}

// testNodesPassedOn: what a mirror passes on was seen earlier than it comes, and is no older
// than what is known.
func testNodesPassedOn(t testing.TB, h PublisherHarness) {
	since := mustNodes(t, h.Publisher, snapshot.NodeQuery{}).Now
	mustReport(t, h.Publisher, snapshot.Node{ID: "direct"})
	mustReport(t, h.Publisher, snapshot.Node{ID: "far", Position: at(10, 5), Age: 5 * time.Second})
	list := mustNodes(t, h.Second, snapshot.NodeQuery{Since: since})
	sameIDs(t, "what came since", list, "far", "direct")
	if age := list.Now.Sub(list.Nodes[0].SeenAt); age < 5*time.Second || age > 5*time.Second+patience {
		t.Fatalf("a report of an age of 5s was seen %s ago", age)
	}
	mustReport(t, h.Publisher, snapshot.Node{ID: "far", Position: at(10, 4), Age: time.Minute})
	mustReport(t, h.Publisher, snapshot.Node{ID: "far", Leaving: true, Age: time.Minute})
	if n := mustNodes(t, h.Second, snapshot.NodeQuery{}).Nodes[0]; n.ID != "far" || n.Position != at(10, 5) {
		t.Fatalf("an older report took the place of a newer one: %+v", n)
	}
	mustReport(t, h.Publisher, snapshot.Node{ID: "far", Position: at(10, 6), Age: -time.Hour})
	for _, n := range mustNodes(t, h.Second, snapshot.NodeQuery{}).Nodes {
		if n.SeenAt.After(list.Now.Add(patience)) || n.ID == "far" && n.Position != at(10, 6) {
			t.Fatalf("a report from the future: %+v", n)
		}
	}
}

func testNodesRefused(t testing.TB, h PublisherHarness) {
	for name, n := range map[string]snapshot.Node{
		"without an id":           {},
		"with a long id":          {ID: strings.Repeat("i", 201)},
		"with a kind that is not": {ID: "n", Kinds: []catalog.Kind{"head"}},
		"before all time":         {ID: "n", Position: at(-1, 0)},
	} {
		_, err := h.Publisher.Report(t.Context(), n)
		mustFail(t, "Report "+name, err, catalog.ErrInvalid)
	}
	sameIDs(t, "after reports that were refused", mustNodes(t, h.Publisher, snapshot.NodeQuery{}))
	// What is too long, or cannot be signed, is cut and replaced.
	mustReport(
		t,
		h.Publisher,
		snapshot.Node{ID: "n", Error: strings.Repeat("é", 5000) + "\x00", Version: "\xff\n"},
	)
	n := mustNodes(t, h.Publisher, snapshot.NodeQuery{}).Nodes[0]
	if len(n.Error) > 1024 || !strings.HasPrefix(n.Error, "éé") || n.Version != "\ufffd " {
		t.Errorf("texts came back as %q and %q", n.Error, n.Version)
	}
}

func testNodesForgotten(t testing.TB, h PublisherHarness) {
	if h.Age == nil {
		t.Log("the reports of this engine cannot be made older")
		return
	}
	mustReport(t, h.Publisher, snapshot.Node{ID: "old"})
	h.Age(t, snapshot.Remembered-time.Hour)
	mustReport(t, h.Publisher, snapshot.Node{ID: "new"})
	list := mustNodes(t, h.Publisher, snapshot.NodeQuery{})
	sameIDs(t, "within a day", list, "old", "new")
	if age := list.Now.Sub(list.Nodes[0].SeenAt); age < snapshot.Remembered-time.Hour {
		t.Fatalf("what was aged was seen %s ago", age)
	}
	h.Age(t, 2*time.Hour)
	list = mustNodes(t, h.Second, snapshot.NodeQuery{})
	if diff := differ([]string{"new"}, nodeIDs(list)); diff != "" || list.Total != 1 {
		t.Fatalf("after a day (-want +got):\n%s, total %d", diff, list.Total)
	}
}
