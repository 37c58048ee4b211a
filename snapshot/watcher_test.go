//go:build !noWatcher

package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage publishes by hand, right or wrong, and can be made to fail. What is
// published is at most one key, under the token that is its name.
type stage struct {
	snapshot.Source
	t    testing.TB
	keys *snapshot.Keys
	head snapshot.Head

	mu    sync.Mutex
	pub   *memstore.Publisher
	err   error  // of every call
	stuck bool   // Next never delivers
	cut   func() // ends the Next under way
	nodes []snapshot.Node
}

func newStage(t testing.TB) *stage {
	s := &stage{t: t, keys: mustKeys(t, keyA), pub: memstore.NewPublisher()}
	s.replace(1, 1, "first")
	return s
}

// fail makes all calls fail, the Next under way included, until err is nil.
func (s *stage) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = err; s.cut != nil {
		s.cut()
	}
}

func (s *stage) stick() { s.mu.Lock(); s.stuck = true; s.mu.Unlock() }

// publisher returns what is published on, and the error if there is to be one.
func (s *stage) publisher() (*memstore.Publisher, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pub, s.err
}

func (s *stage) Head(ctx context.Context) (snapshot.Head, error) {
	pub, err := s.publisher()
	if err != nil {
		return snapshot.Head{}, err
	}
	return pub.Head(ctx)
}

func (s *stage) Load(ctx context.Context) (*snapshot.Snapshot, error) {
	pub, err := s.publisher()
	if err != nil {
		return nil, err
	}
	return pub.Load(ctx)
}

func (s *stage) Next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	pub, err := s.publisher()
	if err != nil {
		return snapshot.Delta{}, err
	}
	uncut, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.cut = cancel
	stuck := s.stuck
	s.mu.Unlock()
	if stuck {
		<-uncut.Done()
		return snapshot.Delta{}, uncut.Err()
	}
	d, err := pub.Next(uncut, after)
	if _, failing := s.publisher(); err != nil && ctx.Err() == nil && failing != nil {
		err = failing
	}
	return d, err
}

func (s *stage) Report(_ context.Context, n snapshot.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = append(s.nodes, n)
	return s.err
}

// reports returns what was reported since the last call.
func (s *stage) reports() []snapshot.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	nodes := s.nodes
	s.nodes = nil
	return nodes
}

// snap makes a signed snapshot with these tokens.
func (s *stage) snap(epoch catalog.Epoch, revision catalog.Revision, tokens ...string) *snapshot.Snapshot {
	var docs []snapshot.Document
	for _, token := range tokens {
		docs = append(docs, keyDoc(s.t, token, nil))
	}
	w := whole(s.keys, docs...)
	w.Head.Position = snapshot.Position{Epoch: epoch, Revision: revision}
	s.keys.Sign(&w.Head)
	return w
}

func (s *stage) replace(epoch catalog.Epoch, revision catalog.Revision, tokens ...string) {
	s.t.Helper()
	s.put(s.snap(epoch, revision, tokens...))
}

func (s *stage) put(w *snapshot.Snapshot) {
	s.t.Helper()
	pub, _ := s.publisher()
	if err := pub.Replace(context.Background(), w, nil); err != nil {
		s.t.Fatal(err)
	}
	s.head = w.Head
}

// rewind forgets what was published, as when an old backup is restored.
func (s *stage) rewind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pub = memstore.NewPublisher()
}

// delta publishes the addition of a token, after spoiling it.
func (s *stage) delta(token string, spoil func(*snapshot.Delta)) {
	s.t.Helper()
	d := keyDoc(s.t, token, nil)
	next := s.head
	next.Position.Revision++
	next.Digest = next.Digest.Add(s.keys.Hash(d.Kind, d.Key, d.Doc))
	next.Counts = snapshot.Counts{catalog.KindKey: s.head.Counts[catalog.KindKey] + 1}
	delta := snapshot.Delta{From: s.head.Position, Head: next, Changes: []snapshot.Change{snapshot.Change(d)}}
	s.keys.Sign(&delta.Head)
	if spoil != nil {
		spoil(&delta)
	}
	pub, _ := s.publisher()
	if err := pub.Apply(context.Background(), delta); err != nil {
		s.t.Fatal(err)
	}
	s.head = delta.Head
}

