package pgstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/logbuf"
)

// Blocks find the entries of a key or a request. With every batch goes, for
// each quarter of an hour and each 1,000 entries in it, a row that holds a Bloom filter of
// their keys and requests, and for each entry its time and hashes of both. A query looks
// into the filters, which have a hundredth of the logs' size; where one says yes it reads the
// times, and then the entries of exactly those times, however much the times of
// different blocks overlap.
//
// An index on the logs would cost every row: a BRIN index with Bloom filters
// takes 40 % of the rate of writes, and a B-tree more. What this takes is lost in the noise.
const (
	blockSpan    = 15 * time.Minute
	blockEntries = 1000

	// Bits of a filter for each thing in it, and how many of them are set. About one in
	// 500 filters then says yes without reason.
	filterBits   = 14
	filterProbes = 6

	// The size of an entry in a block: microseconds since the quarter of an hour
	// began, and the hashes of its key and its request, big-endian.
	blockEntrySize = 4 + 4 + 4

	// How long after its end a quarter of an hour is looked after.
	scatteredFor = 48 * time.Hour

	sqlCopyBlocks = `copy log_blocks (since, until, filter, entries) from stdin (format binary)`

	// The filter is looked into probe by probe; most say no to the first.
	sqlBlocks = `select since, entries from log_blocks where %s`
	sqlProbe  = `get_bit(filter, (%d::bigint %% (8 * octet_length(filter)))::int) = 1`

	sqlCountEntries = `
select (coalesce(sum(octet_length(entries)), 0) / $3::bigint)::bigint from log_blocks
where until >= $1::timestamptz and since <= $2::timestamptz`

	// Quarters of an hour, lately ended, that have many more blocks than their
	// entries make necessary.
	sqlScattered = `
select to_timestamp(quarter * 900) from (
    select floor(extract(epoch from since) / 900) as quarter, octet_length(entries) / $1::bigint as entries
    from log_blocks where until >= $2::timestamptz and until < $3::timestamptz
) as blocks group by quarter having count(*) > 4 + 2 * sum(entries) / $4::bigint order by quarter limit 100`

	// A block lies within one quarter of an hour. Its end is what the index knows.
	sqlTakeBlocks = `
delete from log_blocks where since >= $1::timestamptz and since < $2::timestamptz
    and until >= $1::timestamptz and until < $2::timestamptz returning since, entries`
)

// A block tells when some entries of one quarter of an hour are.
type block struct {
	since, until int64 // the earliest and the latest, in microseconds since 1970
	filter       []byte
	entries      []byte

	things []uint32        // hashes of keys and requests
	keys   [1 << 10]uint32 // those of keys, each where its last bits say: most come again soon
}

// A blockEntry is what a block knows of an entry.
type blockEntry struct {
	micros       int64
	key, request uint32 // hashes
}

// blockBuilder makes blocks.
type blockBuilder struct {
	done  []*block
	open  map[int64]*block // by when their quarter begins
	spare []*block
}

// maxSpareBlocks is how many blocks' memory is worth keeping: an ordinary batch makes fewer.
const maxSpareBlocks = 16

// reset forgets all blocks, and keeps the memory of some for the next.
func (b *blockBuilder) reset() {
	b.spare = append(b.spare, b.done[:min(len(b.done), maxSpareBlocks-len(b.spare))]...)
	clear(b.done)
	b.done = b.done[:0]
}

// begin returns an empty block.
func (b *blockBuilder) begin(micros int64) *block {
	o := &block{}
	if last := len(b.spare) - 1; last >= 0 {
		o, b.spare = b.spare[last], b.spare[:last]
		o.entries, o.things, o.keys = o.entries[:0], o.things[:0], [len(o.keys)]uint32{}
	}
	o.since, o.until = micros, micros
	return o
}

