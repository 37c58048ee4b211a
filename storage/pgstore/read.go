package pgstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/catalog"
)

const (
	sqlBeginRead = `begin isolation level repeatable read read only`

	sqlRevision = `select revision from catalog_head`

	// sqlHead also sets what holds for the queries that follow. Whoever reads may take his time between
	// two of them.
	sqlHead = `
with settings as materialized (
    select ` + sqlNoSurprises + `, set_config('statement_timeout', '2min', true),
           set_config('lock_timeout', '30s', true), set_config('idle_in_transaction_session_timeout', '5min', true)
)
select store::text as store, epoch, revision, coalesce(replace(mark::text, '-', ''), '') as mark, thinned,
    (select time from changes where revision = h.revision limit 1) as time, now() as clock
from settings, catalog_head as h`

	// Arrays travel as JSON, which needs no parser of our own.
	sqlEntity = `
select id, revision, created_at, updated_at, coalesce(natural_key, '') as natural_key,
    coalesce(external_id, '') as external_id, to_json(hashes) as hashes, coalesce(ref, '') as ref,
    name, status, to_json(namespaces) as namespaces, to_json(groups) as groups, to_json(mentions) as mentions, labels, due_at, spec
from %s where `

	sqlCount = `select count(*) from %s where `

	sqlGet     = sqlEntity + `id = $1`
	sqlFindKey = sqlEntity + `natural_key = $1`
	sqlFindExt = sqlEntity + `external_id = $1`
	sqlFindTok = sqlEntity + `id = (select owner from %s_hashes where hash = $1)`
)

// entityRow is a row of an entity's table, as the constants above select it.
type entityRow struct {
	ID         int64
	Revision   catalog.Revision
	CreatedAt  time.Time    `db:"created_at"`
	UpdatedAt  time.Time    `db:"updated_at"`
	NaturalKey string       `db:"natural_key"`
	ExternalID string       `db:"external_id"`
	Hashes     []byte       // JSON
	Ref        string       //
	Name       string       //
	Status     string       //
	Namespaces []byte       // JSON
	Groups     []byte       // JSON
	Mentions   []byte       // JSON
	Labels     []byte       // JSON
	DueAt      sql.NullTime `db:"due_at"`
	Spec       []byte
}

func (r *entityRow) entity(k catalog.Kind) catalog.Entity {
	e := catalog.Entity{
		Kind: k, ID: r.ID, Revision: r.Revision, CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
		NaturalKey: r.NaturalKey, ExternalID: r.ExternalID, Ref: r.Ref,
		Name: r.Name, Status: r.Status, Spec: r.Spec,
	}
	if r.DueAt.Valid {
		e.DueAt = r.DueAt.Time.UTC()
	}
	if err := errors.Join(
		decode(r.Hashes, &e.Hashes),
		decode(r.Namespaces, &e.Namespaces),
		decode(r.Groups, &e.Groups),
		decode(r.Mentions, &e.Mentions),
		decode(r.Labels, &e.Labels),
	); err != nil { // somebody has written it who is no server: it holds up nothing but itself
		e.Hashes, e.Namespaces, e.Groups, e.Mentions, e.Labels = nil, nil, nil, nil, nil
		e.Spec = []byte("damaged")
	}
	return e
}

// decode reads a list or a map; an empty one is nil.
func decode(data []byte, into any) error {
	switch string(data) {
	case "", "[]", "{}":
		return nil
	}
	return json.Unmarshal(data, into)
}

// Read calls fn in a read-only transaction that sees one revision; see [catalog.Store].
func (s *Store) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	if err := s.alive(); err != nil {
		return err
	}
	conn, err := s.db.Connx(ctx)
	if err != nil {
		return s.fail(ctx, "read", err)
	}
	defer conn.Close()
	known := s.head.Revision()
	head, now, err := begin(ctx, conn)
	if err != nil {
		return s.fail(ctx, "read", err)
	}
	defer func() {
		// The pool does not reuse a connection that is still in a transaction.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.ExecContext(ending, sqlRollback) //nolint:errcheck // see above
	}()
	s.head.Seen(head.Revision, known)
	return fn(&reader{store: s, conn: conn, head: head, now: now})
}

