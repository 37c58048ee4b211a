package storagetest_test

import (
	"testing"

	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

// The test of an engine of your own is one call. In a test file it stands in a function such as
// func TestStore(t *testing.T).
func ExampleRunStore() {
	test := func(t *testing.T) {
		storagetest.RunStore(t, func(testing.TB) storagetest.StoreHarness {
			return storagetest.StoreHarness{Store: memstore.New(nil)} // yours, empty
		})
	}
	_ = test
}

// A sink that does not answer queries itself names the Archive that does.
func ExampleRunSink() {
	test := func(t *testing.T) {
		storagetest.RunSink(t, func(testing.TB) storagetest.SinkHarness {
			sink := memstore.NewSink(nil)
			return storagetest.SinkHarness{Sink: sink, Archive: sink}
		})
	}
	_ = test
}
