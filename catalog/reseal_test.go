package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

func ringOf(t *testing.T, ids ...string) *catalog.KeyRing {
	t.Helper()
	var keys []catalog.NamedKey
	for _, id := range ids {
		keys = append(keys, catalog.NamedKey{ID: id, Key: [32]byte{id[len(id)-1]}})
	}
	return must[*catalog.KeyRing](t)(catalog.NewKeyRing(keys...))
}

// After the keys were rotated, secrets are sealed anew without anybody noticing.
func TestReseal(t *testing.T) {
	store, ctx := memstore.New(nil), t.Context()
	old := catalog.NewTables(store, ringOf(t, "k1"), nil)
	const n = 50
	for i := range n {
		p := catalog.Provider{Name: fmt.Sprint("p", i), Type: "openai", Models: []string{"m"}}
		if i > 0 { // one has no secret
			p.APIKey = catalog.NewSecret(fmt.Sprintf("sk-0123456789-%02d", i))
		}
		must[catalog.Provider](t)(old.Providers.Create(ctx, p))
	}
	lost := catalog.NewTables(store, ringOf(t, "k9"), nil)
	must[catalog.Provider](t)(lost.Providers.Create(ctx,
		catalog.Provider{Name: "lost", Type: "openai", APIKey: catalog.NewSecret("sk-0123456789-99")}))

	tables := catalog.NewTables(store, ringOf(t, "k2", "k1"), nil)
	must[catalog.Provider](t)(tables.Providers.Create(ctx,
		catalog.Provider{Name: "new", Type: "openai", APIKey: catalog.NewSecret("sk-0123456789-98")}))
	before := must[[]catalog.Provider](t)(tables.Providers.List(ctx, catalog.Query{}))
	head := len(changes(t, tables))
	if s := tables.SealStatus(); !s.At.IsZero() {
		t.Errorf("before the first round: %+v", s)
	}
	if s, err := tables.Reseal(ctx, 30); err != nil || s.Current != 31 || s.Older != 19 || s.Unopenable != 1 ||
		s.Resealed != 30 {
		t.Errorf("after 30: %+v, %v", s, err)
	}
	if s, err := tables.Reseal(ctx, 30); err != nil || s.Current != 50 || s.Older != 0 || s.Unopenable != 1 ||
		s.Resealed != 49 || s != tables.SealStatus() {
		t.Errorf("after all: %+v, %v", s, err)
	}
	feed := changes(t, tables)
	for _, c := range feed[head:] {
		if c.Action != catalog.ActionReseal || c.Actor != "maintenance" || string(c.Before) != string(c.After) ||
			strings.Contains(string(c.After), "sk-") {
			t.Fatalf("change %+v", c)
		}
	}
	if len(feed) != head+49 {
		t.Errorf("%d changes, want 49", len(feed)-head)
	}

	// The older key is not needed any more, and nobody's revision has moved.
	after := catalog.NewTables(store, ringOf(t, "k2"), nil)
	for i, p := range must[[]catalog.Provider](t)(after.Providers.List(ctx, catalog.Query{})) {
		if p.Name != "lost" && (p.Sealed || !p.APIKey.Equal(before[i].APIKey)) || p.Revision != before[i].Revision ||
			!p.UpdatedAt.Equal(before[i].UpdatedAt) {
			t.Errorf("%s: sealed %t, revision %d of %d", p.Name, p.Sealed, p.Revision, before[i].Revision)
		}
	}
	if s, err := after.Reseal(ctx, 30); err != nil || s.Resealed != 0 || len(changes(t, tables)) != len(feed) {
		t.Errorf("a round with nothing to do: %+v, %v", s, err)
	}
}

// A provider that somebody changes meanwhile is left to them.
func TestResealYields(t *testing.T) {
	store, ctx := memstore.New(nil), t.Context()
	old := catalog.NewTables(store, ringOf(t, "k1"), nil)
	p := must[catalog.Provider](t)(old.Providers.Create(ctx,
		catalog.Provider{Name: "p", Type: "openai", APIKey: catalog.NewSecret("sk-0123456789ab")}))
	racing := &racingStore{Store: store}
	tables := catalog.NewTables(racing, ringOf(t, "k2", "k1"), nil)
	racing.before = func() {
		must[catalog.Provider](t)(old.Providers.Patch(ctx, p.ID, 0, []byte(`{"weight":7}`)))
	}
	if s, err := tables.Reseal(ctx, 10); err != nil || s.Older != 1 || s.Current != 0 {
		t.Errorf("while somebody changes it: %+v, %v", s, err)
	}
	if s, err := tables.Reseal(ctx, 10); err != nil || s.Older != 0 || s.Current != 1 {
		t.Errorf("afterwards: %+v, %v", s, err)
	}
	if got := must[catalog.Provider](t)(tables.Providers.Get(ctx, p.ID)); *got.Weight != 7 {
		t.Errorf("the change is lost: %+v", got)
	}
	racing.err = errors.New("the disk is full")
	must[catalog.Provider](t)(old.Providers.Create(ctx,
		catalog.Provider{Name: "q", Type: "openai", APIKey: catalog.NewSecret("sk-0123456789ab")}))
	if s, err := tables.Reseal(ctx, 10); err == nil || s.LastError == "" || tables.SealStatus().LastError == "" ||
		s.Older != 1 {
		t.Errorf("a failing store: %+v, %v", s, err)
	}
}

type racingStore struct {
	catalog.Store
	before func()
	err    error
}

func (s *racingStore) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	if f := s.before; f != nil {
		s.before = nil
		f()
	}
	if s.err != nil {
		return 0, s.err
	}
	return s.Store.Commit(ctx, c)
}
