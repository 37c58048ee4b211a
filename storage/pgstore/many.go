package pgstore

import (
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/catalog"
)

// manyWrites is how many writes a commit may have before it is done in sets. A set
// has a temporary table, which costs as much as some dozens of writes one by one.
const manyWrites = 100

// A commit of many writes goes to the server, in a temporary table, before it takes
// the head's lock. What is done under the lock is a few statements for each kind, whatever
// the number of writes. %[1]s is the table of a kind, and %[2]s the noun.
const (
	sqlManyTable = `
create temporary table ez_writes (
    seq int not null, op text not null, at bigint not null, quiet boolean not null, fits boolean,
    id bigint not null, created_at timestamptz, updated_at timestamptz, natural_key text, external_id text,
    hashes text[], ref text, name text, search text, status text, namespaces text[], groups text[], labels jsonb,
    due_at timestamptz, spec json, mentions text[],
    time timestamptz not null, actor text not null, reason text not null, action text not null,
    kind text not null, entity_kind text not null, entity_id bigint not null, before json, after json, touches json not null,
    machine boolean not null
) on commit drop`

	sqlManyAnalyze = `analyze ez_writes`

	// sqlManyFits notes which entities are at the revision that they must have.
	sqlManyFits = `
update ez_writes as w set fits = w.at = coalesce((select revision from %[1]s as e where e.id = w.id), 0)
where w.kind = '%[1]s'`

	// sqlManyChanges fails on the first entity that is not: its seq is null.
	sqlManyChanges = `
insert into changes (revision, seq, mark, time, actor, reason, action, kind, id, before, after, touches,
    machine)
select h.revision, case when w.fits then w.seq end, h.mark, w.time, w.actor, w.reason, w.action, w.entity_kind, w.entity_id,
    w.before, w.after, w.touches, w.machine
from ez_writes as w, catalog_head as h
order by w.seq`

	sqlManyReleaseHashes = `
delete from %[2]s_hashes
where hash in (
    select h from ez_writes as w join %[1]s as e on e.id = w.id, unnest(e.hashes) as h
    where w.kind = '%[1]s' and w.at > 0 and h <> all (coalesce(w.hashes, '{}')))`

	sqlManyRelease = `
update %[1]s as e
set natural_key = case when e.natural_key = w.natural_key then e.natural_key end,
    external_id = case when e.external_id = w.external_id then e.external_id end
from ez_writes as w
where w.kind = '%[1]s' and w.op = 'u' and e.id = w.id
  and (e.natural_key is distinct from w.natural_key or e.external_id is distinct from w.external_id)`

	sqlManyDelete = `
delete from %[1]s as e using ez_writes as w where w.kind = '%[1]s' and w.op = 'd' and e.id = w.id`

	sqlManyUpdate = `
update %[1]s as e
set revision = case when w.quiet then e.revision else h.revision end, created_at = w.created_at, updated_at = w.updated_at,
    natural_key = w.natural_key, external_id = w.external_id, hashes = w.hashes, ref = w.ref,
    name = w.name, search = w.search, status = w.status, namespaces = w.namespaces, groups = w.groups,
    labels = w.labels, due_at = w.due_at, spec = w.spec, mentions = w.mentions
from ez_writes as w, catalog_head as h
where w.kind = '%[1]s' and w.op = 'u' and e.id = w.id`

	sqlManyInsert = `
insert into %[1]s (id, revision, created_at, updated_at, natural_key, external_id, hashes, ref,
    name, search, status, namespaces, groups, labels, due_at, spec, mentions)
select w.id, h.revision, w.created_at, w.updated_at, w.natural_key, w.external_id, w.hashes, w.ref,
    w.name, w.search, w.status, w.namespaces, w.groups, w.labels, w.due_at, w.spec, w.mentions
from ez_writes as w, catalog_head as h
where w.kind = '%[1]s' and w.op = 'c'`

	sqlManyHashes = `
insert into %[2]s_hashes (hash, owner)
select h, w.id from ez_writes as w, unnest(w.hashes) as h
where w.kind = '%[1]s' and w.op <> 'd'
  and not exists (select from %[2]s_hashes as k where k.hash = h and k.owner = w.id)`
)

