package pgstore_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
)

// lastQuery is a tracer that keeps the last query and its arguments.
type lastQuery struct {
	mu   sync.Mutex
	sql  string
	args []any
}

func (l *lastQuery) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.Contains(data.SQL, "from keys") {
		l.sql, l.args = data.SQL, data.Args
	}
	return ctx
}

func (*lastQuery) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// Every way to search among many keys has its index.
func TestQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	var last lastQuery
	cfg := pgtest.Migrated(t)
	plain := pgtest.Connect(t, cfg)
	cfg.ConnConfig.Tracer = &last
	store := open(t, pgtest.Connect(t, cfg), nil)
	_, err := plain.Exec(t.Context(), `
insert into keys (id, revision, created_at, updated_at, hashes, name, search, status, namespaces, groups, labels, mentions, due_at)
select i, 1, now(), now(), '{}', 'key ' || i, 'KEY ' || i,
    case when i % 1000 = 0 then 'disabled' else 'active' end,
    case when i % 1000 = 0 then '{rare}'::text[] else '{default}' end,
    case when i % 1000 = 0 then '{rare}'::text[] else '{default}' end,
    case when i % 1000 = 0 then jsonb_build_object('team', 't' || i) else '{}' end,
    '{}', case when i % 1000 = 0 then now() end
from generate_series(1, 20000) as i`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Exec(t.Context(), `analyze keys`); err != nil {
		t.Fatal(err)
	}

	for index, query := range map[string]catalog.Query{
		"keys_pkey":         {After: 19000, Limit: 10},
		"keys_by_name":      {Names: []string{"key 7", "key 8"}},
		"keys_by_status":    {Status: "disabled"},
		"keys_by_namespace": {Namespace: "rare"},
		"keys_by_group":     {Groups: []string{"rare", "other"}},
		"keys_by_label":     {Labels: map[string]string{"team": "t5000"}},
		"keys_by_due":       {DueBefore: time.Now().Add(time.Hour)},
	} {
		t.Run(index, func(t *testing.T) {
			var found []catalog.Entity
			err := store.Read(t.Context(), func(r catalog.Reader) (err error) {
				found, err = r.List(t.Context(), catalog.KindKey, query)
				return err
			})
			if err != nil || len(found) == 0 {
				t.Fatalf("found %d keys, %v", len(found), err)
			}
			last.mu.Lock()
			defer last.mu.Unlock()
			rows, err := plain.Query(t.Context(), "explain "+last.sql, last.args...)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			if text := strings.Join(plan, "\n"); !strings.Contains(text, index) {
				t.Errorf("%s\nis planned without %s:\n%s", last.sql, index, text)
			}
		})
	}
}
