// Package memstore keeps everything of a control plane in memory: a catalog, what is published, and access
// logs. It is what an ezapi.Config{} uses, and what unit tests want:
//
//	store := memstore.New(nil)           // catalog.Store
//	publisher := memstore.NewPublisher() // snapshot.Publisher
//	sink := memstore.NewSink(nil)        // logbuf.Sink, Archive, Maintainer, Repricer
//
// All of it ends with the process. It passes the same suites as every other engine, so that a test on it
// says something about those.
//
// The catalog is in store.go, table.go, commit.go and reader.go; what is published in publisher.go and
// the files publisher_*.go; access logs in sink.go and meter.go.
package memstore
