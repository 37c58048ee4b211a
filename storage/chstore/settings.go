package chstore

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// pinned are the settings that decide what an answer or a write is, with the values that this package is written
// for. They are sent with each statement, because the profile of the user, which is made for people, may have others:
// with group_by_overflow_mode=any, usage would be a part of itself, and nobody would know. Limits of a profile hold,
// and are errors.
func pinned() settings {
	all := settings{
		"additional_result_filter":                        "",
		"additional_table_filters":                        "{}",
		"aggregate_functions_null_for_empty":              "0",
		"alter_update_mode":                               "heavy",
		"any_join_distinct_right_table_keys":              "0",
		"apply_deleted_mask":                              "1",
		"cast_keep_nullable":                              "0",
		"data_type_default_nullable":                      "0",
		"date_time_overflow_behavior":                     "ignore",
		"dialect":                                         "clickhouse",
		"empty_result_for_aggregation_by_empty_set":       "0",
		"enable_lightweight_delete":                       "1",
		"force_index_by_date":                             "0",
		"force_optimize_projection":                       "0",
		"force_optimize_projection_name":                  "",
		"force_primary_key":                               "0",
		"group_by_use_nulls":                              "0",
		"http_write_exception_in_output_format":           "0",
		"implicit_table_at_top_level":                     "",
		"implicit_transaction":                            "0",
		"inject_random_order_for_select_without_order_by": "0",
		"input_format_allow_errors_num":                   "0",
		"input_format_allow_errors_ratio":                 "0",
		"insert_deduplication_token":                      "",
		"join_default_strictness":                         "ALL",
		"lightweight_delete_mode":                         "alter_update",
		"prefer_column_name_to_alias":                     "0",
		"session_timezone":                                "",
		"skip_unavailable_shards":                         "0",
		"transform_null_in":                               "0",
		"union_default_mode":                              "",
		"use_query_cache":                                 "0",

		"input_format_binary_decode_types_in_binary_format":  "0",
		"output_format_binary_encode_types_in_binary_format": "0",
	}
	for _, what := range []string{
		"read", "group_by", "sort", "result", "timeout", "set", "join", "transfer", "distinct",
	} {
		all[what+"_overflow_mode"] = "throw"
	}
	all["read_overflow_mode_leaf"], all["timeout_overflow_mode_leaf"] = "throw", "throw"
	return all
}

// always are those that every version knows. Without them the question for the others would not be answered whole.
func always() settings {
	return settings{"limit": "0", "offset": "0", "extremes": "0", "join_use_nulls": "0"}
}

// pin asks the server which settings it knows, since it refuses a statement with another one, and has the client send
// those from now on. It asks with all of them first.
func (s *Sink) pin(ctx context.Context) error {
	wanted := pinned()
	question := statement{nowhere: true, text: "SELECT name FROM system.settings WHERE name IN (" +
		list(slices.Sorted(maps.Keys(wanted)), quote) + ") FORMAT TabSeparated"}
	known := always()
	maps.Copy(known, wanted)
	s.client.pinned.Store(&known)
	answer, err := s.client.run(ctx, question)
	if isCode(err, codeUnknownSetting) {
		s.client.pinned.Store(nil)
		answer, err = s.client.run(ctx, question)
	}
	if err != nil {
		return err
	}
	known = always()
	for line := range strings.Lines(string(answer)) {
		if value, ok := wanted[strings.TrimSpace(line)]; ok {
			known[strings.TrimSpace(line)] = value
		}
	}
	s.client.pinned.Store(&known)
	return nil
}
