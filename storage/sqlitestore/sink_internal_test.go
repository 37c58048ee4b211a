package sqlitestore

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
)

// What is asked often is found by an index, in the order of the answer where
// a page ends early.
func TestQueryPlans(t *testing.T) {
	t.Parallel()
	store, err := Open(filepath.Join(t.TempDir(), "logs.db"), &Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	logs := func(q logbuf.LogQuery) (string, []any) {
		r, err := q.Resolve(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return selectLogs(q, r)
	}
	usage := func(q logbuf.UsageQuery) (string, []any) {
		r, err := q.Resolve(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return selectUsage(&r)
	}
	for _, c := range []struct {
		name  string
		query func() (string, []any)
		want  []string // in the plan
		not   string
	}{
		{
			"logs", func() (string, []any) { return logs(logbuf.LogQuery{}) },
			[]string{"SEARCH access_logs USING PRIMARY KEY (ts>? AND (ts,id)<(?,?))"}, "B-TREE",
		},
		{
			"logs of a key", func() (string, []any) { return logs(logbuf.LogQuery{KeyID: 7, Status: 500}) },
			[]string{"USING INDEX access_logs_key (key_id=? AND ts>? AND (ts,id)<(?,?))"}, "B-TREE",
		},
		{
			"a request", func() (string, []any) { return logs(logbuf.LogQuery{RequestID: "r", Model: "m"}) },
			[]string{"USING INDEX access_logs_request (request_id=? AND ts>? AND (ts,id)<(?,?))"}, "B-TREE",
		},
		{
			"usage", func() (string, []any) { return usage(logbuf.UsageQuery{}) },
			[]string{"SEARCH usage_hourly USING PRIMARY KEY (hour>? AND hour<?"}, "SCAN usage_hourly",
		},
		{
			"usage of keys", func() (string, []any) {
				return usage(logbuf.UsageQuery{UsageFilter: logbuf.UsageFilter{KeyIDs: []int64{7}}})
			},
			[]string{"SEARCH usage_hourly USING"}, "SCAN usage_hourly",
		},
		{
			"what keys have used", func() (string, []any) { return sqlKeyUsage, []any{`{"7":0}`} },
			[]string{
				"SEARCH usage_hourly USING INDEX usage_hourly_key (key_id=? AND hour>?)", // the window
				"SEARCH usage_hourly USING COVERING INDEX usage_hourly_key (key_id=?)",   // the last hour
			}, "SCAN usage_hourly",
		},
		{
			"what to forget", func() (string, []any) { return sqlForgetLogs, []any{1, 1, forgetSize} },
			[]string{"SEARCH access_logs USING PRIMARY KEY"}, "B-TREE",
		},
	} {
		query, args := c.query()
		var steps []struct {
			ID, Parent, NotUsed int
			Detail              string
		}
		if err := store.write.Select(&steps, "explain query plan "+query, args...); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var plan strings.Builder
		for _, s := range steps {
			plan.WriteString(s.Detail + "\n")
		}
		for _, want := range c.want {
			if !strings.Contains(plan.String(), want) {
				t.Errorf("%s: the plan is\n%swant %s", c.name, &plan, want)
			}
		}
		if strings.Contains(plan.String(), c.not) {
			t.Errorf("%s: the plan is\n%swant it without %s", c.name, &plan, c.not)
		}
	}
}

// A sum in two halves is the sum, or the largest integer.
func TestWide(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		exact := new(big.Int)
		var w wide
		for _, n := range rapid.SliceOf(rapid.Int64Min(0)).Draw(t, "values") {
			exact.Add(exact, big.NewInt(n))
			w.high, w.low = w.high+n>>32, w.low+n&0xffffffff
		}
		want := int64(math.MaxInt64)
		if exact.IsInt64() {
			want = exact.Int64()
		}
		if got := w.sum(); got != want {
			t.Errorf("%+v is %d; want %d", w, got, want)
		}
	})
}

// A file that cannot be written pauses the sink until it can.
func TestSinkPausesReadOnly(t *testing.T) {
	t.Parallel()
	store, err := Open(filepath.Join(t.TempDir(), "logs.db"), &Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	sink := NewSink(store)
	batch := logbuf.Batch{Entries: []logbuf.Entry{{Time: time.Now()}}}
	store.write.MustExec(`pragma query_only = 1`)
	if r, err := sink.Write(t.Context(), batch); !errors.Is(err, logbuf.ErrPaused) {
		t.Errorf("Write: %+v, %v; want an error that wraps ErrPaused", r, err)
	}
	store.write.MustExec(`pragma query_only = 0`)
	if r, err := sink.Write(t.Context(), batch); err != nil || r.Stored != 1 {
		t.Errorf("Write, when it can: %+v, %v", r, err)
	}
}

// An answer that breaks off is an error, not a short answer.
func TestQueryBreaksOff(t *testing.T) {
	t.Parallel()
	store, err := Open(filepath.Join(t.TempDir(), "logs.db"), &Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ctx, cancel := context.WithCancel(t.Context())
	const endless = `with recursive n (i) as (select 1 union all select i + 1 from n) select i from n`
	err = NewSink(store).query(ctx, "count", endless, nil, func(*sqlx.Rows) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want context.Canceled", err)
	}
}
