package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/ez-api/ez-api/catalog"
)

const (
	sqlRevision = `select revision from catalog_head`

	sqlHead = `
select store, epoch, revision, mark, thinned, (select time from changes where revision = h.revision limit 1) as time
from catalog_head as h`

	sqlEntity = `
select id, revision, created_at, updated_at, coalesce(natural_key, '') as natural_key,
    coalesce(external_id, '') as external_id, hashes, coalesce(ref, '') as ref,
    name, status, namespaces, groups, mentions, labels, due_at, spec
from %s where `

	sqlCount = `select count(*) from %s where `

	sqlGet     = sqlEntity + `id = ?`
	sqlFindKey = sqlEntity + `natural_key = ?`
	sqlFindExt = sqlEntity + `external_id = ?`
	sqlFindTok = sqlEntity + `id = (select owner from %s_hashes where hash = ?)`
)

// headRow is the row of catalog_head.
type headRow struct {
	Store    string
	Epoch    catalog.Epoch
	Revision catalog.Revision
	Mark     catalog.Mark
	Thinned  catalog.Revision
	Time     sql.NullInt64 // microseconds
}

func (r headRow) head() catalog.Head {
	h := catalog.Head{Store: r.Store, Epoch: r.Epoch, Revision: r.Revision, Mark: r.Mark, Thinned: r.Thinned}
	if r.Time.Valid {
		h.Time = microseconds(r.Time.Int64)
	}
	return h
}

// entityRow is a row of an entity's table, as the constants above select it.
type entityRow struct {
	ID         int64
	Revision   catalog.Revision
	CreatedAt  int64         `db:"created_at"` // microseconds
	UpdatedAt  int64         `db:"updated_at"`
	NaturalKey string        `db:"natural_key"`
	ExternalID string        `db:"external_id"`
	Hashes     []byte        // JSON
	Ref        string        //
	Name       string        //
	Status     string        //
	Namespaces []byte        // JSON
	Groups     []byte        // JSON
	Mentions   []byte        // JSON
	Labels     []byte        // JSON
	DueAt      sql.NullInt64 `db:"due_at"`
	Spec       []byte
}

