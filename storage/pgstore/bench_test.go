package pgstore_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
)

// BenchmarkCreateKey compares, one after the other in each round, the creation
// of a key (entity, hash, change row, NOTIFY) with the smallest durable
// transaction there is. It prints the medians, in milliseconds, and their ratio.
func BenchmarkCreateKey(b *testing.B) {
	pool := pgtest.Pool(b)
	store := open(b, pool, nil)
	ctx := b.Context()
	if _, err := pool.Exec(ctx, `create table bare (n int); insert into bare values (0)`); err != nil {
		b.Fatal(err)
	}

	var bare, create []time.Duration
	for i := 0; b.Loop(); i++ {
		c := commit(write(key(int64(i+1), func(e *catalog.Entity) {
			e.Hashes = []string{fmt.Sprintf("%064x", i)}
			e.Spec = json.RawMessage(`{"token_hint": "` + rand.Text()[:4] + `", "rpm_limit": 60}`)
		})))
		start := time.Now()
		if _, err := pool.Exec(ctx, `update bare set n = n + 1`); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		if _, err := store.Commit(ctx, c); err != nil {
			b.Fatal(err)
		}
		bare, create = append(bare, middle.Sub(start)), append(create, time.Since(middle))
	}
	slices.Sort(bare)
	slices.Sort(create)
	x, y := bare[len(bare)/2], create[len(create)/2]
	b.ReportMetric(x.Seconds()*1e3, "ms/bare")
	b.ReportMetric(y.Seconds()*1e3, "ms/create")
	b.ReportMetric(y.Seconds()/x.Seconds(), "create/bare")
}
