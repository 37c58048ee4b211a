package catalog_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// pickyStore refuses to be asked for a text that no entity can have, as some databases do.
type pickyStore struct{ catalog.Store }

func (s pickyStore) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	return s.Store.Read(ctx, func(r catalog.Reader) error { return fn(pickyReader{r}) })
}

type pickyReader struct{ catalog.Reader }

func (r pickyReader) List(ctx context.Context, k catalog.Kind, q catalog.Query) ([]catalog.Entity, error) {
	if asked := fmt.Sprint(q.NaturalKeys, q.ExternalIDs, q.Refs, q.Names); strings.Contains(asked, "\x00") {
		return nil, fmt.Errorf("asked for %q", asked)
	}
	return r.Reader.List(ctx, k, q)
}

// What the rules refuse is never looked for, in whichever field it stands, and hides no other error.
func TestRefusedTextsAreNotLookedFor(t *testing.T) {
	tables := catalog.NewTables(pickyStore{memstore.New(nil)}, catalog.NewRandomKeyRing(), nil)
	for _, tt := range []struct{ state, field string }{
		{`{"models":[{"name":"a\u0000"}]}`, "models[0].name"},
		{`{"models":[{"name":"a","external_id":"\u0000"}]}`, "models[0].external_id"},
		{`{"models":[{"name":"a","namespace":"\u0000"}]}`, "models[0].namespace"},
		{`{"providers":[{"name":"a\u0000","type":"openai"}]}`, "providers[0].name"},
		{`{"projects":[{"name":"a\u0000"}]}`, "projects[0].name"},
		{`{"keys":[{"name":"a","external_id":"a\u0000"}]}`, "keys[0].external_id"},
		{`{"keys":[{"name":"a","external_id":"a","project":"a\u0000"}]}`, "keys[0].project"},
		{`{"bindings":[{"model":"a\u0000"}]}`, "bindings[0].model"},
	} {
		d, err := catalog.ParseDesired([]byte(tt.state))
		if err != nil {
			t.Fatal(err)
		}
		catalog.Want(&d, catalog.Model{Name: "m", Kind: "none"})
		_, err = tables.Plan(t.Context(), d, nil)
		var named, other bool
		for _, f := range catalog.FieldsOf(err) {
			named, other = named || f.Field == tt.field, other || strings.HasSuffix(f.Field, ".kind")
		}
		if !named || !other {
			t.Errorf("%s: %v", tt.state, err)
		}
	}
}