func (r *entityRow) entity(k catalog.Kind) catalog.Entity {
	e := catalog.Entity{
		Kind: k, ID: r.ID, Revision: r.Revision, CreatedAt: microseconds(r.CreatedAt), UpdatedAt: microseconds(r.UpdatedAt),
		NaturalKey: r.NaturalKey, ExternalID: r.ExternalID, Ref: r.Ref,
		Name: r.Name, Status: r.Status, Spec: r.Spec,
	}
	if r.DueAt.Valid {
		e.DueAt = microseconds(r.DueAt.Int64)
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

func microseconds(n int64) time.Time { return time.UnixMicro(n).UTC() }

// Read calls fn in a read-only transaction that sees one revision; see [catalog.Store].
func (s *Store) Read(ctx context.Context, fn func(catalog.Reader) error) error {
	if err := s.alive(); err != nil {
		return err
	}
	known, now := s.head.Revision(), time.Now().UTC() // before the snapshot
	tx, err := s.read.BeginTxx(ctx, nil)
	if err != nil {
		return s.fail(ctx, "read", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written

	// The first query takes the snapshot.
	var head headRow
	if err := tx.GetContext(ctx, &head, sqlHead); err != nil {
		return s.fail(ctx, "read", err)
	}
	s.head.Seen(head.Revision, known)
	return fn(&reader{store: s, tx: tx, head: head.head(), now: now})
}

// readRevision returns the head's revision.
func (s *Store) readRevision(ctx context.Context) (catalog.Revision, error) {
	var rev catalog.Revision
	if err := s.read.GetContext(ctx, &rev, sqlRevision); err != nil {
		return 0, s.fail(ctx, "read the head", err)
	}
	return rev, nil
}

type reader struct {
	store *Store
	tx    *sqlx.Tx
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
	switch by {
	case catalog.ByNaturalKey:
		return r.one(ctx, k, sqlFindKey, value)
	case catalog.ByExternalID:
		return r.one(ctx, k, sqlFindExt, value)
	case catalog.ByHash:
		if !k.HasTokens() {
			return catalog.Entity{}, fmt.Errorf("sqlitestore: %s by %s: %w", k.Noun(), by, catalog.ErrNotFound)
		}
		return r.one(ctx, k, sqlFindTok, value, k.Noun())
	}
	return catalog.Entity{}, fmt.Errorf("sqlitestore: unknown index %q", by)
}

// one returns the one entity that the query, one of the constants above, selects. more are
// words for the query after the table.
func (r *reader) one(ctx context.Context, k catalog.Kind, query string, arg any,
	more ...any) (catalog.Entity, error) {
	name, err := table(k)
	if err != nil {
		return catalog.Entity{}, fmt.Errorf("sqlitestore: %w", err)
	}
	var row entityRow
	err = r.tx.GetContext(ctx, &row, fmt.Sprintf(query, append([]any{name}, more...)...), arg)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return catalog.Entity{}, fmt.Errorf("sqlitestore: %s: %w", k.Noun(), catalog.ErrNotFound)
	case err != nil:
		return catalog.Entity{}, r.store.fail(ctx, "read a "+k.Noun(), err)
	}
	return row.entity(k), nil
}

func (r *reader) List(ctx context.Context, k catalog.Kind, q catalog.Query) ([]catalog.Entity, error) {
	name, err := table(k)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: %w", err)
	}
	where, args := selection(q)
	var rows []entityRow
	if err := r.tx.SelectContext(ctx, &rows, fmt.Sprintf(sqlEntity, name)+where, args...); err != nil {
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
		return 0, fmt.Errorf("sqlitestore: %w", err)
	}
	q.After = 0
	where, args := conditions(q)
	if err := r.tx.GetContext(ctx, &n, fmt.Sprintf(sqlCount, name)+where, args...); err != nil {
		return 0, r.store.fail(ctx, "count "+string(k), err)
	}
	return n, nil
}

// selection writes a query's conditions, order and limit, and their arguments.
func selection(q catalog.Query) (string, []any) {
	where, args := conditions(q)
	where += " order by id"
	if q.Limit > 0 {
		args = append(args, q.Limit)
		where += " limit ?"
	}
	return where, args
}

// conditions writes a query's conditions, and their arguments.
func conditions(q catalog.Query) (string, []any) {
	all := []string{"id > ?"}
	args := []any{q.After}
	add := func(condition string, values ...any) {
		all = append(all, condition)
		args = append(args, values...)
	}
	if len(q.IDs) > 0 {
		add("id in (select value from json_each(?))", list(q.IDs))
	}
	if len(q.NaturalKeys) > 0 {
		add("natural_key in (select value from json_each(?))", list(q.NaturalKeys))
	}
	if len(q.Refs) > 0 {
		add("ref in (select value from json_each(?))", list(q.Refs))
	}
	if q.RefUnder != "" {
		add("(ref = ? or ref >= ? and ref < ?)", q.RefUnder, q.RefUnder+"/", q.RefUnder+"0") // 0 follows the slash
	}
	if q.KeyUnder != "" {
		add("(natural_key = ? or natural_key >= ? and natural_key < ?)", q.KeyUnder, q.KeyUnder+"/", q.KeyUnder+"0")
	}
	if len(q.Names) > 0 {
		add("name in (select value from json_each(?))", list(q.Names))
	}
	if len(q.ExternalIDs) > 0 {
		add("external_id in (select value from json_each(?))", list(q.ExternalIDs))
	}
	if q.Text != "" {
		add("instr(search, ?) > 0", catalog.FoldCase(q.Text))
	}
	if q.Status != "" {
		add("status = ?", q.Status)
	}
	if q.Namespace != "" {
		add("? in (select value from json_each(namespaces))", q.Namespace)
	}
	if len(q.Groups) > 0 {
		add("exists (select 1 from json_each(groups) where value in (select value from json_each(?)))", list(q.Groups))
	}
	if len(q.Mentions) > 0 {
		add("mentions <> '[]' and exists (select 1 from json_each(mentions) where value in (select value from "+
			"json_each(?)))", list(q.Mentions))
	}
	for label, value := range q.Labels {
		add("exists (select 1 from json_each(labels) as l where l.key = ? and l.value = ?)", label, value)
	}
	if !q.DueBefore.IsZero() {
		add("due_at < ?", q.DueBefore.UnixMicro())
	}
	return strings.Join(all, " and "), args
}
