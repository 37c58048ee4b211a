package catalog_test

import (
	"encoding/json"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
)

func TestParseUSD(t *testing.T) {
	for text, want := range map[string]catalog.NanoUSD{
		"0": 0, "2.50": 2_500_000_000, "0.000000001": 1, "1e-9": 1, "1.5E3": 1_500_000_000_000, "-0": 0,
		"9223372036.854775807": 9223372036854775807, "100": 100_000_000_000,
	} {
		got, err := catalog.ParseUSD(text)
		if err != nil || got != want {
			t.Errorf("ParseUSD(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "x", "1.0000000001", "-1", "1e-10", "9223372036.854775808", "1e99999999999", "NaN", "Inf", "1/3",
		"0x10", "1_000", " 1", "true", "null", "1e41", ".5", "1.",
	} {
		if got, err := catalog.ParseUSD(text); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("ParseUSD(%q) = %d, %v; want ErrInvalid", text, got, err)
		}
	}
}

// A string is exact. A number is what a program computed with floats, and is
// rounded half to even at the ninth decimal. What costs something never becomes free.
func TestAmountsInJSON(t *testing.T) {
	for text, want := range map[string]catalog.NanoUSD{
		`0.30000000000000004`: 300_000_000, `0.7999999999999999`: 800_000_000, `2.5`: 2_500_000_000, `"2.5"`: 2_500_000_000,
		`0.00000000051`: 1, `0.0000000015`: 2, `0.0`: 0, `0e9`: 0, `0.0000000025`: 2, `0.00000000250000001`: 3, `-0.0`: 0,
		`2e3`: 2_000_000_000_000, `9223372036.854775807`: 9223372036854775807, `9223372036.8547758074`: 9223372036854775807,
	} {
		var got catalog.NanoUSD
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		`"0.30000000000000004"`, `"1e-10"`, `-1`, `-1e-300`, `0.0000000005`, `1e-10`, `1e-300`, `4.9e-324`, `9223372036.8547758075`, `1e300`, `1e99999`, `true`, `""`, `[]`, `{}`, `"-1"`,
	} {
		var got catalog.NanoUSD
		if err := json.Unmarshal([]byte(text), &got); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s is %d, %v; want ErrInvalid", text, got, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) { // a float that is near an amount means the amount
		n := catalog.NanoUSD(rapid.Int64Range(0, 1<<50).Draw(t, "n"))
		text, err := json.Marshal(float64(n) / 1e9)
		if err != nil {
			t.Fatal(err)
		}
		var got catalog.NanoUSD
		if err := json.Unmarshal(text, &got); err != nil || got != n {
			t.Fatalf("%d as the float %s is %d, %v", n, text, got, err)
		}
	})
}

func TestNanoUSDRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := catalog.NanoUSD(rapid.Int64Min(0).Draw(t, "n"))
		if back, err := catalog.ParseUSD(n.String()); err != nil || back != n {
			t.Fatalf("%d is %q is %d, %v", n, n, back, err)
		}
		text, err := json.Marshal(n)
		if err != nil || text[0] != '"' {
			t.Fatalf("%s, %v: not a string", text, err)
		}
		var back catalog.NanoUSD
		if err := json.Unmarshal(text, &back); err != nil || back != n {
			t.Fatalf("%s is %d, %v", text, back, err)
		}
		if err := json.Unmarshal(text[1:len(text)-1], &back); err != nil || back != n {
			t.Fatalf("as a number %d, %v", back, err)
		}
	})
	if s := catalog.NanoUSD(-1_500_000_000).String(); s != "-1.5" {
		t.Errorf("negative: %s", s)
	}
}
