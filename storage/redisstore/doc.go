// Package redisstore publishes snapshots to Redis and reads them there. Its
// [Publisher] is both ends: control planes apply and stage, data planes load
// and follow. [Open] opens a client for either.
//
//	client, err := redisstore.Open("redis+sentinel://10.0.0.1,10.0.0.2/main", nil)
//	publisher := redisstore.New(client, nil)
//
// One node, Sentinel and Cluster behave alike. Reads must go to the master: a
// client that routes reads to replicas may see a head without its documents.
// Redis must not evict; [Publisher.Ready] checks that, and the rights of its user.
// Version 6.2 or later is needed.
//
// # Keys
//
// All keys carry one hash tag, so that in a Cluster they live in one slot and
// scripts may touch them together. With the default prefix:
//
//	{ezapi}:head           hash: the fields of [snapshot.Head], and stream_bytes
//	{ezapi}:providers …    hash of each kind's documents, by key
//	{ezapi}:changes        stream: what was published, in parts
//	{ezapi}:beat           string: the last [snapshot.Beat]
//	{ezapi}:nodes          hash: node id → its report, and seen_at
//	{ezapi}:nodes:seen     sorted set: node id → when its report came, unix seconds by the clock of Redis
//	{ezapi}:nodes:crowded  string: is there while a live node has no room
//	{ezapi}:nodes:left     string: with what reports nodes have left lately, a line each
//	{ezapi}:staging:…      hashes of a whole at work; they expire when it dies
//	{ezapi}:fence          string: keeps others from beginning a delta, for 2 s at most
//	{ezapi}:lease:…        strings that control planes hold among themselves; they expire
//
// # Parts
//
// A delta is written in parts of at most [snapshot.MaxPartDocs] documents, each with its
// documents by one script. The id of an entry is the position and three digits: 000 and on for
// the parts, 999 for the last. Its fields are
//
//	from, to   positions
//	chain      32 hexadecimal digits, the same in all parts of a publish
//	part       from 1
//	last       1 in the last part, else 0
//	reset      1 when the whole was replaced: the entry has no changes, load again
//	changes    JSON array of {kind, key, op, doc}; op is put or delete, doc a string of the exact bytes
//	bytes      in the last part: the size of the publish's entries, names and values but for this field
//
// and in the last part every field of the head. stream_bytes is the sum of bytes over the
// stream; by it, and by the number of entries, the oldest publishes are trimmed whole.
//
// A reader keeps parts until the last one, and passes over what does not lead on from where it is.
//
// # Publishing
//
// Whoever publishes names the head that it has seen, as a [snapshot.Base]: epoch, revision and
// signature as text. A script compares these, and the last entry of the stream. Before the first
// part, that has to be the head's own entry; before any other part, the previous part of the same
// chain. Before a first part, anything else is a publish of somebody else under way:
// [snapshot.ErrBusy]. If it does not change for [snapshot.TakeoverAfter], it was abandoned and is
// removed together with the history; only readers that are behind the head notice.
//
// A script whose answer was lost runs again, finds the entry of its chain, and does nothing.
//
// A whole is staged beside what is live, in bounded pieces, and a script then
// swaps the hashes. For each it does PERSIST, because a TTL travels with
// RENAME; RENAME of the live hash to a free name, because RENAME onto a hash of a
// million fields frees it at once and stalls Redis for most of a second;
// RENAME of the new one; and UNLINK of the old one, which frees it in the background.
// Where others publish all the time it would be overtaken for ever, so after three times it puts
// up the fence.
//
// # Scripts
//
// A script in Redis is atomic but is not rolled back: when a command in it
// fails, what was written before stays. So every script makes all its checks
// before its first write: the head, the end of the stream, the types of
// keys, the number of documents, whether there is memory, and whether the user may run each command. The
// first command that it tries needs memory, because after any other write Redis does not look any more.
//
// The head is written anew with each publish, so that no field of an older one stays. Positions are
// compared as text, because numbers in Lua are exact only up to 2^53.
//
// Reads are no transactions and write nothing, so they work while memory is used up, and on a replica.
//
// # Damage
//
// Whatever is in Redis may be spoilt or forged. Whatever is no head, entry, beat or report is
// passed over, named, or replaced, and never stops publishing: a key of another type is removed by the next
// write of what belongs there, numbers are bounded, and no text that is read is longer than it may be.
package redisstore
