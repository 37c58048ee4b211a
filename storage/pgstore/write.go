package pgstore

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// One statement writes an entity and its change. %[1]s is the table, %[2]s
// makes the head, %[3]s is what else there is to do for tokens. Parameters: $1 … $16 are
// entityArgs, $17 is Write.If, $18 … $28 are changeArgs, $29 of an update is Write.Quiet, and what
// follows is sqlBump's.
// The seq of the change becomes null, which the table refuses, when the entity
// was not at Write.If.
//
// The statement that bumps has a snapshot from before it got the lock. That is as good as
// one from after: an update looks again at a row that was changed meanwhile, and
// unique indexes and foreign keys look at what is there now.
const (
	sqlInsert = `with %[2]s,
entity as (
    insert into %[1]s (id, revision, created_at, updated_at, natural_key, external_id, hashes, ref,
        name, search, status, namespaces, groups, labels, due_at, spec, mentions)
    select $1::bigint, revision, $2::timestamptz, $3::timestamptz, $4::text, $5::text, $6::text[], $7::text,
        $8::text, $9::text, $10::text, $11::text[], $12::text[], $13::jsonb, $14::timestamptz, $15::json, $16::text[]
    from head
    returning id, hashes
)%[3]s
insert into changes (revision, seq, mark, time, actor, reason, action, kind, id, before, after, touches,
    machine)
select head.revision, case when $17::bigint = 0 then $18::int end, head.mark,
    $19::timestamptz, $20::text, $21::text, $22::text, $23::text, $24::bigint, $25::json, $26::json, $27::json, $28::boolean
from head
returning revision`

	sqlUpdate = `with %[2]s,
old as (select hashes from %[1]s where id = $1::bigint),
entity as (
    update %[1]s as e
    set revision = case when $29::boolean then e.revision else head.revision end, created_at = $2::timestamptz, updated_at = $3::timestamptz,
        natural_key = $4::text, external_id = $5::text, hashes = $6::text[], ref = $7::text,
        name = $8::text, search = $9::text, status = $10::text, namespaces = $11::text[], groups = $12::text[],
        labels = $13::jsonb, due_at = $14::timestamptz, spec = $15::json, mentions = $16::text[]
    from head
    where e.id = $1::bigint and e.revision = $17::bigint
    returning e.id, e.hashes
)%[3]s
insert into changes (revision, seq, mark, time, actor, reason, action, kind, id, before, after, touches,
    machine)
select head.revision, case when exists (select from entity) then $18::int end, head.mark,
    $19::timestamptz, $20::text, $21::text, $22::text, $23::text, $24::bigint, $25::json, $26::json, $27::json, $28::boolean
from head
returning revision`

	// $1 is the id, $2 Write.If, and $3 … $13 are changeArgs. An entity that
	// is absent is at 0: deleting it then is no conflict. To know that, it needs a snapshot
	// from after the lock.
	sqlDelete = `with %[2]s,
entity as (
    delete from %[1]s where id = $1::bigint and revision = $2::bigint
    returning id, hashes
)%[3]s
insert into changes (revision, seq, mark, time, actor, reason, action, kind, id, before, after, touches,
    machine)
select head.revision,
    case when exists (select from entity)
           or $2::bigint = 0 and not exists (select from %[1]s where id = $1::bigint) then $3::int end, head.mark,
    $4::timestamptz, $5::text, $6::text, $7::text, $8::text, $9::bigint, $10::json, $11::json, $12::json, $13::boolean
from head
returning revision`
)

// What entities with tokens need besides: their hashes. %[1]s is the noun.
const (
	sqlInsertHashes = `,
hash as (
    insert into %[1]s_hashes (hash, owner)
    select unnest(entity.hashes), entity.id from entity
)`

	sqlUpdateHashes = `,
gone as (
    delete from %[1]s_hashes
    where owner = $1::bigint -- an earlier write of the commit may have given one to another
      and hash in (select h from entity, old, unnest(old.hashes) as h
                   where h <> all (coalesce(entity.hashes, '{}')))
),
hash as (
    insert into %[1]s_hashes (hash, owner)
    select h, entity.id from entity, old, unnest(entity.hashes) as h
    where h <> all (coalesce(old.hashes, '{}'))
)`

	sqlDeleteHashes = `,
gone as (
    delete from %[1]s_hashes
    where owner = $1::bigint and hash in (select h from entity, unnest(entity.hashes) as h)
)`
)

