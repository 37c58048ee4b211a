package memstore_test

import (
	"testing"

	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func TestStore(t *testing.T) {
	storagetest.RunStore(t, func(t testing.TB) storagetest.StoreHarness {
		s := memstore.New(nil)
		return storagetest.StoreHarness{Store: s, Close: func(t testing.TB) {
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}}
	})
}

func TestOutbox(t *testing.T) {
	storagetest.RunOutbox(t, func(testing.TB) storagetest.OutboxHarness {
		return storagetest.OutboxHarness{Outbox: memstore.New(nil)}
	})
}
