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
	// sqlImmediate lets deferred constraints and triggers speak at the statement that brings the entry
	// which they refuse, and not at the commit, where it cannot be found.
	sqlImmediate = `set constraints all immediate`

	// sqlPart makes the table that parts of a batch go through, because COPY
	// has no ON CONFLICT. It has none of the constraints.
	sqlPart = `savepoint part; create temp table log_part on commit drop as select ` + logColumns + `
from access_logs with no data; release savepoint part`

	// sqlUnlessStored passes over entries that are stored already. What another index of the operator's
	// has already is refused.
	sqlUnlessStored = `on conflict (ts, id) do nothing returning ts, id`

	sqlPartBegin  = `savepoint part`
	sqlPartCopy   = `copy pg_temp.log_part (` + logColumns + `) from stdin (format binary)`
	sqlPartInsert = `insert into access_logs (` + logColumns + `) select ` + logColumns + ` from pg_temp.log_part
` + sqlUnlessStored
	sqlPartEnd    = `truncate pg_temp.log_part; release savepoint part`
	sqlPartDone   = `release savepoint part`
	sqlPartUndo   = `rollback to savepoint part; release savepoint part`
	sqlProbeBegin = `savepoint probe`
	sqlProbeUndo  = `rollback to savepoint probe; release savepoint probe`

	// sqlMayPassOver finds whether a trigger may leave out a row: one before insert, for each row. It
	// locks no partition.
	sqlMayPassOver = `
with recursive tables (id) as (
    select 'access_logs'::regclass::oid union all select inhrelid from pg_inherits join tables on inhparent = id
)
select exists (select from pg_trigger where tgrelid in (select id from tables) and tgtype & 7 = 7)`

	// sqlPassedOver finds which of some entries are not stored, each by the index.
	sqlPassedOver = `
select p.ts, p.id from unnest($1::timestamptz[], $2::uuid[]) as p (ts, id)
where (select true from access_logs as l where l.ts = p.ts and l.id = p.id) is null`

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
	probed  bool                // entries go in, unless they are at fault
	arrays  bool                // rows go as arrays, because the role may have no temporary table
}

func (s *Sink) storeCarefully(ctx context.Context, conn *pgxpool.Conn, b logbuf.Batch,
	note func(*logbuf.Entry)) (logbuf.Result, error) {
	c := &carefully{conn: conn, segment: b.Segment, note: note, arrays: s.withoutTemp.Load()}
	entries := distinct(b.Entries)
	c.result.Duplicate = len(b.Entries) - len(entries)
	if err := run(ctx, conn, sqlImmediate); err != nil {
		return logbuf.Result{}, err
	}
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
	switch f := faultOf(err); {
	case err == nil:
		return c.count(ctx, entries, stored)
	case f != faultData && f != faultSchema && !isUnique(err):
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
		if err := copyFrom(ctx, c.conn.Conn(), sqlPartCopy, logRows(entries, nil)); err != nil {
			return nil, err
		}
		result = c.conn.Conn().PgConn().ExecParams(ctx, sqlPartInsert, nil, nil, nil, []int16{pgx.BinaryFormatCode})
	}
	stored, err := readIdentities(result, len(entries))
	if err != nil {
		return nil, err
	}
	return stored, run(ctx, c.conn, end)
}

// readIdentities reads rows of times and ids, in the binary format.
func readIdentities(result *pgconn.ResultReader, most int) ([]identity, error) {
	identities := make([]identity, 0, most)
	for result.NextRow() {
		row := result.Values()
		identities = append(identities, identity{int64(binary.BigEndian.Uint64(row[0])) + epoch2000, uuid.UUID(row[1])})
	}
	_, err := result.Close()
	return identities, err
}

// count notes those of the entries that were stored, and buries those that a trigger passed over.
// They come back in the order in which they went, as long as no trigger changes what they are.
func (c *carefully) count(ctx context.Context, entries []logbuf.Entry, stored []identity) error {
	c.result.Stored += len(stored)
	n := 0
	for i := range entries {
		if n < len(stored) && stored[n] == identityOf(&entries[i]) {
			c.note(&entries[i])
			n++
		}
	}
	if n < len(stored) {
		return &mismatch{"rows come back in another order, or changed: is there a trigger on access_logs?"}
	}
	missing, err := c.passedOver(ctx, entries, stored)
	if err != nil {
		return err
	}
	c.result.Duplicate += len(entries) - len(stored) - len(missing)
	for i := range entries {
		if len(missing) > 0 && missing[identityOf(&entries[i])] {
			if err := c.bury(ctx, &entries[i], &refusal{statePassedOver, "a trigger passed over it"}); err != nil {
				return err
			}
		}
	}
	return nil
}

// passedOver returns which of the entries were not stored now, and are not stored at all.
func (c *carefully) passedOver(ctx context.Context, entries []logbuf.Entry, stored []identity) (map[identity]bool,
	error) {
	if len(entries) == len(stored) {
		return nil, nil
	}
	var mayBe bool
	if err := queryRow(ctx, c.conn.Conn(), sqlMayPassOver, nil, &mayBe); err != nil || !mayBe {
		return nil, err
	}
	columns, err := logArrays(entries)
	if err != nil {
		return nil, err
	}
	formats := []int16{pgx.BinaryFormatCode}
	result := c.conn.Conn().PgConn().ExecParams(ctx, sqlPassedOver, columns[:2], nil, formats, formats)
	missing, err := readIdentities(result, len(entries))
	if err != nil {
		return nil, err
	}
	set := make(map[identity]bool, len(missing))
	for _, i := range missing {
		set[i] = true
	}
	return set, nil
}

// checkTables makes sure that it is the entry which is at fault, and not the tables: a column of
// another type makes every entry look wrong, and so does a right that was taken away. When an error
// is about tables, an entry with nothing in it has to go in; it is taken out again.
func (c *carefully) checkTables(ctx context.Context, e *logbuf.Entry, cause error) error {
	if err := c.checkTypes(ctx); err != nil || c.probed || faultOf(cause) != faultSchema {
		return err
	}
	if err := run(ctx, c.conn, sqlProbeBegin); err != nil {
		return err
	}
	_, err := c.insert(ctx, []logbuf.Entry{{Time: e.Time, ID: uuid.New()}})
	if err != nil && faultOf(err) != faultData && !isUnique(err) {
		return err
	}
	c.probed = true
	return run(ctx, c.conn, sqlProbeUndo)
}

// checkTypes makes sure that the columns have the types that are written.
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
			return &mismatch{"column " + f.Name + " of access_logs has another type than the migrations gave it"}
		}
	}
	c.checked = true
	return nil
}

// bury puts an entry into the dead letters, once.
func (c *carefully) bury(ctx context.Context, e *logbuf.Entry, cause error) error {
	if err := c.checkTables(ctx, e, cause); err != nil {
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
