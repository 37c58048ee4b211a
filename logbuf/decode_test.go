package logbuf_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/ez-api/ez-api/logbuf"
)

var (
	now = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	id1 = uuid.MustParse("0192d5a0-0000-4000-8000-000000000001") // version 4: has no time
)

const (
	jsonType = "application/json"
	ndjson   = "application/x-ndjson"
	ts       = `"ts":"2026-03-01T11:59:59.5Z"`
)

func decoder() *logbuf.Decoder {
	return &logbuf.Decoder{Now: func() time.Time { return now }}
}

// v7 returns the text of a UUIDv7 of the given time.
func v7(t time.Time) string {
	return fmt.Sprintf("%08x-%04x-7abc-8def-0123456789ab", t.UnixMilli()>>16, t.UnixMilli()&0xffff)
}

func TestDecodeEveryField(t *testing.T) {
	want := logbuf.Entry{
		ID: id1, Time: time.Date(2026, 3, 1, 11, 0, 0, 1000, time.UTC), RequestID: "r", Balancer: "b", KeyID: 1,
		ProviderID: 2,
		Namespace:  "ns", Model: "m/1", UpstreamModel: "u", Group: "g", Endpoint: "/v1/chat/completions",
		Status: 200, Error: "e",
		Attempts: 3, Stream: true, LatencyMS: 4, TTFTMS: 5, InputTokens: 6, CacheReadTokens: 7, CacheWriteTokens: 8,
		OutputTokens: 9,
		CostNanoUSD:  new(int64(10)), PricedRevision: 11, ClientIP: "192.0.2.1", UserAgent: "ua", Revision: "5-6",
		Project: "acme/search", User: "u-1", Tags: map[string]string{"team": "search", "env": ""},
		Failures: []logbuf.Failure{
			{ProviderID: 7, UpstreamModel: "u", Status: 429, Class: logbuf.FailedRate, LatencyMS: 12, RetryAfterMS: 3000},
			{Class: logbuf.FailedNetwork},
		},
	}
	body, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for name, decode := range map[string]func([]byte, string) (logbuf.Decoded, error){
		"fast": decoder().Decode, "slow": decoder().DecodeSlowly,
	} {
		got, err := decode(body, jsonType)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(logbuf.Decoded{Entries: []logbuf.Entry{want}}, got); diff != "" {
			t.Errorf("decoded, %s (-want +got):\n%s", name, diff)
		}
	}
}

func TestDecodeShapes(t *testing.T) {
	entry := func(request string) string { return `{` + ts + `,"request_id":"` + request + `"}` }
	tests := []struct {
		name, contentType, body string
		want                    string // request ids
		rejected                string // index:field:reason
	}{
		{"object", jsonType, entry("a"), "a", ""},
		{"object over several lines", jsonType, "\n" + strings.ReplaceAll(entry("a"), ",", ",\n") + "\n", "a", ""},
		{"array", jsonType, `[` + entry("a") + `,` + entry("b") + `]`, "a b", ""},
		{"empty array", jsonType, `[]`, "", ""},
		{"lines as plain JSON", jsonType, entry("a") + "\n" + entry("b") + "\n", "a b", ""},
		{"lines", ndjson, entry("a") + "\n\r\n" + entry("b"), "a b", ""},
		{"lines, with a parameter", "Application/X-NDJSON; charset=utf-8", entry("a") + "\n" + entry("b"), "a b", ""},
		{"a broken line", ndjson, entry("a") + "\n{\"x\":\n" + entry("c"), "a c", "1::malformed"},
		{"a line with more after it", ndjson, entry("a") + "\n" + entry("b") + " 1\n" + entry("c"), "a c", "1::malformed"},
		{"a broken line of a wrong type", ndjson, entry("a") + "\n{\"status\":true,", "a", "1::malformed"},
		{"a cut last line", ndjson, entry("a") + "\n" + entry("b")[:20], "a", "1::malformed"},
		{"a line with an array", ndjson, entry("a") + "\n[" + entry("b") + "]", "a", "1::type"},
		{"elements that are no objects", jsonType, `[1,` + entry("a") + `,"x",null,[{}]]`, "a", "0::type 2::type 3::type 4::type"},
		{"some invalid", jsonType, `[{"status":"200"},` + entry("a") + `,{"stream":1,"status":"x"}]`, "a", "0:status:type 2:stream:type"},
		{"none valid", jsonType, `{"status":-1}`, "", "0:status:value"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decoder().Decode([]byte(tt.body), tt.contentType)
			if err != nil {
				t.Fatal(err)
			}
			var ids, rejected []string
			for _, e := range got.Entries {
				ids = append(ids, e.RequestID)
			}
			for _, r := range got.Rejected {
				rejected = append(rejected, fmt.Sprintf("%d:%s:%s", r.Index, r.Field, r.Reason))
			}
			if s := strings.Join(ids, " "); s != tt.want {
				t.Errorf("entries %q, want %q", s, tt.want)
			}
			if s := strings.Join(rejected, " "); s != tt.rejected {
				t.Errorf("rejected %q, want %q", s, tt.rejected)
			}
		})
	}
}

