//go:build clickhouse

package clickhouse_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/chstore"
)

// A setting is one of a profile.
type setting struct{ name, value string }

// profiled returns a connection string for the server as it is to a user whose profile has some
// settings: they hold for each request that does not set them itself.
func profiled(t testing.TB, database string, profile []setting) string {
	t.Helper()
	real, err := url.Parse(server.DSN(database))
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			values := r.Out.URL.Query()
			for _, s := range profile {
				if !values.Has(s.name) {
					values.Set(s.name, s.value)
				}
			}
			r.Out.URL.RawQuery = values.Encode()
			r.Out.URL.Scheme, r.Out.URL.Host = "http", real.Host
		},
	})
	t.Cleanup(proxy.Close)
	seen := *real
	seen.Host = strings.TrimPrefix(proxy.URL, "http://")
	return seen.String()
}

// life does everything that is done with access logs, and returns all that it was answered. The error is the first.
func life(ctx context.Context, s *chstore.Sink) (text string, err error) {
	var said strings.Builder
	keep := func(what string, answer any, failed error) {
		if err == nil && failed != nil {
			err = fmt.Errorf("%s: %w", what, failed)
		}
		text, _ := json.Marshal(answer)
		fmt.Fprintf(&said, "%s: %s\n", what, text)
	}
	var entries []logbuf.Entry
	for i := range 70 {
		e := spent(i)
		e.Time = day.Add(time.Duration(i%3)*time.Hour + time.Duration(i%2)*24*time.Hour + time.Duration(i)*time.Second)
		e.Tags = map[string]string{"team": fmt.Sprint(i % 4)}
		entries = append(entries, e)
	}
	write := func(b logbuf.Batch) {
		result, failed := s.Write(ctx, b)
		keep("write", result, failed)
	}
	ask := func(when string) {
		for _, q := range []logbuf.UsageQuery{
			{Interval: logbuf.Day, GroupBy: []logbuf.Dimension{logbuf.ByProject, logbuf.ByModel}},
			{Interval: logbuf.Hour, UsageFilter: logbuf.UsageFilter{Project: "acme"}},
			{GroupBy: logbuf.Dimensions(), Limit: 20},
		} {
			q.Since, q.Until = day.AddDate(0, 0, -1), day.AddDate(0, 0, 3)
			page, failed := s.Usage(ctx, q)
			keep("usage "+when, page.Rows, failed)
		}
		used, failed := s.KeyUsage(ctx, map[int64][]time.Time{
			1: {{}, day.Add(time.Hour)}, 2: {day.Add(2 * time.Hour)}, 99: {{}},
		})
		keep("keys "+when, used, failed)
		for _, q := range []logbuf.LogQuery{
			{Limit: 50}, {Project: "acme", Errors: true}, {Tags: map[string]string{"team": "3"}}, {Unpriced: true},
		} {
			q.Since, q.Until = day, day.AddDate(0, 0, 3)
			page, failed := s.Logs(ctx, q)
			keep("logs "+when, page.Entries, failed)
		}
	}
	maintain := func(o logbuf.MaintenanceOptions) {
		o.Now = day.AddDate(0, 0, 2)
		for _, r := range logbuf.Maintain(ctx, s, o) {
			keep("task "+r.Name, r.Report.Done, r.Err)
		}
	}
	ask("of nothing")
	named := logbuf.Batch{Segment: uuid.New(), To: 40, Entries: entries[:40]}
	write(named)
	write(named)
	write(logbuf.Batch{Entries: entries[20:60]})
	ask("of entries")
	maintain(logbuf.MaintenanceOptions{})
	write(logbuf.Batch{Entries: entries[55:]})
	ask("of both")
	result, failed := s.Reprice(ctx, logbuf.RepriceBatch{
		Run: uuid.New(), Query: logbuf.LogQuery{Limit: 500, Since: day, Until: day.AddDate(0, 0, 3), Unpriced: true},
		Price: func(e *logbuf.Entry) { e.CostNanoUSD, e.PricedRevision = new(int64(7)), 9 },
	})
	keep("reprice", result, failed)
	for i := range 3 {
		keep("health", nil, s.KeepHealth(ctx, day.Add(time.Second),
			logbuf.HealthNote{Writer: uuid.UUID{byte(i)}, Slot: day.Add(time.Duration(i) * time.Second), Body: []byte("{}")}))
	}
	notes, failed := s.HealthNotes(ctx, day)
	keep("health", notes, failed)
	for range 2 {
		maintain(logbuf.MaintenanceOptions{Before: day.AddDate(0, 0, 1)})
	}
	ask("of what is left")
	return said.String(), err
}