// watch runs a watcher until the test ends.
func watch(t *testing.T, src snapshot.Source, opts snapshot.WatcherOptions) *snapshot.Watcher {
	t.Helper()
	if opts.Keys == nil {
		opts.Keys = mustKeys(t, keyA)
	}
	opts.Logger = slog.New(slog.DiscardHandler)
	w := snapshot.NewWatcher(src, &opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

// serves fails the test unless exactly these tokens are known.
func serves(t *testing.T, w *snapshot.Watcher, tokens ...string) {
	t.Helper()
	v := w.View()
	for _, token := range tokens {
		if _, err := v.Authenticate(token, netip.Addr{}, time.Now()); err != nil {
			t.Errorf("token %q: %v", token, err)
		}
	}
	if n := v.Head().Counts[catalog.KindKey]; n != len(tokens) {
		t.Errorf("%d keys are served, want %d", n, len(tokens))
	}
}

// bubble runs a test in which time is only what is slept.
func bubble(t *testing.T, test func(t *testing.T, s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newStage(t)) })
}

func TestWatcherFollows(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		var seen []string
		w := watch(t, s, snapshot.WatcherOptions{OnApply: func(v *snapshot.View) { seen = append(seen, v.Position().String()) }})
		<-w.Ready()
		synctest.Wait()
		serves(t, w, "first")
		for i := range 3 {
			s.delta(fmt.Sprint(i), nil)
		}
		synctest.Wait()
		serves(t, w, "first", "0", "1", "2")
		if got := strings.Join(seen, " "); got != "1-1 1-2 1-3 1-4" {
			t.Errorf("applied %s", got)
		}
		if got := w.Status(); got.Loads != 1 || got.Deltas != 3 || got.Error != "" || got.Position != s.head.Position || got.Digest != s.head.Digest {
			t.Errorf("status %+v", got)
		}
	})
}

func TestWatcherWaitsForTheFirstPublish(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		s.rewind()
		w := watch(t, s, snapshot.WatcherOptions{})
		time.Sleep(time.Minute)
		select {
		case <-w.Ready():
			t.Fatal("ready with nothing")
		default:
		}
		if _, err := w.View().Authenticate("first", netip.Addr{}, time.Now()); !errors.Is(err, snapshot.ErrNotReady) {
			t.Errorf("Authenticate: %v", err)
		}
		if _, err := w.View().Route(&snapshot.Key{}, "m"); !errors.Is(err, snapshot.ErrNotReady) {
			t.Errorf("Route: %v", err)
		}
		s.replace(1, 1, "first")
		synctest.Wait() // at once: it costs no time
		serves(t, w, "first")
	})
}

func TestWatcherOutlivesItsSource(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		down := errors.New("connection refused")
		s.fail(down)
		w := watch(t, s, snapshot.WatcherOptions{})
		time.Sleep(time.Minute)
		if got := w.Status(); !strings.Contains(got.Error, down.Error()) || !got.HeardAt.IsZero() {
			t.Errorf("status %+v", got)
		}
		s.fail(nil)
		time.Sleep(6 * time.Second) // the longest pause between two tries, and more
		serves(t, w, "first")

		s.fail(down)
		s.delta("second", nil)
		time.Sleep(time.Hour)
		serves(t, w, "first")
		s.fail(nil)
		time.Sleep(6 * time.Second)
		serves(t, w, "first", "second")
		if got := w.Status(); got.Error != "" {
			t.Errorf("status %+v", got)
		}
	})
}

func TestWatcherReloadsOnAGap(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		w := watch(t, s, snapshot.WatcherOptions{})
		synctest.Wait()
		s.replace(1, 9, "other", "more")
		synctest.Wait() // at once
		serves(t, w, "other", "more")
		s.replace(2, 1, "new epoch")
		time.Sleep(100 * time.Millisecond) // the second in a row waits a little
		serves(t, w, "new epoch")
		if got := w.Status(); got.Loads != 3 || got.Refused != 0 {
			t.Errorf("status %+v", got)
		}
	})
}

