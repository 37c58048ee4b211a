package sqlitestore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/ez-api/ez-api/catalog"
)

// %s is the table of the entity's kind.
const (
	sqlBump = `update catalog_head set revision = ?, mark = ?, epoch = max(epoch, ?)`

	sqlAt = `select revision, coalesce(natural_key, '') as natural_key from %s where id = ?`

	sqlInsert = `
insert into %s (revision, created_at, updated_at, natural_key, external_id, hashes, ref,
    name, search, status, namespaces, groups, labels, due_at, spec, mentions, id)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	sqlUpdate = `
update %s
set revision = ?, created_at = ?, updated_at = ?, natural_key = ?, external_id = ?, hashes = ?, ref = ?,
    name = ?, search = ?, status = ?, namespaces = ?, groups = ?, labels = ?, due_at = ?, spec = ?, mentions = ?
where id = ?`

	// sqlRelease costs nothing where neither value changes.
	sqlRelease = `
update %s set natural_key = null, external_id = null
where id = ? and (natural_key is not ? or external_id is not ?)`

	sqlDelete = `delete from %s where id = ?`

	sqlTakenKey = `select exists (select 1 from %s where natural_key = ? and id <> ?)`

	// %s is the noun.
	sqlDeleteHashes = `delete from %s_hashes where owner = ?`
	sqlInsertHashes = `insert into %s_hashes (hash, owner) select value, ? from json_each(?)`

	sqlChange = `
insert into changes (revision, seq, mark, time, actor, reason, action, kind, id, before, after, touches,
    machine)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	sqlThereByKey = `select exists (select 1 from %s where natural_key = ?)`
	sqlThereByID  = `select exists (select 1 from %s where id = ?)`
	sqlReferred   = `select exists (select 1 from %s where ref = ?)`

	sqlIDs = `update catalog_head set next_id = next_id + ? returning next_id - ?`
)

// Commit applies c in one transaction; see [catalog.Store].
func (s *Store) Commit(ctx context.Context, c catalog.Commit) (catalog.Revision, error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	if err := c.Check(); err != nil {
		return 0, fmt.Errorf("sqlitestore: commit: %w", err)
	}
	if len(c.Writes) == 0 && !c.Sync {
		return s.commitNothing(ctx, c.Base)
	}
	tx, err := s.write.BeginTxx(ctx, nil)
	if err != nil {
		return 0, s.fail(ctx, "commit", err)
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing

	rev, err := apply(ctx, tx, c)
	if err != nil {
		return 0, s.fail(ctx, "commit", err)
	}
	// The driver says what became of it: either this is nil, or it rolled back.
	if err := tx.Commit(); err != nil {
		return 0, s.fail(ctx, "commit", err)
	}
	s.head.Raise(rev)
	return rev, nil
}

// commitNothing answers a commit without writes.
func (s *Store) commitNothing(ctx context.Context, base catalog.Revision) (catalog.Revision, error) {
	rev, err := s.readRevision(ctx)
	if err != nil {
		return 0, err
	}
	if base != 0 && base != rev {
		return 0, s.fail(ctx, "commit", errBase)
	}
	return rev, nil
}

var (
	errBase   = fmt.Errorf("the catalog is at another revision: %w", catalog.ErrConflict)
	errFull   = fmt.Errorf("there is no room for more: %w", catalog.ErrConflict)
	errEntity = fmt.Errorf("the entity is at another revision: %w", catalog.ErrConflict)
)

// apply runs a commit in a transaction that has the write lock.
func apply(ctx context.Context, tx *sqlx.Tx, c catalog.Commit) (catalog.Revision, error) {
	var rev catalog.Revision
	if err := tx.GetContext(ctx, &rev, sqlRevision); err != nil {
		return 0, err
	}
	if c.Base != 0 && c.Base != rev {
		return 0, errBase
	}
	rev++
	var epoch catalog.Epoch
	if c.Sync {
		epoch = c.Epoch
	}
	random := make([]byte, 16)
	rand.Read(random) //nolint:errcheck // it never fails
	mark := hex.EncodeToString(random)
	if _, err := tx.ExecContext(ctx, sqlBump, rev, mark, epoch); err != nil {
		return 0, err
	}

	changes := make([]catalog.Change, 0, len(c.Writes)+1)
	var lost references
	for _, w := range c.Writes {
		if err := release(ctx, tx, w, len(c.Writes) > 1, &lost); err != nil {
			return 0, err
		}
		changes = append(changes, w.Change)
	}
	for _, w := range c.Writes {
		if w.Delete {
			continue
		}
		at := rev
		if w.Quiet {
			at = w.If
		}
		if err := put(ctx, tx, at, w.Entity, string(w.Entity.Kind), w.If == 0); err != nil {
			return 0, err
		}
	}
	if err := checkReferences(ctx, tx, c, lost); err != nil {
		return 0, err
	}
	if err := checkCaps(ctx, tx, c.Caps); err != nil {
		return 0, err
	}
	if c.Sync {
		changes = append(changes, c.SyncChange())
	}
	for i, ch := range changes {
		touches, err := json.Marshal(ch.Touches)
		if err != nil {
			return 0, err
		}
		if _, err := tx.ExecContext(ctx, sqlChange,
			rev, i+1, mark, c.Time.UnixMicro(), c.Actor, c.Reason, ch.Action, ch.Kind, ch.ID,
			orNull(string(ch.Before)), orNull(string(ch.After)), string(touches), c.Machine); err != nil {
			return 0, err
		}
	}
	return rev, nil
}

// checkCaps counts what the commit has bounds for.
func checkCaps(ctx context.Context, tx *sqlx.Tx, caps []catalog.Cap) error {
	for _, limit := range caps {
		var n int64
		where, args := conditions(catalog.Query{RefUnder: limit.RefUnder})
		if err := tx.GetContext(ctx, &n, fmt.Sprintf(sqlCount, limit.Kind)+where, args...); err != nil {
			return err
		}
		if n > limit.Max {
			return errFull
		}
	}
	return nil
}

// release checks that an entity is at the revision it must have, deletes it if
// that is what is to be done, and else, where the commit has other writes, gives up its
// unique values, so that what counts is what the last write leaves. It notes in lost what the
// entity was referred to by, if that may be gone.
func release(ctx context.Context, tx *sqlx.Tx, w catalog.Write, others bool, lost *references) error {
	e, name := w.Entity, string(w.Entity.Kind)
	var stored struct {
		Revision   catalog.Revision
		NaturalKey string `db:"natural_key"`
	}
	err := tx.GetContext(ctx, &stored, fmt.Sprintf(sqlAt, name), e.ID)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if stored.Revision != w.If {
		return errEntity
	}
	if stored.Revision == 0 {
		return nil
	}
	if w.Delete || stored.NaturalKey != e.NaturalKey {
		lost.add(catalog.Entity{Kind: e.Kind, ID: e.ID, NaturalKey: stored.NaturalKey})
	}
	if e.Kind.HasTokens() {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf(sqlDeleteHashes, e.Kind.Noun()), e.ID); err != nil {
			return err
		}
	}
	switch {
	case w.Delete:
		_, err = tx.ExecContext(ctx, fmt.Sprintf(sqlDelete, name), e.ID)
	case others:
		_, err = tx.ExecContext(ctx, fmt.Sprintf(sqlRelease, name), e.ID, orNull(e.NaturalKey), orNull(e.ExternalID))
	}
	return err
}