// lead leads a life with a profile.
func lead(t testing.TB, profile []setting) (string, error) {
	t.Helper()
	s, err := chstore.NewSink(profiled(t, newDatabase(), profile), &chstore.SinkOptions{Settle: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	return life(ctx, s)
}

// hostile are settings with which a query or a write is another one, or fails although nothing is too much.
func hostile() []setting {
	all := []setting{
		{"additional_result_filter", "0"}, {"additional_table_filters", "{'access_logs':'model != \\'gpt-4o\\''}"},
		{"alter_update_mode", "lightweight_force"}, {"apply_deleted_mask", "0"}, {"date_time_overflow_behavior", "throw"},
		{"dialect", "prql"}, {"enable_lightweight_delete", "0"},
		{"force_optimize_projection_name", "x"}, {"implicit_table_at_top_level", "x"},
		{"insert_deduplication_token", "x"}, {"join_default_strictness", "ANY"},
		{"lightweight_delete_mode", "lightweight_update_force"}, {"session_timezone", "Asia/Shanghai"},
		{"union_default_mode", "DISTINCT"},
	}
	for _, flag := range []string{
		"aggregate_functions_null_for_empty", "any_join_distinct_right_table_keys", "cast_keep_nullable",
		"data_type_default_nullable", "empty_result_for_aggregation_by_empty_set", "extremes", "force_index_by_date",
		"force_optimize_projection", "force_primary_key", "group_by_use_nulls", "http_write_exception_in_output_format",
		"implicit_transaction", "inject_random_order_for_select_without_order_by", "input_format_allow_errors_num",
		"input_format_allow_errors_ratio", "input_format_binary_decode_types_in_binary_format", "join_use_nulls", "limit",
		"offset", "output_format_binary_encode_types_in_binary_format", "prefer_column_name_to_alias",
		"skip_unavailable_shards", "transform_null_in", "use_query_cache",
	} {
		all = append(all, setting{flag, "1"})
	}
	return all
}

// However strange the profile of the user is, answers and writes are the same.
func TestStrangeProfile(t *testing.T) {
	t.Parallel()
	want, err := lead(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := lead(t, hostile())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("with a strange profile (-want +got):\n%.3000s", diff)
	}
}

// What goes beyond a limit of the profile is refused, and never answered in part: for every setting that says what
// happens then, and the limits that it is about.
func TestLimitsOfProfile(t *testing.T) {
	t.Parallel()
	want, err := lead(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	limits := map[string][]string{
		"read_overflow_mode": {"max_rows_to_read", "max_bytes_to_read"}, "group_by_overflow_mode": {"max_rows_to_group_by"},
		"sort_overflow_mode":     {"max_rows_to_sort"},
		"result_overflow_mode":   {"max_result_rows"},
		"set_overflow_mode":      {"max_rows_in_set"},
		"join_overflow_mode":     {"max_rows_in_join"},
		"distinct_overflow_mode": {"max_rows_in_distinct"},
		"transfer_overflow_mode": {"max_rows_to_transfer"}, "read_overflow_mode_leaf": {"max_rows_to_read_leaf"},
		"timeout_overflow_mode": {"max_execution_time"}, "timeout_overflow_mode_leaf": {"max_execution_time_leaf"},
	}
	known := query(t, "default", "SELECT name FROM system.settings WHERE type LIKE 'OverflowMode%' ORDER BY name")
	for mode := range strings.FieldsSeq(known) {
		if limits[mode] == nil {
			t.Errorf("the setting %s is not known here", mode)
		}
		otherwise := "break"
		if mode == "group_by_overflow_mode" {
			otherwise = "any"
		}
		for _, limit := range limits[mode] {
			got, err := lead(t, []setting{{mode, otherwise}, {limit, "1"}})
			if err == nil && got != want {
				t.Errorf("with %s=%s and %s=1 the answer is another one", mode, otherwise, limit)
			}
			if err != nil && !errors.Is(err, logbuf.ErrUnavailable) {
				t.Errorf("with %s=%s and %s=1: %v", mode, otherwise, limit, err)
			}
		}
	}
}

// TestEveryFlag: every setting of the server that is on or off is the other way round, and every one with a few
// choices has another one, as a profile may have it: the answers and the writes are the same. A server that has a new
// setting which matters fails this test.
func TestEveryFlag(t *testing.T) {
	t.Parallel()
	const atOnce = 64
	// The profile of a user who may make no tables, and one that has queries done in a way which this engine refuses.
	refused := []string{"allow_ddl", "make_distributed_plan"}
	all := []setting{
		{"compatibility", "20.3"}, {"join_algorithm", "partial_merge"}, {"distributed_product_mode", "deny"},
		{"short_circuit_function_evaluation", "force_enable"}, {"date_time_output_format", "unix_timestamp"},
		{"load_balancing", "in_order"}, {"count_distinct_implementation", "uniq"}, {"totals_mode", "before_having"},
		{"insert_quorum", "0"}, {"mutations_sync", "0"}, {"alter_sync", "0"}, {"max_threads", "1"},
		{"max_block_size", "7"}, {"max_insert_block_size", "7"}, {"default_table_engine", "Log"},
	}
	flags := query(t, "default",
		"SELECT name, default FROM system.settings WHERE type IN ('Bool', 'BoolAuto') ORDER BY name")
	for line := range strings.Lines(flags) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), "\t"); !slices.Contains(refused, name) {
			other := "1"
			if value == "1" || value == "true" {
				other = "0"
			}
			all = append(all, setting{name, other})
		}
	}
	if len(all) < 500 {
		t.Fatalf("the server has %d flags only", len(all))
	}
	want, err := lead(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	var look func(part []setting) (found bool)
	look = func(part []setting) bool {
		got, err := lead(t, part)
		if err == nil && got == want {
			return false
		}
		if len(part) > 1 { // which of them?
			first, second := look(part[:len(part)/2]), look(part[len(part)/2:])
			if first || second {
				return true
			}
		}
		t.Errorf("with %v the answer is another one, or %v", part, err)
		return true
	}
	for part := range slices.Chunk(all, atOnce) {
		look(part)
	}
}
