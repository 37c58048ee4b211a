package logbuf_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

func TestDecodeTagsAndFailures(t *testing.T) {
	tags := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`"t%d":"v"`, i))
		}
		return `{"tags":{` + strings.Join(list, ",") + `}}`
	}
	failures := func(n int) string {
		return `{"failures":[` + strings.Repeat(`{"class":"rate"},`, n-1) + `{"class":"rate"}]}`
	}
	long := strings.Repeat("x", 65)
	for _, c := range []struct {
		name, body string
		want       string // field and reason of the rejection
	}{
		{"tags", tags(8), ""},
		{"too many tags", tags(9), "tags value"},
		{"no tags", `{"tags":{}}`, ""},
		{"tags null", `{"tags":null}`, ""},
		{"a tag null", `{"tags":{"a":null}}`, ""},
		{"a tag without name", `{"tags":{"":"v"}}`, "tags value"},
		{"a tag that is a number", `{"tags":{"a":1}}`, "tags type"},
		{"a tag that is nested", `{"tags":{"a":{"b":"c"}}}`, "tags type"},
		{"tags as an array", `{"tags":["a"]}`, "tags type"},
		{"tags as a string", `{"tags":"a"}`, "tags type"},
		{"a tag twice", `{"tags":{"a":"1","a":"2"}}`, "tags twice"},
		{"tags that begin alike", `{"tags":{"` + long + `1":"1","` + long + `2":"2"}}`, "tags twice"},
		{"tags twice", `{"tags":{},"tags":{}}`, "tags twice"},
		{"failures", failures(8), ""},
		{"too many failures", failures(9), "failures value"},
		{"no failures", `{"failures":[]}`, ""},
		{"failures as an object", `{"failures":{"class":"rate"}}`, "failures type"},
		{"a failure that is a string", `{"failures":["rate"]}`, "failures type"},
		{"a failure of no class", `{"failures":[{"class":"rate"},{"status":500}]}`, "failures[1].class value"},
		{"a failure of a newer class", `{"failures":[{"class":"quota_2"}]}`, ""},
		{"a failure of a class in capitals", `{"failures":[{"class":"Rate"}]}`, "failures[0].class value"},
		{"a failure of a class that is too long", `{"failures":[{"class":"` + long + `"}]}`, "failures[0].class value"},
		{"a failure of a wrong type", `{"failures":[{"class":"rate","status":"500"}]}`, "failures[0].status type"},
		{"a nested value in a failure", `{"failures":[{"class":"rate","status":{}}]}`, "failures[0].status type"},
		{"a failure with a field twice", `{"failures":[{"class":"rate","class":"rate"}]}`, "failures[0].class twice"},
		{"a negative number in a failure", `{"failures":[{"class":"rate","latency_ms":-1}]}`, "failures[0].latency_ms value"},
		{"a wait that is no number", `{"failures":[{"class":"rate","retry_after_ms":"1"}]}`,
			"failures[0].retry_after_ms type"},
		{"an unknown field in a failure", `{"failures":[{"class":"rate","more":{"a":[1]}}]}`, ""},
		{"an escaped name", `{"failures":[{"cl\u0061ss":"rate"}]}`, ""},
		{"what belongs to failures in an entry", `{"class":"rate","retry_after_ms":-1}`, ""},
	} {
		var got [2]logbuf.Decoded
		for i, decode := range []func([]byte, string) (logbuf.Decoded, error){decoder().Decode, decoder().DecodeSlowly} {
			d, err := decode([]byte(`[`+c.body+`,{"model":"next"}]`), jsonType)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			reason := ""
			if len(d.Rejected) == 1 {
				reason = d.Rejected[0].Field + " " + string(d.Rejected[0].Reason)
			}
			if reason != c.want || len(d.Entries)+len(d.Rejected) != 2 {
				t.Errorf("%s: rejected %+v; want %q", c.name, d.Rejected, c.want)
			}
			for j := range d.Entries {
				d.Entries[j].ID = uuid.Nil // made anew
			}
			got[i] = d
		}
		if diff := cmp.Diff(got[0], got[1]); diff != "" {
			t.Errorf("%s: the fast path and the slow one differ:\n%s", c.name, diff)
		}
	}
}

// A class of failures that only a newer balancer knows costs no entry: it is kept, and counted.
func TestDecodeKeepsNewerClasses(t *testing.T) {
	got, err := decoder().Decode([]byte(`{"failures":[{"class":"quota"},{"class":"rate"}]}`), jsonType)
	if err != nil || len(got.Entries) != 1 || got.Unknown != 1 || got.Entries[0].Failures[0].Class != "quota" {
		t.Errorf("decoded %+v, %v; want the class, counted as unknown", got, err)
	}
}

