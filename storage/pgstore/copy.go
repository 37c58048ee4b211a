package pgstore

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

// The binary format of COPY, see "File Formats" under COPY in PostgreSQL's
// manual: a header, rows of a count of fields and each field after its length,
// and a trailer. Writing it ourselves costs a seventh of pgx's CopyFrom.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // no flags, no extension
	copyTrailer = "\xff\xff"

	// epoch2000 is where timestamps count from, in microseconds since 1970.
	epoch2000 = 946_684_800_000_000
)

// The columns of the rows below, in their order.
const (
	logColumns = `ts, id, key_id, provider_id, latency_ms, ttft_ms,
    input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, cost_nano_usd, priced_revision,
    status, attempts, stream, request_id, balancer, namespace, model, upstream_model,
    route_group, endpoint, error, client_ip, user_agent, revision, project, end_user, tags, failures`
	logFields = 30

	usageColumns = `starts, last_at, key_id, provider_id, requests, errors, unpriced,
    input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, cost_nano_usd,
    project, namespace, model, route_group`
	usageFields = 16
)

// logTypes are the types of logColumns.
var logTypes = [logFields]uint32{
	pgtype.TimestamptzOID, pgtype.UUIDOID, pgtype.Int8OID, pgtype.Int8OID, pgtype.Int8OID, pgtype.Int8OID,
	pgtype.Int8OID, pgtype.Int8OID, pgtype.Int8OID, pgtype.Int8OID, pgtype.Int8OID, pgtype.Int8OID,
	pgtype.Int4OID, pgtype.Int4OID, pgtype.BoolOID, pgtype.TextOID, pgtype.TextOID, pgtype.TextOID,
	pgtype.TextOID, pgtype.TextOID,
	pgtype.TextOID, pgtype.TextOID, pgtype.TextOID, pgtype.TextOID, pgtype.TextOID, pgtype.TextOID,
	pgtype.TextOID, pgtype.TextOID, pgtype.JSONBOID, pgtype.JSONBOID,
}

// copyReader is what COPY reads: rows, encoded as they are asked for. After
// stop it touches nothing any more, although pgconn, when the server breaks off, may
// return while it still reads.
type copyReader struct {
	mu     sync.Mutex
	append func([]byte) ([]byte, error) // one row; io.EOF after the last
	buf    []byte
	sent   int // of buf
	rows   int64
	err    error
}

func newCopyReader(appendRow func([]byte) ([]byte, error)) *copyReader {
	return &copyReader{append: appendRow, buf: append(make([]byte, 0, 80<<10), copyHeader...)}
}

// Read implements [io.Reader].
func (c *copyReader) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf = append(c.buf[:0], c.buf[c.sent:]...)
	c.sent = 0
	for c.err == nil && len(c.buf) < len(p) {
		switch c.buf, c.err = c.append(c.buf); c.err { //nolint:errorlint // as io.Reader has it
		case nil:
			c.rows++
		case io.EOF:
			c.buf = append(c.buf, copyTrailer...)
		}
	}
	if len(c.buf) == 0 || c.err != nil && c.err != io.EOF { //nolint:errorlint // as above
		return 0, c.err
	}
	c.sent = copy(p, c.buf)
	return c.sent, nil
}

// stop ends the reading and returns how many rows were read, and what was wrong with one, if anything.
func (c *copyReader) stop() (rows int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.err
	c.err = io.ErrClosedPipe
	if err == io.EOF { //nolint:errorlint // as above
		err = nil
	}
	return c.rows, err
}

// logRows returns the rows of entries, in the order of time: those that follow each other then go to the same pages
// of the index, which saves PostgreSQL a tenth of its work. Each is noted on its way, unless note is nil.
func logRows(entries []logbuf.Entry, note func(*logbuf.Entry)) *copyReader {
	order := byTime(entries)
	return newCopyReader(func(buf []byte) ([]byte, error) {
		if len(order) == 0 {
			return buf, io.EOF
		}
		e := &entries[order[0]]
		order = order[1:]
		if note != nil {
			note(e)
		}
		return appendLog(buf, e)
	})
}

// byTime returns the indexes of entries in the order of time, as near as 64 bits can hold a time beside an index. To
// sort such numbers costs an eighth of what it costs to compare entries.
func byTime(entries []logbuf.Entry) []uint64 {
	order := make([]uint64, len(entries))
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range entries {
		micros := entries[i].Time.UnixMicro()
		order[i] = uint64(micros)
		first, last = min(first, micros), max(last, micros)
	}
	width := bits.Len(uint(len(entries))) // of an index
	coarse := max(0, bits.Len64(uint64(last-first))+width-64)
	for i, micros := range order {
		order[i] = (micros-uint64(first))>>coarse<<width | uint64(i)
	}
	slices.Sort(order)
	for i := range order {
		order[i] &= 1<<width - 1
	}
	return order
}

