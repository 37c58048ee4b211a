package catalog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// nested returns an object of as many levels, each but the first in the last.
func nested(levels int) map[string]any {
	value := map[string]any{}
	for range levels - 1 {
		value = map[string]any{"a": value}
	}
	return value
}

// nestedList returns an object whose value is a list of as many levels as make all of them.
func nestedList(levels int) map[string]any {
	value := []any{}
	for range levels - 2 {
		value = []any{value}
	}
	return map[string]any{"a": value}
}

// listed returns n names of a length.
func listed(n, length int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%0*d", length, i)
	}
	return names
}

// quoted returns n names that hold quotes, a backslash and little else.
func quoted(n int) []string {
	names := listed(n, 10)
	for i := range names {
		names[i] = strings.Repeat(`"\`, 120) + names[i]
	}
	return names
}

// priced returns prices for n models with names of 200 characters.
func priced(n int) map[string]catalog.Prices {
	prices := map[string]catalog.Prices{}
	for _, name := range listed(n, 200) {
		prices[name] = catalog.Prices{RequestPrice: new(catalog.NanoUSD(1))}
	}
	return prices
}

// What a provider holds is bounded, and each bound is named where it is exceeded.
func TestBoundsOfProviders(t *testing.T) {
	tables := newTables(t, nil)
	for name, tt := range map[string]struct {
		field, text string
		p           catalog.Provider
	}{
		"large list":               {"models", "524288 bytes", catalog.Provider{Models: listed(2100, 250)}},
		"quotes, as JSON has them": {"models", "524288 bytes", catalog.Provider{Models: quoted(1100)}},
		"prices":                   {"prices", "1048576 bytes", catalog.Provider{Prices: priced(5000)}},
		"levels":                   {"options", "32 deep", catalog.Provider{Options: nested(33)}},
		"levels of lists":          {"options", "32 deep", catalog.Provider{Options: nestedList(33)}},
		"digits":                   {"options.n", "64-bit", catalog.Provider{Options: map[string]any{"n": digits(401)}}},
		"a type in ASCII":          {"type", "must be one of", catalog.Provider{Type: "OPENA\u0130"}},
	} {
		tt.p.Name = name
		if tt.p.Type == "" {
			tt.p.Type = "openai"
		}
		_, err := tables.Providers.Create(t.Context(), tt.p)
		if !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), tt.field) ||
			!strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %.300v", name, err)
		}
	}
	for name, p := range map[string]catalog.Provider{
		"a list":  {Models: listed(2000, 250)},
		"prices":  {Prices: priced(3000)},
		"levels":  {Options: nested(32)},
		"lists":   {Options: nestedList(32)},
		"digits":  {Options: map[string]any{"n": digits(400)}},
		"capital": {},
	} {
		p.Name, p.Type = name, "OpenAI"
		if _, err := tables.Providers.Create(t.Context(), p); err != nil {
			t.Errorf("%s is refused: %.300v", name, err)
		}
	}
}

// digits returns a fraction that is written with n characters.
func digits(n int) json.Number { return json.Number("0." + strings.Repeat("3", n-2)) }

// A zone is a link of one machine: no other knows it.
func TestAddressesWithAZoneAreRefused(t *testing.T) {
	_, err := newTables(t, nil).Keys.Create(t.Context(), catalog.Key{Name: "k",
		AllowIPs: []string{"fe80::1%eth0"}})
	if !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), "allow_ips[0]") {
		t.Errorf("%v", err)
	}
}

// A cursor is what String writes, and has no other form.
func TestCursorsHaveOneForm(t *testing.T) {
	for _, text := range []string{"05", "+5", "7.03", "7.+3", "7.0"} {
		if c, err := catalog.ParseCursor(text); err == nil {
			t.Errorf("%q is taken for %v", text, c)
		}
	}
}
