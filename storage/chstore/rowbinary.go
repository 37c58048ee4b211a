package chstore

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
)

// RowBinary is ClickHouse's format of rows without names: numbers in little-endian, text and maps
// behind their length as a varint, a nullable value behind a byte that is 1 where it is null. See
// "RowBinary" in ClickHouse's documentation of formats.

func appendInt64(b []byte, n int64) []byte   { return binary.LittleEndian.AppendUint64(b, uint64(n)) }
func appendUint64(b []byte, n uint64) []byte { return binary.LittleEndian.AppendUint64(b, n) }
func appendUint32(b []byte, n uint32) []byte { return binary.LittleEndian.AppendUint32(b, n) }
func appendInt32(b []byte, n int32) []byte   { return binary.LittleEndian.AppendUint32(b, uint32(n)) }

// appendInt128 appends a number as one of 128 bits.
func appendInt128(b []byte, n int64) []byte { return appendInt64(appendInt64(b, n), n>>63) }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// A rowReader reads rows in RowBinary. After an error it returns zeros.
type rowReader struct {
	rest []byte
	err  error
}

var errCut = errors.New("the answer of the server is cut off")

// more reports whether there is another row.
func (r *rowReader) more() bool { return r.err == nil && len(r.rest) > 0 }

func (r *rowReader) bytes(n uint64) []byte {
	if r.err != nil || uint64(len(r.rest)) < n {
		r.err = errCut
		return make([]byte, min(n, 16))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *rowReader) uint64() uint64 { return binary.LittleEndian.Uint64(r.bytes(8)) }
func (r *rowReader) int64() int64   { return int64(r.uint64()) }

// int128 reads an Int128 as the nearest int64. (The server's own least and greatest of 128 bits are
// wrong once they are compiled, in 26.7.)
func (r *rowReader) int128() int64 {
	low, high := r.int64(), r.int64()
	switch {
	case high == low>>63:
		return low
	case high < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

func (r *rowReader) int32() int32 { return int32(binary.LittleEndian.Uint32(r.bytes(4))) }
func (r *rowReader) bool() bool   { return r.bytes(1)[0] != 0 }

func (r *rowReader) length() uint64 {
	n, size := binary.Uvarint(r.rest)
	if r.err != nil || size <= 0 || n > uint64(len(r.rest)) {
		r.err = errCut
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *rowReader) string() string { return string(r.bytes(r.length())) }

// quote writes a text as a literal of SQL.
func quote(s string) string { return "'" + escapes.Replace(s) + "'" }

var escapes = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`)
