package pgstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// Blocks find the entries of a key or a request. With every batch goes, for
// each quarter of an hour and each 2,000 entries in it, a row that tells from when to when
// they are and holds a Bloom filter of their keys and requests. A query reads the
// filters, a fiftieth of the logs' size, and then looks only where its entries may be.
//
// An index on the logs would cost every row: a BRIN index with Bloom filters,
// which knows as much, takes 40 % of the rate of writes, and a B-tree more. This costs 1 %.
const (
	blockSpan    = 15 * time.Minute
	blockEntries = 2000

	// Bits of a filter for each thing in it, and how many of them are set. About one in
	// 500 filters then says yes without reason.
	filterBits   = 14
	filterProbes = 6

	// How long after its end a quarter of an hour is looked after.
	scatteredFor = 48 * time.Hour

	sqlCopyBlocks = `copy log_blocks (since, until, filter) from stdin (format binary)`

	// The filter is looked into probe by probe; most say no to the first.
	sqlBlocks = `select since, until from log_blocks where %s order by since`
	sqlProbe  = `get_bit(filter, (%d::bigint %% (8 * octet_length(filter)))::int) = 1`

	// Quarters of an hour, lately ended, that have many more blocks than their
	// filters' size makes necessary.
	sqlScattered = `
select to_timestamp(quarter * 900) from (
    select floor(extract(epoch from since) / 900) as quarter, octet_length(filter) as size from log_blocks where until >= $1 and until < $2
) as blocks group by quarter having count(*) > 4 + sum(size) / 2000 order by quarter limit 100`

	sqlBlockEntries = `select ts, key_id, request_id from access_logs where ts >= $1 and ts < $2 order by ts`
	sqlForgetBlocks = `delete from log_blocks where since >= $1 and since < $2`
)

// A block tells where some entries are.
type block struct {
	since, until int64 // the earliest and the latest, in microseconds since 1970
	filter       []byte
}

// blockBuilder makes blocks of entries that come roughly in the order of time.
type blockBuilder struct {
	done []block
	open map[int64]*openBlock // by when its span begins
}

type openBlock struct {
	since, until int64
	entries      int
	things       []uint64        // hashes of keys and requests
	keys         [1 << 10]uint64 // those of keys, each where its last bits say: most come again soon
}

func (b *blockBuilder) add(micros, keyID int64, requestID string) {
	const width = int64(blockSpan / time.Microsecond)
	span := micros - (micros%width+width)%width
	o := b.open[span]
	if o == nil {
		if b.open == nil {
			b.open = make(map[int64]*openBlock)
		}
		o = &openBlock{since: math.MaxInt64, until: math.MinInt64}
		b.open[span] = o
	}
	o.since, o.until = min(o.since, micros), max(o.until, micros)
	o.entries++
	if keyID != 0 {
		h := hashKey(keyID)
		if seen := &o.keys[h%uint64(len(o.keys))]; *seen != h {
			*seen = h
			o.things = append(o.things, h)
		}
	}
	if requestID != "" {
		o.things = append(o.things, hashRequest(requestID))
	}
	if o.entries == blockEntries {
		b.done = append(b.done, o.close())
		delete(b.open, span)
	}
}

func (b *blockBuilder) blocks() []block {
	for _, o := range b.open {
		b.done = append(b.done, o.close())
	}
	b.open = nil
	return b.done
}

// close makes the filter: Bloom's, with the double hashing of Kirsch and
// Mitzenmacher ("Less Hashing, Same Performance", 2006).
func (o *openBlock) close() block {
	filter := make([]byte, len(o.things)*filterBits/8+1)
	bits := uint32(8 * len(filter)) //nolint:gosec // small
	for _, h := range o.things {
		for _, n := range probes(h) {
			n %= bits
			filter[n/8] |= 1 << (n % 8) // as get_bit counts
		}
	}
	return block{o.since, o.until, filter}
}