func TestDecodeCutsTags(t *testing.T) {
	name, value := strings.Repeat("n", 65), strings.Repeat("v", 255)+"é"
	got, err := decoder().Decode([]byte(`{"tags":{"`+name+`":"`+value+`"}}`), jsonType)
	want := map[string]string{name[:64]: value[:255]}
	if err != nil || len(got.Entries) != 1 || got.Cut != 2 {
		t.Fatalf("decoded %+v, %v", got, err)
	}
	if diff := cmp.Diff(want, got.Entries[0].Tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

// What comes from Go is checked as what comes from HTTP: no engine sees numbers that it
// could not hold or add up.
func TestQueueRefusesWhatIsOutOfRange(t *testing.T) {
	sink := newLedger()
	q := mustOpen(t, sink, nil)
	for _, c := range []struct {
		field string
		spoil func(*logbuf.Entry)
	}{
		{"ts", func(e *logbuf.Entry) { e.Time = time.Unix(-1, 0) }},
		{"ts", func(e *logbuf.Entry) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"key_id", func(e *logbuf.Entry) { e.KeyID = -1 }},
		{"provider_id", func(e *logbuf.Entry) { e.ProviderID = math.MinInt64 }},
		{"status", func(e *logbuf.Entry) { e.Status = 1000 }},
		{"attempts", func(e *logbuf.Entry) { e.Attempts = 10_001 }},
		{"latency_ms", func(e *logbuf.Entry) { e.LatencyMS = logbuf.MaxMillis + 1 }},
		{"ttft_ms", func(e *logbuf.Entry) { e.TTFTMS = -5 }},
		{"input_tokens", func(e *logbuf.Entry) { e.InputTokens = 1 << 62 }},
		{"cache_read_tokens", func(e *logbuf.Entry) { e.CacheReadTokens = -1 }},
		{"cache_write_tokens", func(e *logbuf.Entry) { e.CacheWriteTokens = logbuf.MaxTokens + 1 }},
		{"output_tokens", func(e *logbuf.Entry) { e.OutputTokens = -1 }},
		{"cost_nano_usd", func(e *logbuf.Entry) { e.CostNanoUSD = new(int64(-1 << 62)) }},
		{"cost_nano_usd", func(e *logbuf.Entry) { e.CostNanoUSD = new(int64(logbuf.MaxCost + 1)) }},
		{"priced_revision", func(e *logbuf.Entry) { e.PricedRevision = -1 }},
		{"tags", func(e *logbuf.Entry) { e.Tags = map[string]string{"": "x"} }},
		{"tags", func(e *logbuf.Entry) {
			e.Tags = make(map[string]string)
			for i := range 9 {
				e.Tags[fmt.Sprint(i)] = ""
			}
		}},
		{"tags", func(e *logbuf.Entry) { e.Tags = map[string]string{"a\x00": "1", "a\uFFFD": "2"} }},
		{"tags", func(e *logbuf.Entry) {
			e.Tags = map[string]string{strings.Repeat("n", 64): "1", strings.Repeat("n", 65): "2"}
		}},
		{"failures[0].class", func(e *logbuf.Entry) { e.Failures = []logbuf.Failure{{Class: "Rate"}} }},
		{"failures", func(e *logbuf.Entry) { e.Failures = make([]logbuf.Failure, 9) }},
		{"failures[0].class", func(e *logbuf.Entry) { e.Failures = []logbuf.Failure{{}} }},
		{"failures[0].retry_after_ms", func(e *logbuf.Entry) {
			e.Failures = []logbuf.Failure{{Class: "rate", RetryAfterMS: logbuf.MaxMillis + 1}}
		}},
		{"failures[0].status", func(e *logbuf.Entry) { e.Failures = []logbuf.Failure{{Class: "rate", Status: -1}} }},
	} {
		bad := logbuf.Entry{Model: "m"}
		c.spoil(&bad)
		err := q.Append(t.Context(), logbuf.Entry{Model: "good"}, bad)
		var field *logbuf.FieldError
		if !errors.As(err, &field) || field.Field != "[1]."+c.field || !errors.Is(err, logbuf.ErrInvalid) {
			t.Errorf("%s: %v", c.field, err)
		}
	}
	mustAppend(t, q, logbuf.Entry{Model: "good", CostNanoUSD: new(int64(logbuf.MaxCost)), OutputTokens: logbuf.MaxTokens})
	mustClose(t, q)
	if s := q.Stats(); s.Accepted != 1 || s.Stored != 1 {
		t.Errorf("a call with an entry that is refused left something behind: %+v", s)
	}
}

// The caller's tags and failures stay as they are.
func TestQueueCleansACopy(t *testing.T) {
	sink := newLedger()
	q := mustOpen(t, sink, nil)
	long := strings.Repeat("v", 300)
	e := logbuf.Entry{
		Project: "no project", Tags: map[string]string{"a": long, "b\x00": "x"},
		Failures: []logbuf.Failure{{Class: logbuf.FailedServer, UpstreamModel: "\xff"}},
	}
	mustAppend(t, q, e)
	mustClose(t, q)
	for _, got := range sink.stored {
		want := map[string]string{"a": long[:256], "b\uFFFD": "x"}
		if diff := cmp.Diff(want, got.Tags); diff != "" {
			t.Errorf("tags (-want +got):\n%s", diff)
		}
		if got.Failures[0].UpstreamModel != "\uFFFD" || got.Project != "" {
			t.Errorf("stored %+v", got)
		}
	}
	if e.Tags["a"] != long || e.Tags["b\x00"] != "x" || e.Failures[0].UpstreamModel != "\xff" {
		t.Errorf("the caller's entry was changed: %+v", e)
	}
	if s := q.Stats(); s.Cut != 1 || s.Replaced != 3 {
		t.Errorf("cut %d, replaced %d; want 1 and 3", s.Cut, s.Replaced)
	}
}
