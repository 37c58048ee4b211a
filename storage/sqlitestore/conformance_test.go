package sqlitestore_test

import (
	"path/filepath"
	"testing"

	"github.com/ez-api/ez-api/storage/storagetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storagetest.RunStore(t, func(t testing.TB) storagetest.StoreHarness {
		path := filepath.Join(t.TempDir(), "catalog.db")
		store := open(t, path)
		return storagetest.StoreHarness{Store: store, Second: open(t, path), Close: func(t testing.TB) {
			if err := store.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}}
	})
}
