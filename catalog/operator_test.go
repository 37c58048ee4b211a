package catalog_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// Operators have tokens as keys do, of another form, and share none with them.
func TestOperatorTokens(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tables := catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(),
		&catalog.Options{Clock: func() time.Time { return now }})
	ctx := t.Context()
	o := must[catalog.Operator](t)(tables.Operators.Create(ctx, catalog.Operator{Name: "ops", Role: catalog.RoleAdmin}))
	token := o.Token.Reveal()
	if !catalog.IsOperatorToken(token) || catalog.IsToken(token) || !strings.HasPrefix(token, "ezo-") {
		t.Error("the token is not one of an operator")
	}
	known := func(token catalog.Secret) bool {
		t.Helper()
		got, err := tables.Operators.Authenticate(ctx, token)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil && got.ID == o.ID
	}
	if !known(o.Token) {
		t.Error("the operator is not known by its token")
	}
	if _, err := tables.Keys.Authenticate(ctx, o.Token); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("an operator's token as a key's: %v", err)
	}
	rotated := must[catalog.Operator](t)(tables.Operators.Rotate(ctx, o.ID, time.Hour, 0))
	if !known(o.Token) || !known(rotated.Token) || rotated.RotatedAt.IsZero() {
		t.Error("in the grace of a rotation both tokens are known")
	}
	now = now.Add(time.Hour)
	if known(o.Token) || !known(rotated.Token) {
		t.Error("after the grace the older token is known, or the newer is not")
	}
	if err := tables.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	if got := must[catalog.Operator](t)(tables.Operators.Get(ctx, o.ID)); len(got.Tokens) != 1 {
		t.Errorf("after maintenance there are %d hashes", len(got.Tokens))
	}
	if _, err := tables.Operators.Create(ctx, catalog.Operator{Name: "ops", Role: catalog.RoleViewer}); !errors.Is(err, catalog.ErrExists) {
		t.Errorf("a second of the name: %v", err)
	}
}
