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

// BenchmarkCommitMany creates, changes and deletes 55,000 entities in a commit
// each. It prints how long that takes, and how long others wait for the head's lock
// meanwhile, in seconds.
func BenchmarkCommitMany(b *testing.B) {
	const n = 55_000
	for b.Loop() {
		pool := pgtest.Pool(b)
		store, ctx := open(b, pool, nil), b.Context()
		var creates, updates, deletes []catalog.Write
		for i := range n {
			e := key(int64(i+1), func(e *catalog.Entity) {
				e.Hashes, e.ExternalID = []string{fmt.Sprintf("%064x", i)}, fmt.Sprint("external-", i)
				e.Labels = map[string]string{"owner": "import"}
				e.Spec = json.RawMessage(`{"token_hint": "abcd", "rpm_limit": 60, "models": [], "scopes": [], "allow_ips": []}`)
			})
			w := write(e)
			w.Change.After = e.Spec
			creates = append(creates, w)
			e.Status = "disabled"
			w = write(e)
			w.If, w.Change.Before, w.Change.After = 1, e.Spec, e.Spec
			updates = append(updates, w)
			w.Delete = true
			deletes = append(deletes, w)
		}
		for i, writes := range [][]catalog.Write{creates, updates, deletes} {
			if i > 0 {
				head := catalog.Revision(0)
				if err := store.Read(ctx, func(r catalog.Reader) error {
					e, err := r.Get(ctx, catalog.KindKey, 1)
					head = e.Revision
					return err
				}); err != nil {
					b.Fatal(err)
				}
				for j := range writes {
					writes[j].If = head
				}
			}
			var longest time.Duration
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for {
					select {
					case <-stop:
						return
					default:
					}
					start := time.Now()
					if _, err := store.Commit(ctx, catalog.Commit{Sync: true, Time: time.Now()}); err != nil {
						b.Error(err)
						return
					}
					longest = max(longest, time.Since(start))
				}
			}()
			start := time.Now()
			if _, err := store.Commit(ctx, commit(writes...)); err != nil {
				b.Fatal(err)
			}
			took := time.Since(start)
			close(stop)
			<-done
			name := []string{"create", "update", "delete"}[i]
			b.ReportMetric(took.Seconds(), "s/"+name)
			b.ReportMetric(longest.Seconds(), "s-locked/"+name)
		}
	}
}
