// Package chstore keeps access logs in ClickHouse, for more of them than a row store carries.
//
//	sink, err := chstore.NewSink("clickhouse://ezapi:secret@ch.example:8123/ezapi", nil)
//	…
//	plane, err := ezapi.New(ezapi.Config{LogSink: sink})
//
// It speaks ClickHouse's HTTP interface, with rows in the format RowBinary, and needs no driver.
// The tables are made when they are needed first.
//
// # Once
//
// ClickHouse has no unique keys and no transactions, so a [Sink] is of the class
// [logbuf.ByIdentity]: an entry may be written any number of times, and is answered once. The table
// is a ReplacingMergeTree whose sorting key is the identity of an entry, and every query reads it
// with FINAL. Of the rows of one entry the one that was priced anew last counts, else the one that
// came first: see version in rows.go. Batches carry a deduplication token, so that one that is sent
// again is in most cases not even written. Asynchronous inserts are off: an answer means that the
// rows are there.
//
// # Usage
//
// Usage is summed from the entries, each counted once, and never comes from a materialized view,
// which would count a row each time that it is written. When an hour is over, maintenance stores its
// sums in the table usage_quarters. A later write to such an hour marks it; until it is summed again,
// its usage is read from its entries: see hours.go.
// These sums stay when the entries are forgotten, and what comes late is added in the table usage_late:
// see forget.go.
//
// # The files
//
//   - chstore.go, dsn.go, client.go, errors.go: the sink, its address, and how statements are sent.
//   - settings.go: what of a user's profile does not count.
//   - schema.go, rows.go, rowbinary.go: the tables, and how entries become rows.
//   - write.go, logs.go, usage.go, keys.go, reprice.go, health.go: the seams.
//   - refused.go: which entries of a batch the server refuses.
//   - hours.go, forget.go, tasks.go: what maintenance does.
package chstore
