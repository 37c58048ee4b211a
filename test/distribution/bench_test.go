package distribution

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// many is a source of a provider, a model and n keys, which it makes as it gives them: what a benchmark measures
// is the reader's alone.
type many struct {
	snapshot.Source
	n    int
	keys *snapshot.Keys
	head snapshot.Head
	size int // of all documents
}

func newMany(b *testing.B, keys *snapshot.Keys, n int) *many {
	b.Helper()
	m := &many{n: n, keys: keys, head: snapshot.Head{
		Format: snapshot.Format, Store: "00000000-0000-4000-8000-000000000001",
		Position: snapshot.Position{Epoch: 1, Revision: 1}, Mark: "0123456789abcdef0123456789abcdef",
		Renderer: snapshot.Renderer, Counts: snapshot.Counts{}, Digest: snapshot.Digests{},
		UpdatedAt: time.Now().UTC().Truncate(time.Microsecond),
	}}
	sums := map[catalog.Kind]snapshot.Digest{}
	for _, kind := range snapshot.Kinds() {
		m.head.Counts[kind] = 0
	}
	m.each(func(c snapshot.Change) {
		sums[c.Kind] = sums[c.Kind].Add(keys.Hash(c.Kind, c.Key, c.Doc))
		m.head.Counts[c.Kind]++
		m.size += len(c.Doc)
	})
	for _, kind := range snapshot.Kinds() {
		m.head.Digest[kind] = keys.Digest(kind, sums[kind])
	}
	keys.SignHead(&m.head)
	return m
}

func token(i int) string { return fmt.Sprintf("ez-%043d%06d", i, i%1_000_000) }

// each gives all documents, in an order.
func (m *many) each(give func(snapshot.Change)) {
	put := func(d snapshot.Document, err error) {
		if err != nil {
			panic(err) // of these constants
		}
		give(snapshot.Change(d))
	}
	put(snapshot.Encode("1", snapshot.ProviderDoc{
		ID: 1, Name: "p", Type: "openai", Group: "default", Models: []string{"large-2026"}, Weight: 1, Status: catalog.Active,
		SealedAPIKey: m.keys.Seal("sk-secret", catalog.NewDestination("openai", "", "", "", nil).SealData(1)),
	}))
	put(snapshot.Encode("default.large", snapshot.ModelDoc{Namespace: "default", Name: "large", Kind: "chat",
		Status: catalog.Active}))
	put(snapshot.Encode("default.large", snapshot.BindingDoc{
		Namespace: "default", PublicModel: "large", Status: catalog.Active,
		Candidates: []snapshot.Candidate{{
			RouteGroup: "default", ProviderGroup: "default", Weight: 1, SelectorType: "exact", SelectorValue: "large-2026",
			Status: catalog.Active, Upstreams: map[string]string{"1": "large-2026"},
		}},
	}))
	for i := range m.n {
		put(snapshot.Encode(catalog.HashToken(token(i)), snapshot.KeyDoc{
			ID: int64(i + 10), Name: fmt.Sprint("a client of usual length ", i), Status: catalog.Active, Group: "default",
			Namespaces: []string{"default"}, DefaultNamespace: "default", RPMLimit: 600, TPMLimit: 100_000,
			Labels: map[string]string{"team": fmt.Sprint("team-", i%100)},
		}))
	}
}

func (m *many) Head(context.Context) (snapshot.Head, error) { return m.head, nil }

// Load gives a thousand documents at a time, as Redis does.
func (m *many) Load(_ context.Context, into snapshot.Loader) error {
	if _, err := into.Begin(m.head); err != nil {
		return err
	}
	var batch []snapshot.Change
	var failed error
	m.each(func(c snapshot.Change) {
		if batch = append(batch, c); len(batch) == 1000 && failed == nil {
			failed = into.Add(batch)
			batch = nil
		}
	})
	if err := errors.Join(failed, into.Add(batch)); err != nil {
		return err
	}
	return into.End(m.head)
}

func (m *many) Next(ctx context.Context, _ snapshot.Position) (snapshot.Delta, error) {
	<-ctx.Done()
	return snapshot.Delta{}, ctx.Err()
}

func (m *many) Report(context.Context, snapshot.Node) (snapshot.Answer, error) {
	return snapshot.Answer{Head: m.head.Base(), Live: 1}, nil
}

// given is many with its documents made beforehand, for what is measured by time.
type given struct {
	*many
	docs []snapshot.Change
}

