package distribution

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// manyKeys makes documents of a provider, a model and n keys, and their tokens.
func manyKeys(b *testing.B, keys *snapshot.Keys, n int) ([]snapshot.Change, []string) {
	b.Helper()
	docs := make([]snapshot.Change, 0, n+3)
	put := func(d snapshot.Document, err error) {
		if err != nil {
			b.Fatal(err)
		}
		docs = append(docs, snapshot.Change(d))
	}
	destination := catalog.NewDestination("openai", "", "", "", nil)
	put(snapshot.Encode("1", snapshot.ProviderDoc{
		ID: 1, Name: "p", Type: "openai", Group: "default", Models: []string{"large-2026"}, Weight: 1, Status: catalog.Active,
		SealedAPIKey: keys.Seal("sk-secret", destination.SealData(1)),
	}))
	put(
		snapshot.Encode(
			"default.large",
			snapshot.ModelDoc{Namespace: "default", Name: "large", Kind: "chat", Status: catalog.Active},
		),
	)
	put(snapshot.Encode("default.large", snapshot.BindingDoc{
		Namespace: "default", PublicModel: "large", Status: catalog.Active,
		Candidates: []snapshot.Candidate{{
			RouteGroup: "default", ProviderGroup: "default", Weight: 1, SelectorType: "exact", SelectorValue: "large-2026",
			Status: catalog.Active, Upstreams: map[string]string{"1": "large-2026"},
		}},
	}))
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = fmt.Sprintf("ez-%043d%06d", i, i%1_000_000)
		put(snapshot.Encode(catalog.HashToken(tokens[i]), snapshot.KeyDoc{
			ID: int64(
				i + 10,
			), Name: fmt.Sprint("a client of usual length ", i), Status: catalog.Active, Group: "default",
			Namespaces: []string{"default"}, DefaultNamespace: "default", RPMLimit: 600, TPMLimit: 100_000,
			Labels: map[string]string{"team": fmt.Sprint("team-", i%100)},
		}))
	}
	return docs, tokens
}

// published returns a publisher that has documents, signed.
func published(b *testing.B, keys *snapshot.Keys, docs []snapshot.Change) *memstore.Publisher {
	b.Helper()
	head := snapshot.Head{
		Format: snapshot.Format, Store: "00000000-0000-4000-8000-000000000001", Position: snapshot.Position{Epoch: 1, Revision: 1},
		Mark: "0123456789abcdef0123456789abcdef", Renderer: 1, UpdatedAt: time.Now().UTC().Truncate(time.Microsecond),
		Counts: snapshot.Counts{}, Digest: snapshot.Digests{},
	}
	sums := map[catalog.Kind]snapshot.Digest{}
	for _, d := range docs {
		sums[d.Kind] = sums[d.Kind].Add(keys.Hash(d.Kind, d.Key, d.Doc))
		head.Counts[d.Kind]++
	}
	for _, kind := range snapshot.Kinds() {
		head.Counts[kind] += 0
		head.Digest[kind] = keys.Digest(kind, sums[kind])
	}
	keys.SignHead(&head)
	pub := memstore.NewPublisher()
	staged, err := pub.Stage(b.Context())
	if err == nil {
		err = staged.Add(b.Context(), docs)
	}
	if err == nil {
		err = staged.Publish(b.Context(), snapshot.Base{}, head)
	}
	if err != nil {
		b.Fatal(err)
	}
	return pub
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

// BenchmarkView looks up a random token among a million, beside what is the
// least: SHA-256 and a plain map. It says what memory a key takes.
func BenchmarkView(b *testing.B) {
	const n = 1_000_000
	keys := benchKeys(b)
	docs, tokens := manyKeys(b, keys, n)
	size := 0
	for _, d := range docs {
		size += len(d.Doc)
	}
	pub := published(b, keys, docs)
	without := heap()
	v, err := snapshot.LoadView(b.Context(), pub, keys)
	if err != nil {
		b.Fatal(err)
	}
	perKey := float64(heap()-without) / n
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
		b.ReportMetric(float64(size)/n, "B/document")
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
			if targets, err = v.AppendTargets(targets[:0], key, "large"); err != nil {
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
	docs, _ := manyKeys(b, keys, n)
	pub := published(b, keys, docs)
	all := map[string]json.RawMessage{}
	for _, d := range docs {
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
			if _, err := snapshot.LoadView(b.Context(), pub, keys); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("last good file", func(b *testing.B) {
		opts := &snapshot.WatcherOptions{
			Keys:   keys,
			Logger: slog.New(slog.DiscardHandler),
			File:   filepath.Join(b.TempDir(), "good"),
		}
		startWatcher(b, pub, opts)
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
