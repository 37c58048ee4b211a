package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// An error about an entity says which of its fields it is about, however often it was wrapped.
func TestFieldsOf(t *testing.T) {
	field := &catalog.FieldError{Field: "weight", Message: "must be at least 1"}
	for _, tc := range []struct {
		name string
		err  error
		want []string
	}{
		{"none", errors.New("something else"), nil},
		{"one field", field, []string{"weight"}},
		{"several fields", catalog.FieldErrors{field, {Field: "name"}}, []string{"weight", "name"}},
		{"a provider's name", catalog.Exists(catalog.KindProvider, catalog.ByNaturalKey), []string{"name"}},
		{"a model's name", catalog.Exists(catalog.KindModel, catalog.ByNaturalKey), []string{"namespace", "name"}},
		{
			"a binding", catalog.Exists(catalog.KindBinding, catalog.ByNaturalKey),
			[]string{"namespace", "model", "route_group", "provider_group"},
		},
		{"an external id", catalog.Exists(catalog.KindKey, catalog.ByExternalID), []string{"external_id"}},
		{"a token", catalog.Exists(catalog.KindKey, catalog.ByHash), []string{"token"}},
		{"a model that is not there", catalog.Dangling(catalog.KindBinding), []string{"model"}},
		{"a model that is still used", catalog.Referenced(catalog.KindModel), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, f := range catalog.FieldsOf(fmt.Errorf("create: %w", tc.err)) {
				if f.Message == "" && f.Field != "name" {
					t.Errorf("%s has no message", f.Field)
				}
				got = append(got, f.Field)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("fields %q, want %q", got, tc.want)
			}
		})
	}
}
