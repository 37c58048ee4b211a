package logbuf

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// The record is the form in which a queue keeps an entry, in memory and on disk:
// a third of the struct's size, and without pointers, so that a long queue costs
// the garbage collector nothing. Version 1 is, in this order:
//
//	id          16 bytes
//	time        8 bytes, microseconds since 1970, little endian
//	flags       1 byte: recordStream, recordCost, recordTags, recordFailures
//	numbers     varints: key_id, provider_id, status, attempts, latency_ms, ttft_ms, input_tokens,
//	            cache_read_tokens, cache_write_tokens, output_tokens, priced_revision,
//	            and cost_nano_usd if recordCost is set
//	strings     13 times a uvarint length and the bytes, in the order of Entry.text
//	tags        if recordTags is set: a uvarint count, and names and values as strings, by name
//	failures    if recordFailures is set: a uvarint count, and of each provider_id, status,
//	            latency_ms, retry_after_ms as varints, upstream_model and class as strings
//
// A record does not say where it ends: whoever holds several knows how many.
const (
	recordStream = 1 << iota
	recordCost
	recordTags
	recordFailures
)

// maxPart is how many bytes of records stay together: what the spool frames and
// reads back at once.
const maxPart = 128 << 10

// packed is the records of one Append in parts, each of at least one record and
// hardly more than maxPart.
type packed struct {
	records []byte
	parts   []part
	count   int

	entry Entry // the one that is being added; here, so that it needs no memory of its own
}

type part struct{ bytes, count int }

func (p *packed) reset() {
	p.records, p.parts, p.count = p.records[:0], p.parts[:0], 0
	p.entry = Entry{} // lets go of the strings
}

// completedLate is the PricedRevision, in a record, of an entry that is to be completed when it
// leaves.
const completedLate = -1

func (p *packed) add(e *Entry) {
	before := len(p.records)
	p.records = appendRecord(p.records, e)
	p.count++
	last := len(p.parts) - 1
	if last < 0 || p.parts[last].bytes >= maxPart {
		p.parts = append(p.parts, part{})
		last++
	}
	p.parts[last].bytes += len(p.records) - before
	p.parts[last].count++
}

var errRecord = errors.New("log record does not parse")

// numbers returns the integers of an entry in the order of the record.
func (e *Entry) numbers() [11]int64 {
	return [...]int64{
		e.KeyID, e.ProviderID, int64(e.Status), int64(e.Attempts), e.LatencyMS, e.TTFTMS, e.InputTokens,
		e.CacheReadTokens, e.CacheWriteTokens, e.OutputTokens, e.PricedRevision,
	}
}

// appendRecord appends the record of an entry.
func appendRecord(dst []byte, e *Entry) []byte {
	dst = append(dst, e.ID[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Time.UnixMicro()))
	var flags byte
	if e.Stream {
		flags |= recordStream
	}
	if e.CostNanoUSD != nil {
		flags |= recordCost
	}
	if len(e.Tags) > 0 {
		flags |= recordTags
	}
	if len(e.Failures) > 0 {
		flags |= recordFailures
	}
	dst = append(dst, flags)
	for _, n := range e.numbers() {
		dst = binary.AppendVarint(dst, n)
	}
	if e.CostNanoUSD != nil {
		dst = binary.AppendVarint(dst, *e.CostNanoUSD)
	}
	for _, s := range e.text() {
		dst = appendString(dst, *s)
	}
	if flags&(recordTags|recordFailures) != 0 {
		dst = appendNested(dst, e)
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// appendNested appends the tags and failures of an entry, where there are any.
func appendNested(dst []byte, e *Entry) []byte {
	if len(e.Tags) > 0 {
		names := make([]string, 0, maxTags)
		for name := range e.Tags {
			names = append(names, name)
		}
		slices.Sort(names)
		dst = binary.AppendUvarint(dst, uint64(len(names)))
		for _, name := range names {
			dst = appendString(appendString(dst, name), e.Tags[name])
		}
	}
	if len(e.Failures) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(e.Failures)))
		for i := range e.Failures {
			f := &e.Failures[i]
			dst = binary.AppendVarint(dst, f.ProviderID)
			dst = binary.AppendVarint(dst, int64(f.Status))
			dst = binary.AppendVarint(dst, f.LatencyMS)
			dst = binary.AppendVarint(dst, f.RetryAfterMS)
			dst = appendString(appendString(dst, f.UpstreamModel), string(f.Class))
		}
	}
	return dst
}

