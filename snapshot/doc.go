// Package snapshot carries a catalog to the data planes ("balancers") that serve by it.
//
// A [Relay] renders the catalog of package catalog into documents, for each provider, model,
// project, client key and hold, and for who serves each model. It writes them to a [Publisher],
// which is Redis (package
// storage/redisstore) or memory (package storage/memstore). A data plane reads them from a
// [Source] with a [Watcher], whose [View] answers who a token belongs to and where a request goes,
// without a lock and without a request to anybody:
//
//	keys, err := snapshot.ParseKeys(os.Getenv("EZ_SYNC_KEYS"))
//
//	// In the control plane:
//	relay := snapshot.NewRelay(tables, publisher, &snapshot.RelayOptions{Keys: keys})
//	go relay.Run(ctx)
//
//	// In a data plane:
//	watcher := snapshot.NewWatcher(publisher, &snapshot.WatcherOptions{Keys: keys, Name: "edge-1"})
//	go watcher.Run(ctx)
//	<-watcher.Ready()
//	view := watcher.View()
//	key, err := view.Authenticate(token, address, time.Now())
//	targets, err := view.Route(key, "gpt-4o", time.Now())
//
// # Positions
//
// What is published has a [Position], <epoch>-<revision>: the revision is the catalog's, and the
// epoch rises when the history of what is published breaks. A publish is either a [Delta] from one
// position to the next, or a complete snapshot. A complete snapshot is first written beside the old
// one and then replaces it in one step ([Staging]). A data plane applies all of a publish or nothing,
// and never goes back.
//
// # Trust
//
// With sync keys ([Keys]), somebody who can write to Redis and holds no key can stop or delay what
// is published, and make data planes load again, but nothing more. The [Head] of what is published
// says how many documents of each kind there are and what they sum up to, and is signed.
//
// A relay signs only what it has rendered itself. It keeps the hashes of all documents in memory, and
// updates them from the change feed. It never takes a hash, a sum or a document from a publisher, and
// ignores a head whose signature is wrong. Documents that differ from the rendering are written again
// in place. A [Beat] says up to what time all that was committed is in what is published. A report
// ([Node]) counts only when it is signed, see [Fleet].
//
// Without sync keys nothing can be verified. A relay still finds and repairs whatever differs from its
// own rendering. A head that would stop publishing permanently (another seal, a newer renderer) is
// accepted only while its servers still write beats. But a head that names another catalog is
// believed, and data planes take what they find.
//
// # Files
//
// What both sides share: seams.go (the seams), position.go, fields.go, head.go, beat.go, node.go
// (what is published and reported), parts.go and limits.go (its bounds), keys.go, digest.go, sign.go
// and sealed.go (sync keys at work), document.go, docreader.go and kinds.go (documents).
//
// The control plane's side: relay.go (its life), look.go (what is published, and whether it is right), decide.go
// (what to do about it: one table), pass.go (deltas and repairs), whole.go (publishing everything), touched.go,
// render.go, resolve.go and rendering.go with ledger.go (from the catalog to documents and hashes),
// scrub.go (comparing), pulse.go (beats, and heeding reports), fleet.go (reports), status.go.
//
// The data plane's side: watcher.go, phase.go and follow.go (its life), viewload.go, viewbuild.go and view.go with
// shelf.go and table.go (what it serves from), route.go, held.go and explain.go (where a request
// goes, and why), listing.go (the models of a key), trust.go, report.go, lastgood.go, keeper.go and
// frames.go (the last-known-good file), httpsource.go, lines.go and exporter.go (the same over HTTP),
// mirror*.go and carried.go (another region).
//
// The formats in Redis, the signed text and the digest are described in docs/balancers.md; testdata has
// vectors, computed in another language.
package snapshot
