package sqlitestore_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/sqlitestore"
)

// A day of entries is forgotten in pieces, between which the catalog gets its turn.
func TestMaintainGivesWay(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "logs.db")
	store := open(t, path)
	sink := sqlitestore.NewSink(store, nil)
	operator := connect(t, path)
	if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: logEntries(10)}); err != nil {
		t.Fatal(err)
	}
	const old = 12_000
	execute(t, operator, `
with recursive copies (n) as (select 1 union all select n + 1 from copies where n < 12000)
insert into access_logs
select ts - 172800000000 + n, id, key_id, provider_id, latency_ms, ttft_ms,
    input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, cost_nano_usd, priced_revision,
    status, attempts, stream, request_id, balancer, namespace, model, upstream_model,
    route_group, endpoint, error, client_ip, user_agent, revision, project, end_user, tags, failures
from copies, (select * from access_logs limit 1)`)
	if n := count(t, operator, `select count(*) from access_logs`); n != old+10 {
		t.Fatalf("%d entries to begin with; want %d", n, old+10)
	}

	done := make(chan error, 1)
	go func() { done <- maintain(t.Context(), sink, now) }()
	between := 0
	for id := int64(1); ; id++ {
		if _, err := store.Commit(t.Context(), create(key(id))); err != nil {
			t.Fatal(err)
		}
		if n := count(t, operator, `select count(*) from access_logs`); n > 10 && n < old+10 {
			between++
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("Maintain: %v", err)
			}
		default:
			continue
		}
		break
	}
	if between == 0 {
		t.Error("no commit got between the pieces")
	}
	if n := count(t, operator, `select count(*) from access_logs`); n != 10 {
		t.Errorf("%d entries are left; want 10", n)
	}
}

// maintain runs all tasks once.
func maintain(ctx context.Context, s *sqlitestore.Sink, before time.Time) error {
	results := logbuf.Maintain(ctx, s, logbuf.MaintenanceOptions{Now: time.Now(), Before: before})
	return logbuf.MaintenanceError(results)
}

// A checkpoint is kept for as long as somebody may still send its segment.
func TestMaintainForgetsCheckpoints(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "logs.db")
	sink := sqlitestore.NewSink(open(t, path), nil)
	old, young := uuid.New(), uuid.New()
	for _, segment := range []uuid.UUID{old, young} {
		if _, err := sink.Write(t.Context(), logbuf.Batch{Segment: segment, To: 5}); err != nil {
			t.Fatal(err)
		}
	}
	const day = 24 * 3600 * 1_000_000
	operator := connect(t, path)
	for segment, days := range map[uuid.UUID]int{old: 366, young: 364} {
		if _, err := operator.Exec(`update log_checkpoints set updated_at = updated_at - ? where segment = ?`, days*day, segment[:]); err != nil {
			t.Fatal(err)
		}
	}
	if err := maintain(t.Context(), sink, time.Time{}); err != nil {
		t.Fatal(err)
	}
	for segment, want := range map[uuid.UUID]int64{old: 0, young: 5} {
		if got, err := sink.Checkpoint(t.Context(), segment); err != nil || got != want {
			t.Errorf("Checkpoint: %d, %v; want %d", got, err, want)
		}
	}
}

// A dead letter says what the entry was, where it came from and why it was refused.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "logs.db")
	sink := sqlitestore.NewSink(open(t, path), nil)
	operator := connect(t, path)
	execute(t, operator, refusePoison)
	entries := logEntries(4)
	for i := range entries[1:] {
		entries[i+1].Endpoint = "poison"
	}
	entries[2].Time = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC) // which JSON does not know
	entries[2].Error = "\x00\xff"
	segment := uuid.New()
	batch := logbuf.Batch{Segment: segment, To: 3, Entries: entries[:3]}
	if r, err := sink.Write(t.Context(), batch); err != nil || r != (logbuf.Result{Stored: 1, Dead: 2}) {
		t.Fatalf("Write: %+v, %v", r, err)
	}
	if r, err := sink.Write(t.Context(), logbuf.Batch{Entries: entries[3:]}); err != nil || r != (logbuf.Result{Dead: 1}) {
		t.Fatalf("Write from memory: %+v, %v", r, err)
	}

	const trigger, reason = 1811, "constraint failed: not wanted (1811)" // SQLITE_CONSTRAINT_TRIGGER
	type letter struct {
		Micros  int64
		Segment []byte
		Code    int
		Reason  string
		Entry   logbuf.Entry
	}
	timeless := entries[2]
	timeless.Time, timeless.Error = time.Time{}, "\x00\ufffd"
	for _, c := range []struct {
		id   uuid.UUID
		want letter
	}{
		{entries[1].ID, letter{entries[1].Time.UnixMicro(), segment[:], trigger, reason, entries[1]}},
		{entries[2].ID, letter{entries[2].Time.UnixMicro(), segment[:], trigger, reason, timeless}},
		{entries[3].ID, letter{entries[3].Time.UnixMicro(), nil, trigger, reason, entries[3]}},
	} {
		var got letter
		var at int64
		var text string
		err := operator.QueryRow(`select micros, at, segment, code, reason, entry from log_dead_letter where id = ?`, c.id[:]).
			Scan(&got.Micros, &at, &got.Segment, &got.Code, &got.Reason, &text)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), &got.Entry); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("dead letter (-want +got):\n%s", diff)
		}
		if age := time.Since(time.UnixMicro(at)); age < 0 || age > time.Minute {
			t.Errorf("it is from %v ago", age)
		}
	}
}
