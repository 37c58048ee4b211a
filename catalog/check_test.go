package catalog_test

import (
	"errors"
	"testing"

	"github.com/ez-api/ez-api/catalog"
)

func TestCheck(t *testing.T) {
	good := catalog.Provider{Name: " p ", Type: "OpenAI"}
	if err := catalog.Check(&good, nil); err != nil || good.Name != "p" || good.Type != "openai" ||
		good.Group != "default" {
		t.Errorf("%v of %+v", err, good)
	}
	local := catalog.Provider{Name: "p", Type: "openai", BaseURL: "http://127.0.0.1"}
	if err := catalog.Check(&local, nil); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("a private upstream: %v", err)
	}
	if err := catalog.Check(&local, &catalog.Options{AllowPrivateUpstreams: true}); err != nil {
		t.Errorf("a private upstream that is allowed: %v", err)
	}
	bad := catalog.Key{Group: "a b"}
	if fields := catalog.FieldsOf(catalog.Check(&bad, nil)); len(fields) != 2 {
		t.Errorf("fields %v", fields)
	}
}
