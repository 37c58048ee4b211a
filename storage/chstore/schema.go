package chstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// A table is one of the sink's.
type table struct {
	name, columns, engine, rest string
}

// usageColumns are what usage is summed by, and the sums.
const usageColumns = `
    key_id             Int64 CODEC(ZSTD(1)),
    project            LowCardinality(String) CODEC(ZSTD(1)),
    provider_id        Int64 CODEC(ZSTD(1)),
    namespace          LowCardinality(String) CODEC(ZSTD(1)),
    model              LowCardinality(String) CODEC(ZSTD(1)),
    route_group        LowCardinality(String) CODEC(ZSTD(1)),
    requests           Int64 CODEC(ZSTD(1)),
    errors             Int64 CODEC(ZSTD(1)),
    unpriced           Int64 CODEC(ZSTD(1)),
    input_tokens       Int128 CODEC(ZSTD(1)),
    cache_read_tokens  Int128 CODEC(ZSTD(1)),
    cache_write_tokens Int128 CODEC(ZSTD(1)),
    output_tokens      Int128 CODEC(ZSTD(1)),
    cost_nano_usd      Int128 CODEC(ZSTD(1))`

// tables lists all tables. Text that repeats is LowCardinality, which costs nothing where it does
// not. Everything is ordered by time first, because every query is of a span of time: the newest
// entries, or all of some quarters.
func tables() []table {
	return []table{
		{"access_logs", `
    ts                 DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    id                 FixedString(16) CODEC(ZSTD(1)),
    version            UInt64 CODEC(Delta, ZSTD(1)),
    request_id         String CODEC(ZSTD(1)),
    balancer           LowCardinality(String) CODEC(ZSTD(1)),
    key_id             Int64 CODEC(T64, ZSTD(1)),
    project            LowCardinality(String) CODEC(ZSTD(1)),
    provider_id        Int64 CODEC(T64, ZSTD(1)),
    namespace          LowCardinality(String) CODEC(ZSTD(1)),
    model              LowCardinality(String) CODEC(ZSTD(1)),
    upstream_model     LowCardinality(String) CODEC(ZSTD(1)),
    route_group        LowCardinality(String) CODEC(ZSTD(1)),
    endpoint           LowCardinality(String) CODEC(ZSTD(1)),
    status             Int32 CODEC(T64, ZSTD(1)),
    error              String CODEC(ZSTD(1)),
    attempts           Int32 CODEC(T64, ZSTD(1)),
    stream             Bool CODEC(ZSTD(1)),
    latency_ms         Int64 CODEC(T64, ZSTD(1)),
    ttft_ms            Int64 CODEC(T64, ZSTD(1)),
    input_tokens       Int64 CODEC(T64, ZSTD(1)),
    cache_read_tokens  Int64 CODEC(T64, ZSTD(1)),
    cache_write_tokens Int64 CODEC(T64, ZSTD(1)),
    output_tokens      Int64 CODEC(T64, ZSTD(1)),
    cost_nano_usd      Nullable(Int64) CODEC(T64, ZSTD(1)),
    priced_revision    Int64 CODEC(T64, ZSTD(1)),
    client_ip          String CODEC(ZSTD(1)),
    user_agent         LowCardinality(String) CODEC(ZSTD(1)),
    end_user           String CODEC(ZSTD(1)),
    tags               Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    failures           String CODEC(ZSTD(1)),
    revision           LowCardinality(String) CODEC(ZSTD(1)),
    INDEX by_request  request_id  TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_key      key_id      TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_provider provider_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_user     end_user    TYPE bloom_filter(0.01) GRANULARITY 1`,
			"ReplacingMergeTree(version)", "PARTITION BY toYYYYMMDD(ts) ORDER BY (ts, id)"},

		{"log_dead_letter", `
    id      FixedString(16),
    micros  Int64,
    at      DateTime64(6, 'UTC') DEFAULT now64(6),
    segment String,
    code    Int32,
    reason  String,
    entry   String CODEC(ZSTD(1))`,
			"ReplacingMergeTree(at)", "ORDER BY (id, micros)"},

		{"usage_quarters", `
    starts             DateTime('UTC') CODEC(Delta, ZSTD(1)),` + usageColumns + `,
    last_at            DateTime('UTC') CODEC(Delta, ZSTD(1)),
    build              UInt64 CODEC(ZSTD(1)),
    made               DateTime64(6, 'UTC') DEFAULT now64(6) CODEC(ZSTD(1)),
    INDEX by_key key_id TYPE bloom_filter(0.01) GRANULARITY 1`,
			"MergeTree", "PARTITION BY toYYYYMM(starts) ORDER BY (starts, key_id, project, model)"},

		{"usage_builds", `
    hour    DateTime('UTC'),
    build   UInt64,
    covered DateTime64(6, 'UTC'),
    made    DateTime64(6, 'UTC') DEFAULT now64(6)`,
			"ReplacingMergeTree(covered)", "ORDER BY hour"},

		{"usage_marks", `
    hour DateTime('UTC'),
    at   DateTime64(6, 'UTC') DEFAULT now64(6)`,
			"ReplacingMergeTree(at)", "ORDER BY hour"},

		{"usage_late", `
    ts                 DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    id                 FixedString(16) CODEC(ZSTD(1)),
    version            UInt64 CODEC(ZSTD(1)),` + usageColumns + `,
    INDEX by_key key_id TYPE bloom_filter(0.01) GRANULARITY 1`,
			"ReplacingMergeTree(version)", "PARTITION BY toYYYYMM(ts) ORDER BY (ts, id)"},

		{"forgotten_days", `
    day DateTime('UTC'),
    at  DateTime64(6, 'UTC') DEFAULT now64(6)`,
			"MergeTree", "ORDER BY day"},

		{"log_owner", `
    catalog String,
    at      DateTime64(6, 'UTC') DEFAULT now64(6)`,
			"MergeTree", "ORDER BY at"},

		{"log_reprices", `
    run   FixedString(16),
    begun DateTime64(6, 'UTC'),
    until DateTime64(6, 'UTC'),
    at    DateTime64(6, 'UTC') DEFAULT now64(6)`,
			"ReplacingMergeTree(at)", "ORDER BY run TTL toDateTime(at) + INTERVAL 1 DAY"},

		{"log_health", `
    slot    DateTime64(6, 'UTC'),
    writer  FixedString(16),
    body    String CODEC(ZSTD(1)),
    at      DateTime64(6, 'UTC') DEFAULT now64(6)`,
			"ReplacingMergeTree(at)", "ORDER BY (slot, writer)"},
	}
}

