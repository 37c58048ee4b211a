package pgstore

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/ez-api/ez-api/logbuf"
)

// Where the role may have no temporary table, rows that may be there already go as one array a
// column. That takes twice as long.

// sqlArraysInsert inserts rows that come as arrays, in the order of logColumns.
func sqlArraysInsert() string {
	marks := make([]string, logFields)
	for i, oid := range logTypes {
		marks[i] = fmt.Sprintf("$%d::%s[]", i+1, typeName(oid))
	}
	return `insert into access_logs (` + logColumns + `) select * from unnest(` + strings.Join(marks, ", ") + `)
` + sqlUnlessStored
}

// typeName returns the name of one of logTypes.
func typeName(oid uint32) string {
	switch oid {
	case pgtype.TimestamptzOID:
		return "timestamptz"
	case pgtype.UUIDOID:
		return "uuid"
	case pgtype.Int8OID:
		return "bigint"
	case pgtype.Int4OID:
		return "integer"
	case pgtype.BoolOID:
		return "boolean"
	case pgtype.JSONBOID:
		return "jsonb"
	default:
		return "text"
	}
}

// logArrays returns a column's values as an array in PostgreSQL's binary format: the number of
// dimensions, a flag for nulls, the type of the elements, the length and the lower bound, and each
// element after its length.
func logArrays(entries []logbuf.Entry) ([][]byte, error) {
	columns := make([][]byte, logFields)
	for i, oid := range logTypes {
		head := binary.BigEndian.AppendUint32(nil, 1)
		head = binary.BigEndian.AppendUint32(head, 1)
		head = binary.BigEndian.AppendUint32(head, oid)
		head = binary.BigEndian.AppendUint32(head, uint32(len(entries))) //nolint:gosec // a batch
		columns[i] = binary.BigEndian.AppendUint32(head, 1)
	}
	var row []byte
	for i := range entries {
		var err error
		if row, err = appendLog(row[:0], &entries[i]); err != nil {
			return nil, err
		}
		// A row of COPY has the same elements, after a count of 16 bits.
		for rest, c := row[2:], 0; c < logFields; c++ {
			size := 4
			if n := int32(binary.BigEndian.Uint32(rest)); n > 0 { //nolint:gosec // -1 is null
				size += int(n)
			}
			columns[c] = append(columns[c], rest[:size]...)
			rest = rest[size:]
		}
	}
	return columns, nil
}