func (b *blockBuilder) add(e blockEntry) {
	quarter := quarterOf(e.micros)
	o := b.open[quarter]
	if o == nil {
		if b.open == nil {
			b.open = make(map[int64]*block)
		}
		o = b.begin(e.micros)
		b.open[quarter] = o
	}
	o.since, o.until = min(o.since, e.micros), max(o.until, e.micros)
	o.entries = binary.BigEndian.AppendUint32(o.entries, uint32(e.micros-quarter)) //nolint:gosec // 900,000,000 at most
	o.entries = binary.BigEndian.AppendUint32(o.entries, e.key)
	o.entries = binary.BigEndian.AppendUint32(o.entries, e.request)
	if e.key != 0 {
		if seen := &o.keys[e.key%uint32(len(o.keys))]; *seen != e.key {
			*seen = e.key
			o.things = append(o.things, e.key)
		}
	}
	if e.request != 0 {
		o.things = append(o.things, e.request)
	}
	if len(o.entries) == blockEntries*blockEntrySize {
		o.close()
		b.done = append(b.done, o)
		delete(b.open, quarter)
	}
}

// blocks returns the blocks of all that was added, until reset.
func (b *blockBuilder) blocks() []*block {
	for _, o := range b.open {
		o.close()
		b.done = append(b.done, o)
	}
	clear(b.open)
	return b.done
}

// close makes the filter: Bloom's, with the double hashing of Kirsch and
// Mitzenmacher ("Less Hashing, Same Performance", 2006).
func (o *block) close() {
	size := len(o.things)*filterBits/8 + 1
	o.filter = slices.Grow(o.filter[:0], size)[:size]
	clear(o.filter)
	bits := uint32(8 * size) //nolint:gosec // small
	for _, h := range o.things {
		for _, n := range probes(h) {
			n %= bits
			o.filter[n/8] |= 1 << (n % 8) // as get_bit counts
		}
	}
}

// quarterOf returns when the quarter of an hour of a time begins.
func quarterOf(micros int64) int64 {
	const width = int64(blockSpan / time.Microsecond)
	return micros - (micros%width+width)%width
}

// eachEntry calls fn with every entry of a block, given the earliest time in it.
func eachEntry(since int64, entries []byte, fn func(blockEntry)) {
	quarter := quarterOf(since)
	for ; len(entries) >= blockEntrySize; entries = entries[blockEntrySize:] {
		fn(blockEntry{
			micros:  quarter + int64(binary.BigEndian.Uint32(entries)),
			key:     binary.BigEndian.Uint32(entries[4:]),
			request: binary.BigEndian.Uint32(entries[8:]),
		})
	}
}

// probes returns the bits to set or to look at, each to be taken modulo the
// filter's size.
func probes(hash uint32) (bits [filterProbes]uint32) {
	h := mix(uint64(hash))
	next, step := uint32(h), uint32(h>>32)|1 //nolint:gosec // its halves
	for i := range bits {
		bits[i] = next
		next += step
	}
	return bits
}

// The hashes are stored: they must never change. Zero stands for none.

func hashKey(id int64) uint32 {
	if id == 0 {
		return 0
	}
	return max(1, uint32(mix(uint64(id)+0x9e3779b97f4a7c15))) //nolint:gosec // any bits will do
}

func hashRequest(id string) uint32 {
	if id == "" {
		return 0
	}
	h := uint64(14695981039346656037) // FNV-1a, which maphash is not for ever, and hash/fnv not without an allocation
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return max(1, uint32(mix(h))) //nolint:gosec // as above
}

// mix spreads what two numbers differ in over all bits: the finalizer of
// MurmurHash3, by Austin Appleby, in the public domain.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// blockRows returns the rows of blocks.
func blockRows(blocks []*block) *copyReader {
	return newCopyReader(func(buf []byte) ([]byte, error) {
		if len(blocks) == 0 {
			return buf, io.EOF
		}
		b := blocks[0]
		blocks = blocks[1:]
		buf = appendRow(buf, 4)
		buf = appendTime(buf, b.since)
		buf = appendTime(buf, b.until)
		for _, field := range [][]byte{b.filter, b.entries} {
			buf = append(binary.BigEndian.AppendUint32(buf, uint32(len(field))), field...) //nolint:gosec // small
		}
		return buf, nil
	})
}

// A span is a time from and to, both inclusive.
type span struct{ since, until time.Time }

