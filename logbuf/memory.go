package logbuf

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"
)

const (
	chunkSize = 256 << 10 // bytes

	// unpacked is how many chunks may wait as they are, some 5,000 entries. Those behind them wait for
	// longer, because the store is slow or away, and are packed.
	unpacked = 4

	// meanRecord is how many bytes an entry may take in memory, on average
	// over all that are pending, so that the capacity bounds memory as well;
	// minBytes leaves a small queue room for a few long ones.
	meanRecord = 1 << 10
	minBytes   = 1 << 20
)

// memory is the backlog of memory mode: records in chunks, first in, first out.
type memory struct {
	landed   func(n int) // tells the queue about entries taken
	capacity int         // entries
	maxBytes int         // of their records

	mu     sync.Mutex
	sealed bool
	chunks []chunk
	space  []byte // to pack chunks in
	count  int    // entries that are not settled
	bytes  int    // of their records, unpacked
	want   demand

	inflight inflightBatches // belongs to the worker
	used     []part          // of the batches that are not settled
}

// A demand is how much room the last entries needed that were refused, since room was last made.
// The next entries are expected to need as much. While that would not fit, ready refuses them
// before anybody spends time on reading them.
type demand struct{ count, bytes int }

// most is the part of all room that a demand may keep from smaller ones.
const most = 16

// A chunk never moves: what was filled when the lock was held can be read
// without it, also after the chunk has been packed.
type chunk struct {
	records []byte
	packed  bool // records are one block of S2, and nothing is added to them
	offset  int  // bytes that were read, of the records as they are unpacked
	count   int  // entries after the offset
}

// pack takes a full chunk's records into a third of their space, more or less. space may be used again.
func (c *chunk) pack(space []byte) []byte {
	space = s2.Encode(space, c.records)
	c.records, c.packed = bytes.Clone(space), true
	return space[:cap(space)]
}

// unread returns the records that were not read.
func (c *chunk) unread() ([]byte, error) {
	if !c.packed {
		return c.records[c.offset:], nil
	}
	records, err := s2.Decode(nil, c.records)
	if err != nil {
		return nil, fmt.Errorf("unpack log records: %w", err)
	}
	return records[c.offset:], nil
}

func newMemory(capacity int, landed func(n int)) *memory {
	return &memory{landed: landed, capacity: capacity, maxBytes: max(minBytes, capacity*meanRecord)}
}

func (m *memory) put(ctx context.Context, p *packed, _ time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sealed {
		return ErrClosed
	}
	if p.count > m.capacity || len(p.records) > m.maxBytes {
		return fmt.Errorf("%w: the queue has room for %d, and never for %d at once",
			ErrTooMany, m.capacity, p.count)
	}
	if m.count+p.count > m.capacity || m.bytes+len(p.records) > m.maxBytes {
		m.want = demand{min(p.count, m.capacity/most), min(len(p.records), m.maxBytes/most)}
		return fmt.Errorf("%w: %d entries are pending in memory, %d is the capacity", ErrFull, m.count, m.capacity)
	}
	m.landed(p.count) // before the worker can see them
	m.count += p.count
	m.bytes += len(p.records)
	records := p.records
	for _, part := range p.parts {
		m.tail(part.bytes).add(records[:part.bytes], part.count)
		records = records[part.bytes:]
	}
	return nil
}

// tail returns the last chunk, a new one when the old has no room for n bytes.
func (m *memory) tail(n int) *chunk {
	last := len(m.chunks) - 1
	if last < 0 || cap(m.chunks[last].records)-len(m.chunks[last].records) < n {
		if last >= unpacked {
			m.space = m.chunks[last].pack(m.space)
		}
		m.chunks = append(m.chunks, chunk{records: make([]byte, 0, max(chunkSize, n))})
		last++
	}
	return &m.chunks[last]
}

func (c *chunk) add(records []byte, count int) {
	c.records = append(c.records, records...)
	c.count += count
}

