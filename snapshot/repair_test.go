package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// meddler is a publisher whose calls can be watched and changed.
type meddler struct {
	snapshot.Publisher

	mu       sync.Mutex
	lookedUp int
	corrupt  bool                           // Head says that counts are wrong, until a Replace
	replace  func(*snapshot.Snapshot) error // instead of publishing, while it is set
	load     func(*snapshot.Snapshot)       // spoils what is loaded, while it is set
}

func (m *meddler) Lookup(ctx context.Context, k catalog.Kind, keys ...string) ([]snapshot.Document, error) {
	m.mu.Lock()
	m.lookedUp += len(keys)
	m.mu.Unlock()
	return m.Publisher.Lookup(ctx, k, keys...)
}

func (m *meddler) Head(ctx context.Context) (snapshot.Head, error) {
	h, err := m.Publisher.Head(ctx)
	if err == nil && m.corrupt {
		err = snapshot.ErrCorrupt
	}
	return h, err
}

func (m *meddler) Replace(ctx context.Context, s *snapshot.Snapshot, catchUp snapshot.CatchUp) error {
	m.mu.Lock()
	replace := m.replace
	m.mu.Unlock()
	if replace != nil {
		return replace(s)
	}
	m.corrupt = false
	m.spoilLoads(nil) // what was damaged is not there any more
	return m.Publisher.Replace(ctx, s, catchUp)
}

func (m *meddler) Load(ctx context.Context) (*snapshot.Snapshot, error) {
	s, err := m.Publisher.Load(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && m.load != nil {
		m.load(s)
	}
	return s, err
}

func (m *meddler) spoilLoads(with func(*snapshot.Snapshot)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load = with
}

// meddled returns a world whose relay publishes through a meddler, on a clock
// that the test moves.
func meddled(t *testing.T) (*world, *meddler, *time.Time) {
	w, now := newWorld(t, syncKey), time.Now()
	m := &meddler{Publisher: w.pub}
	w.relay = snapshot.NewRelay(w.tables, m, &snapshot.RelayOptions{
		Keys: w.keys, Logger: slog.New(slog.DiscardHandler), Clock: func() time.Time { return now },
	})
	ok[snapshot.Head](t)(w.relay.Sync(t.Context()))
	return w, m, &now
}

// createKeys makes n keys in one revision and returns their ids.
func createKeys(t *testing.T, w *world, n int) (ids []int64) {
	t.Helper()
	ok[catalog.Revision](t)(w.tables.Update(t.Context(), func(tx *catalog.Tx) error {
		ids = nil
		for i := range n {
			k, err := tx.Keys.Create(t.Context(), catalog.Key{Name: fmt.Sprint(i)})
			if err != nil {
				return err
			}
			ids = append(ids, k.ID)
		}
		return nil
	}))
	return ids
}

// A deletion that the feed tells is meant, however large.
func TestLargeDeletionsAreFollowed(t *testing.T) {
	w, _, _ := meddled(t)
	ids := createKeys(t, w, 1200)
	ok[snapshot.Head](t)(w.relay.Sync(t.Context()))
	watcher := watch(t, w.pub, snapshot.WatcherOptions{Keys: w.keys})
	<-watcher.Ready()
	ok[catalog.Revision](t)(w.tables.Update(t.Context(), func(tx *catalog.Tx) error {
		for _, id := range ids {
			if _, err := tx.Keys.Delete(t.Context(), id, 0); err != nil {
				return err
			}
		}
		return nil
	}))
	head := ok[snapshot.Head](t)(w.relay.Sync(t.Context()))
	if !head.Forced || len(published(t, w.pub, w.keys)) != 0 {
		t.Errorf("head %+v", head)
	}
	for deadline := time.Now().Add(10 * time.Second); watcher.View().Position() != head.Position; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the watcher does not follow: %+v", watcher.Status())
		}
	}
}