// create writes the statement that makes a table unless it is there.
func (a *address) create(t table) string {
	engine, rest := t.engine, t.rest
	switch {
	case a.cluster != "": // the servers' default path holds a UUID, which a cluster agrees on
		engine = "Replicated" + engine
	case a.replicated:
		engine = a.replicatedEngine(t)
	case t.name == "access_logs": // a replicated one has a window of its own
		rest += " SETTINGS non_replicated_deduplication_window = 1000"
	}
	return fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s.%s%s (%s\n) ENGINE = %s %s",
		name(a.database), t.name, a.onCluster(), t.columns, engine, rest)
}

// replicatedEngine writes the engine of a table that is made on one host after the other: all have
// to name one path.
func (a *address) replicatedEngine(t table) string {
	kind, arguments, _ := strings.Cut(strings.TrimSuffix(t.engine, ")"), "(")
	path := quote("/clickhouse/tables/{shard}/" + a.database + "/" + t.name)
	all := []string{path, "'{replica}'"}
	if arguments != "" {
		all = append(all, arguments)
	}
	return "Replicated" + kind + "(" + strings.Join(all, ", ") + ")"
}

func (a *address) onCluster() string {
	if a.cluster == "" {
		return ""
	}
	return " ON CLUSTER " + name(a.cluster)
}

// name writes an identifier; which they may be was checked.
func name(s string) string { return "`" + s + "`" }

// ensure makes the tables that are missing, once. A role that may not make any can use those that
// others have made.
func (s *Sink) ensure(ctx context.Context) error {
	s.schema.Lock()
	defer s.schema.Unlock()
	if s.made {
		return nil
	}
	if err := s.pin(ctx); err != nil {
		return err
	}
	all := tables()
	missing, err := s.missing(ctx, all)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		a := &s.client.address
		statements := []string{"CREATE DATABASE IF NOT EXISTS " + name(a.database) + a.onCluster()}
		for _, t := range missing {
			statements = append(statements, a.create(t))
		}
		for i, text := range statements {
			_, err := s.client.run(ctx, statement{text: text, nowhere: true})
			if i == 0 && isCode(err, codeAccessDenied) {
				continue // it may be there
			}
			if err != nil {
				return err
			}
		}
	}
	s.made = true
	return nil
}

// missing returns those of the tables that are not there.
func (s *Sink) missing(ctx context.Context, all []table) (missing []table, err error) {
	answer, err := s.client.run(
		ctx,
		statement{nowhere: true, text: "SELECT name FROM system.tables WHERE database = " +
			quote(s.client.address.database) + " FORMAT TabSeparated"},
	)
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool)
	for line := range strings.Lines(string(answer)) {
		there[strings.TrimSpace(line)] = true
	}
	for _, t := range all {
		if !there[t.name] {
			missing = append(missing, t)
		}
	}
	return missing, nil
}

// micros writes an instant as a literal of SQL.
func micros(n int64) string {
	return "fromUnixTimestamp64Micro(" + strconv.FormatInt(n, 10) + ", 'UTC')"
}