func TestWatcherNeverGoesBack(t *testing.T) {
	for _, tc := range []struct {
		name     string
		epoch    catalog.Epoch
		revision catalog.Revision
	}{{"to an earlier revision", 2, 4}, {"to an earlier epoch", 1, 900}} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *stage) {
				s.replace(2, 5, "now")
				w := watch(t, s, snapshot.WatcherOptions{})
				synctest.Wait()
				s.rewind()
				s.replace(tc.epoch, tc.revision, "then")
				time.Sleep(time.Minute)
				serves(t, w, "now")
				if got := w.Status(); !strings.Contains(got.Error, "before what is served") {
					t.Errorf("status %+v", got)
				}
				s.replace(3, 1, "later")
				time.Sleep(6 * time.Second)
				serves(t, w, "later")
			})
		})
	}
}

func TestWatcherKeepsWhatItHas(t *testing.T) {
	t.Run("when the head is gone", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *stage) {
			w := watch(t, s, snapshot.WatcherOptions{})
			synctest.Wait()
			s.rewind()
			time.Sleep(time.Hour)
			serves(t, w, "first")
			if got := w.Status(); got.Error == "" {
				t.Errorf("status %+v", got)
			}
		})
	})
	t.Run("when all is gone and nobody forced that", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *stage) {
			w := watch(t, s, snapshot.WatcherOptions{})
			synctest.Wait()
			s.replace(1, 5)
			time.Sleep(time.Hour)
			serves(t, w, "first")
			if got := w.Status(); !strings.Contains(got.Error, "empty") {
				t.Errorf("status %+v", got)
			}
			forced := s.snap(1, 6)
			forced.Head.Forced = true
			s.put(forced)
			time.Sleep(6 * time.Second)
			serves(t, w)
		})
	})
}

func TestWatcherRefusesWhatIsDamaged(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(*snapshot.Delta)
	}{
		{"a document that cannot be read", func(d *snapshot.Delta) { d.Changes[0].Doc = []byte("{") }},
		{"a document that is not what was signed", func(d *snapshot.Delta) { d.Changes[0].Doc = append(d.Changes[0].Doc, ' ') }},
		{"a document too few", func(d *snapshot.Delta) { d.Changes, d.Head.Counts = nil, snapshot.Counts{catalog.KindKey: 1} }},
		{"a signature that is not right", func(d *snapshot.Delta) { d.Head.Mark = "other" }},
		{"no signature", func(d *snapshot.Delta) { d.Head.Seal, d.Head.Sig = "", "" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *stage) {
				w := watch(t, s, snapshot.WatcherOptions{})
				synctest.Wait()
				good := s.head
				s.reports()
				s.delta("bad", tc.spoil)
				time.Sleep(time.Minute)
				serves(t, w, "first")
				if got := w.Status(); got.Error == "" || got.Refused < 2 || got.Position != good.Position {
					t.Errorf("status %+v", got)
				}
				nodes := s.reports()
				if last := nodes[len(nodes)-1]; last.Error == "" || last.Position != good.Position {
					t.Errorf("reported %+v", last)
				}

				s.replace(1, 50, "good", "again")
				time.Sleep(6 * time.Second)
				serves(t, w, "good", "again")
				nodes = s.reports()
				if last := nodes[len(nodes)-1]; last.Error != "" || last.Position != s.head.Position {
					t.Errorf("reported %+v", last)
				}
			})
		})
	}
}

func TestWatcherReportsOnlyTheSecondStrike(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		w := watch(t, s, snapshot.WatcherOptions{})
		synctest.Wait()
		s.delta("bad", func(d *snapshot.Delta) { d.Changes[0].Doc = []byte("{") })
		synctest.Wait()
		s.replace(1, 3, "good") // before the second try
		time.Sleep(time.Minute)
		serves(t, w, "good")
		for _, n := range s.reports() {
			if n.Error != "" {
				t.Errorf("reported %q", n.Error)
			}
		}
		if got := w.Status(); got.Refused != 1 {
			t.Errorf("status %+v", got)
		}
	})
}

