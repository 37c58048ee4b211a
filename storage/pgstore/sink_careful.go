package pgstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	// sqlPart makes the table that parts of a batch go through, because COPY
	// has no ON CONFLICT. It has none of the constraints.
	sqlPart = `savepoint part; create temp table log_part on commit drop as select ` + logColumns + `
from access_logs with no data; release savepoint part`

	sqlPartBegin  = `savepoint part`
	sqlPartCopy   = `copy pg_temp.log_part (` + logColumns + `) from stdin (format binary)`
	sqlPartInsert = `insert into access_logs (` + logColumns + `) select ` + logColumns + ` from pg_temp.log_part on conflict do nothing returning ts, id`
	sqlPartEnd    = `truncate pg_temp.log_part; release savepoint part`
	sqlPartDone   = `release savepoint part`
	sqlPartUndo   = `rollback to savepoint part; release savepoint part`

	sqlTypes = `select ` + logColumns + ` from access_logs`

	sqlDead = `
insert into log_dead_letter (id, micros, segment, sqlstate, reason, entry)
values ($1, $2, $3, $4, $5, $6) on conflict do nothing`
)

// identity is what makes two entries the same.
type identity struct {
	micros int64
	id     uuid.UUID
}

func identityOf(e *logbuf.Entry) identity { return identity{e.Time.UnixMicro(), e.ID} }

// distinct returns entries, of those that are the same the first, by time and id: two that store the same
// entries in the same order wait for each other, one after the other. What is sorted is as small as can be.
func distinct(entries []logbuf.Entry) []logbuf.Entry {
	type place struct {
		identity
		index int
	}
	places := make([]place, len(entries))
	for i := range entries {
		places[i] = place{identityOf(&entries[i]), i}
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.micros, b.micros), bytes.Compare(a.id[:], b.id[:]), cmp.Compare(a.index, b.index))
	})
	sorted := make([]logbuf.Entry, 0, len(entries))
	for i, p := range places {
		if i == 0 || p.identity != places[i-1].identity {
			sorted = append(sorted, entries[p.index])
		}
	}
	return sorted
}

// carefully stores a batch that may hold duplicates, or entries that the
// database refuses, within a transaction.
type carefully struct {
	conn    *pgxpool.Conn
	segment uuid.UUID
	result  logbuf.Result
	note    func(*logbuf.Entry) // of each entry that is stored now
	checked bool                // the columns have the types that are written
	arrays  bool                // rows go as arrays, because the role may have no temporary table
}

func (s *Sink) storeCarefully(ctx context.Context, conn *pgxpool.Conn, b logbuf.Batch,
	note func(*logbuf.Entry)) (logbuf.Result, error) {
	c := &carefully{conn: conn, segment: b.Segment, note: note, arrays: s.withoutTemp.Load()}
	entries := distinct(b.Entries)
	c.result.Duplicate = len(b.Entries) - len(entries)
	if !c.arrays {
		err := run(ctx, conn, sqlPart)
		if isForbidden(err) {
			c.arrays = true
			s.withoutTemp.Store(true)
			s.logger.InfoContext(ctx, "pgstore: the role may not make temporary tables; batches that may hold "+
				"duplicates take longer")
			err = run(ctx, conn, sqlPartUndo)
		}
		if err != nil {
			return logbuf.Result{}, err
		}
	}
	err := c.store(ctx, entries)
	return c.result, err
}

// store stores entries that differ. When the database refuses one it stores
// the halves, down to the entry that is at fault.
func (c *carefully) store(ctx context.Context, entries []logbuf.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	stored, err := c.insert(ctx, entries)
	switch {
	case err == nil:
		return c.count(entries, stored)
	case faultOf(err) != faultData:
		return err
	}
	if err := run(ctx, c.conn, sqlPartUndo); err != nil {
		return err
	}
	if len(entries) == 1 {
		return c.bury(ctx, &entries[0], err)
	}
	half := len(entries) / 2
	if err := c.store(ctx, entries[:half]); err != nil {
		return err
	}
	return c.store(ctx, entries[half:])
}

// insert returns the identities of those that were not stored before.
func (c *carefully) insert(ctx context.Context, entries []logbuf.Entry) ([]identity, error) {
	if err := run(ctx, c.conn, sqlPartBegin); err != nil {
		return nil, err
	}
	var result *pgconn.ResultReader
	end := sqlPartEnd
	if c.arrays {
		columns, err := logArrays(entries)
		if err != nil {
			return nil, err
		}
		formats := []int16{pgx.BinaryFormatCode}
		result = c.conn.Conn().PgConn().ExecParams(ctx, sqlArraysInsert(), columns, nil, formats, formats)
		end = sqlPartDone
	} else {
		if err := copyFrom(ctx, c.conn, sqlPartCopy, logRows(entries, nil)); err != nil {
			return nil, err
		}
		result = c.conn.Conn().PgConn().ExecParams(ctx, sqlPartInsert, nil, nil, nil, []int16{pgx.BinaryFormatCode})
	}
	stored := make([]identity, 0, len(entries))
	for result.NextRow() {
		row := result.Values()
		stored = append(stored, identity{int64(binary.BigEndian.Uint64(row[0])) + epoch2000, uuid.UUID(row[1])})
	}
	if _, err := result.Close(); err != nil {
		return nil, err
	}
	return stored, run(ctx, c.conn, end)
}

// count notes those of the entries that were stored. They come
// back in the order in which they went, as long as nobody has put a trigger in between.
func (c *carefully) count(entries []logbuf.Entry, stored []identity) error {
	c.result.Stored += len(stored)
	c.result.Duplicate += len(entries) - len(stored)
	n := 0
	for i := range entries {
		if n < len(stored) && stored[n] == identityOf(&entries[i]) {
			c.note(&entries[i])
			n++
		}
	}
	if n < len(stored) {
		return errors.New("rows come back in another order, or changed: is there a trigger on access_logs?")
	}
	return nil
}

// checkTypes makes sure that it is the data which is at fault: a column of
// another type makes every entry look wrong.
func (c *carefully) checkTypes(ctx context.Context) error {
	if c.checked {
		return nil
	}
	table, err := c.conn.Conn().PgConn().Prepare(ctx, "", sqlTypes, nil)
	if err != nil {
		return err
	}
	for i, f := range table.Fields {
		if f.DataTypeOID != logTypes[i] || f.TypeModifier != -1 {
			return &mismatch{f.Name}
		}
	}
	c.checked = true
	return nil
}

// bury puts an entry into the dead letters, once.
func (c *carefully) bury(ctx context.Context, e *logbuf.Entry, cause error) error {
	if err := c.checkTypes(ctx); err != nil {
		return err
	}
	state, reason := causeOf(cause)
	var segment any
	if c.segment != uuid.Nil {
		segment = c.segment
	}
	entry, err := json.Marshal(e)
	if err != nil { // JSON has no time beyond the year 9999; the table has it in micros
		withoutTime := *e
		withoutTime.Time = time.Time{}
		if entry, err = json.Marshal(withoutTime); err != nil {
			return fmt.Errorf("bury an entry: %w", err)
		}
	}
	_, err = c.conn.Exec(ctx, sqlDead, pgx.QueryExecModeExec,
		e.ID, e.Time.UnixMicro(), segment, state, strings.ToValidUTF8(reason, "\uFFFD"), string(entry))
	c.result.Dead++
	return err
}

// causeOf returns the SQLSTATE and the text of a refusal.
func causeOf(err error) (state, reason string) {
	var r *refusal
	if errors.As(err, &r) {
		return r.state, r.reason
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code, pg.Message
	}
	return "", err.Error()
}