func TestDecodeMalformed(t *testing.T) {
	tests := []struct{ name, contentType, body string }{
		{"nothing", jsonType, ""},
		{"blank", jsonType, " \n"},
		{"blank lines", ndjson, "\n\n"},
		{"not JSON", jsonType, "secret"},
		{"a string", jsonType, `"secret"`},
		{"null", jsonType, "null"},
		{"cut object", jsonType, `{"status":`},
		{"cut array", jsonType, `[{}`},
		{"comma at the end", jsonType, `[{},]`},
		{"something after the array", jsonType, `[{}] {}`},
		{"garbage after the array", jsonType, `[{}] secret`},
		{"garbage after the object", jsonType, `{} secret`},
		{"no line is JSON", ndjson, "{\nsecret"},
		{"name is no string", jsonType, `{secret:1}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decoder().Decode([]byte(tt.body), tt.contentType)
			if !errors.Is(err, logbuf.ErrMalformed) || !errors.Is(err, logbuf.ErrInvalid) {
				t.Fatalf("error %v, want ErrMalformed, which wraps ErrInvalid", err)
			}
			if diff := cmp.Diff(logbuf.Decoded{}, got); diff != "" {
				t.Errorf("something was decoded:\n%s", diff)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%q repeats the body", err)
			}
		})
	}
}

// Strings are what they say, however JSON writes them, and letters of a time may be small.
func TestDecodeReadsEscapes(t *testing.T) {
	for _, fields := range []string{
		`"ts":"2026-03-01T11:00:00\u002b00:00"`, `"ts":"2026-03-01T11:00:00\u005a"`, `"ts":"2026-03-01t11:00:00z"`,
		`"ts":"2026-03-01T11:00:00.0000000001Z"`, `"ts":"2026-03-01T13:00:00+02:00"`,
	} {
		id := v7(now)
		got, err := decoder().Decode([]byte(`{"id":"\u0030`+id[1:]+`",`+fields+`}`), jsonType)
		want := time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC)
		if err != nil || len(got.Entries) != 1 || !got.Entries[0].Time.Equal(want) || got.Entries[0].ID.String() != id {
			t.Errorf("%s: %+v, %v", fields, got, err)
		}
	}
}

func TestDecodeRejects(t *testing.T) {
	tests := []struct {
		name, fields string
		field        string
		reason       logbuf.Reason
	}{
		{"number in a string", `"latency_ms":"12"`, "latency_ms", logbuf.BadType},
		{"string as a number", `"model":12`, "model", logbuf.BadType},
		{"string as an object", `"model":{"a":1}`, "model", logbuf.BadType},
		{"stream as a number", `"stream":1`, "stream", logbuf.BadType},
		{"id as a number", `"id":1`, "id", logbuf.BadType},
		{"ts as a number", `"ts":1700000000`, "ts", logbuf.BadType},
		{"fraction", `"ttft_ms":1.5`, "ttft_ms", logbuf.BadValue},
		{"negative", `"input_tokens":-1`, "input_tokens", logbuf.BadValue},
		{"beyond 64 bits", `"key_id":9223372036854775808`, "key_id", logbuf.BadValue},
		{"huge", `"output_tokens":1e300`, "output_tokens", logbuf.BadValue},
		{"too large", `"status":1000`, "status", logbuf.BadValue},
		{"nearly whole", `"key_id":0.99999999999999999999`, "key_id", logbuf.BadValue},
		{"nearly nothing", `"key_id":1e-400`, "key_id", logbuf.BadValue},
		{"no UUID", `"id":"secret"`, "id", logbuf.BadValue},
		{"more than a UUID", `"id":"x` + v7(now) + `y"`, "id", logbuf.BadValue},
		{"a UUID without hyphens", `"id":"` + strings.ReplaceAll(v7(now), "-", "") + `"`, "id", logbuf.BadValue},
		{"a failure that is none, before one", `"failures":[1,{"class":"rate"}]`, "failures", logbuf.BadType},
		{"no failure, before one", `"failures":[null,{"class":"rate"}]`, "failures", logbuf.BadType},
		{"many that are none", `"failures":[1,2,3,4,5,6,7,8,9,{"class":"rate"}]`, "failures", logbuf.BadType},
		{"nil UUID", `"id":"00000000-0000-0000-0000-000000000000"`, "id", logbuf.BadValue},
		{"UUID without a time", `"id":"` + id1.String() + `"`, "id", logbuf.BadValue},
		{"no time", `"ts":"secret"`, "ts", logbuf.BadValue},
		{"time without zone", `"ts":"2026-03-01T11:00:00"`, "ts", logbuf.BadValue},
		{"hour of one digit", `"ts":"2026-03-01T9:00:00Z"`, "ts", logbuf.BadValue},
		{"comma in a time", `"ts":"2026-03-01T11:00:00,5Z"`, "ts", logbuf.BadValue},
		{"offset of a day", `"ts":"2026-03-01T11:00:00+24:00"`, "ts", logbuf.BadValue},
		{"offset of 60 minutes", `"ts":"2026-03-01T11:00:00+00:60"`, "ts", logbuf.BadValue},
		{"second 60", `"ts":"2026-03-01T11:59:60Z"`, "ts", logbuf.BadValue},
		{"too old", `"ts":"2026-02-22T11:59:59Z"`, "ts", logbuf.BadTime},
		{"in the future", `"ts":"2026-03-01T13:00:01Z"`, "ts", logbuf.BadTime},
		{"too old by its id", `"id":"` + v7(now.Add(-8*24*time.Hour)) + `"`, "id", logbuf.BadTime},
		{"twice", `"model":"a","model":"a"`, "model", logbuf.Twice},
		{"twice, once escaped", `"model":"a","mod\u0065l":"a"`, "model", logbuf.Twice},
		{"too deep", `"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40), "", logbuf.TooDeep},
		{"too deep in a known field", `"error":` + strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), "error", logbuf.BadType},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decoder().Decode([]byte(`[{},{`+tt.fields+`},{}]`), jsonType)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Entries) != 2 || len(got.Rejected) != 1 {
				t.Fatalf("%d entries, rejected %v; want 2 entries, 1 rejected", len(got.Entries), got.Rejected)
			}
			r := got.Rejected[0]
			if r.Index != 1 || r.Field != tt.field || r.Reason != tt.reason || r.Message == "" {
				t.Errorf("rejected %+v, want index 1, field %q, reason %q", r, tt.field, tt.reason)
			}
			if strings.Contains(r.Message, "secret") {
				t.Errorf("%q repeats the value", r.Message)
			}
		})
	}
}