func TestWatcherReports(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		w := watch(t, s, snapshot.WatcherOptions{Name: "eu-1", Version: "v1.2"})
		synctest.Wait()
		nodes := s.reports()
		if len(nodes) != 1 {
			t.Fatalf("%d reports after the load, want one at once", len(nodes))
		}
		n := nodes[0]
		if !strings.HasPrefix(n.ID, "eu-1-") || n.ID != w.Status().Node || n.Version != "v1.2" || n.Position != s.head.Position || n.Digest != s.head.Digest || n.Error != "" {
			t.Errorf("reported %+v", n)
		}
		time.Sleep(51 * time.Second)
		if nodes := s.reports(); len(nodes) != 10 {
			t.Errorf("%d heartbeats in 51 s, want one each 5 s", len(nodes))
		}
		if other := snapshot.NewWatcher(s, &snapshot.WatcherOptions{Name: "eu-1"}).Status().Node; other == n.ID {
			t.Errorf("two nodes are both %q", other)
		}
	})
}

func TestWatcherNoticesASilentSource(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		s.stick()
		w := watch(t, s, snapshot.WatcherOptions{})
		synctest.Wait()
		s.delta("second", nil)
		time.Sleep(11 * time.Second)
		serves(t, w, "first", "second")
	})
}

func TestWatcherRefusesToServeWhenOutdated(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		w := watch(t, s, snapshot.WatcherOptions{MaxStale: 30 * time.Second})
		time.Sleep(time.Hour) // nothing changes, but the source confirms it
		serves(t, w, "first")
		s.fail(errors.New("down"))
		time.Sleep(25 * time.Second)
		serves(t, w, "first")
		time.Sleep(10 * time.Second)
		if _, err := w.View().Authenticate("first", netip.Addr{}, time.Now()); !errors.Is(err, snapshot.ErrOutdated) {
			t.Errorf("Authenticate: %v", err)
		}
		if _, ok := w.View().Key("first"); ok {
			t.Error("a key is still found")
		}
		if !w.Status().Outdated {
			t.Error("the status does not say so")
		}
		s.fail(nil)
		time.Sleep(11 * time.Second)
		serves(t, w, "first")
	})
}

func TestWatcherRunsOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *stage) {
		w := watch(t, s, snapshot.WatcherOptions{})
		synctest.Wait()
		if err := w.Run(t.Context()); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("a second Run: %v", err)
		}
	})
}

// Requests read while views come and go; each view is one position, whole.
func TestViewsAreReadWhileTheyChange(t *testing.T) {
	w, ctx := newWorld(t, syncKey), t.Context()
	ok[snapshot.Head](t)(w.relay.Sync(ctx))
	watcher := watch(t, w.pub, snapshot.WatcherOptions{Keys: w.keys})
	<-watcher.Ready()
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			last := snapshot.Position{}
			for !stop.Load() {
				v := watcher.View()
				if last.After(v.Position()) {
					t.Errorf("went back from %s to %s", last, v.Position())
					return
				}
				last = v.Position()
				// Both are created and deleted together.
				_, a := v.KeyByHash(catalog.HashToken("token-number-one"))
				_, b := v.KeyByHash(catalog.HashToken("token-number-two"))
				if a != b {
					t.Errorf("half a publish at %s", last)
					return
				}
			}
		})
	}
	for range 30 {
		var created []catalog.Key
		ok[catalog.Revision](t)(w.tables.Update(ctx, func(tx *catalog.Tx) error {
			created = nil // it may run again
			for _, token := range []string{"token-number-one", "token-number-two"} {
				k, err := tx.Keys.Create(ctx, catalog.Key{Name: "k", Token: catalog.NewSecret(token)})
				if err != nil {
					return err
				}
				created = append(created, k)
			}
			return nil
		}))
		head := ok[snapshot.Head](t)(w.relay.Sync(ctx))
		for watcher.View().Position() != head.Position {
			time.Sleep(time.Millisecond)
		}
		ok[catalog.Revision](t)(w.tables.Update(ctx, func(tx *catalog.Tx) error {
			for _, k := range created {
				if _, err := tx.Keys.Delete(ctx, k.ID, 0); err != nil {
					return err
				}
			}
			return nil
		}))
		ok[snapshot.Head](t)(w.relay.Sync(ctx))
	}
	stop.Store(true)
	readers.Wait()
}
