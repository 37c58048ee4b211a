package redisstore_test

import (
	"context"
	"log"

	"github.com/ez-api/ez-api/snapshot"
	"github.com/ez-api/ez-api/storage/redisstore"
)

// A data plane reads what a control plane has published to Redis. The control plane makes its
// publisher in the same way, and gives it to ezapi.Config.
func Example() {
	ctx := context.Background()
	client, err := redisstore.Open("redis://balancer:password@127.0.0.1:6379/0", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	watcher := snapshot.NewWatcher(redisstore.New(client, nil), &snapshot.WatcherOptions{Name: "edge-1"})
	go func() {
		<-watcher.Ready()
		log.Println("serving", watcher.View().Position())
	}()
	if err := watcher.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