// readRecord reads the record at the start of src into e, which is empty, and returns what
// follows it. The entry's strings are parts of src, and its cost, if it has one, is put
// where cost points to: so nothing has to be allocated but for tags and failures.
func readRecord(e *Entry, src string, cost *int64) (rest string, err error) {
	const fixed = 16 + 8 + 1
	if len(src) < fixed {
		return "", errRecord
	}
	r := recordReader{src: src, at: fixed}
	flags := src[24]
	e.Time = time.UnixMicro(littleEndian64(src[16:])).UTC()
	e.Stream = flags&recordStream != 0
	e.KeyID = r.number()
	e.ProviderID = r.number()
	e.Status = int(r.number())
	e.Attempts = int(r.number())
	e.LatencyMS = r.number()
	e.TTFTMS = r.number()
	e.InputTokens = r.number()
	e.CacheReadTokens = r.number()
	e.CacheWriteTokens = r.number()
	e.OutputTokens = r.number()
	e.PricedRevision = r.number()
	copy(e.ID[:], src)
	if flags&recordCost != 0 {
		*cost = r.number()
		e.CostNanoUSD = cost
	}
	for _, s := range e.text() {
		*s = r.string()
	}
	if flags&recordTags != 0 {
		r.tags(e)
	}
	if flags&recordFailures != 0 {
		r.failures(e)
	}
	if r.bad {
		return "", errRecord
	}
	return src[r.at:], nil
}

// tags reads tags. More than an entry may have are not ours.
func (r *recordReader) tags(e *Entry) {
	n := r.uvarint()
	if n == 0 || n > maxTags {
		r.fail()
		return
	}
	e.Tags = make(map[string]string, n)
	for range n {
		name := r.string()
		e.Tags[name] = r.string()
	}
}

func (r *recordReader) failures(e *Entry) {
	n := r.uvarint()
	if n == 0 || n > maxFailures {
		r.fail()
		return
	}
	e.Failures = make([]Failure, n)
	for i := range e.Failures {
		e.Failures[i] = Failure{
			ProviderID: r.number(), Status: int(r.number()), LatencyMS: r.number(), RetryAfterMS: r.number(),
			UpstreamModel: r.string(), Class: FailureClass(r.string()),
		}
	}
}

func littleEndian64(s string) int64 {
	//nolint:gosec // the same bits
	return int64(uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56)
}

// recordReader reads numbers and strings until something is wrong, and then
// only zeros.
type recordReader struct {
	src string
	at  int // and not a shorter src: to store a number costs nothing while garbage is collected
	bad bool
}

func (r *recordReader) fail() { r.bad, r.at = true, len(r.src) }

// uvarint is binary.Uvarint for a string.
func (r *recordReader) uvarint() (n uint64) {
	if r.at < len(r.src) && r.src[r.at] < 0x80 { // most are short
		n = uint64(r.src[r.at])
		r.at++
		return n
	}
	for i, src := 0, r.src[r.at:]; i < len(src) && i < binary.MaxVarintLen64; i++ {
		b := src[i]
		if b < 0x80 {
			if i == binary.MaxVarintLen64-1 && b > 1 {
				break // more than 64 bits
			}
			r.at += i + 1
			return n | uint64(b)<<(7*i)
		}
		n |= uint64(b&0x7f) << (7 * i)
	}
	r.fail()
	return 0
}

func (r *recordReader) number() int64 {
	n := r.uvarint()
	return int64(n>>1) ^ -int64(n&1) //nolint:gosec // as binary.Varint has it
}

func (r *recordReader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.src)-r.at) {
		r.fail()
		return ""
	}
	start := r.at
	r.at += int(n) //nolint:gosec // no more than there are
	return r.src[start:r.at]
}