func (m *many) given() *given {
	g := &given{many: m}
	m.each(func(c snapshot.Change) { g.docs = append(g.docs, c) })
	return g
}

func (g *given) Load(_ context.Context, into snapshot.Loader) error {
	if _, err := into.Begin(g.head); err != nil {
		return err
	}
	for batch := range slices.Chunk(g.docs, 1000) {
		if err := into.Add(batch); err != nil {
			return err
		}
	}
	return into.End(g.head)
}

func benchKeys(b *testing.B) *snapshot.Keys {
	b.Helper()
	keys, err := snapshot.ParseKeys(syncKey)
	if err != nil {
		b.Fatal(err)
	}
	return keys
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// highest watches the heap until what it returns is called, which returns the most that was in use.
func highest() func() uint64 {
	stop, done := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse)
			select {
			case <-stop:
				done <- most
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(stop); return <-done }
}

// BenchmarkView looks up a random token among a million, beside what is the
// least: SHA-256 and a plain map. It says what memory a key takes.
func BenchmarkView(b *testing.B) {
	const n = 1_000_000
	keys := benchKeys(b)
	src := newMany(b, keys, n)
	without := heap()
	peak := highest()
	v, err := snapshot.LoadView(b.Context(), src, keys)
	if err != nil {
		b.Fatal(err)
	}
	perKeyPeak := float64(peak()-without) / n
	perKey := float64(heap()-without) / n
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = token(i)
	}
	plain := make(map[[32]byte]*snapshot.KeyDoc, n)
	for _, token := range tokens {
		plain[sha256.Sum256([]byte(token))] = &snapshot.KeyDoc{}
	}
	order := rand.Perm(n)
	b.Run("plain map", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if plain[sha256.Sum256([]byte(tokens[order[i%n]]))] == nil {
				b.Fatal("not found")
			}
		}
	})
	b.Run("token to key", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, ok := v.Key(tokens[order[i%n]]); !ok {
				b.Fatal("not found")
			}
		}
		b.ReportMetric(perKey, "B/key")
		b.ReportMetric(perKeyPeak, "peak-B/key")
		b.ReportMetric(float64(src.size)/n, "B/document")
	})
	b.Run("authenticate and route", func(b *testing.B) {
		b.ReportAllocs()
		addr, now := netip.MustParseAddr("192.0.2.1"), time.Now()
		var targets []snapshot.Target
		for i := 0; b.Loop(); i++ {
			key, err := v.Authenticate(tokens[order[i%n]], addr, now)
			if err != nil {
				b.Fatal(err)
			}
			if targets, err = v.AppendTargets(targets[:0], key, "large", time.Now()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBootstrap makes a View of 100,000 published keys, verified, beside
// what a balancer without us would do: decode one JSON document of them all.
func BenchmarkBootstrap(b *testing.B) {
	const n = 100_000
	keys := benchKeys(b)
	src := newMany(b, keys, n).given()
	all := map[string]json.RawMessage{}
	for _, d := range src.docs {
		all[string(d.Kind)+" "+d.Key] = d.Doc
	}
	one, err := json.Marshal(all)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("one JSON document", func(b *testing.B) {
		for b.Loop() {
			var docs map[string]snapshot.KeyDoc
			if err := json.Unmarshal(one, &docs); err != nil {
				b.Fatal(err)
			}
			table := make(map[[32]byte]*snapshot.KeyDoc, len(docs))
			for name, doc := range docs {
				var sum [32]byte
				if _, err := hex.Decode(sum[:], []byte(name[max(0, len(name)-64):])); err == nil {
					table[sum] = &doc
				}
			}
		}
	})
	b.Run("View", func(b *testing.B) {
		for b.Loop() {
			if _, err := snapshot.LoadView(b.Context(), src, keys); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("last good file", func(b *testing.B) {
		opts := &snapshot.WatcherOptions{Keys: keys, Logger: slog.New(slog.DiscardHandler),
			File: filepath.Join(b.TempDir(), "good")}
		startWatcher(b, src, opts)
		down := memstore.NewPublisher() // where nothing was published: as good as down
		for b.Loop() {
			startWatcher(b, down, opts)
		}
	})
}

// startWatcher runs a watcher until it serves, and stops it, so that its file is written.
func startWatcher(b *testing.B, src snapshot.Source, opts *snapshot.WatcherOptions) {
	b.Helper()
	w := snapshot.NewWatcher(src, opts)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	<-w.Ready()
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
