package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// follows checks what a write's headers say of how far it came.
func (a answer) follows(t testing.TB, sync, nodes string) {
	t.Helper()
	type headers struct{ Sync, Nodes string }
	if diff := cmp.Diff(headers{sync, nodes},
		headers{a.Header.Get("EZ-Sync"), a.Header.Get("EZ-Sync-Nodes")}); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

// Every write takes wait, and is answered as it is without.
func TestWaitOnEveryWrite(t *testing.T) {
	for _, wait := range []string{"", "?wait=published", "?wait=applied", "?wait=applied&timeout=0s"} {
		t.Run(wait, func(t *testing.T) {
			s := newService(t, ezapi.Config{}, nil)
			for _, w := range []struct {
				method, path string
				body         any
				status       int
				field        string // is in the body
			}{
				{"POST", "/models", object{"name": "m"}, http.StatusCreated, "name"},
				{"POST", "/providers", object{"name": "p", "type": "openai"}, http.StatusCreated, "name"},
				{"POST", "/bindings", object{"model": "m"}, http.StatusCreated, "model"},
				{"POST", "/keys", object{"name": "k"}, http.StatusCreated, "token"},
				{"PATCH", "/models/1", object{"context_window": 5}, http.StatusOK, "name"},
				{"PATCH", "/providers/2", object{"weight": 5}, http.StatusOK, "name"},
				{"PATCH", "/bindings/3", object{"weight": 5}, http.StatusOK, "model"},
				{"PATCH", "/keys/4", object{"rpm_limit": 5}, http.StatusOK, "name"},
				{"PATCH", "/keys/4", object{"rpm_limit": 5}, http.StatusOK, "name"}, // changes nothing
				{"POST", "/keys/4/rotate", nil, http.StatusOK, "token"},
				{"POST", "/sync/snapshot", nil, http.StatusOK, "position"},
				{"DELETE", "/keys/4", nil, http.StatusNoContent, ""},
				{"DELETE", "/bindings/3", nil, http.StatusNoContent, ""},
				{"DELETE", "/providers/2", nil, http.StatusNoContent, ""},
				{"DELETE", "/models/1", nil, http.StatusNoContent, ""},
			} {
				a := s.must(w.status, admin, w.method, w.path+wait, w.body)
				if w.field != "" && a.object(t)[w.field] == nil {
					t.Errorf("%s %s: no %s in %s", w.method, w.path, w.field, a.body)
				}
				switch wait {
				case "":
					a.follows(t, "", "")
				case "?wait=published":
					a.follows(t, "published", "")
				case "?wait=applied":
					a.follows(t, "published", "applied=0 lagging=0 lost=0")
				default: // no time at all
					a.follows(t, "pending", "")
				}
			}
		})
	}
}

// Balancers that were heard of are waited for; those that have gone for 15 s are not.
func TestWaitApplied(t *testing.T) {
	const current, behind = true, false
	type node struct {
		name    string
		has     bool // what is published; else what was before
		ago     time.Duration
		catches time.Duration // comes along after so long
	}
	for _, tc := range []struct {
		name  string
		nodes []node
		sync  string
		tally string
		took  time.Duration
	}{
		{"nobody", nil, "published", "applied=0 lagging=0 lost=0", 0},
		{"one that has it", []node{{"a", current, 0, 0}}, "applied", "applied=1 lagging=0 lost=0", 0},
		{"one that comes along", []node{{"a", behind, 0, 3 * time.Second}}, "applied", "applied=1 lagging=0 lost=0",
			3 * time.Second},
		{"all have to", []node{{"a", behind, 0, time.Second}, {"b", behind, 0, 4 * time.Second}, {"c", current, 0, 0}},
			"applied", "applied=3 lagging=0 lost=0", 4 * time.Second},
		{"one that does not", []node{{"a", current, 0, 0}, {"b", behind, 0, time.Minute}}, "pending",
			"applied=1 lagging=1 lost=0", 10 * time.Second},
		{"one killed a moment ago", []node{{"a", current, 0, 0}, {"b", behind, 2 * time.Second, 0}}, "pending",
			"applied=1 lagging=1 lost=0", 10 * time.Second},
		{"one killed less than 15 s ago", []node{{"a", current, 0, 0}, {"b", behind, 12 * time.Second, 0}}, "applied",
			"applied=1 lagging=0 lost=1", 3 * time.Second},
		{"one killed 15 s ago", []node{{"a", behind, 15 * time.Second, 0}}, "published", "applied=0 lagging=0 lost=1", 0},
		{"one lost, one live", []node{{"a", behind, time.Hour, 0}, {"b", behind, 0, time.Second}}, "applied",
			"applied=1 lagging=0 lost=1", time.Second},
		{"one lost almost a day", []node{{"a", current, 24*time.Hour - time.Second, 0}}, "published",
			"applied=0 lagging=0 lost=1", 0},
		{"one lost for a day", []node{{"a", behind, 24*time.Hour + time.Second, 0}}, "published",
			"applied=0 lagging=0 lost=0", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newService(t, ezapi.Config{}, nil)
				s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "before"})
				s.sync()
				before, err := s.plane.Publisher().Head(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				after := snapshot.Position{Epoch: before.Position.Epoch, Revision: before.Position.Revision + 1}
				report := func(name string, at snapshot.Position) {
					n := snapshot.Node{ID: name, Position: at, Store: before.Store, Kinds: snapshot.Kinds()}
					if _, err := s.plane.Publisher().Report(context.Background(), n); err != nil {
						t.Error(err)
					}
				}
				longest := time.Duration(0)
				for _, n := range tc.nodes {
					longest = max(longest, n.ago)
				}
				var reports sync.WaitGroup
				defer reports.Wait()
				for _, n := range tc.nodes {
					at := before.Position
					if n.has == current {
						at = after
					}
					reports.Go(func() {
						time.Sleep(longest - n.ago)
						report(n.name, at)
						if n.catches > 0 {
							time.Sleep(n.ago + n.catches)
							report(n.name, after)
						}
					})
				}
				time.Sleep(longest)
				synctest.Wait()

				start := time.Now()
				a := s.must(http.StatusCreated, admin, "POST", "/models?wait=applied", object{"name": "after"})
				want := max(tc.took, 750*time.Millisecond) // until every control plane's prices are the new ones
				if took := time.Since(start); took < want || took > want+100*time.Millisecond {
					t.Errorf("it took %v, want %v", took, want)
				}
				a.follows(t, tc.sync, tc.tally)
				shows(t, a.object(t), object{"name": "after", "revision": float64(after.Revision)})
			})
		})
	}
}

