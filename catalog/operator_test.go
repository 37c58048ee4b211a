package catalog_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// Operators have tokens as keys do, of another form, and share none with them.
func TestOperatorTokens(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tables := newTables(t, &catalog.Options{Clock: func() time.Time { return now }})
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
	if _, err := tables.Operators.Create(ctx, catalog.Operator{Name: "ops", Role: catalog.RoleViewer}); !errors.Is(err,
		catalog.ErrExists) {
		t.Errorf("a second of the name: %v", err)
	}
}

// The last use is recorded once an hour, and is no change that anybody's precondition notices.
func TestOperatorUseIsNoted(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	o := must[catalog.Operator](t)(tables.Operators.Create(ctx, catalog.Operator{Name: "o", Role: catalog.RoleViewer}))
	start := time.Date(2026, 1, 1, 12, 30, 45, 0, time.UTC)
	for _, tt := range []struct {
		at, want time.Time
		commits  catalog.Revision
	}{
		{start, start.Truncate(time.Minute), 1},
		{start.Add(59 * time.Minute), start.Truncate(time.Minute), 0},
		{start.Add(-time.Hour), start.Truncate(time.Minute), 0},
		{start.Add(time.Hour), start.Add(time.Hour).Truncate(time.Minute), 1},
	} {
		before := head(t, tables)
		if err := tables.Operators.NoteUse(ctx, map[int64]time.Time{o.ID: tt.at, 999: tt.at}); err != nil {
			t.Fatal(err)
		}
		got := must[catalog.Operator](t)(tables.Operators.Get(ctx, o.ID))
		if !got.LastUsedAt.Equal(tt.want) || got.Revision != o.Revision || head(t, tables)-before != tt.commits {
			t.Errorf("used at %s: %s at revision %d after %d commits; want %s, %d, %d", tt.at, got.LastUsedAt, got.Revision,
				head(t, tables)-before, tt.want, o.Revision, tt.commits)
		}
	}
	changed := must[catalog.Operator](t)(tables.Operators.Put(ctx, catalog.Operator{Name: "o", Role: catalog.RoleAdmin}))
	if changed.LastUsedAt.IsZero() {
		t.Error("a change forgets the last use")
	}
}