func TestDecodeIdentity(t *testing.T) {
	tests := []struct {
		name, fields string
		retention    time.Duration
		wantTime     time.Time // zero: rejected
	}{
		{"both", `"id":"` + id1.String() + `","ts":"2026-03-01T12:00:00.1234567+01:00"`, 0, time.Date(2026, 3, 1, 11, 0, 0, 123456000, time.UTC)},
		{"UUIDv7 alone", `"id":"` + v7(now) + `"`, 0, now.Truncate(time.Millisecond)},
		{"neither", `"id":null,"ts":null`, 0, now.Truncate(time.Microsecond)},
		{"ts alone", `"ts":"2026-03-01T11:00:00Z"`, 0, now.Truncate(time.Hour).Add(-time.Hour)},
		{"as old as may be", `"ts":"2026-02-22T12:00:01Z"`, 0, time.Date(2026, 2, 22, 12, 0, 1, 0, time.UTC)},
		{"as far ahead as may be", `"ts":"2026-03-01T13:00:00Z"`, 0, time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)},
		{"retention of 3 days keeps 2", `"ts":"2026-02-27T12:00:01Z"`, 72 * time.Hour, time.Date(2026, 2, 27, 12, 0, 1, 0, time.UTC)},
		{"retention of 3 days drops older", `"ts":"2026-02-27T12:00:00Z"`, 72 * time.Hour, time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := decoder()
			d.Retention = tt.retention
			got, err := d.Decode([]byte(`{`+tt.fields+`}`), jsonType)
			if err != nil {
				t.Fatal(err)
			}
			if tt.wantTime.IsZero() {
				if len(got.Rejected) != 1 {
					t.Fatalf("taken: %+v", got.Entries)
				}
				return
			}
			if len(got.Entries) != 1 {
				t.Fatalf("rejected: %+v", got.Rejected)
			}
			e := got.Entries[0]
			if !e.Time.Equal(tt.wantTime) || e.Time.Location() != time.UTC {
				t.Errorf("ts %v, want %v", e.Time, tt.wantTime)
			}
			if e.ID == uuid.Nil {
				t.Error("no id")
			}
			if !strings.Contains(tt.fields, `"id":"`) && e.ID.Version() != 7 {
				t.Errorf("id %v was made, and is no UUIDv7", e.ID)
			}
		})
	}
}

