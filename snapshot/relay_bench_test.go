package snapshot_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// fill makes n keys.
func fill(b *testing.B, w *world, n int) (ids []int64) {
	for len(ids) < n {
		ids = append(ids, createKeys(b, w, min(10_000, n-len(ids)))...)
	}
	return ids
}

func touch(b *testing.B, w *world, ids []int64, name string) {
	ok[catalog.Revision](b)(w.tables.Update(context.Background(), func(tx *catalog.Tx) error {
		for _, id := range ids {
			_, err := tx.Keys.Edit(context.Background(), id, func(k *catalog.Key) error { k.Name = name; return nil })
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// BenchmarkChanges publishes 1, 1,000 and 10,000 changed keys among many.
func BenchmarkChanges(b *testing.B) {
	const keys = 100_000
	w := newWorld(b, syncKey)
	ids := fill(b, w, keys)
	start := time.Now()
	ok[snapshot.Head](b)(w.relay.Sync(context.Background()))
	b.Logf("the whole of %d keys: %s", keys, time.Since(start))
	for _, n := range []int{1, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				touch(b, w, ids[:n], fmt.Sprint("name ", n, " ", i))
				b.StartTimer()
				ok[snapshot.Head](b)(w.relay.Sync(context.Background()))
			}
		})
	}
	start = time.Now()
	if err := w.relay.Scrub(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Logf("comparing %d keys: %s", keys, time.Since(start))
}

// BenchmarkProviderMore publishes one provider more, which lists one model more or all, where
// 1,000 list 200 models whose bindings are implied: how long that takes, and how large the publish is. The
// document of such a model is written anew whole.
func BenchmarkProviderMore(b *testing.B) {
	w, ctx := newWorld(b, syncKey), context.Background()
	var models []string
	for i := range 200 {
		models = append(models, fmt.Sprint("model-", i))
		ok[catalog.Model](b)(w.tables.Models.Create(ctx, catalog.Model{Name: models[i]}))
	}
	provider := func(i int, models ...string) {
		ok[catalog.Provider](b)(w.tables.Providers.Create(ctx, catalog.Provider{
			Name: fmt.Sprint("p", i), Type: "openai", APIKey: catalog.NewSecret("sk-0123456789abcdef"), Models: models,
		}))
	}
	for i := range 1000 {
		provider(i, models...)
	}
	ok[snapshot.Head](b)(w.relay.Sync(ctx))
	i := 1000
	for _, n := range []int{1, 200} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				i++
				provider(i, models[:n]...)
				before := ok[snapshot.Head](b)(w.pub.Head(ctx)).Position
				b.StartTimer()
				ok[snapshot.Head](b)(w.relay.Sync(ctx))
				b.StopTimer()
				size, largest := 0, 0
				for _, c := range ok[snapshot.Delta](b)(w.pub.Next(ctx, before)).Changes {
					size, largest = size+len(c.Doc), max(largest, len(c.Doc))
				}
				b.ReportMetric(float64(size), "B/publish")
				b.ReportMetric(float64(largest), "B/document")
				b.StartTimer()
			}
		})
	}
}
