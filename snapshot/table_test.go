package snapshot

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// contents returns what a table holds, found in the two ways there are.
func contents(t *rapid.T, table table[int, string], hash func(int) uint64) map[int]string {
	found := map[int]string{}
	for k, v := range table.all() {
		found[k] = *v
		if got := table.get(hash(k), k); got != v {
			t.Fatalf("get(%d) is not what all says", k)
		}
	}
	if table.n != len(found) {
		t.Fatalf("n = %d with %d items", table.n, len(found))
	}
	return found
}

// A table is a map, whatever the hashes; and one that was made of another
// leaves the other as it was.
func TestTableIsAMap(t *testing.T) {
	hashes := map[string]func(int) uint64{
		"uniform":     func(k int) uint64 { return mix(int64(k)) },
		"in one leaf": func(k int) uint64 { return 1<<50 | uint64(k)<<40 },
		"colliding":   func(k int) uint64 { return uint64(k%3) << 49 },
		"all equal":   func(int) uint64 { return 1<<64 - 1 },
	}
	for _, name := range slices.Sorted(maps.Keys(hashes)) {
		hash := hashes[name]
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				var now table[int, string]
				want := map[int]string{}
				for range rapid.IntRange(1, 8).Draw(t, "edits") {
					before, wanted := now, maps.Clone(want)
					e := now.edit()
					for range rapid.IntRange(0, 30).Draw(t, "changes") {
						k := rapid.IntRange(0, 60).Draw(t, "key")
						if rapid.Bool().Draw(t, "put") {
							want[k] = fmt.Sprint(len(want), k)
							e.put(hash(k), &item[int, string]{k, want[k]})
						} else {
							delete(want, k)
							e.remove(hash(k), k)
						}
						if got := e.get(hash(k), k); (got == nil) != (want[k] == "") || got != nil && *got != want[k] {
							t.Fatalf("the editor has not %q under %d", want[k], k)
						}
					}
					now = e.table()
					if diff := cmp.Diff(want, contents(t, now, hash)); diff != "" {
						t.Fatalf("after an edit (-want +got):\n%s", diff)
					}
					if diff := cmp.Diff(wanted, contents(t, before, hash)); diff != "" {
						t.Fatalf("the edit changed the table it started from (-want +got):\n%s", diff)
					}
				}
			})
		})
	}
}

func TestTableIterationStops(t *testing.T) {
	e := table[int, string]{}.edit()
	for k := range 100 {
		e.put(mix(int64(k)), &item[int, string]{k, "v"})
	}
	n := 0
	for range e.table().all() {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d iterations", n)
	}
}

// A change of one item copies a path and no more, whatever the size.
func BenchmarkTableEdit(b *testing.B) {
	for _, size := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			e := table[int, int]{}.edit()
			for k := range size {
				e.put(mix(int64(k)), &item[int, int]{k, k})
			}
			t := e.table()
			b.ReportAllocs()
			for k := 0; b.Loop(); k++ {
				e := t.edit()
				e.put(mix(int64(k%size)), &item[int, int]{k % size, k})
				t = e.table()
			}
		})
	}
}
