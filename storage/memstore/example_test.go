package memstore_test

import (
	"context"
	"fmt"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// A catalog and a store of access logs in memory, as a unit test wants them.
func Example() {
	ctx := context.Background()
	tables := catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(), nil)
	m, err := tables.Models.Create(ctx, catalog.Model{Name: "gpt-4o"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("model", m.ID, "at revision", m.Revision)

	sink := memstore.NewSink(nil)
	queue, err := logbuf.Open(sink, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := queue.Append(ctx, logbuf.Entry{KeyID: 1, Model: "gpt-4o", Status: 200}); err != nil {
		fmt.Println(err)
		return
	}
	if err := queue.Close(ctx); err != nil { // writes what is queued
		fmt.Println(err)
		return
	}
	found, err := sink.Logs(ctx, logbuf.LogQuery{KeyID: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range found.Entries {
		fmt.Println("key", e.KeyID, "asked for", e.Model)
	}
	// Output:
	// model 1 at revision 1
	// key 1 asked for gpt-4o
}
