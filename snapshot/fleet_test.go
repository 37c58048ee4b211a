package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// asked counts how often reports are read, and how many.
type asked struct {
	*memstore.Publisher
	times, nodes atomic.Int64
	err          atomic.Pointer[error]
}

func (a *asked) Nodes(ctx context.Context, q snapshot.NodeQuery) (snapshot.NodeList, error) {
	if err := a.err.Load(); err != nil && *err != nil {
		return snapshot.NodeList{}, *err
	}
	a.times.Add(1)
	list, err := a.Publisher.Nodes(ctx, q)
	a.nodes.Add(int64(len(list.Nodes)))
	return list, err
}

// harbour is a fleet whose relay has published once.
type harbour struct {
	*world
	pub   *asked
	relay *snapshot.Relay
	fleet *snapshot.Fleet
	head  snapshot.Head
}

func newHarbour(t *testing.T, keys string) *harbour {
	w := newWorld(t, keys)
	h := &harbour{world: w, pub: &asked{Publisher: w.pub}}
	h.relay = w.newRelayOver(h.pub)
	h.fleet = h.relay.Fleet()
	createKeys(t, w, 3)
	h.head = ok[snapshot.Head](t)(h.relay.Sync(t.Context()))
	return h
}

// report reports as a data plane that serves the head, and is otherwise as change says.
func (h *harbour) report(t *testing.T, id string, change func(*snapshot.Node)) {
	t.Helper()
	n := snapshot.Node{ID: id, Position: h.head.Position, Head: h.head.Sig, Store: h.head.Store, Kinds: snapshot.Kinds()}
	if change != nil {
		change(&n)
	}
	if n.Sig == "" {
		h.keys.SignNode(&n)
	}
	if _, err := h.pub.Report(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

func TestStanding(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(h *harbour, n *snapshot.Node)
		want   snapshot.Standing
	}{
		{"serves it", nil, snapshot.Standing{Applied: 1}},
		{"is before it", func(h *harbour, n *snapshot.Node) { n.Position.Revision-- }, snapshot.Standing{Lagging: 1}},
		{"has loaded nothing", func(h *harbour, n *snapshot.Node) { n.Position, n.Head = snapshot.Position{}, "" },
			snapshot.Standing{Lagging: 1}},
		{"serves something else at the position", func(h *harbour, n *snapshot.Node) { n.Head = "00" },
			snapshot.Standing{Lagging: 1}},
		{"is ahead of all that is published", func(h *harbour, n *snapshot.Node) { n.Position.Epoch++ },
			snapshot.Standing{Lagging: 1}},
		{"serves another catalog", func(h *harbour, n *snapshot.Node) { n.Store = "other" }, snapshot.Standing{Lagging: 1}},
		{"does not know a kind that was touched", func(h *harbour, n *snapshot.Node) { n.Kinds = n.Kinds[:1] },
			snapshot.Standing{Lagging: 1}},
		{"is not signed", func(h *harbour, n *snapshot.Node) { n.Sig = "00" }, snapshot.Standing{Unverified: 1}},
		{"was seen 20 s ago", func(h *harbour, n *snapshot.Node) { n.Age = 20 * time.Second }, snapshot.Standing{Lost: 1}},
		{"was seen 20 s ago, and is not signed",
			func(h *harbour, n *snapshot.Node) { n.Age, n.Sig = 20*time.Second, "00" }, snapshot.Standing{Unverified: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHarbour(t, syncKey)
			h.report(t, "b", func(n *snapshot.Node) {
				if tc.change != nil {
					tc.change(h, n)
				}
			})
			if err := h.fleet.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := h.fleet.Standing(h.head, catalog.KindKey); got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
			nodes, total := h.fleet.Nodes(h.head, 10)
			if len(nodes) != 1 || total != 1 || nodes[0].ID != "b" {
				t.Errorf("nodes %+v", nodes)
			}
		})
	}
}

// A later position counts when it was published, by whomever.
func TestLaterIsApplied(t *testing.T) {
	h := newHarbour(t, syncKey)
	ok[catalog.Key](t)(h.tables.Keys.Create(t.Context(), catalog.Key{Name: "later"}))
	later := ok[snapshot.Head](t)(h.newRelay().Sync(t.Context())) // another control plane
	h.report(t, "b", func(n *snapshot.Node) { n.Position, n.Head = later.Position, later.Sig })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if s, err := h.fleet.Applied(ctx, h.head); err != nil || s.Applied != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestWithoutKeysEveryReportIsBelieved(t *testing.T) {
	h := newHarbour(t, "")
	h.report(t, "b", nil)
	if err := h.fleet.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.fleet.Standing(h.head); got != (snapshot.Standing{Applied: 1}) {
		t.Errorf("%+v", got)
	}
}

// A report that is not signed does not end what a signed one under the same id says.
func TestUnsignedReportsMaskNobody(t *testing.T) {
	h := newHarbour(t, keyA)
	behind := func(n *snapshot.Node) { n.Position.Revision-- }
	standing := func(want snapshot.Standing) {
		t.Helper()
		if err := h.fleet.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := h.fleet.Standing(h.head); got != want {
			t.Errorf("standing %+v, want %+v", got, want)
		}
	}
	h.report(t, "b", behind)
	standing(snapshot.Standing{Lagging: 1})
	for range 2 {
		h.report(t, "b", func(n *snapshot.Node) { n.Sig = "00" })
		standing(snapshot.Standing{Lagging: 1, Unverified: 1})
	}
	if failing := h.fleet.Worst(h.head).Failing; failing != 0 {
		t.Errorf("%d balancers report a problem", failing)
	}
	h.report(t, "b", nil)
	standing(snapshot.Standing{Applied: 1})
}

// A report that somebody takes away hides nobody who goes on: until the next one is due, the node is waited for.
func TestReportsThatVanish(t *testing.T) {
	h := newHarbour(t, syncKey)
	h.report(t, "b", func(n *snapshot.Node) { n.Position.Revision-- })
	refresh := func() snapshot.Standing {
		t.Helper()
		if err := h.fleet.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		return h.fleet.Standing(h.head)
	}
	if got := refresh(); got != (snapshot.Standing{Lagging: 1}) {
		t.Fatalf("%+v", got)
	}
	begun := time.Now()
	h.report(t, "b", func(n *snapshot.Node) { n.Leaving, n.Sig = true, "00" }) // nobody who holds a key has said so
	for time.Since(begun) < 3*time.Second {                                    // longer than until it is noticed
		if got := refresh(); got != (snapshot.Standing{Lagging: 1}) {
			t.Fatalf("after %s: %+v", time.Since(begun), got)
		}
		time.Sleep(50 * time.Millisecond)
	}
	h.report(t, "b", nil)
	if got := refresh(); got != (snapshot.Standing{Applied: 1}) {
		t.Errorf("when it has reported again: %+v", got)
	}
}

// A node that leaves in good order is waited for no longer, one that was killed is.
func TestLeaving(t *testing.T) {
	h := newHarbour(t, syncKey)
	for i := range 3 {
		h.report(t, fmt.Sprint("b", i), func(n *snapshot.Node) { n.Position.Revision-- })
	}
	refresh := func(want snapshot.Standing) {
		t.Helper()
		eventually(t, fmt.Sprintf("%+v", want), 3*time.Second, func() bool {
			return h.fleet.Refresh(t.Context()) == nil && h.fleet.Standing(h.head) == want
		})
	}
	refresh(snapshot.Standing{Lagging: 3})
	h.report(t, "b0", func(n *snapshot.Node) { n.Leaving = true })
	refresh(snapshot.Standing{Lagging: 2})
	h.report(t, "b1", nil)
	h.report(t, "b2", nil)
	refresh(snapshot.Standing{Applied: 2})
}

// crowd is a publisher that has room for a few reports, and gives up the longest unseen.
type crowd struct {
	*memstore.Publisher
	keys    *snapshot.Keys
	room    int
	reports []snapshot.Node // the longest unseen first
}

func (c *crowd) report(id string, change func(*snapshot.Node)) {
	n := snapshot.Node{ID: id, Position: snapshot.Position{Epoch: 1, Revision: 2}, Store: "s"}
	if change != nil {
		change(&n)
	}
	if n.Sig == "" {
		c.keys.SignNode(&n)
	}
	n.SeenAt = time.Now()
	c.reports = slices.DeleteFunc(c.reports, func(other snapshot.Node) bool { return other.ID == id })
	c.reports = append(c.reports, n)
	c.reports = c.reports[max(0, len(c.reports)-c.room):]
}

func (c *crowd) Nodes(_ context.Context, q snapshot.NodeQuery) (snapshot.NodeList, error) {
	l := snapshot.NodeList{Now: time.Now(), Total: len(c.reports)}
	for _, n := range c.reports {
		if !n.SeenAt.Before(q.Since) {
			l.Nodes = append(l.Nodes, n)
		}
	}
	return l, nil
}

// A data plane that starts when there are as many reports as there may be is waited for as any other.
func TestANewNodeFindsRoom(t *testing.T) {
	behind := func(n *snapshot.Node) { n.Position.Revision-- }
	for _, tc := range []struct {
		name  string
		first func(c *crowd) // what is there, which the fleet does not know to be gone
	}{
		{"of one that is lost", func(c *crowd) { c.report("0", nil); time.Sleep(20 * time.Second) }},
		{"of one that is not signed", func(c *crowd) { c.report("0", func(n *snapshot.Node) { n.Sig = "00" }) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &crowd{Publisher: memstore.NewPublisher(), keys: mustKeys(t, keyA), room: 3}
				f := snapshot.NewFleet(c, c.keys)
				f.SetRoom(3)
				head := snapshot.Head{Store: "s", Position: snapshot.Position{Epoch: 1, Revision: 2}}
				standing := func(lagging int, crowded bool) {
					t.Helper()
					if err := f.Refresh(t.Context()); err != nil {
						t.Fatal(err)
					}
					if got := f.Standing(head); got.Lagging != lagging || got.Crowded != crowded {
						t.Errorf("standing %+v, want %d that lag, crowded %t", got, lagging, crowded)
					}
				}
				tc.first(c)
				c.report("1", nil)
				c.report("2", nil)
				if err := f.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				c.report("3", behind)
				standing(1, false)

				// All are live by now: nobody knows who has gone, until all are read anew.
				time.Sleep(time.Second)
				c.report("4", behind)
				standing(2, false)
				time.Sleep(500 * time.Millisecond)
				c.report("5", behind)
				standing(2, true)
				time.Sleep(time.Second)
				standing(3, false)
			})
		})
	}
}