// What is too large for a delta sends the kinds concerned again, and no other.
func TestLargeChangesReplaceTheirKindsAlone(t *testing.T) {
	w, m, _ := meddled(t)
	ctx := t.Context()
	createKeys(t, w, 100)
	p := ok[catalog.Provider](t)(w.tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai", Models: []string{"m"}}))
	for from := 0; from < 1200; from += 400 { // in parts, each small enough for a delta
		ok[catalog.Revision](t)(w.tables.Update(ctx, func(tx *catalog.Tx) error {
			for i := from; i < from+400; i++ {
				name := fmt.Sprint("m", i)
				if _, err := tx.Models.Create(ctx, catalog.Model{Name: name}); err != nil {
					return err
				}
				if _, err := tx.Bindings.Create(ctx, catalog.Binding{Model: name, SelectorValue: "m"}); err != nil {
					return err
				}
			}
			return nil
		}))
		ok[snapshot.Head](t)(w.relay.Sync(ctx))
	}
	watcher := watch(t, w.pub, snapshot.WatcherOptions{Keys: w.keys})
	<-watcher.Ready()

	var sent *snapshot.Snapshot
	m.mu.Lock()
	m.replace = func(s *snapshot.Snapshot) error {
		sent = s
		return w.pub.Replace(ctx, s, nil)
	}
	m.mu.Unlock()
	ok[catalog.Provider](t)(w.tables.Providers.Edit(ctx, p.ID, func(p *catalog.Provider) error { p.Group = "eu"; return nil }))
	head := ok[snapshot.Head](t)(w.relay.Sync(ctx))
	if sent == nil || !slices.Equal(sent.Kinds, []catalog.Kind{catalog.KindBinding, catalog.KindProvider}) || len(sent.Docs) != 1201 {
		t.Fatalf("sent %+v", sent)
	}
	if docs := published(t, w.pub, w.keys); len(docs) != 100+1+1200+1200 {
		t.Errorf("%d documents are published", len(docs))
	}
	for deadline := time.Now().Add(10 * time.Second); watcher.View().Position() != head.Position; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the watcher does not follow: %+v", watcher.Status())
		}
	}
	if b, found := watcher.View().Binding("default", "m7"); !found || len(b.Candidates[0].Upstreams) != 0 {
		t.Errorf("binding %+v", b)
	}
}

func TestProviderChangesTouchWhatKnowsOfThem(t *testing.T) {
	w, m, _ := meddled(t)
	ctx := t.Context()
	p := ok[catalog.Provider](t)(w.tables.Providers.Create(ctx, catalog.Provider{Name: "p", Type: "openai", Models: []string{"m0", "m1", "m2"}}))
	for i := range 3 {
		ok[catalog.Model](t)(w.tables.Models.Create(ctx, catalog.Model{Name: fmt.Sprint("m", i)}))
	}
	ok[snapshot.Head](t)(w.relay.Sync(ctx))
	for _, tc := range []struct {
		name string
		edit func(*catalog.Provider)
		want int
	}{
		{"weight", func(p *catalog.Provider) { p.Weight = new(7) }, 1},
		{"status", func(p *catalog.Provider) { p.Status = catalog.Disabled }, 1},
		{"models", func(p *catalog.Provider) { p.Models = []string{"m0", "m1"} }, 1 + 3*2},
		{"group", func(p *catalog.Provider) { p.Group = "eu" }, 1 + 2*2},
	} {
		m.lookedUp = 0
		ok[catalog.Provider](t)(w.tables.Providers.Edit(ctx, p.ID, func(p *catalog.Provider) error { tc.edit(p); return nil }))
		ok[snapshot.Head](t)(w.relay.Sync(ctx))
		if m.lookedUp != tc.want {
			t.Errorf("%s: %d documents rendered, want %d", tc.name, m.lookedUp, tc.want)
		}
	}
}

func TestRelayDoesNotTryForEver(t *testing.T) {
	w, m, _ := meddled(t)
	tries := 0
	m.replace = func(*snapshot.Snapshot) error { tries++; return snapshot.ErrStale }
	if _, err := w.relay.Resync(t.Context(), snapshot.ResyncOptions{}); !errors.Is(err, snapshot.ErrStale) {
		t.Errorf("Resync: %v, want ErrStale", err)
	}
	if tries < 2 || tries > 1000 {
		t.Errorf("%d tries", tries)
	}
}

// putHead publishes a head as it should not be.
func putHead(t *testing.T, w *world, change func(*snapshot.Head)) {
	t.Helper()
	s, err := w.pub.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	change(&s.Head)
	w.keys.Sign(&s.Head)
	fresh := memstore.NewPublisher()
	if err := fresh.Replace(t.Context(), s, nil); err != nil {
		t.Fatal(err)
	}
	w.pub = fresh
}

