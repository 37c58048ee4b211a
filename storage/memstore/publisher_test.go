package memstore_test

import (
	"testing"

	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

func TestPublisher(t *testing.T) {
	t.Parallel()
	storagetest.RunPublisher(t, func(testing.TB) storagetest.PublisherHarness {
		p := memstore.NewPublisher()
		return storagetest.PublisherHarness{
			Publisher: p,
			History:   memstore.MaxDeltas,
			Age:       p.Age,
			Interrupt: p.Interrupt,
		}
	})
}
