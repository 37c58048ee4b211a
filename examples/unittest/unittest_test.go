package unittest_test

import (
	"testing"

	"github.com/ez-api/ez-api"
)

func TestKeyIsPublished(t *testing.T) {
	plane, err := ezapi.New(ezapi.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plane.Keys.Create(t.Context(), ezapi.Key{Name: "alice"}); err != nil {
		t.Fatal(err)
	}
	head, err := plane.Sync(t.Context()) // publish now
	if err != nil || head.Counts["keys"] != 1 {
		t.Fatalf("published %+v, %v", head.Counts, err)
	}
}