func TestRelayWaitsBeforeItRepairs(t *testing.T) {
	for _, tc := range []struct {
		name     string
		change   func(*snapshot.Head)
		newEpoch bool
		refuses  bool // until it repairs
	}{
		{"a head ahead of the store, which may lag", func(h *snapshot.Head) { h.Position.Revision += 5 }, true, true},
		{"an old epoch's head, beside which the new one may be at work", func(h *snapshot.Head) { h.Position.Epoch-- }, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, m, now := meddled(t)
			createKeys(t, w, 3)
			good := ok[snapshot.Head](t)(w.relay.Sync(t.Context()))
			putHead(t, w, tc.change)
			m.Publisher = w.pub
			for range 2 {
				if _, err := w.relay.Sync(t.Context()); (err != nil) != tc.refuses {
					t.Fatalf("Sync: %v", err)
				}
				*now = now.Add(20 * time.Second)
			}
			head := ok[snapshot.Head](t)(w.relay.Sync(t.Context()))
			if !head.Position.After(good.Position) || (head.Position.Epoch > good.Position.Epoch) != tc.newEpoch || head.Position.Epoch < good.Position.Epoch {
				t.Errorf("published %s after %s", head.Position, good.Position)
			}
			if n := len(published(t, w.pub, w.keys)); n != 3 {
				t.Errorf("%d documents", n)
			}
		})
	}
}

func TestRelayRepairsWrongCounts(t *testing.T) {
	w, m, _ := meddled(t)
	createKeys(t, w, 3)
	before := ok[snapshot.Head](t)(w.relay.Sync(t.Context()))
	m.corrupt = true
	after := ok[snapshot.Head](t)(w.relay.Sync(t.Context()))
	if m.corrupt || !after.Position.After(before.Position) || after.Position.Epoch != before.Position.Epoch {
		t.Errorf("published %s after %s", after.Position, before.Position)
	}

	t.Run("but not another catalog's", func(t *testing.T) {
		putHead(t, w, func(h *snapshot.Head) { h.Store = "another" })
		m.Publisher, m.corrupt = w.pub, true
		if _, err := w.relay.Sync(t.Context()); !errors.Is(err, snapshot.ErrForeign) || !m.corrupt {
			t.Errorf("Sync: %v", err)
		}
	})
}

func TestLowerRendererGivesWay(t *testing.T) {
	w, m, _ := meddled(t)
	putHead(t, w, func(h *snapshot.Head) { h.Renderer = snapshot.Renderer + 1 })
	m.Publisher = w.pub
	createKeys(t, w, 1)
	if _, err := w.relay.Sync(t.Context()); !errors.Is(err, snapshot.ErrOutranked) {
		t.Errorf("Sync: %v", err)
	}
	if _, err := w.relay.Resync(t.Context(), snapshot.ResyncOptions{}); !errors.Is(err, snapshot.ErrOutranked) {
		t.Errorf("Resync: %v", err)
	}
	if head := ok[snapshot.Head](t)(w.relay.Resync(t.Context(), snapshot.ResyncOptions{Force: true})); head.Renderer != snapshot.Renderer {
		t.Errorf("forced: %+v", head)
	}
}

func TestHigherRendererTakesOver(t *testing.T) {
	w, m, _ := meddled(t)
	putHead(t, w, func(h *snapshot.Head) { h.Renderer = snapshot.Renderer - 1 })
	m.Publisher = w.pub
	if head := ok[snapshot.Head](t)(w.relay.Sync(t.Context())); head.Renderer != snapshot.Renderer || w.relay.Status().Replaces != 2 {
		t.Errorf("head %+v, %+v", head, w.relay.Status())
	}
}

// Damage that counts do not show is found by rereading, and cured within
// seconds; a snapshot in order is left alone.
func TestRelayScrubs(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(*snapshot.Snapshot)
	}{
		{"a document changed", func(s *snapshot.Snapshot) { s.Docs[0].Doc = append(s.Docs[0].Doc, ' ') }},
		{"a signature changed", func(s *snapshot.Snapshot) { s.Head.Sig = "00" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, m, _ := meddled(t)
				createKeys(t, w, 3)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- w.relay.Run(ctx) }()
				time.Sleep(time.Minute)
				if s := w.relay.Status(); s.Replaces != 1 {
					t.Errorf("in order, and replaced: %+v", s)
				}
				m.spoilLoads(tc.damage)
				time.Sleep(5 * time.Second)
				if s := w.relay.Status(); s.Replaces != 2 || s.LastError != "" {
					t.Errorf("damaged, and not replaced: %+v", s)
				}
				time.Sleep(time.Minute)
				if s := w.relay.Status(); s.Replaces != 2 {
					t.Errorf("cured, and replaced again: %+v", s)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
