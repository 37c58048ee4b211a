package memstore_test

import (
	"testing"

	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func TestSink(t *testing.T) {
	storagetest.RunSink(t, func(testing.TB) storagetest.SinkHarness {
		return storagetest.SinkHarness{Sink: memstore.NewSink(nil), Days: 400}
	})
}
