package catalog_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
)

// Pages of any size say together what one list says, whatever sizes the entities have. A page is
// full, or is the last, or has as many bytes as it may.
func TestPages(t *testing.T) {
	tables := newTables(t, nil)
	size := map[int64]int{} // of the scopes, without the marks around them
	for i := range 60 {
		n := []int{0, 0, 0, 1000, 30_000}[i%5]
		key, err := tables.Keys.Create(t.Context(), catalog.Key{Name: fmt.Sprint(i), Scopes: scopesOf(n)})
		if err != nil {
			t.Fatal(err)
		}
		size[key.ID] = n
	}
	all, err := tables.Keys.List(t.Context(), catalog.Query{})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		limit, bytes := rapid.IntRange(0, 70).Draw(t, "limit"), rapid.IntRange(-1, 200_000).Draw(t, "bytes")
		var got []catalog.Key
		for more, after := true, int64(0); more; {
			var page []catalog.Key
			page, more, err = tables.Keys.Page(context.Background(), catalog.Query{After: after, Limit: limit}, bytes)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				t.Fatal("a page is empty")
			}
			got, after = append(got, page...), page[len(page)-1].ID
			before := 0
			for _, key := range page[:len(page)-1] {
				before += size[key.ID]
			}
			whole := (before+size[after])*11/10 + 1000*len(page) // at least what it has
			switch {
			case before > max(bytes, 1):
				t.Fatalf("%d bytes come before the last of a page, want %d", before, bytes)
			case limit > 0 && len(page) > limit:
				t.Fatalf("a page of %d, want %d", len(page), limit)
			case more && len(page) != limit && whole < bytes:
				t.Fatalf("a page of %d has about %d bytes, want %d, or %d bytes", len(page), whole, limit, bytes)
			}
		}
		if diff := cmp.Diff(all, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// scopesOf returns scopes that have so many bytes together.
func scopesOf(bytes int) (scopes []string) {
	for i := range bytes / 50 {
		scopes = append(scopes, fmt.Sprintf("%05d", i)+strings.Repeat("s", 45))
	}
	return scopes
}
