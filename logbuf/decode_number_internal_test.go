package logbuf

import (
	"fmt"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Numbers with a whole value are taken exactly, however they are written, and no others are.
func TestNumbersAreExact(t *testing.T) {
	digits := rapid.StringMatching(`(0|[1-9][0-9]{0,20})`)
	rapid.Check(t, func(t *rapid.T) {
		text := digits.Draw(t, "whole")
		if rapid.Bool().Draw(t, "point") {
			text += "." + rapid.StringMatching(`[0-9]{0,18}[09]`).Draw(t, "fraction")
		}
		if rapid.Bool().Draw(t, "power") {
			text += rapid.SampledFrom([]string{"e", "E", "e+", "e-"}).Draw(t, "sign") +
				fmt.Sprint(rapid.IntRange(0, 40).Draw(t, "of ten"))
		}
		if rapid.Bool().Draw(t, "negative") {
			text = "-" + text
		}
		want, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%q is no number", text)
		}
		n, taken := number([]byte(text))
		if fits := want.IsInt() && want.Num().IsInt64(); taken != fits && !strings.HasPrefix(text, "-9223372036854775808") ||
			taken && want.Cmp(new(big.Rat).SetInt64(n)) != 0 {
			t.Fatalf("%s is %d, %t; want %s", text, n, taken, want.RatString())
		}
	})
	for _, text := range []string{"1e-400", "0.99999999999999999999", "1e999999999999999999999", "1e2147483648",
		"9007199254740993.5"} {
		if n, ok := number([]byte(text)); ok {
			t.Errorf("%s is taken as %d", text, n)
		}
	}
	for text, want := range map[string]int64{"9007199254740993.0": 1<<53 + 1, "0e99999999999999999999": 0, "-0.0": 0,
		"9223372036854775807.0": 1<<63 - 1, "12.0e1": 120} {
		if n, ok := number([]byte(text)); !ok || n != want {
			t.Errorf("%s is %d, %t", text, n, ok)
		}
	}
}