// begin begins a transaction and reads the head in one round trip, which
// database/sql alone does not do. The clock is read when the transaction begins,
// which is before its first query takes the snapshot.
func begin(ctx context.Context, conn *sqlx.Conn) (head catalog.Head, now time.Time, err error) {
	var committed sql.NullTime
	err = conn.Raw(func(driverConn any) error {
		var batch pgx.Batch
		batch.Queue(sqlBeginRead)
		batch.Queue(sqlHead).QueryRow(func(row pgx.Row) error {
			return row.Scan(&head.Store, &head.Epoch, &head.Revision, &head.Mark, &head.Thinned, &committed, &now)
		})
		return driverConn.(*stdlib.Conn).Conn().SendBatch(ctx, &batch).Close()
	})
	if committed.Valid {
		head.Time = committed.Time.UTC()
	}
	return head, now.UTC(), err
}

// readRevision returns the head's revision.
func (s *Store) readRevision(ctx context.Context) (catalog.Revision, error) {
	var rev catalog.Revision
	if err := s.db.GetContext(ctx, &rev, sqlRevision); err != nil {
		return 0, s.fail(ctx, "read the head", err)
	}
	return rev, nil
}

type reader struct {
	store *Store
	conn  *sqlx.Conn
	head  catalog.Head
	now   time.Time
}

var _ catalog.Reader = (*reader)(nil)

func (r *reader) Head() catalog.Head { return r.head }

func (r *reader) Now() time.Time { return r.now }

func (r *reader) Get(ctx context.Context, k catalog.Kind, id int64) (catalog.Entity, error) {
	return r.one(ctx, k, sqlGet, id)
}

func (r *reader) Find(ctx context.Context, k catalog.Kind, by catalog.Index, value string) (catalog.Entity, error) {
	if !isText(value) {
		return catalog.Entity{}, fmt.Errorf("pgstore: %s by %s: %w", k.Noun(), by, catalog.ErrNotFound)
	}
	switch by {
	case catalog.ByNaturalKey:
		return r.one(ctx, k, sqlFindKey, value)
	case catalog.ByExternalID:
		return r.one(ctx, k, sqlFindExt, value)
	case catalog.ByHash:
		if !k.HasTokens() {
			return catalog.Entity{}, fmt.Errorf("pgstore: %s by %s: %w", k.Noun(), by, catalog.ErrNotFound)
		}
		return r.one(ctx, k, sqlFindTok, value, k.Noun())
	}
	return catalog.Entity{}, fmt.Errorf("pgstore: unknown index %q", by)
}

// one returns the one entity that the query, one of the constants above, selects. more are
// words for the query after the table.
func (r *reader) one(ctx context.Context, k catalog.Kind, query string, arg any,
	more ...any) (catalog.Entity, error) {
	name, err := table(k)
	if err != nil {
		return catalog.Entity{}, fmt.Errorf("pgstore: %w", err)
	}
	var row entityRow
	err = r.conn.GetContext(ctx, &row, fmt.Sprintf(query, append([]any{name}, more...)...), arg)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return catalog.Entity{}, fmt.Errorf("pgstore: %s: %w", k.Noun(), catalog.ErrNotFound)
	case err != nil:
		return catalog.Entity{}, r.store.fail(ctx, "read a "+k.Noun(), err)
	}
	return row.entity(k), nil
}

func (r *reader) List(ctx context.Context, k catalog.Kind, q catalog.Query) ([]catalog.Entity, error) {
	name, err := table(k)
	if err != nil {
		return nil, fmt.Errorf("pgstore: %w", err)
	}
	where, args, err := selection(q)
	if err != nil {
		return nil, fmt.Errorf("pgstore: list %s: %w", k, err)
	}
	var rows []entityRow
	if err := r.conn.SelectContext(ctx, &rows, fmt.Sprintf(sqlEntity, name)+where, args...); err != nil {
		return nil, r.store.fail(ctx, "list "+string(k), err)
	}
	entities := make([]catalog.Entity, len(rows))
	for i := range rows {
		entities[i] = rows[i].entity(k)
	}
	return entities, nil
}

