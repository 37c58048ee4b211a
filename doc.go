// Package ezapi is the control plane of an AI gateway, as a library.
//
// It keeps the catalog: upstream providers, models, bindings, projects, client
// keys, operators and holds. It publishes the catalog as snapshots, which the
// gateway's data planes read without ever touching a database. And it takes
// their access logs and stores them in large batches.
//
// The zero [Config] is a whole control plane in memory, which is what a unit
// test wants:
//
//	plane, err := ezapi.New(ezapi.Config{})
//	key, err := plane.Keys.Create(ctx, ezapi.Key{Name: "alice"})
//	head, err := plane.Sync(ctx) // publish now, without a goroutine
//
// A service gives it engines instead, opened and closed by the service itself
// (packages storage/pgstore, storage/redisstore, storage/sqlitestore), runs it,
// and mounts its HTTP surface (package httpapi) where it likes:
//
//	plane, err := ezapi.New(ezapi.Config{
//		Catalog:   store,                             // pgstore.Open(ctx, pool, nil)
//		Keeper:    keyRing,                           // catalog.NewKeyRing(keys...)
//		Publisher: redisstore.New(client, nil),       // what balancers read
//		SyncKeys:  syncKeys,                          // shared with balancers
//		LogSink:   sink,                              // where access logs end
//	})
//	go plane.Run(ctx)
//	defer plane.Close(shutdownCtx)
//
// A data plane uses snapshot.NewWatcher, and logbuf to ship its logs.
//
// # Where things are
//
// Package catalog has the nouns and their rules, snapshot what data planes see, logbuf the
// access logs, httpapi the HTTP surface, and storage one package for each engine. This package
// assembles them: config.go has [Config], ezapi.go has [Plane], and run.go what a plane does from
// time to time. The catalog meets logs and snapshots in packages below it: budgets, health and
// upstreams, costs, alerts, operators, clocks. ARCHITECTURE.md says where each kind of change
// belongs.
package ezapi