func (m *memory) ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.count+max(1, m.want.count) > m.capacity || m.bytes+max(1, m.want.bytes) > m.maxBytes {
		return fmt.Errorf("%w: %d entries are pending in memory", ErrFull, m.count)
	}
	return nil
}

func (m *memory) read(_ context.Context, limit int) (Batch, error) {
	m.mu.Lock()
	chunks := slices.Clone(m.chunks)
	m.mu.Unlock()

	batch := m.inflight.next()
	var all part
	var took []part // of the first chunks
	for _, c := range chunks {
		records, err := c.unread()
		if err != nil {
			return Batch{}, err
		}
		bytes, count, err := batch.add(string(records), c.count, limit)
		if err != nil {
			return Batch{}, err
		}
		took = append(took, part{bytes, count})
		all.bytes, all.count = all.bytes+bytes, all.count+count
		if count < c.count {
			break
		}
	}
	m.inflight.keep()
	m.used = append(m.used, all)
	m.take(took)
	return Batch{Entries: batch.entries}, nil
}

// take forgets what was read of the first chunks; it still counts.
func (m *memory) take(read []part) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.want = demand{}
	empty := 0
	for i, p := range read {
		c := &m.chunks[i]
		c.offset += p.bytes
		c.count -= p.count
		if c.count > 0 {
			break
		}
		if i == len(m.chunks)-1 { // it is still being filled: use it again
			c.records, c.offset = c.records[:0], 0
			break
		}
		empty++
	}
	m.chunks = slices.Delete(m.chunks, 0, empty)
}

func (m *memory) readAhead(limit int) (Batch, bool) {
	b, err := m.read(context.Background(), limit)
	return b, err == nil
}

func (m *memory) settle() (skipped, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count -= m.used[0].count
	m.bytes -= m.used[0].bytes
	m.used = slices.Delete(m.used, 0, 1)
	return skipped{}, nil
}

func (m *memory) tend(context.Context) {}

func (m *memory) tendAt() time.Time { return time.Time{} }

func (m *memory) behind(int64) {} // there are no segments

func (m *memory) doubt() {}

func (m *memory) seal(context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sealed = true
}

func (m *memory) fill(*Stats) {}

func (m *memory) close() error { return nil }

// maxBatchBytes ends a batch early, so that long entries make it no larger
// than many short ones.
const maxBatchBytes = 8 << 20

// inflightBatches are the batches that are read and not settled, two at most; the next uses
// the memory of the first.
type inflightBatches struct {
	batches [2]recordBatch
	turn    int
}

// next returns an empty batch to read into. It is the same again until keep says that it was read.
func (f *inflightBatches) next() *recordBatch {
	b := &f.batches[f.turn]
	b.reset()
	return b
}

func (f *inflightBatches) keep() { f.turn = (f.turn + 1) % len(f.batches) }

// recordBatch reads records into entries that it uses again for the next batch.
type recordBatch struct {
	entries []Entry
	bytes   int
}

func (r *recordBatch) reset() {
	clear(r.entries) // lets go of the strings
	r.entries, r.bytes = r.entries[:0], 0
}

// add reads up to count records until the batch holds limit entries, and says
// how many bytes and records it read.
func (r *recordBatch) add(src string, count, limit int) (bytes, n int, err error) {
	rest := src
	costs := make([]int64, max(0, min(count, limit-len(r.entries)))) // who keeps an entry keeps its cost
	for n < count && len(r.entries) < limit && r.bytes+len(src)-len(rest) < maxBatchBytes {
		last := len(r.entries)
		r.entries = slices.Grow(r.entries, 1)[:last+1] // empty, as reset has left it
		if rest, err = readRecord(&r.entries[last], rest, &costs[n]); err != nil {
			r.entries[last] = Entry{}
			r.entries = r.entries[:last]
			return 0, n, err
		}
		n++
	}
	bytes = len(src) - len(rest)
	r.bytes += bytes
	return bytes, n, nil
}
