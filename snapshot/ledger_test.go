package snapshot

import (
	"fmt"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
)

// A ledger is a map, whatever is put into it and taken out again.
func TestLedgerIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, model := newLedger(), map[string]Digest{}
		var sum Digest
		seen := map[string]bool{}
		names := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"})
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			key := names.Draw(t, "key")
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				hash := Digest{byte(rapid.IntRange(0, 255).Draw(t, "hash"))}
				l.put("keys", key, hash)
				if _, there := model[key]; !there {
					seen[key] = true // it came during the pass
				}
				sum, model[key] = sum.Sub(model[key]).Add(hash), hash
			case 2:
				l.remove("keys", key)
				sum = sum.Sub(model[key])
				delete(model, key)
			case 3:
				got, found := l.see("keys", key)
				want, there := model[key]
				if found != there || got != want {
					t.Fatalf("%q: %s %v, want %s %v", key, got, found, want, there)
				}
				seen[key] = seen[key] || there
			case 4:
				l.begin("keys")
				clear(seen)
			}
			unseen := 0
			for key, want := range model {
				if got, found := l.get("keys", key); !found || got != want {
					t.Fatalf("%q: %s %v, want %s", key, got, found, want)
				}
				if l.isUnseen("keys", key) == seen[key] {
					t.Fatalf("%q: unseen %v, seen %v", key, l.isUnseen("keys", key), seen[key])
				}
				if !seen[key] {
					unseen++
				}
			}
			if n := l.unseen("keys"); n != unseen {
				t.Fatalf("%d unseen, want %d", n, unseen)
			}
			if n := l.counts()["keys"]; n != len(model) {
				t.Fatalf("%d documents, want %d", n, len(model))
			}
			if got := l.digests(nil)["keys"]; got != sum {
				t.Fatalf("sum %s, want %s", got, sum)
			}
		}
	})
}

func TestLedgerIsSmall(t *testing.T) {
	const n = 1_000_000
	key := func(i int) string { return fmt.Sprintf("%064x", i) }
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	l := newLedger()
	for i := range n {
		l.put(catalog.KindKey, key(i), Digest{byte(i)})
	}
	each := float64(heap()-before) / n
	t.Logf("%.1f bytes a document", each)
	if each >= 64 {
		t.Errorf("%.1f bytes a document, want less than 64", each)
	}
	for i := 0; i < n; i += 997 {
		if h, found := l.get(catalog.KindKey, key(i)); !found || h != (Digest{byte(i)}) {
			t.Fatalf("document %d: %v %v", i, h, found)
		}
	}
	runtime.KeepAlive(l)
}

func BenchmarkLedger(b *testing.B) {
	l := newLedger()
	i := 0
	for b.Loop() {
		l.put(catalog.KindKey, fmt.Sprintf("%064x", i), Digest{1})
		i++
	}
}
