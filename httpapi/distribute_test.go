package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// served puts a service on a real connection.
func served(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func sourceOf(t *testing.T, url, token string) *snapshot.HTTPSource {
	t.Helper()
	src := snapshot.NewHTTPSource(url, token, &snapshot.HTTPOptions{Wait: 2 * time.Second})
	t.Cleanup(src.Close)
	return src
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20s: %s", what)
		}
	}
}

// A balancer that has HTTP alone is as good as one with Redis: it waits for the
// first publish, follows each change, survives a Replace, and is known to the control plane.
func TestWatcherOverHTTP(t *testing.T) {
	keys, err := snapshot.ParseKeys("k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, ezapi.Config{SyncKeys: keys}, nil)
	src := sourceOf(t, served(t, s.api), balancer)
	if _, err := src.Head(t.Context()); !errors.Is(err, snapshot.ErrNone) {
		t.Fatalf("head before the first publish: %v", err)
	}
	watcher := snapshot.NewWatcher(src, &snapshot.WatcherOptions{Keys: keys, Name: "over-http",
		Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- watcher.Run(ctx) }()
	defer func() { cancel(); <-done }()

	publish := func() snapshot.Head {
		t.Helper()
		head, err := s.plane.Sync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the watcher has "+head.Position.String(), func() bool { return watcher.View().Position() == head.Position })
		if watcher.View().Head().Base() != head.Base() {
			t.Fatalf("head %v, want %v", watcher.View().Head().Base(), head.Base())
		}
		return head
	}
	provider := catalog.Provider{Name: "p", Type: "openai", APIKey: catalog.NewSecret("sk-over-http"),
		Models: []string{"m"}}
	if _, err := s.plane.Providers.Create(t.Context(), provider); err != nil {
		t.Fatal(err)
	}
	publish()
	loads := watcher.Status().Loads
	for range 20 {
		key, err := s.plane.Keys.Create(t.Context(), catalog.Key{Name: "<alice> & \"bob\" \u2028"})
		if err != nil {
			t.Fatal(err)
		}
		publish()
		if _, ok := watcher.View().Key(key.Token.Reveal()); !ok {
			t.Fatal("the key is not served")
		}
	}
	if got := watcher.Status(); got.Loads != loads || got.Deltas != 20 {
		t.Errorf("it did not follow by deltas: %+v", got)
	}
	if _, err := s.plane.Relay().Resync(t.Context(), snapshot.ResyncOptions{NewEpoch: true}); err != nil {
		t.Fatal(err)
	}
	head := publish()
	until(t, "the watcher reports", func() bool {
		nodes := nodesOf(t, s)
		return len(nodes) == 1 && nodes[0].Position == head.Position && strings.HasPrefix(nodes[0].ID, "over-http-") &&
			keys.VerifyNode(nodes[0]) == nil
	})
	for p := range watcher.View().Providers() {
		if p.APIKey.Reveal() != "sk-over-http" {
			t.Error("the secret is not what it was")
		}
	}
	cancel()
	until(t, "the watcher has left", func() bool { return len(nodesOf(t, s)) == 0 })
}

func nodesOf(t *testing.T, s *service) []snapshot.Node {
	t.Helper()
	list, err := s.plane.Publisher().Nodes(t.Context(), snapshot.NodeQuery{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Nodes
}

// What the source says is what the publisher says.
func TestHTTPSource(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	bytesSent := atomic.Int64{}
	src := sourceOf(t, served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.api.ServeHTTP(&counting{w, &bytesSent}, r)
	})), balancer)
	model, err := s.plane.Models.Create(t.Context(), catalog.Model{Name: "m"})
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.plane.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	head, err := src.Head(t.Context())
	if diff := cmp.Diff(want.Fields(), head.Fields()); err != nil || diff != "" {
		t.Fatalf("head: %v (-want +got):\n%s", err, diff)
	}
	if bytesSent.Swap(0) > 2000 {
		t.Error("the head takes the whole")
	}
	if beat, err := src.LastBeat(t.Context()); err != nil || !beat.At.IsZero() {
		t.Errorf("a beat before there is one: %+v, %v", beat, err)
	}
	beat := snapshot.Beat{Store: want.Store, Position: want.Position, At: time.Now().UTC().Truncate(time.Microsecond)}
	if err := s.plane.Publisher().SetBeat(t.Context(), beat); err != nil {
		t.Fatal(err)
	}
	if got, err := src.LastBeat(t.Context()); err != nil || !got.Equal(beat) {
		t.Errorf("beat: %+v, %v", got, err)
	}
	view, err := snapshot.LoadView(t.Context(), src, nil)
	if err != nil || view.Position() != want.Position {
		t.Fatalf("load: %v", err)
	}
	if _, ok := view.Model("default", "m"); !ok {
		t.Error("the model is not there")
	}
	docs, err := src.Lookup(t.Context(), catalog.KindModel, "default.none", "default.m")
	if err != nil || len(docs) != 1 || docs[0].Key != "default.m" {
		t.Errorf("lookup: %v, %v", docs, err)
	}

	// Deltas are waited for, even longer than one request waits.
	next := make(chan error, 1)
	var delta snapshot.Delta
	go func() (err error) {
		defer func() { next <- err }()
		delta, err = src.Next(t.Context(), want.Position)
		return err
	}()
	time.Sleep(2500 * time.Millisecond)
	if _, err := s.plane.Models.Delete(t.Context(), model.ID, 0); err != nil {
		t.Fatal(err)
	}
	if head, err = s.plane.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-next; err != nil || delta.From != want.Position || delta.Head.Position != head.Position ||
		len(delta.Changes) != 2 || delta.Changes[0].Doc != nil {
		t.Errorf("next: %+v, %v", delta, err)
	}

	answer, err := src.Report(t.Context(), snapshot.Node{ID: "passed-on", Position: head.Position, Age: 7 * time.Second})
	if err != nil || answer.Head != head.Base() || answer.Live != 1 || !answer.Beat.Equal(beat) {
		t.Errorf("the answer to a report: %+v, %v", answer, err)
	}
	if n := nodesOf(t, s); len(n) != 1 || time.Since(n[0].SeenAt) < 6*time.Second {
		t.Errorf("nodes %+v", n)
	}

	if _, err := src.Next(t.Context(), snapshot.Position{Epoch: 1, Revision: 1}); !errors.Is(err, snapshot.ErrGap) {
		t.Errorf("next after a position that never was: %v, want a gap", err)
	}
	ended, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := src.Next(ended, head.Position); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("next until the context ends: %v", err)
	}
	if _, err := sourceOf(t, served(t, s.api), viewer).Head(t.Context()); err == nil ||
		!strings.Contains(err.Error(), "403") {
		t.Errorf("with a viewer's token: %v", err)
	}
}

