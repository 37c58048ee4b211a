package pgstore

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationLock is the key of the advisory lock under which one process
// migrates while the others wait.
const migrationLock = 0x65_7a_61_70_69_01 // "ezapi", 1

const (
	// sqlMigrationSettings undo what a role may have set by default. A migration takes as long as
	// it takes; a process that freezes in the middle of one ends it.
	sqlMigrationSettings = `
select ` + sqlNoSurprises + `, set_config('statement_timeout', '0', true), set_config('lock_timeout', '5min', true),
    set_config('idle_in_transaction_session_timeout', '1min', true)`

	// These ask the catalog's tables rather than functions like to_regclass, whose answer may be a
	// cached one from before the lock.
	sqlSchemaExists = `select exists (select from pg_namespace where nspname = $1)`
	sqlHasVersions  = `
select exists (select from pg_class where relname = 'ezapi_migrations'
    and relnamespace = quote_ident(current_schema()::text)::regnamespace)`

	sqlCurrentSchema = `select coalesce(current_schema()::text, '')`

	// sqlLacks finds a right that a role has not, who grants, and who could.
	sqlLacks = `
with needed as (
    select kind, name, privilege,
           case kind when 'schema' then n.nspowner when 'function' then p.proowner else c.relowner end as owner,
           case kind when 'schema' then has_schema_privilege($1::text, n.oid, privilege)
                     when 'sequence' then has_sequence_privilege($1::text, c.oid, privilege)
                     when 'function' then has_function_privilege($1::text, p.oid, privilege)
                     else has_table_privilege($1::text, c.oid, privilege) end as has
    from unnest($3::text[], $4::text[], $5::text[]) as r (kind, name, privilege)
    join pg_namespace n on n.nspname = $2::text
    left join pg_class c on c.relnamespace = n.oid and c.relname = name and kind in ('table', 'sequence')
    left join pg_proc p on p.pronamespace = n.oid and p.proname = name and kind = 'function'
)
select privilege || ' on ' || kind || ' ' || name, current_user::text, pg_get_userbyid(owner)::text
from needed where not has order by kind, name limit 1`

	sqlMakeVersions  = `create table ezapi_migrations (version bigint primary key, applied_at timestamptz not null default now())`
	sqlVersions      = `select version from ezapi_migrations`
	sqlNoteVersion   = `insert into ezapi_migrations (version) values ($1)`
	sqlTakenByOthers = `
select relname::text from pg_class
where relnamespace = quote_ident(current_schema()::text)::regnamespace and relname = any ($1::text[]) order by relname`
)

// A migration is a file of migrations/: <version>_<subject>.sql. The catalog's and
// the logs' are numbered separately, so numbers may be added out of order.
type migration struct {
	version int64
	name    string
	sql     string
}

// readMigrations returns the embedded migrations in the order of their numbers.
func readMigrations() ([]migration, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	all := make([]migration, 0, len(names))
	for _, path := range names {
		text, err := migrations.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(path, "migrations/")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s: its name does not begin with a number", name)
		}
		all = append(all, migration{version, name, string(text)})
	}
	slices.SortFunc(all, func(a, b migration) int { return cmp.Compare(a.version, b.version) })
	return all, nil
}

// makes returns the names of what a migration makes of one kind: table, sequence or function.
func (m migration) makes(kind string) (names []string) {
	create := regexp.MustCompile(`(?mi)^create (?:unlogged )?` + kind + ` (\w+)`)
	for _, match := range create.FindAllStringSubmatch(m.sql, -1) {
		names = append(names, match[1])
	}
	return names
}

// MigrateOptions say where [Migrate] works, and for whom.
type MigrateOptions struct {
	// Schema is as in [Options].
	Schema string

	// Grant is a role that gets the rights that a [Store] and a [Sink] need, and no more: it owns
	// nothing, and may create neither tables nor temporary ones. Empty for no role.
	Grant string
}