func TestDecodeCleansStrings(t *testing.T) {
	long := strings.Repeat("x", 1023) + "äöü"
	dimension := strings.Repeat("x", 255) + "äöü"
	tests := []struct {
		name, field, value string
		want               string
		cut, replaced      int
	}{
		{"plain", "model", `é/1`, "é/1", 0, 0},
		{"escapes", "model", `a\n\"\u00e9`, "a\n\"é", 0, 0},
		{"a pair of surrogates", "model", `\ud83d\ude00`, "😀", 0, 0},
		{"half a pair", "model", `a\ud83db`, "a\uFFFDb", 0, 1},
		{"invalid UTF-8", "model", "a\xffb", "a\uFFFDb", 0, 1},
		{"NUL", "model", `a\u0000b`, "a\uFFFDb", 0, 1},
		{"too long, cut between runes", "user", long, long[:1023], 1, 0},
		{"longest", "user", long[:1023] + "y", long[:1023] + "y", 0, 0},
		{"too long and not UTF-8", "user", "\xff" + long, "\uFFFD" + long[:1021], 1, 1},
		{"too long to group by", "model", dimension, dimension[:255], 1, 0},
		{"longest to group by", "model", dimension[:255] + "y", dimension[:255] + "y", 0, 0},
		{"a project", "project", "acme/search/eu-1", "acme/search/eu-1", 0, 0},
		{"no path of a project", "project", "Acme//x", "", 0, 1},
		{"long error", "error", long, long, 0, 0},
		{"too long an error", "error", strings.Repeat(`\u00e9`, 5000), strings.Repeat("é", 4096), 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decoder().Decode([]byte(`{"`+tt.field+`":"`+tt.value+`"}`), jsonType)
			if err != nil || len(got.Entries) != 1 {
				t.Fatalf("decoded %+v, %v", got, err)
			}
			e := got.Entries[0]
			text := map[string]string{"model": e.Model, "user": e.User, "project": e.Project, "error": e.Error}[tt.field]
			if text != tt.want || got.Cut != tt.cut || got.Replaced != tt.replaced {
				t.Errorf("%.20q… (%d bytes), cut %d, replaced %d; want %.20q… (%d bytes), cut %d, replaced %d",
					text, len(text), got.Cut, got.Replaced, tt.want, len(tt.want), tt.cut, tt.replaced)
			}
		})
	}
}

func TestDecodeUnknownFieldsAreCounted(t *testing.T) {
	got, err := decoder().Decode([]byte(`[{"x":{"model":"no"},"y":[1,{}],"model":"m"},{"z":null}]`), jsonType)
	if err != nil {
		t.Fatal(err)
	}
	if got.Unknown != 3 || len(got.Entries) != 2 || got.Entries[0].Model != "m" {
		t.Errorf("decoded %+v, want 2 entries and 3 unknown fields", got)
	}
}

func TestDecodeDefaults(t *testing.T) {
	got, err := decoder().Decode([]byte(`{"namespace":"","priced_revision":7,"latency_ms":12.0}`), jsonType)
	if err != nil || len(got.Entries) != 1 {
		t.Fatalf("decoded %+v, %v", got, err)
	}
	e := got.Entries[0]
	if e.Namespace != "default" {
		t.Errorf("namespace %q, want default", e.Namespace)
	}
	if e.CostNanoUSD != nil || e.PricedRevision != 0 {
		t.Errorf("cost %v at revision %d, want none: nothing was priced", e.CostNanoUSD, e.PricedRevision)
	}
	if e.LatencyMS != 12 {
		t.Errorf("latency %d, want 12", e.LatencyMS)
	}
}