// deafStore never tells that there is something new, like a store that lost its notifications.
type deafStore struct{ catalog.Store }

func (deafStore) Wait(ctx context.Context, _ catalog.Revision) (catalog.Revision, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// A price, or a project of a key, that was answered as applied by one server is what another one charges from then
// on, and an operator who is gone is out of there, also
// where that hears of no changes.
func TestAppliedPricesCountOnEveryServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, keeper := memstore.New(nil), catalog.NewRandomKeyRing()
		sink := memstore.NewSink(nil)
		first := newService(t, ezapi.Config{Catalog: store, Keeper: keeper}, nil)
		second := newService(t, ezapi.Config{Catalog: deafStore{store}, Keeper: keeper, LogSink: sink}, nil)
		first.must(http.StatusCreated, admin, "POST", "/models", object{"name": "m", "input_price": "1"})
		first.sync()
		ctx, stop := context.WithCancel(t.Context())
		var watching sync.WaitGroup
		defer watching.Wait()
		defer stop()
		watching.Go(func() { _ = snapshot.NewWatcher(first.plane.Publisher(), nil).Run(ctx) })
		for price := 2; price < 12; price++ {
			first.must(http.StatusOK, admin, "PATCH", "/models/1?wait=applied", object{"input_price": strconv.Itoa(price)}).
				follows(t, "applied", "applied=1 lagging=0 lost=0")
			entry := object{"model": "m", "input_tokens": 1_000_000, "request_id": strconv.Itoa(price)}
			second.must(http.StatusAccepted, admin, "POST", "/logs", entry)
			if err := second.plane.Logs().Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			page, err := sink.Logs(t.Context(), logbuf.LogQuery{RequestID: strconv.Itoa(price)})
			if err != nil || len(page.Entries) != 1 {
				t.Fatalf("%d entries, %v", len(page.Entries), err)
			}
			if e := page.Entries[0]; e.CostNanoUSD == nil || *e.CostNanoUSD != int64(price)*1_000_000_000 {
				t.Errorf("after price %d was applied an entry costs %v", price, e.CostNanoUSD)
			}
			time.Sleep(time.Duration(price) * 100 * time.Millisecond)
		}
		for _, name := range []string{"a", "b"} {
			first.must(http.StatusCreated, admin, "POST", "/projects", object{"name": name})
		}
		key := first.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "k"}).object(t)["id"]
		for i, project := range []string{"a", "b", "a", "b"} {
			path := fmt.Sprintf("/keys/%v?wait=applied", key)
			first.must(http.StatusOK, admin, "PATCH", path, object{"project": project}).
				follows(t, "applied", "applied=1 lagging=0 lost=0")
			request := fmt.Sprint("charged ", i)
			second.must(http.StatusAccepted, admin, "POST", "/logs", object{"model": "m", "key_id": key, "request_id": request})
			if err := second.plane.Logs().Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			page, err := sink.Logs(t.Context(), logbuf.LogQuery{RequestID: request})
			if err != nil || len(page.Entries) != 1 || page.Entries[0].Project != project {
				t.Errorf("after the key has moved to %s: %+v, %v", project, page.Entries, err)
			}
		}
		for range 4 {
			o := first.must(http.StatusCreated, admin, "POST", "/operators", object{"name": "o", "role": "viewer"}).object(t)
			second.must(http.StatusOK, o["token"].(string), "GET", "/keys", nil)
			first.must(http.StatusNoContent, admin, "DELETE", fmt.Sprintf("/operators/%v?wait=applied", o["id"]), nil)
			second.must(http.StatusUnauthorized, o["token"].(string), "GET", "/keys", nil)
		}
	})
}