// Migrate brings the schema up to date and returns the names of the migrations that this took. Open
// does the same, unless it is told to skip it; Migrate is for those whose servers run as a role
// that may not. It is safe to call at any time, by several processes at once.
func Migrate(ctx context.Context, pool *pgxpool.Pool, opts *MigrateOptions) (applied []string, err error) {
	if opts == nil {
		opts = &MigrateOptions{}
	}
	if applied, err = migrate(ctx, pool, *opts); err != nil {
		return nil, fmt.Errorf("pgstore: %w", err)
	}
	return applied, nil
}

// migrate does it, and says what to do about a right that is missing.
func migrate(ctx context.Context, pool *pgxpool.Pool, opts MigrateOptions) ([]string, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, describeSetting(err)
	}
	defer conn.Release()
	applied, err := migrateOn(ctx, conn.Conn(), opts)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == stateForbidden {
		return nil, fmt.Errorf("migrate: %w (let a role that may create tables migrate, and grant this one its rights: "+
			"pgstore.Migrate, or server -migrate ROLE)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	return applied, nil
}

// migrateOn does it in one transaction, which holds an advisory lock until it ends: a lock of the
// session would be lost on a pooler that gives each transaction another connection, and a process
// that dies leaves nothing half done.
func migrateOn(ctx context.Context, conn *pgx.Conn, opts MigrateOptions) (applied []string, err error) {
	all, err := readMigrations()
	if err != nil {
		return nil, err
	}
	if done, err := migrated(ctx, conn, opts.Schema, all); done && opts.Grant == "" || err != nil {
		return nil, err
	}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite},
		func(tx pgx.Tx) (err error) {
			if _, err := tx.Exec(ctx, sqlMigrationSettings); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, sqlLock, pgx.QueryExecModeExec, int64(migrationLock)); err != nil {
				return err
			}
			if err := makeSchema(ctx, tx, opts.Schema); err != nil {
				return err
			}
			if applied, err = apply(ctx, tx, all); err != nil || opts.Grant == "" {
				return err
			}
			return grant(ctx, tx, all, opts.Grant)
		})
	if err != nil {
		return nil, err
	}
	return applied, nil
}

// A right is one that servers need on something that the migrations have made.
type right struct{ kind, name, privilege string }

// rights lists what a server needs.
func rights(all []migration, schema string) []right {
	rights := []right{
		{"schema", schema, "usage"}, {"table", "ezapi_migrations", "select"}, {"table", "usage_pending", "truncate"},
	}
	privileges := map[string][]string{
		"table": {"select", "insert", "update", "delete"}, "sequence": {"usage", "update"}, "function": {"execute"},
	}
	for _, m := range all {
		for kind, needed := range privileges {
			for _, name := range m.makes(kind) {
				for _, privilege := range needed {
					rights = append(rights, right{kind, name, privilege})
				}
			}
		}
	}
	return rights
}

// grant gives a role the rights that it needs, and makes sure that it has them: PostgreSQL warns, and
// does not fail, where a role grants what it does not own.
func grant(ctx context.Context, tx pgx.Tx, all []migration, role string) error {
	var schema string
	if err := tx.QueryRow(ctx, sqlCurrentSchema, pgx.QueryExecModeExec).Scan(&schema); err != nil {
		return err
	}
	needed, to := rights(all, schema), pgx.Identifier{role}.Sanitize()
	for _, r := range needed {
		object := pgx.Identifier{r.name}
		if r.kind != "schema" {
			object = pgx.Identifier{schema, r.name}
		}
		sql := fmt.Sprintf(`grant %s on %s %s to %s`, r.privilege, r.kind, object.Sanitize(), to)
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	var kinds, names, privileges []string
	for _, r := range needed {
		kinds, names, privileges = append(kinds, r.kind), append(names, r.name), append(privileges, r.privilege)
	}
	var lacks, as, owner string
	row := tx.QueryRow(ctx, sqlLacks, pgx.QueryExecModeExec, role, schema, kinds, names, privileges)
	err := row.Scan(&lacks, &as, &owner)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("read the rights of %s: %w", role, err)
	}
	return fmt.Errorf("the role %s still lacks a right, %s, which %s may not grant: connect as %s, who owns it, and do "+
		"the same again", role, lacks, as, owner)
}

