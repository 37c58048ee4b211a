package conformance

import (
	"fmt"
	"maps"
	"net/http"

	"github.com/ez-api/ez-api/catalog"
)

// A Route is what a reader does with a client's request for a model.
type Route struct {
	Status  int               `json:"status"`  // 200, or what the client is answered
	Targets map[string]string `json:"targets"` // what each provider calls the model, by its id
}

// routes asks for names of every form: records of their own, those with a star in their order, in
// the client's namespace and in another, and lists that end in a star.
func (s *script) routes() error {
	var provider catalog.Provider
	var all, listed, elsewhere catalog.Key
	_, err := s.tables.Update(s.ctx, func(tx *catalog.Tx) (err error) {
		if provider, err = tx.Providers.Create(s.ctx, catalog.Provider{
			Name: "of names", Type: "openai", APIKey: catalog.NewSecret("sk-conformance"), Group: "names",
			Models: []string{"*", "large-2026"},
		}); err != nil {
			return err
		}
		for _, m := range []catalog.Model{
			{Name: "a/b"}, {Name: "a/b/*"}, {Name: "a/*"}, {Name: "a/old", Meta: catalog.Meta{Status: catalog.Disabled}},
			{Name: "*"},
			{Namespace: "other", Name: "c/*"}, {Name: "x.y"},
		} {
			if _, err := tx.Models.Create(s.ctx, m); err != nil {
				return err
			}
			value := m.Name
			switch m.Name {
			case "a/b":
				value = "large-2026"
			case "a/b/*", "c/*": // the provider calls them by what the star stands for
				value = "*"
			}
			if _, err := tx.Bindings.Create(s.ctx, catalog.Binding{
				Namespace: m.Namespace, Model: m.Name, RouteGroup: "names", SelectorValue: value,
			}); err != nil {
				return err
			}
		}
		all, listed = catalog.Key{Name: "all"}, catalog.Key{Name: "listed", Models: []string{"a/b/*", "x.y"}}
		elsewhere = catalog.Key{Name: "elsewhere", Namespaces: []string{"other", "default"}}
		for _, k := range []*catalog.Key{&all, &listed, &elsewhere} {
			k.Group = "names"
			if *k, err = tx.Keys.Create(s.ctx, *k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.publish(); err != nil {
		return err
	}
	for _, tc := range []struct {
		key      catalog.Key
		model    string
		status   int
		upstream string
	}{
		{all, "a/b", http.StatusOK, "large-2026"},
		{all, "a/b/c", http.StatusOK, "c"},
		{all, "a/b/c/d", http.StatusOK, "c/d"},
		{all, "a/c", http.StatusOK, "a/c"},
		{all, "c/d", http.StatusOK, "c/d"},
		{all, "default.a/c", http.StatusOK, "a/c"},
		{all, "a/old", http.StatusNotFound, ""},                // a record of its own decides, also when it is disabled
		{all, "a/*", http.StatusNotFound, ""},                  // nobody asks for a star
		{all, "a/b/c*", http.StatusNotFound, ""},               // nor for one in the middle
		{all, "1/2/3/4/5/6/7/8/9/10", http.StatusNotFound, ""}, // too deep to be looked up
		{all, "other.c/d", http.StatusForbidden, ""},           // a namespace that the key has no part in
		{listed, "a/b/c", http.StatusOK, "c"},
		{listed, "a/b", http.StatusForbidden, ""}, // the list has a/b/*, which is not a/b
		{listed, "a/c", http.StatusForbidden, ""},
		{listed, "x.y", http.StatusOK, "x.y"},
		{elsewhere, "c/d", http.StatusOK, "d"}, // in other, its default
		{elsewhere, "default.a/c", http.StatusOK, "a/c"},
		{elsewhere, "a/c", http.StatusNotFound, ""}, // other has no star for it
	} {
		got, err := s.reader.Route(tc.key.Tokens[0].Hash, tc.model)
		want := map[string]string{}
		if tc.status == http.StatusOK {
			want[fmt.Sprint(provider.ID)] = tc.upstream
		}
		switch {
		case err != nil:
			return err
		case got.Status != tc.status:
			return fmt.Errorf("%s asks for %q: the reader says %d, want %d", tc.key.Name, tc.model, got.Status, tc.status)
		case !maps.Equal(got.Targets, want):
			return fmt.Errorf("%s asks for %q: the reader's targets are %v, want %v", tc.key.Name, tc.model, got.Targets, want)
		}
	}
	got, err := s.reader.Route("nobody's", "a/b")
	if err == nil && got.Status != http.StatusUnauthorized {
		err = fmt.Errorf("a token of nobody's: the reader says %d, want 401", got.Status)
	}
	return err
}
