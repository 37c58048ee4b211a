package catalog_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// A token by which the server knows somebody becomes no key's and no operator's, by whatever door.
// A holder that has one already can still be changed.
func TestReservedTokens(t *testing.T) {
	tables, all := newTables(t, nil), t.Context()
	const token = "sk-the-servers-own-0"
	hash := catalog.HashToken(token)
	stored := must[catalog.Key](t)(tables.Keys.Create(all, catalog.Key{Name: "before",
		Credential: catalog.Credential{Token: catalog.NewSecret(token)}}))
	ctx := catalog.WithReservedTokens(all, func(h string) bool { return h == hash })
	if _, err := tables.Keys.Patch(ctx, stored.ID, 0, []byte(`{"status":"disabled"}`)); err != nil {
		t.Errorf("a key that has one cannot be disabled: %v", err)
	}
	if _, err := tables.Keys.Delete(ctx, stored.ID, 0); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		field string
		do    func(context.Context) error
	}{
		"a key's token": {"token", func(ctx context.Context) error {
			_, err := tables.Keys.Create(ctx, catalog.Key{Name: "k",
				Credential: catalog.Credential{Token: catalog.NewSecret(token)}})
			return err
		}},
		"a key's hash": {"token_hashes", func(ctx context.Context) error {
			return putJSON(ctx, tables.Keys.Table, `{"name":"k","external_id":"k","token_hashes":["`+hash+`"]}`)
		}},
		"an operator's token": {"token", func(ctx context.Context) error {
			return putJSON(ctx, tables.Operators.Table, `{"name":"o","role":"viewer","token":"`+token+`"}`)
		}},
		"a desired state": {"keys[0].token_hashes", func(ctx context.Context) error {
			d, err := catalog.ParseDesired([]byte(`{"keys":[{"name":"k","external_id":"k","token_hashes":["` + hash + `"]}]}`))
			if err != nil {
				return err
			}
			_, err = tables.Apply(ctx, d, nil)
			return err
		}},
	} {
		err := tt.do(ctx)
		var got *catalog.FieldError
		if !errors.As(err, &got) || got.Field != tt.field || !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s: %v; want an error about %s", name, err, tt.field)
		}
	}
	if n := len(must[[]catalog.Key](t)(tables.Keys.List(all, catalog.Query{}))); n != 0 {
		t.Errorf("%d keys were stored", n)
	}
}

func putJSON[T catalog.Noun](ctx context.Context, table catalog.Table[T], body string) error {
	v, err := catalog.Decode[T]([]byte(body))
	if err == nil {
		_, err = table.Put(ctx, v)
	}
	return err
}