// put inserts or updates an entity, whose hashes are not in the table of hashes.
func put(ctx context.Context, tx *sqlx.Tx, rev catalog.Revision, e catalog.Entity, name string, create bool) error {
	labels, err := json.Marshal(e.Labels)
	if err != nil {
		return err
	}
	if e.Labels == nil {
		labels = []byte("{}")
	}
	query := sqlUpdate
	if create {
		query = sqlInsert
	}
	due := sql.NullInt64{Int64: e.DueAt.UnixMicro(), Valid: !e.DueAt.IsZero()}
	_, err = tx.ExecContext(ctx, fmt.Sprintf(query, name),
		rev, e.CreatedAt.UnixMicro(), e.UpdatedAt.UnixMicro(), orNull(e.NaturalKey), orNull(e.ExternalID),
		list(e.Hashes), orNull(e.Ref), e.Name, e.SearchText(), e.Status, list(e.Namespaces), list(e.Groups), string(
			labels), due,
		orNull(string(e.Spec)), list(e.Mentions), e.ID)
	if code(err) == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return taken(ctx, tx, e, name)
	}
	if err != nil {
		return err
	}

	if len(e.Hashes) == 0 {
		return nil
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf(sqlInsertHashes, e.Kind.Noun()), e.ID, list(e.Hashes))
	if code(err) == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY {
		return catalog.Exists(e.Kind, catalog.ByHash)
	}
	return err
}

// taken says which of an entity's two unique values another has: the driver
// names the column in its text only.
func taken(ctx context.Context, tx *sqlx.Tx, e catalog.Entity, name string) error {
	var key bool
	if err := tx.GetContext(ctx, &key, fmt.Sprintf(sqlTakenKey, name), e.NaturalKey, e.ID); err != nil {
		return err
	}
	if key {
		return catalog.Exists(e.Kind, catalog.ByNaturalKey)
	}
	return catalog.Exists(e.Kind, catalog.ByExternalID)
}

// NextIDs reserves n ids; see [catalog.Store].
func (s *Store) NextIDs(ctx context.Context, n int) (first int64, err error) {
	if err := s.alive(); err != nil {
		return 0, err
	}
	if n < 1 {
		return 0, fmt.Errorf("sqlitestore: reserve %d ids: must be at least 1", n)
	}
	if err := s.write.GetContext(ctx, &first, sqlIDs, n, n); err != nil {
		return 0, s.fail(ctx, "reserve ids", err)
	}
	return first, nil
}

// code returns SQLite's extended result code of an error, 0 for none.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// table returns the name of the table that holds entities of kind k.
func table(k catalog.Kind) (string, error) {
	if !slices.Contains(catalog.Kinds(), k) {
		return "", fmt.Errorf("unknown kind %q", k)
	}
	return string(k), nil
}

// list writes a list as JSON.
func list[T ~string | int64](values []T) string {
	if len(values) == 0 {
		return "[]"
	}
	data, err := json.Marshal(values)
	if err != nil {
		panic(err) // strings and integers always marshal
	}
	return string(data)
}

func orNull(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
