package storagetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
)

func withCanceled(t testing.TB) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx, cancel
}

// sinkModel is a sink that is a list.
type sinkModel struct {
	entries     []logbuf.Entry
	checkpoints map[uuid.UUID]int64
}

func (m *sinkModel) write(b logbuf.Batch) (r logbuf.Result) {
	if b.Segment != uuid.Nil {
		if m.checkpoints[b.Segment] >= b.To {
			return logbuf.Result{Duplicate: len(b.Entries)}
		}
		m.checkpoints[b.Segment] = b.To
	}
	for _, e := range b.Entries {
		e.Time = e.Time.Truncate(time.Microsecond)
		if m.has(e) {
			r.Duplicate++
			continue
		}
		m.entries = append(m.entries, e)
		r.Stored++
	}
	return r
}

func (m *sinkModel) has(e logbuf.Entry) bool {
	for _, o := range m.entries {
		if o.ID == e.ID && o.Time.Equal(e.Time) {
			return true
		}
	}
	return false
}

func (m *sinkModel) logs(q logbuf.LogQuery) (found []logbuf.Entry) {
	for _, e := range newest(m.entries...) {
		if !e.Time.Before(q.Since) && e.Time.Before(q.Until) && q.Matches(&e) {
			found = append(found, e)
		}
	}
	return found
}

// testSinkModel does random things and compares with a list. Each run has its
// own namespace, keys and segments, among all that the runs before have left.
func testSinkModel(t testing.TB, h SinkHarness) {
	hours := rapid.IntRange(-30, 30)
	span := func(r *rapid.T) (since, until time.Time) {
		since = logDay.Add(time.Duration(hours.Draw(r, "since")) * time.Hour)
		return since, since.Add(time.Duration(rapid.IntRange(1, 80).Draw(r, "for")) * time.Hour)
	}
	run := 0
	checkSome(t, 50, func(r *rapid.T) {
		run++
		model := &sinkModel{checkpoints: make(map[uuid.UUID]int64)}
		namespace := fmt.Sprint("run-", run)
		keys := []int64{int64(3 * run), int64(3*run + 1), int64(3*run + 2)}
		segments := []uuid.UUID{uuid.Nil, uuid.New(), uuid.New()}
		entry := rapid.Custom(func(r *rapid.T) logbuf.Entry {
			e := logbuf.Entry{
				ID:         logID(100*run + rapid.IntRange(0, 5).Draw(r, "id")),
				Time:       logDay.Add(time.Duration(hours.Draw(r, "hour")) * time.Hour),
				KeyID:      rapid.SampledFrom(keys).Draw(r, "key"),
				ProviderID: rapid.Int64Range(0, 2).Draw(r, "provider"),
				Namespace:  namespace,
				Model:      rapid.SampledFrom([]string{"a", "B", "é"}).Draw(r, "model"),
				Status:     rapid.SampledFrom([]int{0, 200, 500}).Draw(r, "status"),
				RequestID:  rapid.SampledFrom([]string{"", "x"}).Draw(r, "request"),

				OutputTokens: rapid.Int64Range(0, 1000).Draw(r, "tokens"),
			}
			if rapid.Bool().Draw(r, "priced") {
				e.CostNanoUSD = new(rapid.Int64Range(0, 1<<40).Draw(r, "cost"))
			}
			return e
		})
		r.Repeat(map[string]func(*rapid.T){
			"write": func(r *rapid.T) {
				b := logbuf.Batch{
					Segment: rapid.SampledFrom(segments).Draw(r, "segment"),
					Entries: rapid.SliceOfN(entry, 0, 10).Draw(r, "entries"),
				}
				if b.Segment != uuid.Nil {
					b.From = rapid.Int64Range(0, model.checkpoints[b.Segment]).Draw(r, "from")
					if rapid.Bool().Draw(r, "in order") {
						b.From = model.checkpoints[b.Segment]
					}
					b.To = b.From + int64(len(b.Entries))
				}
				sink := rapid.SampledFrom([]logbuf.Sink{h.Sink, h.Second}).Draw(r, "sink")
				want := model.write(b)
				got, err := sink.Write(t.Context(), b)
				if err != nil || got != want {
					r.Fatalf("Write: %+v, %v; want %+v", got, err, want)
				}
			},
			"maintain": func(r *rapid.T) {
				if m, ok := h.Sink.(logbuf.Maintainer); ok {
					if err := maintain(t.Context(), m, time.Time{}); err != nil {
						r.Fatalf("Maintain: %v", err)
					}
				}
			},
			"logs": func(r *rapid.T) {
				q := logbuf.LogQuery{
					Namespace:  namespace,
					KeyID:      rapid.SampledFrom(append(keys, 0)).Draw(r, "key"),
					ProviderID: rapid.Int64Range(0, 2).Draw(r, "provider"),
					Model:      rapid.SampledFrom([]string{"", "", "a", "B", "é"}).Draw(r, "model"),
					Status:     rapid.SampledFrom([]int{0, 0, 200, 500}).Draw(r, "status"),
					RequestID:  rapid.SampledFrom([]string{"", "x"}).Draw(r, "request"),
					Limit:      rapid.SampledFrom([]int{1, 3, 1000}).Draw(r, "limit"),
				}
				q.Since, q.Until = span(r)
				if diff := differ(model.logs(q), readLogs(t, h.Archive, q), cmpopts.EquateEmpty()); diff != "" {
					r.Fatalf("Logs of %+v (-want +got):\n%s", q, diff)
				}
			},
			"usage": func(r *rapid.T) {
				q := logbuf.UsageQuery{
					Interval: rapid.SampledFrom([]logbuf.Interval{logbuf.Hour, logbuf.Day}).Draw(r, "interval"),
					GroupBy:  rapid.SliceOfN(rapid.SampledFrom(logbuf.Dimensions()), 0, 3).Draw(r, "by"),
					Limit:    rapid.SampledFrom([]int{1, 3, 1000}).Draw(r, "limit"),
				}
				q.KeyIDs = keys[rapid.IntRange(0, 2).Draw(r, "keys"):]
				q.Since, q.Until = span(r)
				got := readUsage(t, h.Archive, q)
				if diff := differ(addUp(q, model.entries...), got, cmpopts.EquateEmpty()); diff != "" {
					r.Fatalf("Usage of %+v (-want +got):\n%s", q, diff)
				}
			},
		})
	})
}