// planMany lists the statements of a commit with many writes. It is never one
// statement alone.
func planMany(c catalog.Commit, _ commitMode, rev *catalog.Revision) ([]statement, error) {
	rows := &copyRows{table: pgx.Identifier{"ez_writes"}, columns: manyColumns()}
	ops := map[catalog.Kind]map[byte]bool{}
	for i, w := range c.Writes {
		row, op, err := manyRow(c, w, i+1)
		if err != nil {
			return nil, err
		}
		rows.rows = append(rows.rows, row)
		if ops[w.Entity.Kind] == nil {
			ops[w.Entity.Kind] = map[byte]bool{}
		}
		ops[w.Entity.Kind][op] = true
	}
	mark := make([]byte, 16)
	rand.Read(mark) //nolint:errcheck // it never fails
	var epoch catalog.Epoch
	if c.Sync {
		epoch = c.Epoch
	}
	b := &bump{settings: sqlSettings, args: []any{int64(c.Base), uuid.UUID(mark).String(), int64(epoch)}}
	head, args := b.after(nil)
	statements := []statement{
		{sql: sqlBegin}, {sql: sqlManyTable}, {copy: rows}, {sql: sqlManyAnalyze},
		{sql: fmt.Sprintf(sqlBumpAlone, head), args: args, read: func(row pgx.Row) error { return row.Scan(rev) }},
	}
	each := func(op byte, sql string) {
		for _, k := range catalog.Kinds() {
			if of := ops[k]; op == 0 && of != nil || of[op] {
				statements = append(statements, statement{sql: fmt.Sprintf(sql, k)})
			}
		}
	}
	each(0, sqlManyFits)
	statements = append(statements, statement{sql: sqlManyChanges})
	eachWithTokens := func(sql string, wanted string) {
		for _, k := range catalog.Kinds() {
			if k.HasTokens() && strings.ContainsFunc(wanted, func(op rune) bool { return ops[k][byte(op)] }) {
				statements = append(statements, statement{sql: fmt.Sprintf(sql, k, k.Noun())})
			}
		}
	}
	eachWithTokens(sqlManyReleaseHashes, "ud")
	each('u', sqlManyRelease)
	each('d', sqlManyDelete)
	each('u', sqlManyUpdate)
	each('c', sqlManyInsert)
	eachWithTokens(sqlManyHashes, "cu")
	return planEnd(c, statements)
}

func manyColumns() []string {
	return []string{
		"kind", "op", "at", "quiet",
		"id", "created_at", "updated_at", "natural_key", "external_id", "hashes", "ref", "name", "search", "status",
		"namespaces", "groups", "labels", "due_at", "spec", "mentions",
		"seq", "time", "actor", "reason", "action", "entity_kind", "entity_id", "before", "after", "touches", "machine",
	}
}

// manyRow makes the row of one write, and says whether it creates, updates or deletes.
func manyRow(c catalog.Commit, w catalog.Write, seq int) ([]any, byte, error) {
	change, err := changeArgs(c, w.Change, seq)
	if err != nil {
		return nil, 0, err
	}
	op := byte('u')
	entity := make([]any, 16)
	entity[0] = w.Entity.ID
	switch {
	case w.Delete:
		op = 'd'
	default:
		if w.If == 0 {
			op = 'c'
		}
		if entity, err = entityArgs(w.Entity); err != nil {
			return nil, 0, err
		}
	}
	row := append([]any{string(w.Entity.Kind), string(op), int64(w.If), w.Quiet}, entity...)
	return append(row, change...), op, nil
}

// copyRows is what a statement copies.
type copyRows struct {
	table   pgx.Identifier
	columns []string
	rows    [][]any
	next    int
}

var _ pgx.CopyFromSource = (*copyRows)(nil)

func (r *copyRows) Next() bool {
	r.next++
	return r.next <= len(r.rows)
}

func (r *copyRows) Values() ([]any, error) { return r.rows[r.next-1], nil }

func (r *copyRows) Err() error { return nil }
