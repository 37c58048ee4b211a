package customstore_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/examples/customstore"
	"github.com/ez-api/ez-api/storage/memstore"
)

func TestTrail(t *testing.T) {
	var trail bytes.Buffer
	store := customstore.New(memstore.New(nil), slog.New(slog.NewTextHandler(&trail, nil)))
	plane, err := ezapi.New(ezapi.Config{Catalog: store, Keeper: catalog.NewRandomKeyRing()})
	if err != nil {
		t.Fatal(err)
	}
	ctx := catalog.WithActor(t.Context(), "bob", "a try")
	if _, err := plane.Models.Create(ctx, ezapi.Model{Name: "m"}); err != nil {
		t.Fatal(err)
	}
	if _, err := plane.Models.Create(ctx, ezapi.Model{Name: "m"}); !errors.Is(err, catalog.ErrExists) {
		t.Fatalf("a second one of the name: %v", err)
	}
	if commits, refused := store.Stats(); commits != 1 || refused != 1 {
		t.Errorf("%d commits, %d refused", commits, refused)
	}
	lines := strings.Split(strings.TrimSpace(trail.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "msg=create kind=models id=1 revision=1 actor=bob") ||
		!strings.Contains(lines[1], "commit refused") {
		t.Errorf("trail:\n%s", &trail)
	}
}
