package ezapi_test

import (
	"context"
	"fmt"
	"log"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/snapshot"
)

// A whole control plane in memory, and a data plane that reads from it: what a
// unit test needs, without a server or a goroutine of its own.
func Example() {
	ctx := context.Background()
	plane, err := ezapi.New(ezapi.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer plane.Close(ctx)

	if _, err := plane.Models.Create(ctx, ezapi.Model{Name: "gpt-4o"}); err != nil {
		log.Fatal(err)
	}
	key, err := plane.Keys.Create(ctx, ezapi.Key{Name: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	head, err := plane.Sync(ctx) // publish now
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("published:", head.Counts)

	docs, err := plane.Publisher().Lookup(ctx, "models", "default.gpt-4o")
	if err != nil {
		log.Fatal(err)
	}
	model, err := snapshot.Decode[snapshot.ModelDoc](docs[0])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(model.Name, model.Status, "- the key's token:", key.Token)
	// Output:
	// published: map[bindings:1 holds:0 keys:1 models:1 projects:0 providers:0]
	// gpt-4o active - the key's token: [secret]
}
