package ezapi_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// A plane that runs seals anew what an older key has sealed, also while one key
// cannot be maintained.
func TestPlaneReseals(t *testing.T) {
	ring := func(ids ...string) *catalog.KeyRing {
		var keys []catalog.NamedKey
		for _, id := range ids {
			keys = append(keys, catalog.NamedKey{ID: id, Key: [32]byte{id[0]}})
		}
		r, err := catalog.NewKeyRing(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	store := memstore.New(nil)
	old := catalog.NewTables(store, ring("a"), nil)
	if _, err := old.Providers.Create(t.Context(),
		catalog.Provider{Name: "p", Type: "openai", APIKey: catalog.NewSecret("sk-0123456789ab")}); err != nil {
		t.Fatal(err)
	}
	unreadable := catalog.Entity{Kind: catalog.KindKey, ID: 99, Name: "k", Status: "active", Spec: []byte(`"none"`), DueAt: time.Unix(1, 0).UTC()}
	if _, err := store.Commit(t.Context(), catalog.Commit{Time: time.Now(), Writes: []catalog.Write{{
		Entity: unreadable, Change: catalog.Change{Action: catalog.ActionCreate, Kind: catalog.KindKey, ID: 99},
	}}}); err != nil {
		t.Fatal(err)
	}

	plane, err := ezapi.New(ezapi.Config{Catalog: store, Keeper: ring("b", "a"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- plane.Run(ctx) }()
	for deadline := time.Now().Add(30 * time.Second); plane.Stats().Seals.Resealed == 0; time.Sleep(
		10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing was sealed anew: %+v", plane.Stats().Seals)
		}
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if s := plane.Stats().Seals; s.Current != 1 || s.Older != 0 || s.Unopenable != 0 {
		t.Errorf("%+v", s)
	}
	if err := plane.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// A store that is away at the start, and comes back, is looked at again soon: that its secrets could not be
// counted does not stand for ten minutes.
func TestSealsAreCountedOnceTheStoreIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &awayStore{Store: memstore.New(nil)}
		store.away.Store(true)
		keys, err := catalog.NewKeyRing(catalog.NamedKey{ID: "a"})
		if err != nil {
			t.Fatal(err)
		}
		plane := runPlane(t, ezapi.Config{Catalog: store, Keeper: keys})
		time.Sleep(time.Minute)
		if plane.SealStatus().LastError == "" {
			t.Fatal("the store is away, and nothing says so")
		}
		store.away.Store(false)
		time.Sleep(20 * time.Second)
		if s := plane.SealStatus(); s.LastError != "" {
			t.Errorf("%+v", s)
		}
	})
}
