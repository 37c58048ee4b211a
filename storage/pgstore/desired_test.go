package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/storage/internal/pgtest"
)

// manyDesired is the state of a large gateway: 5,000 providers, 50 models, and 50,000 keys.
func manyDesired() []byte {
	var b strings.Builder
	b.WriteString(`{"providers": [`)
	for i := range 5000 {
		fmt.Fprintf(&b, `%s{"name": "channel-%d", "type": "openai", "api_key": "sk-0123456789abcdef%d", "group": "g%d",
			"models": ["m%d", "m%d", "m%d"], "weight": %d}`, comma(i), i, i, i%500, i%50, (i+7)%50, (i+13)%50, 1+i%9)
	}
	b.WriteString(`], "models": [`)
	for i := range 50 {
		fmt.Fprintf(&b, `%s{"name": "m%d", "input_price": "2.5", "output_price": "10"}`, comma(i), i)
	}
	b.WriteString(`], "keys": [`)
	for i := range 50_000 {
		fmt.Fprintf(&b, `%s{"external_id": "token-%d", "name": "user %d", "group": "g%d", "models": ["m%d"], "rpm_limit": 60,
			"token_hashes": ["%064x"]}`, comma(i), i, i%1000, i%500, i%50, i+1)
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

func comma(i int) string { return strings.Repeat(",", min(i, 1)) }

// BenchmarkDesired brings an empty catalog into the state of a large gateway while another writer
// commits every 100 ms, and plans the same again. It prints how long each takes, and how much time
// of processors this program has used for it, which depends less on what else the machine does.
func BenchmarkDesired(b *testing.B) {
	for b.Loop() {
		store := open(b, pgtest.Pool(b), nil)
		tables := catalog.NewTables(store, catalog.NewRandomKeyRing(), nil)
		stop := writeBeside(b, tables)
		text := manyDesired()
		timed := func(what string, do func() error) {
			start, cpu := time.Now(), usedCPU(b)
			if err := do(); err != nil {
				b.Fatalf("%s: %v", what, err)
			}
			b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-"+what)
			b.ReportMetric(float64((usedCPU(b) - cpu).Milliseconds()), "cpu-ms-"+what)
		}
		var d catalog.Desired
		timed("parse", func() (err error) { d, err = catalog.ParseDesired(text); return err })
		owner := catalog.PlanOptions{Owner: "importer", Prune: true}
		timed("plan-new", func() error { _, err := tables.Plan(b.Context(), d, &owner); return err })
		timed("apply", func() error {
			plan, err := tables.Apply(b.Context(), d, &catalog.ApplyOptions{PlanOptions: owner})
			if err == nil && plan.Summary.Create != d.Len() {
				err = errors.New(plan.String())
			}
			return err
		})
		timed("plan-same", func() error {
			plan, err := tables.Plan(b.Context(), d, &owner)
			if err == nil && plan.Changes() {
				err = errors.New(plan.String())
			}
			return err
		})
		b.ReportMetric(float64(stop()), "commits-beside")
	}
}

// usedCPU returns how much time of processors this process has used.
func usedCPU(tb testing.TB) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// writeBeside commits every 100 ms until stop, which returns how often.
func writeBeside(tb testing.TB, tables *catalog.Tables) (stop func() int) {
	ctx, cancel := context.WithCancel(tb.Context())
	n := 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := tables.Keys.Create(ctx, catalog.Key{Name: "beside"}); err != nil && ctx.Err() == nil {
				tb.Errorf("a writer beside: %v", err)
			}
			n++
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	return func() int {
		cancel()
		wg.Wait()
		return n
	}
}
