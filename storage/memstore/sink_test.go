package memstore_test

import (
	"flag"
	"testing"

	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

var long = flag.Bool("long", false, "take the time for the full figures")

func TestSink(t *testing.T) {
	storagetest.RunSink(t, func(testing.TB) storagetest.SinkHarness {
		h := storagetest.SinkHarness{Sink: memstore.NewSink(nil)}
		if *long {
			h.Days = 400
		}
		return h
	})
}
