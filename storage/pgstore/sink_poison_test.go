package pgstore_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
)

// deadLetter is a row of log_dead_letter.
type deadLetter struct {
	ID       uuid.UUID
	Micros   int64
	Segment  *uuid.UUID
	SQLState string
	Reason   string
	Entry    string
}

func deadLetters(tb testing.TB, pool *pgxpool.Pool) []deadLetter {
	tb.Helper()
	rows, err := pool.Query(tb.Context(), `select id, micros, segment, sqlstate, reason, entry::text from log_dead_letter order by id`)
	if err != nil {
		tb.Fatal(err)
	}
	dead, err := pgx.CollectRows(rows, pgx.RowToStructByPos[deadLetter])
	if err != nil {
		tb.Fatal(err)
	}
	return dead
}

// One entry that the database refuses, in a batch of 5,000, goes to the dead
// letters with the reason, and takes none of the others along. The short form has
// one such batch; the others are smaller.
func TestPoison(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	open(t, pool, nil)
	sink := newSink(pool)
	for i, c := range []struct {
		name, sqlstate string
		poison         func(*logbuf.Entry)
		spoil          string // SQL before
	}{
		{"NUL", "22021", func(e *logbuf.Entry) { e.Model = "a\x00b" }, ""},
		{"not UTF-8", "22021", func(e *logbuf.Entry) { e.UserAgent = "\xff" }, ""},
		{"a number out of range", "22003", func(e *logbuf.Entry) { e.Status = math.MaxInt32 + 1 }, ""},
		{"a time out of range", "22008", func(e *logbuf.Entry) {
			e.Time = time.Date(10_000, 1, 1, 0, 0, 0, 0,
				time.UTC)
		}, ""},
		{"a time before all", "22008", func(e *logbuf.Entry) { e.Time = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC) }, ""},
		{
			"a constraint of the operator", "23514", func(e *logbuf.Entry) { e.Error = "forbidden" },
			`alter table access_logs add constraint decent check (error <> 'forbidden')`,
		},
		{
			"a trigger of the operator", "P0001", func(e *logbuf.Entry) { e.Error = "unwanted" },
			`create function refuse() returns trigger language plpgsql as $$ begin raise 'not this one'; end $$;
create trigger refuse before insert on access_logs for each row when (new.error = 'unwanted') execute function refuse()`,
		},
		{
			"an index of the operator", "54000", func(e *logbuf.Entry) { e.Error = incompressible(12_000) },
			`create index on access_logs (error)`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			forget(t, pool)
			execute(t, pool, c.spoil)
			store(t, sink, logEntry(0)) // its partition
			size := scaled(500, 5000)
			if i == 0 {
				size = 5000
			}
			at := size * 2 / 3
			b := logbuf.Batch{Segment: uuid.New(), From: 0, To: int64(size), Entries: logEntries(1, 1+size)}
			for i := range b.Entries {
				b.Entries[i].Time = logDay.Add(time.Duration(i) * time.Millisecond)
			}
			poisoned := &b.Entries[at]
			c.poison(poisoned)
			sound := append([]logbuf.Entry{logEntry(0)}, b.Entries[:at]...)
			sound = append(sound, b.Entries[at+1:]...)

			start := time.Now()
			want(t, sink, b, logbuf.Result{Stored: size - 1, Dead: 1})
			took := time.Since(start)
			t.Logf("%d entries took %v", size, took.Round(time.Millisecond))
			if took > time.Duration(scaled(20, 2))*time.Second { // the short form runs beside others
				t.Errorf("storing the batch took %v", took)
			}
			wantLedger(t, pool, sink, sound)
			dead := deadLetters(t, pool)
			if len(dead) != 1 {
				t.Fatalf("%d entries are dead; want 1", len(dead))
			}
			d := dead[0]
			if d.ID != poisoned.ID || d.Micros != poisoned.Time.UnixMicro() || d.Segment == nil || *d.Segment != b.Segment ||
				d.SQLState != c.sqlstate || d.Reason == "" {
				t.Errorf("dead letter %+v; want %s of %s, with SQLSTATE %s and a reason", d, poisoned.ID, b.Segment, c.sqlstate)
			}
			var kept struct {
				RequestID string `json:"request_id"`
			}
			if err := json.Unmarshal([]byte(d.Entry), &kept); err != nil || kept.RequestID != poisoned.RequestID {
				t.Errorf("the dead letter holds %s, %v; want the entry", d.Entry, err)
			}

			// Its answer was lost: the same again changes nothing.
			want(t, sink, b, logbuf.Result{Duplicate: size})
			wantLedger(t, pool, sink, sound)
			if diff := cmp.Diff(dead, deadLetters(t, pool)); diff != "" {
				t.Errorf("dead letters (-before +after):\n%s", diff)
			}
		})
	}
}

// incompressible returns a text that does not get shorter.
func incompressible(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(uuid.NewString())
	}
	return b.String()
}

// A batch of nothing but poison ends, too, and within the time that a queue
// gives a write.
func TestPoisonThroughout(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	open(t, pool, nil)
	sink := newSink(pool)
	n := scaled(200, 5000)
	entries := logEntries(0, n)
	for i := range entries {
		entries[i].Model = "\x00"
	}
	start := time.Now()
	want(t, sink, logbuf.Batch{Entries: entries}, logbuf.Result{Dead: n})
	took := time.Since(start)
	t.Logf("%d poisoned entries took %v", n, took.Round(time.Millisecond))
	if took > time.Minute {
		t.Errorf("%d poisoned entries took %v; a queue would give up after a minute, for ever", n, took)
	}
	wantLedger(t, pool, sink, nil)
	if dead := deadLetters(t, pool); len(dead) != n {
		t.Errorf("%d entries are dead; want %d", len(dead), n)
	}
}

// Poison, days without a partition and duplicates come together.
func TestPoisonAndAllElse(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	open(t, pool, nil)
	sink := newSink(pool)
	entries := logEntries(0, 4*24*60)
	store(t, sink, entries[100:200]...)
	entries[50].Model, entries[3000].Model = "\x00", "\xff"
	want(t, sink, logbuf.Batch{Entries: append(entries, entries[:10]...)},
		logbuf.Result{Stored: len(entries) - 102, Duplicate: 110, Dead: 2})
	sound := append(append(logEntries(0, 50), entries[51:3000]...), entries[3001:]...)
	wantLedger(t, pool, sink, sound)
	wantPartitions(t, pool, logDay, 4)
}
