package rollup

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
)

// A table adds up as a plain map does, also one that was used before, and whichever rows take turns.
func TestTableAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table Table
		for range rapid.IntRange(1, 4).Draw(t, "batches") {
			want := map[Key]int64{}
			entries := rapid.IntRange(0, 300).Draw(t, "entries")
			for range entries {
				e := logbuf.Entry{
					Time:  time.Unix(900*int64(rapid.IntRange(-2, 2).Draw(t, "quarter")), 0),
					KeyID: rapid.Int64Range(0, 5).Draw(t, "key"), ProviderID: rapid.Int64Range(0, 2).Draw(t, "provider"),
					Project:     fmt.Sprint("p", rapid.IntRange(0, 2).Draw(t, "project")),
					Model:       fmt.Sprint("m", rapid.IntRange(0, 20).Draw(t, "model")),
					InputTokens: rapid.Int64Range(0, 1000).Draw(t, "tokens"),
				}
				table.Add(&e)
				want[keyOf(&e)] += e.InputTokens
			}
			var requests int64
			got := map[Key]int64{}
			for _, row := range table.Rows {
				got[row.Key] += row.InputTokens.Int64()
				requests += row.Requests
			}
			if len(table.Rows) != len(want) || len(got) != len(want) || requests != int64(entries) {
				t.Fatalf("%d rows of %d keys with %d requests, want %d with %d", len(table.Rows), len(got), requests,
					len(want), entries)
			}
			for k, n := range want {
				if got[k] != n {
					t.Fatalf("%+v has %d tokens, want %d", k, got[k], n)
				}
			}
			table.Reset()
			if len(table.Rows) != 0 {
				t.Fatal("not empty after Reset")
			}
		}
	})
}