const sqlSync = `
insert into changes (revision, seq, mark, time, actor, reason, action, kind, id, before, after, touches,
    machine)
select revision, $1::int, mark,
    $2::timestamptz, $3::text, $4::text, $5::text, $6::text, $7::bigint, $8::json, $9::json, $10::json, $11::boolean
from catalog_head`

// table returns the name of the table that holds entities of kind k.
func table(k catalog.Kind) (string, error) {
	if !slices.Contains(catalog.Kinds(), k) {
		return "", fmt.Errorf("unknown kind %q", k)
	}
	return string(k), nil
}

// planWrite makes the statement of one write, the seq-th change of its commit.
// The first of a commit carries the bump, the others have none.
func planWrite(c catalog.Commit, w catalog.Write, seq int, b *bump) (statement, error) {
	e := w.Entity
	name, err := table(e.Kind)
	if err != nil {
		return statement{}, err
	}
	change, err := changeArgs(c, w.Change, seq)
	if err != nil {
		return statement{}, err
	}

	var template, hashes string
	var args []any
	switch {
	case w.Delete:
		template, hashes = sqlDelete, sqlDeleteHashes
		args = []any{e.ID}
	case w.If == 0:
		template, hashes = sqlInsert, sqlInsertHashes
		args, err = entityArgs(e)
	default:
		template, hashes = sqlUpdate, sqlUpdateHashes
		args, err = entityArgs(e)
	}
	if err != nil {
		return statement{}, err
	}
	if e.Kind.HasTokens() {
		hashes = fmt.Sprintf(hashes, e.Kind.Noun())
	} else {
		hashes = ""
	}
	args = append(append(args, int64(w.If)), change...)
	if template == sqlUpdate {
		args = append(args, w.Quiet)
	}
	head, args := b.after(args)
	st := newStatement(fmt.Sprintf(template, name, head, hashes), args)
	if b != nil {
		st.read = b.read
	}
	return st, nil
}

func planSync(c catalog.Commit, seq int) (statement, error) {
	args, err := changeArgs(c, c.SyncChange(), seq)
	return newStatement(sqlSync, args), err
}

func newStatement(sql string, args []any) statement {
	size := 0
	for _, arg := range args {
		size += 16
		switch arg := arg.(type) {
		case string:
			size += len(arg)
		case *string:
			if arg != nil {
				size += len(*arg)
			}
		case []string:
			for _, element := range arg {
				size += len(element) + 8
			}
		}
	}
	return statement{sql: sql, args: args, size: size}
}

// entityArgs lists an entity's columns but the revision, which the statement
// takes from the head. JSON goes as text, which every exec mode of pgx
// understands.
func entityArgs(e catalog.Entity) ([]any, error) {
	labels, err := json.Marshal(e.Labels)
	if err != nil {
		return nil, err
	}
	if e.Labels == nil {
		labels = []byte("{}")
	}
	var due *time.Time
	if !e.DueAt.IsZero() {
		due = &e.DueAt
	}
	return []any{
		e.ID, e.CreatedAt, e.UpdatedAt, orNull(e.NaturalKey), orNull(e.ExternalID), e.Hashes, orNull(e.Ref),
		e.Name, e.SearchText(), e.Status, notNull(e.Namespaces), notNull(e.Groups), string(labels), due, orNull(
			string(e.Spec)),
		notNull(e.Mentions),
	}, nil
}

// changeArgs lists a change's columns but revision and mark, which are the head's.
func changeArgs(c catalog.Commit, change catalog.Change, seq int) ([]any, error) {
	touches, err := json.Marshal(change.Touches)
	if err != nil {
		return nil, err
	}
	return []any{
		seq, c.Time, c.Actor, c.Reason, string(change.Action), string(change.Kind), change.ID,
		orNull(string(change.Before)), orNull(string(change.After)), string(touches), c.Machine,
	}, nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func notNull(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