// Watchers are what reports in a fleet; a write is applied when they serve it.
func TestWaitForWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, ezapi.Config{}, nil)
		s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "first"})
		s.sync()
		run := func(name string) (w *snapshot.Watcher, stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			w = snapshot.NewWatcher(s.plane.Publisher(), &snapshot.WatcherOptions{Name: name})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = w.Run(ctx)
			}()
			<-w.Ready()
			synctest.Wait()
			return w, func() {
				cancel()
				<-ended
			}
		}
		a, stopA := run("a")
		b, stopB := run("b")
		defer stopA()

		s.must(http.StatusCreated, admin, "POST", "/models?wait=applied", object{"name": "second"}).follows(t, "applied",
			"applied=2 lagging=0 lost=0")
		for _, w := range []*snapshot.Watcher{a, b} {
			if _, ok := w.View().Model("default", "second"); !ok {
				t.Errorf("%s is said to have applied what it does not serve", w.Status().Node)
			}
		}
		stopB() // in good order: it is waited for no longer
		s.must(http.StatusNoContent, admin, "DELETE", "/models/2?wait=applied&timeout=3s", nil).follows(t, "applied",
			"applied=1 lagging=0 lost=0")
	})
}

// A write that was made is answered as that, whatever then goes wrong.
func TestWaitWithoutPublisher(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(*brokenPublisher)
		wait  string
		sync  string
	}{
		{"nothing can be published", func(p *brokenPublisher) { p.write.Store(true) }, "published", "pending"},
		{"nothing can be published, applied", func(p *brokenPublisher) { p.write.Store(true) }, "applied", "pending"},
		{"nodes cannot be read", func(p *brokenPublisher) { p.nodes.Store(true) }, "published", "published"},
		{"nodes cannot be read, applied", func(p *brokenPublisher) { p.nodes.Store(true) }, "applied", "pending"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pub := &brokenPublisher{Publisher: memstore.NewPublisher()}
				s := newService(t, ezapi.Config{Publisher: pub}, nil)
				tc.spoil(pub)
				start := time.Now()
				a := s.must(http.StatusCreated, admin, "POST", "/keys?timeout=2s&wait="+tc.wait, object{"name": "k"})
				a.follows(t, tc.sync, "")
				if a.object(t)["token"] == "" {
					t.Error("the token is lost")
				}
				if took := time.Since(start); tc.sync == "pending" && took.Round(100*time.Millisecond) != 2*time.Second {
					t.Errorf("it took %v, want 2s", took)
				}
			})
		})
	}
}

// What comes back while a write waits is waited for.
func TestWaitUntilPublisherIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := &brokenPublisher{Publisher: memstore.NewPublisher()}
		s := newService(t, ezapi.Config{Publisher: pub}, nil)
		pub.write.Store(true)
		time.AfterFunc(3*time.Second, func() { pub.write.Store(false) })
		s.must(http.StatusCreated, admin, "POST", "/keys?wait=published", object{"name": "k"}).follows(t, "published", "")
	})
}

