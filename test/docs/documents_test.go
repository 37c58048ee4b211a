package docs_test

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/snapshot"
)

// The page for authors of balancers names every field of every document, and no other.
func TestFieldsOfDocuments(t *testing.T) {
	text, err := os.ReadFile("../../docs/balancers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, found := strings.Cut(string(text), "\n## Documents\n")
	if !found {
		t.Fatal("docs/balancers.md has no section Documents")
	}
	page, _, _ = strings.Cut(page, "\n## ")
	fields := map[string]bool{} // whether the page names it
	for _, doc := range []any{
		snapshot.ProviderDoc{}, snapshot.ModelDoc{}, snapshot.BindingDoc{}, snapshot.KeyDoc{}, snapshot.ProjectDoc{},
		snapshot.HoldDoc{}, snapshot.Candidate{}, snapshot.BudgetDoc{}, snapshot.PriceTierDoc{},
	} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(doc)) {
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
				fields[name] = false
			}
		}
	}
	name := regexp.MustCompile("`([a-z_]+)`")
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(line, "|")
		for _, m := range name.FindAllStringSubmatch(cells[1], -1) {
			if _, ok := fields[m[1]]; !ok {
				t.Errorf("docs/balancers.md has a field %s, which no document has", m[1])
			}
			fields[m[1]] = true
		}
		for _, m := range name.FindAllStringSubmatch(strings.Join(cells[2:], "|"), -1) {
			if _, ok := fields[m[1]]; ok {
				fields[m[1]] = true // a field of a list's elements stands beside the list
			}
		}
	}
	var missing []string
	for field, named := range fields {
		if !named {
			missing = append(missing, field)
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		t.Errorf("docs/balancers.md does not name %q", missing)
	}
}
