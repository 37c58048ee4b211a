package pgstore_test

import (
	"testing"

	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storagetest.RunStore(t, func(t testing.TB) storagetest.StoreHarness {
		cfg := pgtest.Config(t)
		store := open(t, pgtest.Connect(t, cfg), nil)
		return storagetest.StoreHarness{Store: store, Second: open(t, pgtest.Connect(t, cfg), nil), Close: func(t testing.TB) {
			if err := store.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}}
	})
}
