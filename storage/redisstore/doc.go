// Package redisstore publishes snapshots to Redis and reads them there. Its
// [Publisher] is both ends: control planes apply and replace, data planes load
// and follow.
//
//	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}})
//	publisher := redisstore.New(client, nil)
//
// One node, Sentinel and Cluster behave alike. Reads must go to the primary: a
// client that routes reads to replicas may see a head without its documents.
// Redis must not evict; [Publisher.Ready] checks that. Version 6 or later is needed.
//
// # Keys
//
// All keys carry one hash tag, so that in a Cluster they live in one slot and
// scripts may touch them together. With the default prefix:
//
//	{ezapi}:head       hash: format, store, epoch, revision, mark, digest, sig, seal, renderer,
//	                   counts (JSON), updated_at (RFC 3339), forced (0 or 1), stream_bytes
//	{ezapi}:providers  hash: id → document
//	{ezapi}:models     hash: namespace.model → document
//	{ezapi}:bindings   hash: namespace.model → document
//	{ezapi}:keys       hash: SHA-256 of the token in hex → document
//	{ezapi}:changes    stream: an entry per publish, its id is the position
//	{ezapi}:nodes      hash: node id → what that balancer has applied
//	{ezapi}:staging:…  hashes of a Replace at work; they expire when it dies
//
// An entry of the stream has the fields from, to, reset (0 or 1) and changes: a JSON
// array of {kind, key, op, doc}, where op is put or delete and doc a string
// of the exact bytes in the hash. Beside these it repeats every field of the head but
// epoch, revision and stream_bytes, so that a follower knows the head after
// each entry. stream_bytes is the sum of the lengths of all names and values
// in the stream; by it, and by their number, the oldest entries are trimmed.
//
// A node is a JSON object: position, digest, version, error, seen_at (unix
// seconds with six decimals, on the clock of Redis).
//
// Each publish also sends a message on the channel dp:config:refresh. It is a hint,
// and Redis may lose it; nothing here depends on it.
//
// # Scripts
//
// A script in Redis is atomic but is not rolled back: when a command in it
// fails, what was written before stays. So every script makes all its checks
// before its first write: the position of the head, the store, the types of
// all keys, the end of the stream, the number of documents. Apply writes to
// the stream first, because XADD is the command that Redis refuses when it is
// out of memory; once one write went through, the rest do too.
//
// Apply sends the documents of its delta and nothing else, so a publish costs
// the same at any size of the catalog.
//
// Replace writes beside what is live, in bounded pieces, and a script then
// swaps the hashes. For each it does PERSIST, because a TTL travels with
// RENAME; RENAME of the live hash to a free name, because RENAME onto a hash of a
// million fields frees it at once and stalls Redis for most of a second;
// RENAME of the new one; and UNLINK of the old one, which frees it in the background.
// A kind without documents has no staging hash, and renaming what is not there
// would stop a script half-way, so each is asked for first.
//
// Positions are compared as text, because numbers in Lua are exact only up to 2^53.
package redisstore
