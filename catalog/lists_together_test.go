package catalog_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// The lists of one resource are bounded together: each of these would be taken alone.
func TestListsAreBoundedTogether(t *testing.T) {
	tables := newTables(t, nil)
	list := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("%060d", i))
		}
		return all
	}
	const half = 256<<10/63 - 10
	for _, tc := range []struct {
		name    string
		models  int
		scopes  int
		refused bool
	}{
		{"both have half", half, half, false},
		{"one has more than half", half, half + 100, true},
	} {
		_, err := tables.Keys.Create(t.Context(), catalog.Key{Name: "k", Models: list(tc.models), Scopes: list(tc.scopes)})
		var errs catalog.FieldErrors
		if refused := errors.As(err, &errs); refused != tc.refused || err != nil && !tc.refused {
			t.Errorf("%s, a key: %.200v", tc.name, err)
		} else if refused && (len(errs) != 1 || errs[0].Field != "scopes") {
			t.Errorf("%s: %d errors, the first of %s", tc.name, len(errs), errs[0].Field)
		}
		_, err = tables.Projects.Create(t.Context(), catalog.Project{
			Name: fmt.Sprint("p", tc.scopes), Models: list(tc.models), Groups: list(tc.scopes),
		})
		if refused := errors.As(err, &errs); refused != tc.refused || err != nil && !tc.refused {
			t.Errorf("%s, a project: %.200v", tc.name, err)
		}
	}
}