// Count counts what the conditions select, without an order and a limit.
func (r *reader) Count(ctx context.Context, k catalog.Kind, q catalog.Query) (n int64, err error) {
	name, err := table(k)
	if err != nil {
		return 0, fmt.Errorf("pgstore: %w", err)
	}
	q.After = 0
	where, args, err := conditions(q)
	if err != nil {
		return 0, fmt.Errorf("pgstore: count %s: %w", k, err)
	}
	if err := r.conn.GetContext(ctx, &n, fmt.Sprintf(sqlCount, name)+where, args...); err != nil {
		return 0, r.store.fail(ctx, "count "+string(k), err)
	}
	return n, nil
}

// selection writes a query's conditions, order and limit, and their arguments.
func selection(q catalog.Query) (string, []any, error) {
	where, args, err := conditions(q)
	where += " order by id"
	if q.Limit > 0 {
		args = append(args, q.Limit)
		where += fmt.Sprintf(" limit $%d", len(args))
	}
	return where, args, err
}

// conditions writes a query's conditions, and their arguments.
func conditions(q catalog.Query) (string, []any, error) {
	all := []string{"id > $1"}
	args := []any{q.After}
	add := func(condition string, arg any) {
		switch v := arg.(type) {
		case string:
			if !isText(v) {
				all = append(all, "false")
				return
			}
		case []string:
			arg = slices.DeleteFunc(slices.Clone(v), func(s string) bool { return !isText(s) })
		}
		args = append(args, arg)
		all = append(all, fmt.Sprintf(condition, len(args)))
	}
	if len(q.IDs) > 0 {
		add("id = any ($%d::bigint[])", q.IDs)
	}
	if len(q.NaturalKeys) > 0 {
		add("natural_key = any ($%d::text[])", q.NaturalKeys)
	}
	if len(q.Refs) > 0 {
		add("ref = any ($%d::text[])", q.Refs)
	}
	// These operators compare bytes, whatever the collation; 0 follows the slash.
	if q.RefUnder != "" {
		add("(ref = $%[1]d or ref ~>=~ ($%[1]d::text || '/') and ref ~<~ ($%[1]d::text || '0'))", q.RefUnder)
	}
	if q.KeyUnder != "" {
		add("(natural_key = $%[1]d or natural_key ~>=~ ($%[1]d::text || '/') and natural_key ~<~ ($%[1]d::text || '0'))",
			q.KeyUnder)
	}
	if len(q.Names) > 0 {
		add("name = any ($%d::text[])", q.Names)
	}
	if len(q.ExternalIDs) > 0 {
		add("external_id = any ($%d::text[])", q.ExternalIDs)
	}
	if q.Text != "" {
		add("strpos(search, $%d::text) > 0", catalog.FoldCase(q.Text))
	}
	// Where a second condition follows from the first, it is there to let a
	// partial index be used.
	if q.Status != "" {
		add("status = $%d", q.Status)
		if q.Status != "active" {
			all = append(all, "status <> 'active'")
		}
	}
	if q.Namespace != "" {
		add("namespaces @> array[$%d::text]", q.Namespace)
		if q.Namespace != "default" {
			all = append(all, "namespaces <> '{default}'")
		}
	}
	if len(q.Groups) > 0 {
		add("groups && $%d::text[]", q.Groups)
		if !slices.Contains(q.Groups, "default") {
			all = append(all, "groups <> '{default}'")
		}
	}
	if len(q.Mentions) > 0 {
		add("mentions && $%d::text[] and mentions <> '{}'", q.Mentions)
	}
	if len(q.Labels) > 0 {
		labels, err := json.Marshal(q.Labels)
		if err != nil {
			return "", nil, err
		}
		condition := "labels @> $%d::jsonb and labels <> '{}'"
		for name, value := range q.Labels {
			if !isText(name + value) {
				labels, condition = nil, "$%d::text is not null and false"
			}
		}
		add(condition, string(labels))
	}
	if !q.DueBefore.IsZero() {
		add("due_at < $%d", q.DueBefore)
	}
	return strings.Join(all, " and "), args, nil
}

// isText reports whether the database can hold a text, and so whether something may have it.
func isText(text string) bool { return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 }