func TestDecodeTooMany(t *testing.T) {
	for _, tt := range []struct{ name, contentType, before, between, after string }{
		{"array", jsonType, "[", ",", "]"},
		{"objects", jsonType, "", " ", ""},
		{"lines", ndjson, "", "\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := func(n int) []byte {
				return []byte(tt.before + strings.TrimSuffix(strings.Repeat("{}"+tt.between, n), tt.between) + tt.after)
			}
			if got, err := decoder().Decode(body(logbuf.MaxEntries), tt.contentType); err != nil ||
				len(got.Entries) != logbuf.MaxEntries {
				t.Errorf("at the limit: %d entries, %v", len(got.Entries), err)
			}
			if tt.contentType == ndjson {
				if _, err := decoder().Decode(bytes.Repeat([]byte("x\n"), logbuf.MaxEntries+1), ndjson); !errors.Is(err,
					logbuf.ErrTooMany) {
					t.Errorf("broken lines above the limit: %v, want ErrTooMany", err)
				}
			}
			got, err := decoder().Decode(body(logbuf.MaxEntries+1), tt.contentType)
			if !errors.Is(err, logbuf.ErrTooMany) || errors.Is(err, logbuf.ErrMalformed) || len(got.Entries) != 0 {
				t.Errorf("above the limit: %d entries, %v; want ErrTooMany", len(got.Entries), err)
			}
		})
	}
}

func TestDecodeSharesNoMemory(t *testing.T) {
	d := decoder()
	body := []byte(`{"model":"abc","error":"def"}`)
	got, err := d.Decode(body, jsonType)
	if err != nil {
		t.Fatal(err)
	}
	clear(body)
	if _, err := d.Decode([]byte(`{"model":"xyz","error":"uvw"}`), jsonType); err != nil {
		t.Fatal(err)
	}
	if e := got.Entries[0]; e.Model != "abc" || e.Error != "def" {
		t.Errorf("the entry changed with the body: %+v", e)
	}
}

// A decoder that has seen much, and got its entries back, decodes as a new one does:
// in whatever order fields and values come.
func TestDecodeAfterOthers(t *testing.T) {
	used := decoder()
	for i := range 200 {
		body := "["
		for j := range 1 + i%7 {
			if j > 0 {
				body += ","
			}
			fields := []string{
				`"id":"` + id1.String() + `"`, ts, `"model":"m` + fmt.Sprint(i%3) + `"`, `"key_id":` + fmt.Sprint(j),
				`"cost_nano_usd":` + fmt.Sprint(i), `"group":"g"`, `"client_ip":"` + strings.Repeat("x", i) + `"`, `"unknown":1`,
			}
			n := (i*j + j) % len(fields)
			body += "{" + strings.Join(append(fields[n:len(fields):len(fields)], fields[:max(n-j%2, 0)]...), ",") + "}"
		}
		body += "]"
		want, err := decoder().Decode([]byte(body), jsonType)
		if err != nil {
			t.Fatal(err)
		}
		got, err := used.Decode([]byte(body), jsonType)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(logbuf.Entry{}, "ID")); diff != "" {
			t.Fatalf("%s (-new +used):\n%s", body, diff)
		}
		used.Recycle(got)
	}
}

