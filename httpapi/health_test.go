package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/memstore"
)

// awayStore is a catalog whose database can be away.
type awayStore struct {
	catalog.Store
	away atomic.Bool
}

func (s *awayStore) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	if s.away.Load() {
		return catalog.ErrUnavailable
	}
	return s.Store.Read(ctx, fn)
}

// TestReadyOnceTheCatalogWasReached: a new server whose catalog cannot be reached stays out of
// rotation; one that has worked stays in it, because it still takes logs.
func TestReadyOnceTheCatalogWasReached(t *testing.T) {
	store := &awayStore{Store: memstore.New(nil)}
	store.away.Store(true)
	s := newService(t, ezapi.Config{Catalog: store, Keeper: catalog.NewRandomKeyRing()}, nil)
	a := s.must(http.StatusServiceUnavailable, nobody, "GET", "/readyz", nil)
	for _, part := range []string{`"status":"unavailable"`, `"note":"not reached since the start"`} {
		if !strings.Contains(a.body, part) {
			t.Errorf("the answer lacks %s: %s", part, a.body)
		}
	}
	store.away.Store(false)
	s.must(http.StatusOK, nobody, "GET", "/readyz", nil)
	store.away.Store(true)
	if a := s.must(http.StatusOK, nobody, "GET", "/readyz", nil); !strings.Contains(a.body, `"status":"degraded"`) {
		t.Errorf("the answer is %s", a.body)
	}
}