// A timeList keeps the newest of the times that it is given, in bounded memory.
type timeList struct {
	most   int // how many are kept; up to twice as many are held before the rest is let go
	times  []time.Time
	cut    bool // some were let go: all that are older than the last that is kept
	oldest time.Time
	held   int // the most that were held at once
}

func (l *timeList) add(t time.Time) {
	if l.cut && t.Before(l.oldest) {
		return
	}
	l.times = append(l.times, t)
	if l.held = max(l.held, len(l.times)); len(l.times) >= 2*l.most {
		l.keep()
	}
}

// keep brings the times in order, newest first and each once, and lets go of those that are too many.
func (l *timeList) keep() {
	slices.SortFunc(l.times, func(a, b time.Time) int { return b.Compare(a) })
	if l.times = slices.Compact(l.times); len(l.times) > l.most {
		l.times, l.cut = l.times[:l.most], true
		l.oldest = l.times[l.most-1]
	}
}

// readTimes adds to a list when there may be entries with a key and a request, as far as those are given.
func readTimes(
	ctx context.Context, conn *pgx.Conn, keyID int64, requestID string, within span, list *timeList,
) error {
	key, request := hashKey(keyID), hashRequest(requestID)
	var w where
	w.add("until >= %s and since <= %s", within.since, within.until)
	for _, hash := range []uint32{request, key} {
		for _, bit := range probes(hash) {
			if hash != 0 {
				w.conditions = append(w.conditions, fmt.Sprintf(sqlProbe, bit))
			}
		}
	}
	err := eachBlock(ctx, conn, fmt.Sprintf(sqlBlocks, &w), w.args, func(e blockEntry) {
		if (key == 0 || key == e.key) && (request == 0 || request == e.request) {
			if t := time.UnixMicro(e.micros); !t.Before(within.since) && !t.After(within.until) {
				list.add(t)
			}
		}
	})
	list.keep()
	return err
}

// countEntries returns how many entries there are in a time, roughly.
func countEntries(ctx context.Context, conn *pgx.Conn, within span) (n int64, err error) {
	err = queryRow(ctx, conn, sqlCountEntries, []any{within.since, within.until, int64(blockEntrySize)}, &n)
	return n, err
}

// eachBlock calls fn with every entry of the blocks that a statement returns.
func eachBlock(ctx context.Context, conn *pgx.Conn, sql string, args []any, fn func(blockEntry)) error {
	rows, err := query(ctx, conn, sql, args...)
	if err != nil {
		return err
	}
	var since time.Time
	var entries []byte
	_, err = pgx.ForEachRow(rows, []any{&since, &entries}, func() error {
		eachEntry(since.UnixMicro(), entries, fn)
		return nil
	})
	return err
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// gatherBlocks makes few blocks of the many that small batches leave behind.
func (s *Sink) gatherBlocks(ctx context.Context, o logbuf.MaintenanceOptions) (report logbuf.TaskReport, err error) {
	ended := o.Now.Add(-blockSpan)
	var quarters []time.Time
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		rows, err := query(ctx, tx.Conn(), sqlScattered, int64(blockEntrySize), ended.Add(-scatteredFor), ended,
			int64(blockEntries))
		if err != nil {
			return err
		}
		quarters, err = pgx.CollectRows(rows, pgx.RowTo[time.Time])
		return err
	})
	for _, quarter := range quarters {
		if err = s.alone(ctx, gatherLock, func(tx pgx.Tx) error { return gatherQuarter(ctx, tx, quarter) }); err != nil {
			break
		}
		report.Done++
	}
	return report, err
}

// gatherQuarter makes new blocks of those there are of a quarter of an hour.
// What is written meanwhile brings blocks of its own.
func gatherQuarter(ctx context.Context, tx pgx.Tx, since time.Time) error {
	var entries []blockEntry
	err := eachBlock(ctx, tx.Conn(), sqlTakeBlocks, []any{since, since.Add(blockSpan)}, func(e blockEntry) {
		entries = append(entries, e)
	})
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b blockEntry) int { return cmp.Compare(a.micros, b.micros) })
	var b blockBuilder
	for _, e := range entries {
		b.add(e)
	}
	return copyFrom(ctx, tx.Conn(), sqlCopyBlocks, blockRows(b.blocks()))
}