func appendLog(buf []byte, e *logbuf.Entry) ([]byte, error) {
	if !storable(e.Time) {
		return buf, &refusal{stateTimeRange, "ts is no time that can be stored"}
	}
	if e.Status != int(int32(e.Status)) || e.Attempts != int(int32(e.Attempts)) {
		return buf, &refusal{stateNumberRange, "status or attempts is out of range"}
	}
	buf = appendRow(buf, logFields)
	buf = appendTime(buf, e.Time.UnixMicro())
	buf = appendUUID(buf, e.ID)
	buf = appendInt64(buf, e.KeyID)
	buf = appendInt64(buf, e.ProviderID)
	buf = appendInt64(buf, e.LatencyMS)
	buf = appendInt64(buf, e.TTFTMS)
	buf = appendInt64(buf, e.InputTokens)
	buf = appendInt64(buf, e.CacheReadTokens)
	buf = appendInt64(buf, e.CacheWriteTokens)
	buf = appendInt64(buf, e.OutputTokens)
	if e.CostNanoUSD == nil {
		buf = appendNull(buf)
	} else {
		buf = appendInt64(buf, *e.CostNanoUSD)
	}
	buf = appendInt64(buf, e.PricedRevision)
	buf = appendInt32(buf, int32(e.Status))
	buf = appendInt32(buf, int32(e.Attempts))
	buf = appendBool(buf, e.Stream)
	buf = appendText(buf, e.RequestID)
	buf = appendText(buf, e.Balancer)
	buf = appendText(buf, e.Namespace)
	buf = appendText(buf, e.Model)
	buf = appendText(buf, e.UpstreamModel)
	buf = appendText(buf, e.Group)
	buf = appendText(buf, e.Endpoint)
	buf = appendText(buf, e.Error)
	buf = appendText(buf, e.ClientIP)
	buf = appendText(buf, e.UserAgent)
	buf = appendText(buf, e.Revision)
	buf = appendText(buf, e.Project)
	buf = appendText(buf, e.User)
	buf, err := appendJSON(buf, e.Tags)
	if err != nil {
		return buf, err
	}
	return appendJSON(buf, e.Failures)
}

// appendJSON appends a jsonb, null when there is nothing in it.
func appendJSON[T map[string]string | []logbuf.Failure](buf []byte, v T) ([]byte, error) {
	if len(v) == 0 {
		return appendNull(buf), nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return buf, err
	}
	buf = binary.BigEndian.AppendUint32(buf, uint32(1+len(text)))
	return append(append(buf, 1), text...), nil // version 1 of the format
}

// storable reports whether both PostgreSQL and JSON know a time.
func storable(t time.Time) bool {
	year := t.Year()
	return year >= 1 && year <= 9999
}

// usageRows returns the rows of usage. A sum that no bigint holds makes more rows than one.
func usageRows(rows []rollup.Row) *copyReader {
	var rest rollup.Row
	return newCopyReader(func(buf []byte) ([]byte, error) {
		if rest.Counts == (rollup.Counts{}) {
			if len(rows) == 0 {
				return buf, io.EOF
			}
			rest, rows = rows[0], rows[1:]
		}
		buf = appendRow(buf, usageFields)
		buf = appendTime(buf, rest.Starts)
		buf = appendTime(buf, rest.Last)
		for _, n := range [...]int64{
			rest.KeyID, rest.ProviderID, rest.Requests, rest.Errors, rest.Unpriced,
			rest.InputTokens.Take(), rest.CacheReadTokens.Take(), rest.CacheWriteTokens.Take(),
			rest.OutputTokens.Take(), rest.CostNanoUSD.Take(),
		} {
			buf = appendInt64(buf, n)
		}
		rest.Requests, rest.Errors, rest.Unpriced, rest.Last = 0, 0, 0, 0
		buf = appendText(buf, rest.Project)
		buf = appendText(buf, rest.Namespace)
		buf = appendText(buf, rest.Model)
		return appendText(buf, rest.Group), nil
	})
}

// appendNull appends a null, whose length is -1.
func appendNull(buf []byte) []byte { return binary.BigEndian.AppendUint32(buf, math.MaxUint32) }

func appendRow(buf []byte, fields uint16) []byte { return binary.BigEndian.AppendUint16(buf, fields) }

func appendInt64(buf []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(buf, 0, 0, 0, 8), uint64(n))
}

func appendInt32(buf []byte, n int32) []byte {
	return binary.BigEndian.AppendUint32(append(buf, 0, 0, 0, 4), uint32(n))
}

func appendBool(buf []byte, b bool) []byte {
	if b {
		return append(buf, 0, 0, 0, 1, 1)
	}
	return append(buf, 0, 0, 0, 1, 0)
}

func appendUUID(buf []byte, id uuid.UUID) []byte {
	return append(append(buf, 0, 0, 0, 16), id[:]...)
}

func appendText(buf []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(buf, uint32(len(s))), s...)
}

// appendTime appends a timestamptz: microseconds since 2000.
func appendTime(buf []byte, micros int64) []byte { return appendInt64(buf, micros-epoch2000) }
