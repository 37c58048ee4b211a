package storagetest

import (
	"errors"
	"testing"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// A sink that does something all the same does not pass.
func TestSinkRefuses(t *testing.T) {
	sink := memstore.NewSink(nil)
	if !failsAlone(t, func(t testing.TB) { SinkRefuses(t, sink, logbuf.ErrForeign) }) {
		t.Error("a sink that refuses nothing is passed")
	}
	for name, do := range calls(sink) {
		if err := do(t.Context()); err != nil && !errors.Is(err, logbuf.ErrGap) {
			t.Errorf("%s fails by itself, so that it is no test: %v", name, err)
		}
	}
}
