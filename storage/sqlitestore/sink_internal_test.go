package sqlitestore

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
		return selectLogs(&q, &r, "")
	}
	usage := func(q logbuf.UsageQuery) (string, []any) {
		r, err := q.Resolve(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return selectUsage(&r, 0, len(r.Starts), [2][][3]int64{{{0, 1, 2}}, {{0, 1, 2}}}, 10)
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
			[]string{
				"SEARCH usage_quarters USING PRIMARY KEY (starts>? AND starts<?",
				"SEARCH usage_days USING PRIMARY KEY (starts>? AND starts<?",
			}, "SCAN usage_",
		},
		{
			"usage of a key", func() (string, []any) {
				return usage(logbuf.UsageQuery{UsageFilter: logbuf.UsageFilter{KeyIDs: []int64{7}}})
			},
			[]string{
				"SEARCH usage_quarters USING INDEX usage_quarters_by_key (key_id=? AND starts>? AND starts<?)",
				"SEARCH usage_days USING INDEX usage_days_by_key (key_id=? AND starts>? AND starts<?)",
			}, "SCAN usage_",
		},
		{
			"usage of a project", func() (string, []any) {
				return usage(logbuf.UsageQuery{UsageFilter: logbuf.UsageFilter{Project: "acme"}})
			},
			[]string{
				"SEARCH usage_quarters USING INDEX usage_quarters_by_project (project=? AND starts>? AND starts<?)",
				"SEARCH usage_days USING INDEX usage_days_by_project (project=? AND starts>? AND starts<?)",
			}, "SCAN usage_",
		},
		{
			"what keys have used", func() (string, []any) { return sqlKeyUsage, []any{`[[7,0,0,0,0]]`} },
			[]string{
				"SEARCH usage_days USING INDEX usage_days_by_key (key_id=? AND starts>? AND starts<?)",         // days
				"SEARCH usage_quarters USING INDEX usage_quarters_by_key (key_id=? AND starts>? AND starts<?)", // the first part
				"SEARCH usage_quarters USING COVERING INDEX usage_quarters_by_key (key_id=?)",                  // the last use
			}, "SCAN usage_",
		},
		{
			"what to forget", func() (string, []any) { return sqlForgetLogs, []any{1, forgetSize} },
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

// A file that cannot be written pauses the sink until it can.
func TestSinkPausesReadOnly(t *testing.T) {
	t.Parallel()
	store, err := Open(filepath.Join(t.TempDir(), "logs.db"), &Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	sink := NewSink(store, nil)
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
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	const endless = `with recursive n (i) as (select 1 union all select i + 1 from n) select i from n`
	if _, err := queryLogs(ctx, store.read, endless+` where i < 0`, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v; want context.DeadlineExceeded", err)
	}
}
