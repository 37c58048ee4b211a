package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// columns of access_logs, in the order of [row].
var columns = []string{
	"ts", "id", "key_id", "provider_id", "latency_ms", "ttft_ms", "input_tokens", "cache_read_tokens",
	"cache_write_tokens", "output_tokens",
	"cost_nano_usd", "priced_revision", "status", "attempts", "stream", "request_id", "balancer", "namespace",
	"model", "upstream_model",
	"route_group", "endpoint", "error", "client_ip", "user_agent", "revision", "project", "end_user",
}

// rawCopy is the ceiling: PostgreSQL loads the rows from a binary file of its own
// making, in one statement, into a table of the same columns that is not
// partitioned and has no index but the primary key.
type rawCopy struct {
	pool *pgxpool.Pool
	file string
	rows int
}

func newRawCopy(ctx context.Context, pool *pgxpool.Pool, set *entrySet) (*rawCopy, error) {
	r := &rawCopy{pool: pool, file: filepath.Join(os.TempDir(), "ez-bench-"+uuid.NewString()), rows: len(set.entries)}
	for _, sql := range []string{
		`create unlogged table staging as select * from access_logs`,
		`alter table staging add column n bigint generated always as identity`,
		`create table raw (like access_logs, primary key (ts, id))`,
	} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			return nil, fmt.Errorf("%s: %w", sql, err)
		}
	}
	_, err := pool.CopyFrom(ctx, pgx.Identifier{"staging"}, columns, pgx.CopyFromSlice(r.rows, func(i int) ([]any, error) {
		e := &set.entries[i]
		return []any{
			e.Time, e.ID, e.KeyID, e.ProviderID, e.LatencyMS, e.TTFTMS, e.InputTokens, e.CacheReadTokens,
			e.CacheWriteTokens, e.OutputTokens,
			//nolint:gosec // small
			e.CostNanoUSD, e.PricedRevision, int32(e.Status), int32(e.Attempts), e.Stream, e.RequestID, e.Balancer,
			e.Namespace, e.Model, e.UpstreamModel,
			e.Group, e.Endpoint, e.Error, e.ClientIP, e.UserAgent, e.Revision, e.Project, e.User,
		}, nil
	}))
	if err != nil {
		return nil, err
	}
	// Tags and failures are null, as most entries have neither.
	list := strings.Join(columns, ", ") + ", null::jsonb, null::jsonb"
	if _, err := pool.Exec(ctx, `copy (select `+list+` from staging order by n) to '`+r.file+`' (format binary)`); err != nil {
		return nil, fmt.Errorf("the server cannot write %s: %w", r.file, err)
	}
	_, err = pool.Exec(ctx, `drop table staging`)
	return r, err
}

// measure returns rows a second.
func (r *rawCopy) measure(ctx context.Context) (float64, error) {
	for _, sql := range []string{`truncate raw`, `checkpoint`} {
		if _, err := r.pool.Exec(ctx, sql); err != nil {
			return 0, err
		}
	}
	rate, _, err := timed(r.rows, func() error {
		_, err := r.pool.Exec(ctx, `copy raw from '`+r.file+`' (format binary)`)
		return err
	})
	return rate, err
}

func (r *rawCopy) remove() { _ = os.Remove(r.file) }
