package httpapi_test

import (
	"net/http/httptest"
	"testing"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
	"github.com/ez-api/ez-api/storage/storagetest"
)

// TestSourceOverHTTP: what is read over HTTP is as good as what the engine says.
func TestSourceOverHTTP(t *testing.T) {
	t.Parallel() // it waits more than it works
	storagetest.RunSource(t, func(t testing.TB) storagetest.SourceHarness {
		pub := memstore.NewPublisher()
		s := newService(t, ezapi.Config{Publisher: pub}, nil)
		server := httptest.NewServer(s.api)
		src := snapshot.NewHTTPSource(server.URL, balancer, nil)
		t.Cleanup(func() {
			src.Close()
			server.CloseClientConnections()
			server.Close()
		})
		return storagetest.SourceHarness{Source: src, Publisher: pub}
	})
}
