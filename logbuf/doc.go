// Package logbuf takes access-log entries at once and stores them later, in
// large batches, and each of them only once.
//
// A [Queue] stands between those who have entries and the [Sink] that stores
// them:
//
//	q, err := logbuf.Open(sink, &logbuf.Options{Dir: "/var/lib/ez/spool"})
//	…
//	err = q.Append(ctx, logbuf.Entry{Model: "gpt-4o", Status: 200, InputTokens: 12})
//	…
//	err = q.Close(ctx) // drains
//
// What nil from Append means depends on the mode, and [Stats] says which it is:
//
//   - Memory mode (no Dir): the entries are queued in this process. Close drains
//     them; a crash loses them.
//   - Disk mode: the entries are flushed to the spool. They survive a kill and a
//     power loss, and wait there while the database is down, up to SpoolMax.
//
// Append never waits for the sink. When there is no room it returns [ErrFull],
// and takes none of the entries of the call: slow down and try again. Nothing is
// dropped silently, in either mode. At every quiet moment
//
//	Accepted = Stored + Duplicate + Dead + Damaged + Pending
//
// # Sinks
//
// A queue writes batch after batch to its sink, or two at once to a [Pipeliner],
// and tries the same batch again until it is stored: sinks answer with an error as
// soon as they are in doubt, and recognise what they have stored already by the
// identity of an entry (its time and its id) and by the checkpoint of the spool's
// segment. See [Sink] for what exactly one has to do, and what else a sink may be: an
// [Archive], a [Checkpointer], a [Classifier], a [HealthKeeper], a [Maintainer], a [Meter], a
// [Repricer], a [Timekeeper]. storage/pgstore, storage/sqlitestore and storage/chstore have sinks for
// their databases, storage/memstore has one for tests, and storage/storagetest checks yours.
//
// # Shipping
//
// A balancer queues what it served and sends it to the control plane:
//
//	sink := logbuf.NewHTTPSink("https://control-plane.example", token, nil)
//	q, err := logbuf.Open(sink, &logbuf.Options{Dir: spool})
//
// Entries get their id when they are appended, so that one which is sent twice is
// stored once.
//
// # Receiving
//
// A [Decoder] reads the bodies that arrive there, and keeps a bad entry from costing the good
// ones. A [Completer] says what a request costs, and which project it is of: the queue asks it
// when an entry comes, or when it leaves. Ask [Queue.Ready] before reading a body: an
// overloaded server has time only to refuse it.
//
//	d := logbuf.Decoder{Retention: 90 * 24 * time.Hour}
//	got, err := d.Decode(body, "application/x-ndjson")
//	…
//	err = q.Append(ctx, got.Entries...)
//
// # The files
//
//   - entry.go, limits.go, validate.go, clean.go: what an entry is, and may hold.
//   - decode.go, decode_entry.go, decode_nested.go, decode_fast.go: bodies of JSON.
//   - buffer.go, sink.go, archive.go, maintain.go, reprice.go, errors.go: the seams.
//   - queue.go (who appends), worker.go (who writes to the sink), memory.go and spool.go
//     (where entries wait).
//   - segment.go, segment_scan.go, frame.go, record.go, fs.go: the files of the spool;
//     spool_write.go, spool_read.go and spool_tend.go: who writes, reads and looks after them.
//   - complete.go, price.go: what is added to an entry that came without it, and what a request costs.
//   - archive.go: what is asked for (LogQuery, UsageQuery); calendar.go, usagequery.go and logquery.go:
//     its defaults and bounds.
//   - httpsink.go: the shipper of a balancer.
package logbuf
