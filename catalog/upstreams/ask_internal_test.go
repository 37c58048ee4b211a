package upstreams

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

// The client for upstreams that have to be public looks at the address that it dials.
func TestClientDialsNoPrivateAddress(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	get := func(private catalog.Privacy) error {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := newClient(private).Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	if err := get(catalog.PublicOnly); !errors.Is(err, catalog.ErrPrivateAddress) {
		t.Errorf("where upstreams are public: %v, want ErrPrivateAddress", err)
	}
	if err := get(catalog.AllowPrivate); err != nil {
		t.Errorf("where they may be private: %v", err)
	}
}
