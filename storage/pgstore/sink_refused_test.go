package pgstore_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
	"github.com/ez-api/ez-api/storage/pgstore"
)

// refuse makes a trigger of the operator's that raises a state for rows of a table.
func refuse(tb testing.TB, owner *pgxpool.Pool, table, when, condition, state string) {
	tb.Helper()
	kind, deferred := "", ""
	if when == "deferred" {
		kind, when, deferred = "constraint", "after", "deferrable initially deferred"
	}
	execute(tb, owner, fmt.Sprintf(`
create or replace function refuse() returns trigger language plpgsql as $$
begin raise exception 'not this one' using errcode = '%[1]s'; end $$;
drop trigger if exists refuse on %[2]s;
create %[3]s trigger refuse %[4]s insert on %[2]s %[5]s for each row when (%[6]s) execute function refuse()`,
		state, table, kind, when, deferred, condition))
}

// eachWay runs a test with a sink that may have temporary tables, and with one that may not.
func eachWay(t *testing.T, test func(t *testing.T, owner *pgxpool.Pool, sink *pgstore.Sink)) {
	t.Helper()
	for _, way := range []string{"temporary tables", "arrays"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			cfg := pgtest.Migrated(t)
			owner := pgtest.Connect(t, cfg)
			open(t, owner, nil)
			if way == "arrays" {
				database := pgx.Identifier{cfg.ConnConfig.Database}.Sanitize()
				execute(t, owner, "revoke temporary on database "+database+" from public")
			}
			test(t, owner, newSink(pgtest.Connect(t, leastRights(t, cfg))))
		})
	}
}

// An entry that a trigger of the operator's refuses takes none of the others along, whatever the
// trigger calls its reason, and whenever it speaks.
func TestEntryRefusedByTrigger(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, owner *pgxpool.Pool, sink *pgstore.Sink) {
		const n = 20
		for _, when := range []string{"before", "after", "deferred"} {
			for _, state := range []string{
				"P0001", "P0004", "23514", "23505", "23502", "45000", "EZ001", "21000", "22P03", "0A000",
				"42501", "42P01",
			} {
				forget(t, owner)
				refuse(t, owner, "access_logs", when, "new.model = 'bad'", state)
				entries := logEntries(0, n)
				entries[13].Model = "bad"
				b := logbuf.Batch{Segment: uuid.New(), To: n, Entries: entries}
				r, err := sink.Write(t.Context(), b)
				if err != nil || r != (logbuf.Result{Stored: n - 1, Dead: 1}) {
					t.Errorf("%s insert, %s: %+v, %v; want one dead letter", when, state, r, err)
					continue
				}
				wantLedger(t, owner, sink, append(entries[:13:13], entries[14:]...))
				if dead := deadLetters(t, owner); len(dead) != 1 || dead[0].SQLState != state || dead[0].ID != entries[13].ID {
					t.Errorf("%s insert, %s: the dead letters are %+v", when, state, dead)
				}
			}
		}
	})
}

// A state of trouble that passes puts no entry among the dead letters.
func TestTroubleThatPasses(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	open(t, pool, nil)
	sink := newSink(pool)
	store(t, sink, logEntry(0))
	for _, state := range []string{
		"08006", "25006", "3B001", "40001", "40P01", "53100", "55P03", "57014", "57P01", "58030", "XX000",
	} {
		refuse(t, pool, "access_logs", "before", "new.model = 'bad'", state)
		entries := logEntries(1, 5)
		entries[2].Model = "bad"
		if r, err := sink.Write(t.Context(), logbuf.Batch{Entries: entries}); err == nil || errors.Is(err, logbuf.ErrPaused) {
			t.Errorf("%s: %+v, %v; want an error that is no pause", state, r, err)
		}
	}
	wantLedger(t, pool, sink, logEntries(0, 1))
	if n := count(t, pool, `select count(*) from log_dead_letter`); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// A trigger that is broken for every entry pauses the sink, as a table that is not as it should be does.
func TestBrokenTriggerPauses(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, owner *pgxpool.Pool, sink *pgstore.Sink) {
		store(t, sink, logEntry(0))
		for _, state := range []string{"42P01", "42501"} {
			refuse(t, owner, "access_logs", "deferred", "true", state)
			r, err := sink.Write(t.Context(), logbuf.Batch{Entries: logEntries(1, 9)})
			if !errors.Is(err, logbuf.ErrPaused) {
				t.Errorf("%s for every entry: %+v, %v; want ErrPaused", state, r, err)
			}
		}
		if n := count(t, owner, `select count(*) from log_dead_letter`); n != 0 {
			t.Errorf("%d dead letters", n)
		}
		execute(t, owner, `drop trigger refuse on access_logs`)
		store(t, sink, logEntries(1, 9)...)
		wantLedger(t, owner, sink, logEntries(0, 9))
	})
}

