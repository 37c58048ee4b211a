package snapshot_test

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/snapshot"
)

// The fields of documents belong to a renderer: in a fleet of mixed versions, two servers with one number
// and other fields would repair each other's documents in turn. Whoever changes a field raises Renderer,
// and writes both into testdata/renderer.txt.
func TestFieldsOfDocumentsRaiseTheRenderer(t *testing.T) {
	got := fmt.Sprintf("renderer %d\n", snapshot.Renderer)
	for _, doc := range []any{
		snapshot.ProviderDoc{}, snapshot.ModelDoc{}, snapshot.PriceTierDoc{}, snapshot.BindingDoc{}, snapshot.Candidate{},
		snapshot.ProjectDoc{}, snapshot.KeyDoc{}, snapshot.BudgetDoc{}, snapshot.HoldDoc{},
	} {
		var names []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(doc)) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); !f.Anonymous && name != "" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		got += fmt.Sprintf("%T: %s\n", doc, strings.Join(names, " "))
	}
	want, err := os.ReadFile("testdata/renderer.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the fields have changed: raise Renderer, and change testdata/renderer.txt (-want +got):\n%s\n%s", diff, got)
	}
}