// deadWait is a publisher whose first wait for a delta is on a dead connection.
type deadWait struct {
	snapshot.Publisher
	waits atomic.Int64
	ended error // why the first did
}

func (p *deadWait) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	if p.waits.Add(1) == 1 {
		<-ctx.Done()
		p.ended = context.Cause(ctx)
		return snapshot.Delta{}, ctx.Err()
	}
	return p.Publisher.Next(ctx, after)
}

// A wait that is not told of what the server has published is given up as such, and made anew: so no publisher
// lets others share it.
func TestDeltasAreAskedForAnew(t *testing.T) {
	pub := &deadWait{Publisher: memstore.NewPublisher()}
	s := newService(t, ezapi.Config{Publisher: pub}, nil)
	before, err := s.plane.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	src := snapshot.NewHTTPSource(served(t, s.api), balancer, nil)
	defer src.Close()
	if _, err := s.plane.Keys.Create(t.Context(), catalog.Key{Name: "alice"}); err != nil {
		t.Fatal(err)
	}
	after, err := s.plane.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	d, err := src.Next(ctx, before.Position)
	if err != nil || d.Head.Position != after.Position || !errors.Is(pub.ended, snapshot.ErrUntold) {
		t.Errorf("a delta to %s, %v; the dead wait ended with %v", d.Head.Position, err, pub.ended)
	}
}

// While nothing is published nobody asks anew.
func TestDeltasAreWaitedForOnce(t *testing.T) {
	pub := &deadWait{Publisher: memstore.NewPublisher()}
	s := newService(t, ezapi.Config{Publisher: pub}, nil)
	head, err := s.plane.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := s.do(balancer, "GET", "/sync/deltas?wait=5s&after="+head.Position.String(), nil)
	if n := pub.waits.Load(); a.StatusCode != http.StatusOK || a.body != "" || n != 1 {
		t.Errorf("%d waits, status %d: %s", n, a.StatusCode, a.body)
	}
}

