package logbuf

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What a block has made stays as it is, whatever is made after it, and of whatever size.
func TestTextBlock(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var block textBlock
		var made, want []string
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, 2*maxInBlock)), 1, 300).Draw(r, "sizes")
		for i, size := range sizes {
			text := []byte(strings.Repeat(string(rune('a'+i%26)), size))
			want = append(want, string(text))
			made = append(made, block.string(text))
			clear(text) // the body that it came from is used again
		}
		for i := range want {
			if made[i] != want[i] {
				r.Fatalf("string %d is %q, want %q", i, made[i], want[i])
			}
		}
	})
}