// What an index of the operator's has already is refused; a duplicate is what has the same identity.
func TestEntryRefusedByIndex(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, owner *pgxpool.Pool, sink *pgstore.Sink) {
		first := logEntries(0, 10)
		store(t, sink, first...)
		execute(t, owner, `create unique index on access_logs_20260314 (request_id)`)
		entries := logEntries(5, 30)
		entries[20].RequestID = "request-3"
		want(t, sink, logbuf.Batch{Entries: entries}, logbuf.Result{Stored: 19, Duplicate: 5, Dead: 1})
		wantLedger(t, owner, sink, append(append(first[:5:5], entries[:20]...), entries[21:]...))
		if dead := deadLetters(t, owner); len(dead) != 1 || dead[0].SQLState != "23505" || dead[0].ID != entries[20].ID {
			t.Errorf("the dead letters are %+v", dead)
		}
	})
}

// An entry that a trigger passes over without a word is not stored, not counted, and not lost.
func TestEntryPassedOver(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, owner *pgxpool.Pool, sink *pgstore.Sink) {
		store(t, sink, logEntry(0))
		execute(t, owner, `
create function pass_over() returns trigger language plpgsql as $$ begin return null; end $$;
create trigger pass_over before insert on access_logs_20260314 for each row when (new.model = 'bad')
    execute function pass_over()`)
		entries := logEntries(0, 100)
		entries[70].Model = "bad"
		sound := append(entries[:70:70], entries[71:]...)
		want(t, sink, logbuf.Batch{Entries: entries[1:]}, logbuf.Result{Stored: 98, Dead: 1})
		wantLedger(t, owner, sink, sound)
		want(t, sink, logbuf.Batch{Entries: entries}, logbuf.Result{Duplicate: 99, Dead: 1})
		wantLedger(t, owner, sink, sound)
		if dead := deadLetters(t, owner); len(dead) != 1 || dead[0].ID != entries[70].ID || dead[0].Reason == "" {
			t.Errorf("the dead letters are %+v", dead)
		}

		execute(t, owner, `create trigger pass_over before insert on usage_pending for each row execute function pass_over()`)
		if r, err := sink.Write(t.Context(), logbuf.Batch{Entries: logEntries(100, 110)}); !errors.Is(err, logbuf.ErrPaused) {
			t.Errorf("without usage: %+v, %v; want ErrPaused", r, err)
		}
		wantLedger(t, owner, sink, sound)
	})
}

// A row of usage that a trigger of the operator's refuses is set aside, whatever the trigger calls
// its reason.
func TestUsageRefusedByTrigger(t *testing.T) {
	t.Parallel()
	sink, pool, _ := tasksSink(t)
	for _, when := range []string{"before", "deferred"} {
		for _, state := range []string{"P0001", "23514", "23502", "45000", "0A000", "42501"} {
			forget(t, pool)
			refuse(t, pool, "usage_quarters", when, "new.model = 'bad'", state)
			entries := logEntries(0, 40)
			entries[13].Model = "bad"
			store(t, sink, entries...)
			maintainAt(t, sink, logbuf.MaintenanceOptions{Now: logDay})
			pending := count(t, pool, `select count(*) from usage_pending`)
			aside := count(t, pool, `select count(*) from usage_aside where model = 'bad' and sqlstate = $1`, state)
			if all := count(t, pool, `select count(*) from usage_aside`); pending != 0 || aside != 1 || all != 1 {
				t.Errorf("%s insert, %s: %d rows are pending, %d of %d aside are refused; want one", when, state, pending,
					aside, all)
			}
			wantLedger(t, pool, sink, entries)
		}
	}
}

// Where no row of usage can be added, none is set aside.
func TestNoUsageIsRefusedByBrokenTables(t *testing.T) {
	t.Parallel()
	sink, pool, _ := tasksSink(t)
	store(t, sink, logEntries(0, 40)...)
	pending := count(t, pool, `select count(*) from usage_pending`)
	for _, c := range []struct{ spoil, mend string }{
		{`alter table usage_quarters add extra text not null`, `alter table usage_quarters drop extra`},
		{`alter table usage_quarter_totals rename to away`, `alter table away rename to usage_quarter_totals`},
		{
			`create function broken() returns trigger language plpgsql as $$ begin insert into nowhere values (1); end $$;
create trigger broken before insert on usage_quarter_totals for each row execute function broken()`,
			`drop trigger broken on usage_quarter_totals`,
		},
	} {
		execute(t, pool, c.spoil)
		names := failing(t, sink, logbuf.MaintenanceOptions{Now: logDay})
		if len(names) == 0 || names[0] != "fold" {
			t.Errorf("%s: these tasks fail: %v; want the fold", c.spoil, names)
		}
		if n := count(t, pool, `select count(*) from usage_pending`); n != pending {
			t.Errorf("%s: %d rows are pending of %d", c.spoil, n, pending)
		}
		execute(t, pool, c.mend)
	}
	maintainAt(t, sink, logbuf.MaintenanceOptions{Now: logDay})
	wantLedger(t, pool, sink, logEntries(0, 40))
}
