package pgstore_test

import (
	"context"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// A control plane that keeps its catalog and the access logs in PostgreSQL, in a schema of its own.
// The pool belongs to the program: it closes it last.
func Example() {
	ctx := context.Background()
	config, err := pgstore.PoolConfig("postgres://app@127.0.0.1:5432/app", &pgstore.PoolOptions{Schema: "ezapi"})
	if err != nil {
		log.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	store, err := pgstore.Open(ctx, pool, &pgstore.Options{Schema: "ezapi"}) // makes the tables
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	plane, err := ezapi.New(ezapi.Config{
		Catalog: store,
		Keeper:  catalog.NewRandomKeyRing(), // in production catalog.NewKeyRing, with keys that are kept
		LogSink: pgstore.NewSink(pool, nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer plane.Close(ctx)
	if err := plane.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
