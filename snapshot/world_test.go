package snapshot_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// tb is what *testing.T and *rapid.T have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Errorf(format string, args ...any)
}

// world is a catalog, a publisher and a relay between them.
type world struct {
	tables *catalog.Tables
	pub    *memstore.Publisher
	relay  *snapshot.Relay
	keys   *snapshot.Keys
	log    *slog.Logger
	clock  func() time.Time
}

const syncKey = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

func newWorld(t tb, keyList string) *world {
	t.Helper()
	keys, err := snapshot.ParseKeys(keyList)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		tables: catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil),
		pub:    memstore.NewPublisher(), keys: keys, log: slog.New(slog.DiscardHandler), clock: time.Now,
	}
	w.relay = w.newRelay()
	return w
}

func (w *world) newRelay() *snapshot.Relay { return w.newRelayOver(w.pub) }

func (w *world) newRelayOver(pub snapshot.Publisher) *snapshot.Relay {
	return snapshot.NewRelay(w.tables, pub, &snapshot.RelayOptions{
		Keys: w.keys, Logger: w.log, Clock: func() time.Time { return w.clock() },
	})
}

func ok[T any](t tb) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// reading is a loader that verifies all.
type reading struct {
	keys *snapshot.Keys
	head snapshot.Head
	docs map[string]string
}

func (r *reading) Begin(snapshot.Head) ([]catalog.Kind, error) {
	r.docs = map[string]string{}
	return snapshot.Kinds(), nil
}

func (r *reading) Add(changes []snapshot.Change) error {
	for _, c := range changes {
		if name := string(c.Kind) + " " + c.Key; c.Doc == nil {
			delete(r.docs, name)
		} else {
			r.docs[name] = string(c.Doc)
		}
	}
	return nil
}

func (r *reading) End(head snapshot.Head) error {
	r.head = head
	if err := r.keys.VerifyHead(head); err != nil {
		return err
	}
	keys, err := r.keys.Activate(head.Seal)
	if err != nil {
		return err
	}
	counts, sums := snapshot.Counts{}, map[catalog.Kind]snapshot.Digest{}
	for name, doc := range r.docs {
		var kind catalog.Kind
		var key string
		_, _ = fmt.Sscan(name, &kind, &key)
		key = name[len(kind)+1:]
		counts[kind]++
		sums[kind] = sums[kind].Add(keys.Hash(kind, key, []byte(doc)))
	}
	if !counts.Equal(head.Counts) {
		return fmt.Errorf("counts %v, head %v: %w", counts, head.Counts, snapshot.ErrCorrupt)
	}
	for kind, digest := range head.Digest {
		if keys.Digest(kind, sums[kind]) != digest {
			return fmt.Errorf("digest of %s: %w", kind, snapshot.ErrCorrupt)
		}
	}
	return nil
}

// read returns the documents by kind and key, if a reader that verifies takes them.
func read(pub snapshot.Source, keys *snapshot.Keys) (map[string]string, snapshot.Head, error) {
	r := &reading{keys: keys}
	err := pub.Load(context.Background(), r)
	return r.docs, r.head, err
}

// published returns the documents by kind and key, after checking the head against them.
func published(t tb, pub snapshot.Source, keys *snapshot.Keys) map[string]string {
	t.Helper()
	docs, _, err := read(pub, keys)
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// afresh returns what a relay publishes that knows nothing of what was published before.
func (w *world) afresh(t tb) map[string]string {
	t.Helper()
	fresh := memstore.NewPublisher()
	if _, err := w.newRelayOver(fresh).Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	return published(t, fresh, w.keys)
}

// same fails when documents differ.
func same(t tb, what string, want, got map[string]string) {
	t.Helper()
	if !maps.Equal(want, got) {
		t.Errorf("%s (-want +got):\n%s", what, cmp.Diff(want, got))
	}
}

func eventually(t testing.TB, what string, within time.Duration, is func() bool) {
	t.Helper()
	for start := time.Now(); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Since(start) > within {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// running runs something until the test ends, or stop is called.
func running(t testing.TB, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	var once bool
	stop = func() {
		if cancel(); !once {
			once = true
			<-done
		}
	}
	t.Cleanup(stop)
	return stop
}

// revisionOf returns the head of the catalog.
func (w *world) at(t tb) (head catalog.Head) {
	t.Helper()
	err := w.tables.Store().Read(context.Background(), func(r catalog.Reader) error { head = r.Head(); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return head
}