// counting counts what is written.
type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func TestDistributionRefuses(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	if _, err := s.plane.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path string
		body         any
		status       int
		contains     string
	}{
		{"GET", "/sync/deltas", nil, 422, `"after"`},
		{"GET", "/sync/deltas?after=1", nil, 422, `"after"`},
		{"GET", "/sync/deltas?after=1-2&wait=2m", nil, 422, `"wait"`},
		{"GET", "/sync/deltas?after=1-2&wat=2s", nil, 422, `"wat"`},
		{"GET", "/sync/deltas?after=1-2", nil, 410, "urn:ezapi:gap"},
		{"GET", "/sync/snapshot?x=1", nil, 422, `"x"`},
		{"POST", "/sync/nodes", object{"id": ""}, 422, `"id"`},
		{"POST", "/sync/nodes", object{"id": strings.Repeat("x", 201)}, 422, `"id"`},
		{"POST", "/sync/nodes", object{"id": "a", "position": "nowhere"}, 422, "position"},
		{"POST", "/sync/nodes", object{"id": "a"}, 422, `"position"`},
		{"POST", "/sync/nodes", object{"id": "a", "position": "9223372036854775806-1"}, 422, `"position"`},
		{"POST", "/sync/nodes", object{"id": "a", "position": "-1-1"}, 422, `"position"`},
		{"POST", "/sync/nodes", object{"id": "a", "position": "1-1", "version": strings.Repeat("x", 1025)}, 422, `"version"`},
		{"POST", "/sync/nodes", object{"id": "a", "position": "1-1", "kinds": "Keys"}, 422, `"kinds"`},
		{"POST", "/sync/nodes", object{"id": "a\n", "position": "1-1"}, 422, "control"},
		{"POST", "/sync/nodes", object{"id": "a", "position": "1-1", "version": 1}, 422, `"version"`},
		{"POST", "/sync/nodes?age=25h", object{"id": "a", "position": "1-1"}, 422, `"age"`},
		{"POST", "/sync/nodes", "[]", 400, "malformed"},
		{"POST", "/sync/nodes", " ", 400, "malformed"},
		{"GET", "/sync/snapshot?head=yes", nil, 422, `"head"`},
	} {
		a := s.do(balancer, c.method, c.path, c.body, "Content-Type", "application/json")
		if a.StatusCode != c.status || !strings.Contains(a.body, c.contains) {
			t.Errorf("%s %s: %d, want %d\n%s", c.method, c.path, a.StatusCode, c.status, a.body)
		}
	}
	a := s.do(balancer, "GET", "/sync/snapshot", nil)
	if first, _, _ := bytes.Cut([]byte(a.body), []byte("\n")); !bytes.HasPrefix(first, []byte(`{"head":{`)) || !bytes.Contains(first, []byte(`"format":"1"`)) || a.Header.Get("ETag") == "" {
		t.Errorf("the first line is %s, the ETag %s", first, a.Header.Get("ETag"))
	}
	if b := s.do(balancer, "GET", "/sync/snapshot", nil, "If-None-Match",
		a.Header.Get("ETag")); b.StatusCode != http.StatusNotModified || b.body != "" {
		t.Errorf("with its own ETag: %d %s", b.StatusCode, b.body)
	}
}

// A server that shuts down keeps nobody waiting.
func TestDrain(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	head, err := s.plane.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.plane.Publisher().Report(t.Context(),
		snapshot.Node{ID: "behind", Kinds: snapshot.Kinds()}); err != nil {
		t.Fatal(err)
	}
	answers := make(chan answer, 2)
	go func() { answers <- s.do(balancer, "GET", "/sync/deltas?wait=1m&after="+head.Position.String(), nil) }()
	go func() { answers <- s.do(admin, "POST", "/keys?wait=applied&timeout=1m", object{"name": "alice"}) }()
	select {
	case a := <-answers:
		t.Fatalf("somebody did not wait: status %d, EZ-Sync %q", a.StatusCode, a.Header.Get("EZ-Sync"))
	case <-time.After(200 * time.Millisecond):
	}
	s.api.(*httpapi.Handler).Drain()
	for range 2 {
		select {
		case a := <-answers:
			if a.StatusCode != http.StatusOK && a.Header.Get("EZ-Sync") != "pending" {
				t.Errorf("status %d, EZ-Sync %q", a.StatusCode, a.Header.Get("EZ-Sync"))
			}
		case <-time.After(10 * time.Second):
			t.Fatal("somebody still waits")
		}
	}
}
