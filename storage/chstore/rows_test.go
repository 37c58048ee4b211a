package chstore

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/rollup"
)

// What is read is what was written, row after row.
func TestRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, number := rapid.StringN(0, 20, -1), rapid.Int64()
		var want []logbuf.Entry
		var versions []uint64
		var rows []byte
		for range rapid.IntRange(1, 4).Draw(t, "rows") {
			e := logbuf.Entry{
				ID: uuid.UUID(
					rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"),
				), Time: time.UnixMicro(rapid.Int64Range(0,
					maxTime().UnixMicro()-1).Draw(t, "time")).UTC(),
				KeyID: number.Draw(
					t,
					"key",
				), OutputTokens: number.Draw(t, "tokens"), Status: int(rapid.Int32().Draw(t, "status")),
				Attempts: int(rapid.Int32().Draw(t, "attempts")), Stream: rapid.Bool().Draw(t, "stream"),
				Model: text.Draw(
					t,
					"model",
				), Error: text.Draw(t, "error"), Revision: text.Draw(t, "revision"),
			}
			if rapid.Bool().Draw(t, "priced") {
				e.CostNanoUSD = new(number.Draw(t, "cost"))
			}
			if tags := rapid.MapOfN(text, text, 0, 4).Draw(t, "tags"); len(tags) > 0 {
				e.Tags = tags
			}
			if rapid.Bool().Draw(t, "failed") {
				e.Failures = []logbuf.Failure{
					{
						ProviderID:    1,
						Class:         logbuf.FailedRate,
						UpstreamModel: strings.ToValidUTF8(text.Draw(t, "upstream"), ""),
					},
				}
			}
			if err := fits(&e); err != nil {
				t.Fatal(err)
			}
			version := rapid.Uint64().Draw(t, "version")
			var err error
			if rows, err = appendLog(rows, &e, version); err != nil {
				t.Fatal(err)
			}
			want, versions = append(want, e), append(versions, version)
		}
		got, read, err := readLogs(rows)
		if diff := cmp.Diff(want, got); err != nil || diff != "" || !slices.Equal(read, versions) {
			t.Fatalf("%v, versions %v, want %v (-want +got):\n%s", err, read, versions, diff)
		}
		cut := rapid.IntRange(1, len(rows)-1).Draw(t, "cut")
		if got, _, err := readLogs(rows[:cut]); err == nil && len(got) == len(want) {
			t.Fatal("an answer that is cut off is taken for whole")
		}
	})
}

// No answer makes the reader panic or allocate more than it has.
func FuzzRows(f *testing.F) {
	e := entry(1, 0)
	e.Tags, e.Failures = map[string]string{"a": "b"}, []logbuf.Failure{{Status: 500}}
	rows, err := appendLog(nil, &e, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rows)
	f.Add(append(rows, 1))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if entries, _, err := readLogs(answer); err == nil && len(entries)*100 > len(answer) {
			t.Errorf("%d entries in %d bytes", len(entries), len(answer))
		}
	})
}

// Of the rows of an entry the one that was priced last counts, else the first.
func TestVersions(t *testing.T) {
	now := fakeNow()
	first, second := firstVersion(now), firstVersion(now.Add(time.Second))
	if first <= second {
		t.Error("what comes later counts more")
	}
	before := second
	for range 1<<(64-versionBits) - 1 {
		next, err := nextVersion(before, now)
		if err != nil || next <= before || next <= firstVersion(time.Unix(0, 0)) {
			t.Fatalf("after %d comes %d, %v", before, next, err)
		}
		before = next
	}
	if _, err := nextVersion(before, now); err == nil {
		t.Error("versions wrap around")
	}
}

// A span is split into what lies in closed hours and what does not: all of it, once.
func TestSplit(t *testing.T) {
	hour := func(n int) time.Time { return fakeNow().Add(time.Duration(n) * time.Hour) }
	rapid.Check(t, func(t *rapid.T) {
		set := rapid.SliceOfN(rapid.Bool(), 24, 24).Draw(t, "closed")
		var closed []rollup.Span
		for n, c := range set {
			if c {
				closed = appendHour(closed, hour(n))
			}
		}
		from := rapid.IntRange(-2, 26).Draw(t, "from")
		until := rapid.IntRange(-2, 26).Draw(t, "until")
		in, out := split(
			closed,
			rollup.Span{From: hour(from).Add(15 * time.Minute), Until: hour(until).Add(45 * time.Minute)},
		)
		for quarter := -16; quarter < 120; quarter++ {
			at := hour(0).Add(time.Duration(quarter) * logbuf.Quarter)
			count := func(spans []rollup.Span) (n int) {
				for _, s := range spans {
					if !at.Before(s.From) && at.Before(s.Until) {
						n++
					}
				}
				return n
			}
			want := [2]int{}
			if !at.Before(hour(from).Add(15*time.Minute)) && at.Before(hour(until).Add(45*time.Minute)) {
				if n := int(at.Sub(hour(0)) / time.Hour); quarter >= 0 && n < len(set) && set[n] {
					want[0] = 1
				} else {
					want[1] = 1
				}
			}
			if got := [2]int{count(in), count(out)}; got != want {
				t.Fatalf("the quarter from %s is in %v; want %v", at, got, want)
			}
		}
	})
}

// BenchmarkRows measures what it costs this process to write an entry as a row.
func BenchmarkRows(b *testing.B) {
	e := entry(1, 0)
	e.RequestID, e.Balancer, e.Namespace, e.Group = "req_0123456789abcdef", "balancer-1", "default", "default"
	e.UpstreamModel, e.Endpoint, e.UserAgent = "vendor/model-2026-01-01", "/v1/chat/completions", "openai-python/2.8.1"
	e.CostNanoUSD, e.InputTokens, e.OutputTokens = new(int64(12345)), 4000, 700
	var rows []byte
	for b.Loop() {
		var err error
		if rows, err = appendLog(rows[:0], &e, 1); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(rows)))
}
