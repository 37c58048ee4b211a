package catalog_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// The list knows who may come in now, as the catalog and the clock have it, and follows the feed.
func TestOperatorList(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	tables := newTables(t, &catalog.Options{Clock: clock})
	ctx := t.Context()
	create := func(name string, expires time.Time) catalog.Operator {
		return must[catalog.Operator](t)(tables.Operators.Create(ctx,
			catalog.Operator{Name: name, Role: catalog.RoleViewer, ExpiresAt: expires}))
	}
	early := create("early", time.Time{})
	list := catalog.NewOperatorList(clock)
	follower := catalog.NewFollower(tables.Store(), list)
	if _, ok := list.Authenticate(early.Token.Reveal()); ok {
		t.Error("an empty list knows somebody")
	}
	knows := func(what string, token catalog.Secret, want bool) {
		t.Helper()
		if _, err := follower.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		if _, ok := list.Authenticate(token.Reveal()); ok != want {
			t.Errorf("%s: known: %t", what, ok)
		}
	}
	knows("one that was there before", early.Token, true)
	knows("nobody", catalog.NewOperatorToken(), false)
	o := create("o", now.Add(time.Hour))
	knows("one that came later", o.Token, true)
	rotated := must[catalog.Operator](t)(tables.Operators.Rotate(ctx, o.ID, time.Minute, 0))
	knows("the older token in its grace", o.Token, true)
	knows("the newer token", rotated.Token, true)
	now = now.Add(time.Minute)
	knows("the older token after its grace", o.Token, false)
	again := must[catalog.Operator](t)(tables.Operators.Rotate(ctx, o.ID, 0, 0))
	knows("a token that was replaced", rotated.Token, false)
	knows("the one in its place", again.Token, true)
	must[catalog.Operator](t)(tables.Operators.Patch(ctx, o.ID, 0, []byte(`{"status":"disabled"}`)))
	knows("one that is disabled", again.Token, false)
	must[catalog.Operator](t)(tables.Operators.Patch(ctx, o.ID, 0, []byte(`{"status":"active","role":"admin"}`)))
	knows("one that is active again", again.Token, true)
	if got, _ := list.Authenticate(again.Token.Reveal()); got.Role != catalog.RoleAdmin || got.Name != "o" {
		t.Errorf("the operator is %+v", got)
	}
	now = now.Add(time.Hour)
	knows("one that has expired", again.Token, false)
	knows("one that does not expire", early.Token, true)
	must[catalog.Revision](t)(tables.Operators.Delete(ctx, early.ID, 0))
	knows("one that is deleted", early.Token, false)
	if loads := follower.Status().Loads; loads != 1 || list.Len() != 1 {
		t.Errorf("the whole was read %d times; %d operators", loads, list.Len())
	}
}

// A revoked operator is out at once on a server whose store hears of the commit.
func TestOperatorListFollows(t *testing.T) {
	tables, ctx := newTables(t, nil), t.Context()
	o := must[catalog.Operator](t)(tables.Operators.Create(ctx, catalog.Operator{Name: "o", Role: catalog.RoleViewer}))
	list := catalog.NewOperatorList(nil)
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_ = catalog.NewFollower(tables.Store(), list).Run(running, slog.New(slog.DiscardHandler))
	}()
	within := func(want bool) {
		t.Helper()
		for start := time.Now(); ; time.Sleep(time.Millisecond) {
			if _, ok := list.Authenticate(o.Token.Reveal()); ok == want {
				return
			}
			if time.Since(start) > time.Second {
				t.Fatalf("after a second: known is not %t", want)
			}
		}
	}
	within(true)
	must[catalog.Revision](t)(tables.Operators.Delete(ctx, o.ID, 0))
	within(false)
}

func BenchmarkOperatorList(b *testing.B) {
	tables := catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)
	var token string
	_, err := tables.Update(b.Context(), func(tx *catalog.Tx) error {
		for i := range 10_000 {
			o, err := tx.Operators.Create(b.Context(),
				catalog.Operator{Name: string(rune('A'+i%26)) + time.Duration(i).String(), Role: "viewer"})
			if err != nil {
				return err
			}
			token = o.Token.Reveal()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	list := catalog.NewOperatorList(nil)
	if _, err := catalog.NewFollower(tables.Store(), list).Refresh(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := list.Authenticate(token); !ok {
			b.Fatal("not known")
		}
	}
}