// probes returns the bits to set or to look at, each to be taken modulo the
// filter's size.
func probes(h uint64) (bits [filterProbes]uint32) {
	next, step := uint32(h), uint32(h>>32)|1 //nolint:gosec // its halves
	for i := range bits {
		bits[i] = next
		next += step
	}
	return bits
}

// The hashes are stored: they must never change.

func hashKey(id int64) uint64 { return mix(uint64(id) + 0x9e3779b97f4a7c15) } //nolint:gosec // any bits will do

func hashRequest(id string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, id) // cannot fail
	return mix(h.Sum64())
}

// mix spreads what two numbers differ in over all bits: the finalizer of
// MurmurHash3, by Austin Appleby, in the public domain.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// blockRows returns the rows of blocks.
func blockRows(blocks []block) *copyReader {
	return newCopyReader(func(buf []byte) ([]byte, error) {
		if len(blocks) == 0 {
			return buf, io.EOF
		}
		b := &blocks[0]
		blocks = blocks[1:]
		buf = appendRow(buf, 3)
		buf = appendTime(buf, b.since)
		buf = appendTime(buf, b.until)
		return append(binary.BigEndian.AppendUint32(buf, uint32(len(b.filter))), b.filter...), nil //nolint:gosec // small
	})
}

// A span is a time from and to, both inclusive.
type span struct{ since, until time.Time }

// spans returns when there may be entries with a key and a request, as far as
// those are given: apart from each other, in the order of time.
func (s *Sink) spans(ctx context.Context, keyID int64, requestID string, within span) ([]span, error) {
	var w where
	w.add("until >= %s and since <= %s", within.since, within.until)
	look := func(h uint64) {
		for _, bit := range probes(h) {
			w.conditions = append(w.conditions, fmt.Sprintf(sqlProbe, bit))
		}
	}
	if requestID != "" {
		look(hashRequest(requestID))
	}
	if keyID != 0 {
		look(hashKey(keyID))
	}
	rows, err := s.pool.Query(ctx, fmt.Sprintf(sqlBlocks, &w), w.all()...)
	if err != nil {
		return nil, err
	}
	var spans []span
	var b span
	_, err = pgx.ForEachRow(rows, []any{&b.since, &b.until}, func() error {
		b.since, b.until = latest(b.since, within.since), earliest(b.until, within.until)
		if last := len(spans) - 1; last >= 0 && !b.since.After(spans[last].until) {
			spans[last].until = latest(spans[last].until, b.until)
		} else {
			spans = append(spans, b)
		}
		return nil
	})
	return spans, err
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
func (s *Sink) gatherBlocks(ctx context.Context) error {
	ended := s.clock().Add(-blockSpan)
	rows, err := s.pool.Query(ctx, sqlScattered, pgx.QueryExecModeExec, ended.Add(-scatteredFor), ended)
	if err != nil {
		return err
	}
	quarters, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return err
	}
	for _, quarter := range quarters {
		if err := s.gatherQuarter(ctx, quarter); err != nil {
			return err
		}
	}
	return nil
}

// gatherQuarter makes the blocks of a quarter of an hour anew. All is of one
// moment: what is written meanwhile brings blocks of its own, and those stay.
func (s *Sink) gatherQuarter(ctx context.Context, since time.Time) error {
	until := since.Add(blockSpan)
	return s.inTxAt(ctx, pgx.RepeatableRead, func(tx pgx.Tx) error {
		if err := lockMaintenance(ctx, tx); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, sqlBlockEntries, pgx.QueryExecModeExec, since, until)
		if err != nil {
			return err
		}
		var b blockBuilder
		var ts time.Time
		var keyID int64
		var requestID string
		_, err = pgx.ForEachRow(rows, []any{&ts, &keyID, &requestID}, func() error {
			b.add(ts.UnixMicro(), keyID, requestID)
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlForgetBlocks, pgx.QueryExecModeExec, since, until); err != nil {
			return err
		}
		_, err = tx.Conn().PgConn().CopyFrom(ctx, blockRows(b.blocks()), sqlCopyBlocks)
		return err
	})
}
