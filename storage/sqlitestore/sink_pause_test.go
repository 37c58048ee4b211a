package sqlitestore_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/sqlitestore"
)

// connect opens a file as an operator would, with the right to do anything.
func connect(tb testing.TB, path string) *sql.DB {
	tb.Helper()
	db, err := sql.Open("sqlite", path+"?_busy_timeout=10000")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	return db
}

func execute(tb testing.TB, db *sql.DB, statements ...string) {
	tb.Helper()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			tb.Fatalf("%s: %v", s, err)
		}
	}
}

func count(tb testing.TB, db *sql.DB, query string, args ...any) (n int) {
	tb.Helper()
	if err := db.QueryRow(query, args...).Scan(&n); err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	return n
}

// remake replaces a table by one that is made a little differently.
func remake(tb testing.TB, db *sql.DB, table, old, new string) {
	tb.Helper()
	var statement string
	if err := db.QueryRow(`select sql from sqlite_schema where name = ?`, table).Scan(&statement); err != nil {
		tb.Fatal(err)
	}
	if !strings.Contains(statement, old) {
		tb.Fatalf("%s has no %q", table, old)
	}
	execute(tb, db, `alter table `+table+` rename to away`, strings.Replace(statement, old, new, 1))
}

func unmake(tb testing.TB, db *sql.DB, table string) {
	tb.Helper()
	execute(tb, db, `drop table `+table, `alter table away rename to `+table)
}

// logEntries makes entries that differ, a second apart.
func logEntries(n int) []logbuf.Entry {
	entries := make([]logbuf.Entry, n)
	for i := range entries {
		entries[i] = logbuf.Entry{
			ID: uuid.New(), Time: now.Add(time.Duration(i) * time.Second), RequestID: uuid.NewString(),
			KeyID: int64(i % 3), Model: "m", Status: 200, InputTokens: 1,
		}
	}
	return entries
}

// Tables that are not as they should be are an operator's to mend. Until then
// nothing is stored and nothing dead-lettered; then writing goes on.
func TestSinkPauses(t *testing.T) {
	t.Parallel()
	sqlDo := func(statements ...string) func(testing.TB, *sql.DB) {
		return func(tb testing.TB, db *sql.DB) { execute(tb, db, statements...) }
	}
	remade := func(table, old, new string) (spoil, mend func(testing.TB, *sql.DB)) {
		return func(tb testing.TB, db *sql.DB) { remake(tb, db, table, old, new) },
			func(tb testing.TB, db *sql.DB) { unmake(tb, db, table) }
	}
	type fault struct {
		name        string
		spoil, mend func(testing.TB, *sql.DB)
	}
	faults := []fault{
		{
			"a renamed column",
			sqlDo(`alter table access_logs rename column model to gone`),
			sqlDo(`alter table access_logs rename column gone to model`),
		},
		{
			"a dropped column",
			sqlDo(`alter table access_logs drop column user_agent`),
			sqlDo(`alter table access_logs add column user_agent text not null default ''`),
		},
		{
			"a dropped column of usage",
			sqlDo(`alter table usage_quarters drop column unpriced`),
			sqlDo(`alter table usage_quarters add column unpriced integer not null default 0`),
		},
		{
			"a trigger that ends the transaction",
			sqlDo(`create trigger spoil before insert on access_logs when new.key_id = 1 begin select raise(rollback, 'no'); end`),
			sqlDo(`drop trigger spoil`),
		},
		{
			"a trigger that refuses usage",
			sqlDo(`create trigger spoil before insert on usage_quarters when new.key_id = 1 begin select raise(abort, 'no'); end`),
			sqlDo(`drop trigger spoil`),
		},
	}
	for _, table := range []string{"access_logs", "usage_quarters", "log_checkpoints"} {
		faults = append(faults, fault{
			"no " + table,
			sqlDo(`alter table ` + table + ` rename to away`),
			sqlDo(`alter table away rename to ` + table),
		})
	}
	for _, c := range []struct{ name, table, old, new string }{
		{"a column too many", "access_logs", "revision           text    not null,",
			"revision text not null, extra text not null,"},
		{"text as numbers", "access_logs", "model              text", "model integer"},
		{"numbers as blobs", "access_logs", "latency_ms         integer", "latency_ms blob"},
		{"a column of usage too many", "usage_quarters", "unpriced                integer not null,",
			"unpriced integer not null, extra text not null,"},
		{"text of usage as numbers", "usage_quarters", "model                   text", "model integer"},
		{"no identity", "access_logs", "primary key (ts, id)", "primary key (id)"},
	} {
		spoil, mend := remade(c.table, c.old, c.new)
		faults = append(faults, fault{c.name, spoil, mend})
	}

	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "logs.db")
			sink := sqlitestore.NewSink(open(t, path), nil)
			operator := connect(t, path)
			entries := logEntries(30)
			batch := logbuf.Batch{Segment: uuid.New(), To: 30, Entries: entries}

			c.spoil(t, operator)
			for range 2 {
				if r, err := sink.Write(t.Context(), batch); !errors.Is(err, logbuf.ErrPaused) {
					t.Errorf("Write: %+v, %v; want an error that wraps ErrPaused", r, err)
				}
			}
			if n := count(t, operator, `select count(*) from log_dead_letter`); n != 0 {
				t.Errorf("%d entries are in the dead letters; want none", n)
			}

			c.mend(t, operator)
			if r, err := sink.Write(t.Context(), batch); err != nil || r.Stored != len(entries) {
				t.Errorf("Write, when all is mended: %+v, %v; want all to be stored", r, err)
			}
			if n := count(t, operator, `select sum(requests) from usage_quarters`); n != len(entries) {
				t.Errorf("usage counts %d requests; want %d", n, len(entries))
			}
			if at, err := sink.Checkpoint(t.Context(), batch.Segment); err != nil || at != batch.To {
				t.Errorf("Checkpoint: %d, %v; want %d", at, err, batch.To)
			}
		})
	}
}

// A damaged file is an operator's, too.
func TestSinkPausesDamaged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "logs.db")
	if err := open(t, path).Close(); err != nil { // the log is now in the file
		t.Fatal(err)
	}
	operator := connect(t, path)
	at := int64(count(t, operator, `select rootpage from sqlite_schema where name = 'access_logs'`) - 1)
	size := count(t, operator, `pragma page_size`)
	operator.Close()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(make([]byte, size), at*int64(size)); err != nil {
		t.Fatal(err)
	}
	sink := sqlitestore.NewSink(open(t, path), nil)
	if r, err := sink.Write(t.Context(), logbuf.Batch{Entries: logEntries(3)}); !errors.Is(err, logbuf.ErrPaused) {
		t.Errorf("Write: %+v, %v; want an error that wraps ErrPaused", r, err)
	}
}
