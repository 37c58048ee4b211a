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

// countedStore counts what is asked of a catalog.
type countedStore struct {
	*memstore.Store
	asked atomic.Int64
}

type countedReader struct {
	catalog.Reader
	asked *atomic.Int64
}

func (s *countedStore) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	s.asked.Add(1)
	return s.Store.Read(ctx, func(r catalog.Reader) error { return fn(countedReader{r, &s.asked}) })
}

func (r countedReader) Get(ctx context.Context, k catalog.Kind, id int64) (catalog.Entity, error) {
	r.asked.Add(1)
	return r.Reader.Get(ctx, k, id)
}

func (r countedReader) Find(
	ctx context.Context, k catalog.Kind, by catalog.Index, value string,
) (catalog.Entity, error) {
	r.asked.Add(1)
	return r.Reader.Find(ctx, k, by, value)
}

func (r countedReader) List(ctx context.Context, k catalog.Kind, q catalog.Query) ([]catalog.Entity, error) {
	r.asked.Add(1)
	return r.Reader.List(ctx, k, q)
}

func (r countedReader) Count(ctx context.Context, k catalog.Kind, q catalog.Query) (int64, error) {
	r.asked.Add(1)
	return r.Reader.Count(ctx, k, q)
}

// What is not an operator's own takes as long to be not found as what does not exist: the catalog is
// asked for as much.
func TestOthersAreNotFoundAsFast(t *testing.T) {
	store := &countedStore{Store: memstore.New(nil)}
	w := newTenantsOf(t, ezapi.Config{Catalog: store, Keeper: catalog.NewRandomKeyRing()})
	asked := func(method, path string, body any) int64 {
		t.Helper()
		w.do(w.tokens["acme admin"], "GET", "/keys/"+w.own, nil) // operators have been looked at
		before := store.asked.Load()
		w.do(w.tokens["acme admin"], method, path, body).problem(t, http.StatusNotFound, "not-found")
		return store.asked.Load() - before
	}
	paths := []string{"/keys/" + w.other, "/projects/" + w.otherProject, "/holds/" + w.otherHold}
	for _, h := range w.must(http.StatusOK, admin, "GET", "/holds", nil).object(t)["data"].([]any) {
		if id := number(h.(object)["id"]); id != w.ownHold {
			paths = append(paths, "/holds/"+id) // of a project, and of a provider
		}
	}
	for _, path := range paths {
		for method, body := range map[string]any{"GET": nil, "PATCH": object{"labels": object{"a": "b"}}, "DELETE": nil} {
			other := asked(method, path, body)
			if absent := asked(method, strings.TrimRight(path, "0123456789")+"99999", body); other != absent {
				t.Errorf("%s %s asks the catalog %d times, and %d times where there is nothing", method, path, other, absent)
			}
		}
	}
}