// migrated reports whether nothing is left to do, without a lock or a right to change anything.
func migrated(ctx context.Context, conn *pgx.Conn, schema string, all []migration) (bool, error) {
	if err := checkSchema(ctx, conn, schema); err != nil {
		return false, nil //nolint:nilerr // the schema is made, or the error found again, under the lock
	}
	versions, err := readVersions(ctx, conn)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(all, func(m migration) bool { return !versions[m.version] }), nil
}

// A queryRower is a connection or a transaction.
type queryRower interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// readVersions returns the migrations that were applied; nil when there is no table of them.
func readVersions(ctx context.Context, db queryRower) (map[int64]bool, error) {
	var has bool
	if err := db.QueryRow(ctx, sqlHasVersions, pgx.QueryExecModeExec).Scan(&has); err != nil || !has {
		return nil, err
	}
	rows, err := db.Query(ctx, sqlVersions, pgx.QueryExecModeExec)
	if err != nil {
		return nil, err
	}
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	versions := make(map[int64]bool, len(numbers))
	for _, n := range numbers {
		versions[n] = true
	}
	return versions, nil
}

// apply runs the migrations that were not, and returns their names.
func apply(ctx context.Context, tx pgx.Tx, all []migration) (applied []string, err error) {
	versions, err := readVersions(ctx, tx)
	if err != nil {
		return nil, err
	}
	if versions == nil {
		if err := refuseForeign(ctx, tx, all); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, sqlMakeVersions); err != nil {
			return nil, err
		}
	}
	for _, m := range all {
		if versions[m.version] {
			continue
		}
		if _, err := tx.Conn().PgConn().Exec(ctx, m.sql).ReadAll(); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		if _, err := tx.Exec(ctx, sqlNoteVersion, pgx.QueryExecModeExec, m.version); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		applied = append(applied, m.name)
	}
	return applied, nil
}

// ErrForeignTables says that tables which are not this package's have the names of its own.
var ErrForeignTables = errors.New("tables of another program are in the way")

// refuseForeign makes sure that the tables about to be made are not there yet.
func refuseForeign(ctx context.Context, tx pgx.Tx, all []migration) error {
	var names []string
	for _, m := range all {
		names = append(names, m.makes("table")...)
	}
	rows, err := tx.Query(ctx, sqlTakenByOthers, pgx.QueryExecModeExec, names)
	if err != nil {
		return err
	}
	taken, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(taken) == 0 {
		return err
	}
	var schema string
	if err := tx.QueryRow(ctx, sqlCurrentSchema, pgx.QueryExecModeExec).Scan(&schema); err != nil {
		return err
	}
	return fmt.Errorf("schema %q has tables named %s already, which this package did not make: %w; "+
		"give it a schema of its own: name another in search_path", schema, strings.Join(taken, ", "), ErrForeignTables)
}

// makeSchema makes the schema where that is missing, and makes sure that the connection is in it.
func makeSchema(ctx context.Context, tx pgx.Tx, schema string) error {
	if schema == "" {
		return checkSchema(ctx, tx, schema)
	}
	var exists bool
	if err := tx.QueryRow(ctx, sqlSchemaExists, pgx.QueryExecModeExec, schema).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := tx.Exec(ctx, "create schema "+pgx.Identifier{schema}.Sanitize()); err != nil {
			return fmt.Errorf("create the schema %q: %w", schema, err)
		}
	}
	return checkSchema(ctx, tx, schema)
}

// checkSchema makes sure that the connection's tables are those of the schema.
func checkSchema(ctx context.Context, db queryRower, schema string) error {
	var current string
	if err := db.QueryRow(ctx, sqlCurrentSchema, pgx.QueryExecModeExec).Scan(&current); err != nil {
		return err
	}
	switch {
	case current == "":
		return errors.New("no schema of the connections' search_path exists: create one, or name another in search_path")
	case schema != "" && current != schema:
		return fmt.Errorf("the connections' search_path leads to schema %q, not to %q; a pooler may have lost it: "+
			"set it for the role (alter role … set search_path = %s)", current, schema, schema)
	}
	return nil
}