func TestDecoderStats(t *testing.T) {
	d := decoder()
	for _, body := range []string{`[{"x":1},{"status":"a"},{"status":-1},{"model":"a\u0000"}]`, `[`, `{"status":"a"}`} {
		_, _ = d.Decode([]byte(body), jsonType) // the errors are what is counted
	}
	want := logbuf.DecoderStats{
		Bodies: 3, Malformed: 1, Entries: 2, Unknown: 1, Replaced: 1,
		Rejected: map[logbuf.Reason]int64{logbuf.BadType: 2, logbuf.BadValue: 1},
	}
	if diff := cmp.Diff(want, d.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

// The fast path and the slow one are the same, whatever comes in.
func FuzzDecodeFast(f *testing.F) {
	for _, fields := range []string{
		``, `"status":200`, `"status":007`, `"status":1.0`, `"status":-1`, `"status":1e2`, `"key_id":99999999999999999999`,
		`"model":"a\u00e9\n\u0000"`, `"model":"\ud83d\ude00"`, `"model":"\ud83d"`, `"model":"\x"`, `"model":"` + "\xff\x01" + `"`, `"model":"\u12g4"`,
		`"stream":true`, `"stream":tru`, `"x":null,"stream":false`, `"x":{},"y":[1]`, `"model":1,"model":"a"`, `"mod\u0065l":"a"`,
		`"id":"` + v7(now) + `"`, `"ts":"2026-03-01T11:59:59.5Z"`, `"model":"aaaaaaaa\\bbbbbbbb\"cccccccc",`, `"error":"` + strings.Repeat("é", 5000) + `"`,
	} {
		object := "{" + fields + "}"
		f.Add([]byte(object), false)
		f.Add([]byte(" [ "+object+" , "+object+" ] "), false)
		f.Add([]byte(object+"\n"+object+"\n{"), true)
	}
	f.Add([]byte("[{},]"), false)
	f.Add([]byte("[{}] 1"), false)
	d := decoder()
	f.Fuzz(func(t *testing.T, body []byte, lines bool) {
		contentType := jsonType
		if lines {
			contentType = ndjson
		}
		fast, fastErr := d.Decode(body, contentType)
		slow, slowErr := d.DecodeSlowly(body, contentType)
		if fmt.Sprint(fastErr) != fmt.Sprint(slowErr) {
			t.Fatalf("fast: %v; slow: %v", fastErr, slowErr)
		}
		// Ids that were not sent are made at random.
		opts := cmp.FilterValues(func(a, b uuid.UUID) bool {
			return a != uuid.Nil && a.Version() == 7 &&
				b.Version() == 7
		}, cmp.Ignore())
		if diff := cmp.Diff(slow, fast, opts, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-slow +fast):\n%s", diff)
		}
	})
}

// Whatever comes in, what is taken can be stored.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`[{"id":"`+v7(now)+`","status":200,"cost_nano_usd":5},{"x":[{}]}]`), false)
	f.Add([]byte("{\"model\":\"a\\u0000\"}\n{\"error\":\"\xff\"}\n{"), true)
	f.Add([]byte(`{"latency_ms":1e3,"ts":"2026-03-01T11:59:59.5Z"} {"stream":true}`), false)
	d := decoder()
	f.Fuzz(func(t *testing.T, body []byte, lines bool) {
		contentType := jsonType
		if lines {
			contentType = ndjson
		}
		before := bytes.Clone(body)
		got, err := d.Decode(body, contentType)
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			if !errors.Is(err, logbuf.ErrInvalid) || len(got.Entries)+len(got.Rejected) > 0 {
				t.Fatalf("decoded %+v with %v", got, err)
			}
			return
		}
		for i, r := range got.Rejected {
			if r.Message == "" || r.Reason == "" || i > 0 && r.Index <= got.Rejected[i-1].Index {
				t.Fatalf("rejected %+v", got.Rejected)
			}
		}
		for _, e := range got.Entries {
			age := now.Truncate(time.Microsecond).Sub(e.Time)
			if e.ID == uuid.Nil || e.Namespace == "" || age > 7*24*time.Hour || age < -time.Hour {
				t.Fatalf("taken: %+v", e)
			}
			for _, s := range []string{e.RequestID, e.Model, e.Error, e.UserAgent} {
				if !utf8.ValidString(s) || strings.Contains(s, "\x00") || len(s) > 8<<10 {
					t.Fatalf("taken: %q", s)
				}
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	entry := `{"id":"` + v7(now) + `","ts":"2026-03-01T11:59:59.5Z","request_id":"req_0123456789abcdef","balancer":"edge-1","key_id":42,` +
		`"provider_id":7,"namespace":"default","model":"gpt-4o","upstream_model":"gpt-4o-2024-08-06","group":"default",` +
		`"endpoint":"/v1/chat/completions","status":200,"attempts":1,"stream":true,"latency_ms":1234,"ttft_ms":321,"input_tokens":1200,` +
		`"cache_read_tokens":800,"output_tokens":345,"client_ip":"192.0.2.7","user_agent":"openai-python/1.40","revision":"1767225600-123"}`
	array := "[" + strings.TrimSuffix(strings.Repeat(entry+",", 100), ",") + "]"
	for _, tt := range []struct {
		name, contentType, body string
		decode                  func(*logbuf.Decoder, []byte, string) (logbuf.Decoded, error)
	}{
		{"single", jsonType, entry, (*logbuf.Decoder).Decode},
		{"array100", jsonType, array, (*logbuf.Decoder).Decode},
		{"slow100", jsonType, array, (*logbuf.Decoder).DecodeSlowly},
		{"lines100", ndjson, strings.Repeat(entry+"\n", 100), (*logbuf.Decoder).Decode},
	} {
		b.Run(tt.name, func(b *testing.B) {
			d := decoder()
			body := []byte(tt.body)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			n := 0
			for b.Loop() {
				got, err := tt.decode(d, body, tt.contentType)
				if err != nil || len(got.Rejected) > 0 {
					b.Fatal(got.Rejected, err)
				}
				n += len(got.Entries)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/entry")
		})
	}
}
