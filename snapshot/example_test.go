package snapshot_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/memstore"
)

// A relay publishes a catalog, and a watcher in a data plane serves from what was published. With
// Redis, redisstore.New makes the publisher on both sides.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	keys, err := snapshot.ParseKeys("2026:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	if err != nil {
		fmt.Println(err)
		return
	}
	publisher := memstore.NewPublisher()

	// The control plane.
	tables := catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)
	var token string
	_, err = tables.Update(ctx, func(tx *catalog.Tx) error {
		if _, err := tx.Providers.Create(ctx, catalog.Provider{Name: "main", Type: "openai",
			APIKey: catalog.NewSecret("sk-0123456789"), Models: []string{"gpt-4o"}}); err != nil {
			return err
		}
		if _, err := tx.Models.Create(ctx, catalog.Model{Name: "gpt-4o"}); err != nil {
			return err
		}
		key, err := tx.Keys.Create(ctx, catalog.Key{Name: "alice"})
		token = key.Token.Reveal()
		return err
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	relay := snapshot.NewRelay(tables, publisher, &snapshot.RelayOptions{Keys: keys})
	head, err := relay.Sync(ctx) // a server calls Run, which goes on
	fmt.Println("published", head.Counts, err)

	// The data plane.
	watcher := snapshot.NewWatcher(publisher, &snapshot.WatcherOptions{Keys: keys, Name: "edge-1"})
	go watcher.Run(ctx)
	<-watcher.Ready()
	view, now := watcher.View(), time.Now()
	key, err := view.Authenticate(token, netip.MustParseAddr("192.0.2.1"), now)
	if err != nil {
		fmt.Println(err)
		return
	}
	targets, err := view.Route(key, "gpt-4o", now)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, t := range targets {
		fmt.Println(key.Name, "is served by", t.Provider.Name, "as", t.UpstreamModel)
	}
	// Output:
	// published map[bindings:1 holds:0 keys:1 models:1 projects:0 providers:1] <nil>
	// alice is served by main as gpt-4o
}