// A client that goes away is not waited for.
func TestWaitEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := &brokenPublisher{Publisher: memstore.NewPublisher()}
		s := newService(t, ezapi.Config{Publisher: pub}, nil)
		pub.write.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		r := httptest.NewRequestWithContext(ctx, "POST", "/keys?wait=published", strings.NewReader(`{"name":"k"}`))
		r.Header.Set("Authorization", "Bearer "+admin)
		w := httptest.NewRecorder()
		s.api.ServeHTTP(w, r)
		if took := time.Since(start); took > 1100*time.Millisecond || w.Code != http.StatusCreated {
			t.Errorf("status %d after %v", w.Code, took)
		}
	})
}

// A brokenPublisher can be made to fail.
type brokenPublisher struct {
	snapshot.Publisher
	write, nodes atomic.Bool
}

var errDown = errors.New("the publisher is down")

func (p *brokenPublisher) Apply(ctx context.Context, over snapshot.Base, d snapshot.Delta) error {
	if p.write.Load() {
		return errDown
	}
	return p.Publisher.Apply(ctx, over, d)
}

func (p *brokenPublisher) Stage(ctx context.Context) (snapshot.Staging, error) {
	if p.write.Load() {
		return nil, errDown
	}
	return p.Publisher.Stage(ctx)
}

func (p *brokenPublisher) Nodes(ctx context.Context, q snapshot.NodeQuery) (snapshot.NodeList, error) {
	if p.nodes.Load() {
		return snapshot.NodeList{}, errDown
	}
	return p.Publisher.Nodes(ctx, q)
}

// A price that was answered as applied is used from then on, each time.
func TestPricesAreAppliedWhenAnswered(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.plane.Run(ctx) })
	defer running.Wait()
	defer stop()
	model := s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "m", "input_price": "1"}).object(t)
	path := fmt.Sprintf("/models/%v?wait=applied", model["id"])
	for price := 2; price < 30; price++ {
		s.must(http.StatusOK, admin, "PATCH", path, object{"input_price": fmt.Sprint(price)})
		request := fmt.Sprint("r", price)
		s.must(http.StatusAccepted, balancer, "POST", "/logs",
			object{"model": "m", "input_tokens": 1_000_000, "request_id": request})
		if err := s.plane.Logs().Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		found := s.must(http.StatusOK, viewer, "GET", "/logs?request_id="+request, nil).object(t)["data"].([]any)
		if got := found[0].(object)["cost_nano_usd"]; got != float64(price)*1e9 {
			t.Fatalf("a million tokens cost %v after the price %d was applied", got, price)
		}
	}
}

// Fifty writes that wait ask as often as one does.
func TestWaitingIsShared(t *testing.T) {
	asked := func(t *testing.T, writes int) (nodes, heads int64) {
		synctest.Test(t, func(t *testing.T) {
			pub := &countingPublisher{Publisher: memstore.NewPublisher()}
			s := newService(t, ezapi.Config{Publisher: pub}, nil)
			s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "before"})
			s.sync()
			head, err := pub.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pub.Report(t.Context(), snapshot.Node{ID: "behind", Position: head.Position,
				Store: head.Store}); err != nil {
				t.Fatal(err)
			}
			pub.heads.Store(0)
			var all sync.WaitGroup
			for range writes {
				all.Go(func() {
					a := s.must(http.StatusCreated, admin, "POST", "/keys?wait=applied&timeout=5s", object{"name": "k"})
					a.follows(t, "pending", "applied=0 lagging=1 lost=0")
				})
			}
			all.Wait()
			nodes, heads = pub.nodes.Load(), pub.heads.Load()
		})
		return nodes, heads
	}
	nodes, heads := asked(t, 1)
	manyNodes, manyHeads := asked(t, 50)
	if nodes < 50 || manyNodes > nodes+5 || manyHeads > heads+50 { // each write may be published by itself
		t.Errorf("one write asks %d times for nodes and %d for the head; fifty %d and %d", nodes, heads, manyNodes, manyHeads)
	}
}

// A countingPublisher counts what it is asked.
type countingPublisher struct {
	snapshot.Publisher
	nodes, heads atomic.Int64
}

func (p *countingPublisher) Nodes(ctx context.Context, q snapshot.NodeQuery) (snapshot.NodeList, error) {
	p.nodes.Add(1)
	return p.Publisher.Nodes(ctx, q)
}

func (p *countingPublisher) Head(ctx context.Context) (snapshot.Head, error) {
	p.heads.Add(1)
	return p.Publisher.Head(ctx)
}