// Fifty that wait cost the publisher as much as one, and whoever follows reads
// what is new alone.
func TestManyWaitAsOne(t *testing.T) {
	h := newHarbour(t, syncKey)
	for i := range 500 {
		h.report(t, fmt.Sprint("b", i), func(n *snapshot.Node) { n.Position.Revision-- })
	}
	if err := h.fleet.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	_ = h.fleet.Refresh(t.Context())
	h.pub.times.Store(0)
	h.pub.nodes.Store(0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			s, err := h.fleet.Applied(ctx, h.head, catalog.KindKey)
			if err != nil || s.Lagging != 500 {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
	wg.Wait()
	if times, nodes := h.pub.times.Load(), h.pub.nodes.Load(); times > 45 || nodes > 500 {
		t.Errorf("reports were read %d times within a second, %d of them", times, nodes)
	}
	for i := range 500 {
		h.report(t, fmt.Sprint("b", i), nil)
	}
	if s, err := h.fleet.Applied(t.Context(), h.head, catalog.KindKey); err != nil || s.Applied != 500 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestFleetSaysThatItCannotRead(t *testing.T) {
	h := newHarbour(t, syncKey)
	broken := errors.New("unplugged")
	h.pub.err.Store(&broken)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := h.fleet.Applied(ctx, h.head); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	stop := running(t, h.relay.Run)
	eventually(t, "the status says it", 20*time.Second, func() bool { return h.relay.Status().FleetError != "" })
	var none error
	h.pub.err.Store(&none)
	eventually(t, "the status says that it is over", 20*time.Second,
		func() bool { return h.relay.Status().FleetError == "" })
	stop()
}

func TestKindsOfARevision(t *testing.T) {
	w, ctx := newWorld(t, syncKey), t.Context()
	ok[snapshot.Head](t)(w.relay.Sync(ctx))
	ok[catalog.Model](t)(w.tables.Models.Create(ctx, catalog.Model{Name: "m"}))
	p := ok[catalog.Provider](t)(w.tables.Providers.Create(ctx,
		catalog.Provider{Name: "p", Type: "openai", Models: []string{"m"}}))
	created := w.at(t).Revision
	ok[catalog.Provider](t)(w.tables.Providers.Edit(ctx, p.ID,
		func(p *catalog.Provider) error { p.Weight = new(7); return nil }))
	weighed := w.at(t).Revision
	ok[catalog.Key](t)(w.tables.Keys.Create(ctx, catalog.Key{Name: "k"}))
	for _, tc := range []struct {
		revision catalog.Revision
		want     string
	}{
		{1, fmt.Sprint(snapshot.Kinds())}, // the new epoch
		{2, "[bindings models]"},
		{created, "[bindings providers]"},
		{weighed, "[providers]"},
		{weighed + 1, "[keys]"},
	} {
		if kinds, err := w.relay.Kinds(ctx, tc.revision); err != nil || fmt.Sprint(kinds) != tc.want {
			t.Errorf("revision %d: %v, %v; want %s", tc.revision, kinds, err, tc.want)
		}
	}
}
