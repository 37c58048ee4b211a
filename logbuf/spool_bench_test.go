package logbuf_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

// BenchmarkAppend appends single entries and arrays, alone and from 64 callers,
// to memory and to a disk without and with room ahead. Compare only runs that
// took turns, on a real disk:
//
//	go test -c -o append.test ./logbuf
//	for i in 1 2 3 4 5; do TMPDIR=/var/tmp ./append.test -test.run '^$' -test.bench Append; done
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64} {
		for _, size := range []int{1, 100} {
			name := fmt.Sprintf("callers%d/array%d", callers, size)
			b.Run(name+"/memory", func(b *testing.B) {
				benchmarkAppend(b, callers, size, &logbuf.Options{Capacity: 1 << 20})
			})
			for _, room := range []int{0, 256 << 10, 1 << 20, 4 << 20} {
				b.Run(fmt.Sprintf("%s/disk/room%dK", name, room>>10), func(b *testing.B) {
					o := logbuf.Options{Dir: b.TempDir(), Capacity: 1 << 20}
					benchmarkAppend(b, callers, size, o.On(roomFS{logbuf.OS(), room}))
				})
			}
		}
	}
}

// roomFS is a file system that wants another room ahead.
type roomFS struct {
	logbuf.FileSystem
	room int
}

func (fs roomFS) Room() int { return fs.room }

func benchmarkAppend(b *testing.B, callers, size int, o *logbuf.Options) {
	discard := sinkFunc(func(_ context.Context, batch logbuf.Batch) (logbuf.Result, error) {
		return logbuf.Result{Stored: len(batch.Entries)}, nil
	})
	q := mustOpen(b, discard, o)
	list := make([]logbuf.Entry, size)
	for i := range list {
		list[i] = logbuf.Entry{
			ID: uuid.New(), Time: now, RequestID: "req_0123456789abcdef", Balancer: "edge-1", KeyID: 42, ProviderID: 7,
			Namespace: "default", Model: "gpt-4o", UpstreamModel: "gpt-4o-2024-08-06", Group: "default",
			Endpoint: "/v1/chat/completions", Status: 200, Attempts: 1, LatencyMS: 1234, InputTokens: 1200,
			OutputTokens: 345, CostNanoUSD: new(int64(12345)), ClientIP: "192.0.2.7", UserAgent: "openai-python/1.40",
		}
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	took := make([][]time.Duration, callers)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				start := time.Now()
				for q.Append(context.Background(), list...) != nil {
					time.Sleep(time.Millisecond)
				}
				took[c] = append(took[c], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Sorted(slices.Values(slices.Concat(took...)))
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
	if err := q.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
