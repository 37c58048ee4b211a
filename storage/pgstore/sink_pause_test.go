package pgstore_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
)

// alarms is a log that keeps errors.
type alarms struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (a *alarms) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.buf.Write(p)
}

func (a *alarms) has(text string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Contains(a.buf.String(), text)
}

func (a *alarms) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(a, &slog.HandlerOptions{Level: slog.LevelError}))
}

// openQueue opens a queue in front of a sink that is quick to write and to try
// again. With a directory it has a spool.
func openQueue(tb testing.TB, sink logbuf.Sink, dir string, edits ...func(*logbuf.Options)) *logbuf.Queue {
	tb.Helper()
	opts := &logbuf.Options{
		Dir: dir, FlushInterval: time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 50 * time.Millisecond,
	}
	for _, edit := range edits {
		edit(opts)
	}
	q, err := logbuf.Open(sink, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := q.Close(ctx); err != nil {
			tb.Errorf("close the queue: %v", err)
		}
	})
	return q
}

// eventually waits for what another goroutine does.
func eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: did not happen", what)
		}
	}
}

// flush waits until all is stored, and checks that every entry is accounted for.
func flush(tb testing.TB, q *logbuf.Queue) logbuf.Stats {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	if err := q.Flush(ctx); err != nil {
		tb.Fatal(err)
	}
	s := q.Stats()
	if s.Accepted != s.Stored+s.Duplicate+s.Dead+s.Damaged+s.Pending || s.Pending != 0 {
		tb.Errorf("accepted %d = stored %d + duplicate %d + dead %d + damaged %d + pending %d does not hold, or "+
			"some are pending",
			s.Accepted, s.Stored, s.Duplicate, s.Dead, s.Damaged, s.Pending)
	}
	return s
}

// A table that is not as it should be pauses the sink: it raises an alarm and
// dead-letters nothing, and goes on by itself when the table is mended.
func TestSinkPauses(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Migrated(t)
	owner := pgtest.Connect(t, cfg)
	open(t, owner, nil)
	role := addRole(t, owner)
	cfg.ConnConfig.RuntimeParams["role"] = role
	store(t, newSink(owner), logEntries(0, 500)...) // makes the partition
	for _, c := range []struct{ name, spoil, mend string }{
		{
			"a dropped column",
			`alter table access_logs drop column user_agent`,
			`alter table access_logs add column user_agent text not null default ''`,
		},
		{"a renamed column", `alter table access_logs rename column model to modell`, `alter table access_logs rename column modell to model`},
		{"a column too many", `alter table access_logs add column extra text not null`, `alter table access_logs drop column extra`},
		{
			"a narrower column",
			`alter table access_logs alter column latency_ms type integer`,
			`alter table access_logs alter column latency_ms type bigint`,
		},
		{
			"a wider column",
			`alter table access_logs alter column status type bigint`,
			`alter table access_logs alter column status type integer`,
		},
		{
			"numbers as text",
			`alter table access_logs alter column latency_ms type text`,
			`alter table access_logs alter column latency_ms type bigint using latency_ms::bigint`,
		},
		{
			"a shorter text",
			`alter table access_logs alter column request_id type varchar(5)`,
			`alter table access_logs alter column request_id type text`,
		},
		{
			"a dropped column of usage",
			`alter table usage_pending drop column unpriced`,
			`alter table usage_pending add column unpriced bigint not null default 0`,
		},
		{
			"a narrower column of usage",
			`alter table usage_pending alter column unpriced type integer`,
			`alter table usage_pending alter column unpriced type bigint`,
		},
		{
			"a shorter text of usage",
			`alter table usage_pending alter column model type varchar(1)`,
			`alter table usage_pending alter column model type text`,
		},
		{"no blocks", `alter table log_blocks rename to away`, `alter table away rename to log_blocks`},
		{"no checkpoints", `alter table log_checkpoints rename to away`, `alter table away rename to log_checkpoints`},
		{"no table", `alter table access_logs rename to away`, `alter table away rename to access_logs`},
		{"no permission", `revoke insert on access_logs from ` + role, `grant insert on access_logs to ` + role},
	} {
		t.Run(c.name, func(t *testing.T) {
			forget(t, owner)
			sink := newSink(pgtest.Connect(t, cfg)) // as a process that has just started
			var log alarms
			q := openQueue(t, sink, t.TempDir(), func(o *logbuf.Options) { o.Logger = log.logger() })

			execute(t, owner, c.spoil)
			entries := logEntries(0, 500)
			if err := q.Append(t.Context(), entries...); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the sink is paused, and tries again",
				func() bool { s := q.Stats(); return s.Paused && s.Retries > 3 })
			if s := q.Stats(); s.Pending != 500 || s.Dead != 0 || s.LastError == "" {
				t.Errorf("%d pending, %d dead, error %q; want all to be pending", s.Pending, s.Dead, s.LastError)
			}
			if !log.has("log sink is paused") {
				t.Error("there is no alarm")
			}

			execute(t, owner, c.mend)
			if s := flush(t, q); s.Stored != 500 || s.Paused || s.LastError != "" {
				t.Errorf("%d stored, paused %t, error %q; want all to be stored", s.Stored, s.Paused, s.LastError)
			}
			if dead := count(t, owner, `select count(*) from log_dead_letter`); dead != 0 {
				t.Errorf("%d entries are in the dead letters; want none", dead)
			}
			wantLedger(t, owner, newSink(owner), entries)
		})
	}
}

// addRole makes a role that may do what a sink does when it writes.
func addRole(tb testing.TB, owner *pgxpool.Pool) string {
	tb.Helper()
	role := "ez_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	execute(tb, owner, fmt.Sprintf(`create role %[1]s;
grant select, insert, update, delete on all tables in schema public to %[1]s`, role))
	tb.Cleanup(func() {
		if _, err := owner.Exec(context.Background(), fmt.Sprintf(`drop owned by %[1]s; drop role %[1]s`, role)); err != nil {
			tb.Errorf("drop the role: %v", err)
		}
	})
	return role
}
