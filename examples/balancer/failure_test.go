package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// send is post for any method and path; it returns the headers, too.
func (b *bench) send(t *testing.T, method, path, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// What failed before the answer is in the log, by class, with what the upstream asked to wait.
func TestFailuresAreReported(t *testing.T) {
	limited := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(429)
	}
	for name, tc := range map[string]struct {
		first, spare http.HandlerFunc
		want         []logbuf.Failure
	}{
		"success":        {first: reply("first")},
		"client's fault": {first: answerWith(400)},
		"rate": {first: limited, want: []logbuf.Failure{{ProviderID: 1, Status: 429, Class: "rate",
			RetryAfterMS: 7000}}},
		"server":   {first: answerWith(500), want: []logbuf.Failure{{ProviderID: 1, Status: 500, Class: "server"}}},
		"overload": {first: answerWith(503), want: []logbuf.Failure{{ProviderID: 1, Status: 503, Class: "overload"}}},
		"auth":     {first: answerWith(401), want: []logbuf.Failure{{ProviderID: 1, Status: 401, Class: "auth"}}},
		"network":  {first: dropConnection, want: []logbuf.Failure{{ProviderID: 1, Class: "network"}}},
		"redirect": {first: answerWith(302), want: []logbuf.Failure{{ProviderID: 1, Status: 302, Class: "server"}}},
		"both, passed on": {first: answerWith(500), spare: answerWith(429),
			want: []logbuf.Failure{{ProviderID: 1, Status: 500, Class: "server"}, {ProviderID: 2, Status: 429, Class: "rate"}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.first = tc.first
			if tc.spare != nil {
				b.spare = tc.spare
			}
			b.post(t, b.token, chatBody)
			for i := range tc.want {
				tc.want[i].UpstreamModel = "real-name"
			}
			got := b.logs.only(t).Failures
			for i := range got {
				if got[i].LatencyMS == 0 {
					t.Error("no latency")
				}
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty(),
				cmpopts.IgnoreFields(logbuf.Failure{}, "LatencyMS")); diff != "" {
				t.Errorf("failures (-want +got):\n%s", diff)
			}
		})
	}
}

// What the last upstream says of its failure is not for the client: it may name the account that the
// gateway has there. The status is, and how long to wait.
func TestLastFailureIsToldInOwnWords(t *testing.T) {
	b := newBench(t)
	b.first = answerWith(503)
	b.spare = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "99999999999")
		w.WriteHeader(429)
		fmt.Fprint(w, `{"error":{"message":"limit of org-SECRET reached"}}`)
	}
	resp, text := b.send(t, "POST", endpoint, chatBody)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "86400" || strings.Contains(text, "SECRET") ||
		!strings.Contains(text, `"type":"rate_limit_error"`) {
		t.Errorf("%d, Retry-After %q, %s", resp.StatusCode, resp.Header.Get("Retry-After"), text)
	}
}

// A redirect, or another status that is no error, is none of the client's business: it is told that no upstream
// could serve it.
func TestRedirectIsNotPassedOn(t *testing.T) {
	for _, status := range []int{301, 302, 307, 304} {
		b := newBench(t)
		b.first, b.spare = answerWith(503), answerWith(status)
		if resp, text := b.send(t, "POST", endpoint, chatBody); resp.StatusCode != http.StatusBadGateway {
			t.Errorf("an upstream answers %d, the gateway %d: %s", status, resp.StatusCode, text)
		}
	}
}

// A usage that no entry may have is brought into its bounds, so that the entry can be logged.
func TestUsageIsBounded(t *testing.T) {
	for text, want := range map[string][3]int64{
		`{"prompt_tokens":-5,"completion_tokens":-1}`:                                   {},
		`{"prompt_tokens":-5,"prompt_tokens_details":{"cached_tokens":3}}`:              {},
		`{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":-3}}`:              {5, 0, 0},
		`{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":9}}`:               {0, 5, 0},
		`{"prompt_tokens":9223372036854775807,"completion_tokens":9223372036854775807}`: {logbuf.MaxTokens, 0, logbuf.MaxTokens},
	} {
		u, _, err := parseUsage([]byte(`{"usage":` + text + `}`))
		if err != nil {
			t.Fatal(err)
		}
		x := &exchange{}
		x.note(u)
		if got := [3]int64{x.entry.InputTokens, x.entry.CacheReadTokens, x.entry.OutputTokens}; got != want {
			t.Errorf("%s is logged as %v, want %v", text, got, want)
		}
	}
}

// An upstream that failed comes last for a while, and is not left out when the others fail, too.
func TestBreakerOrdersTargets(t *testing.T) {
	b := newBench(t)
	b.first = answerWith(500)
	if _, text := b.post(t, b.token, chatBody); !strings.Contains(text, `"spare"`) {
		t.Fatal(text)
	}
	asked := false
	b.first = func(w http.ResponseWriter, r *http.Request) { asked = true; reply("first")(w, r) }
	if _, text := b.post(t, b.token, chatBody); !strings.Contains(text, `"spare"`) || asked {
		t.Errorf("the one that failed is asked first: %s", text)
	}
	b.spare = answerWith(500)
	if status, text := b.post(t, b.token, chatBody); status != 200 || !strings.Contains(text, `"first"`) {
		t.Errorf("the one that failed is left out: %d %s", status, text)
	}
}

// A held key gets 429, and is told when to come again.
func TestHeldKeyIsToldWhen(t *testing.T) {
	b := newBench(t)
	if _, err := b.plane.Holds.Create(t.Context(),
		catalog.Hold{Target: fmt.Sprint("key/", b.keyID(t)), Until: time.Now().Add(90 * time.Second),
			Message: "pay first"}); err != nil {
		t.Fatal(err)
	}
	b.publish(t)
	for _, try := range []struct{ method, path string }{{"POST", endpoint}, {"GET", "/v1/models"}} {
		resp, text := b.send(t, try.method, try.path, chatBody)
		if after := resp.Header.Get("Retry-After"); resp.StatusCode != 429 || len(after) != 2 ||
			!strings.Contains(text, "pay first") {
			t.Errorf("%s: %d, Retry-After %q, %s", try.path, resp.StatusCode, after, text)
		}
	}
}

// Other endpoints are forwarded as they are, what is not known included, and models are listed.
func TestEndpoints(t *testing.T) {
	b := newBench(t)
	for _, path := range []string{"/v1/completions", "/v1/embeddings"} {
		_, text := b.send(t, "POST", path, `{"model":"public-name","input":["a"],"new_field":{"x":1}}`)
		var got map[string]any
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(text)
		}
		want := map[string]any{"model": "real-name", "input": []any{"a"}, "new_field": map[string]any{"x": 1.0}}
		if diff := cmp.Diff(want, got["asked"]); diff != "" || got["path"] != path {
			t.Errorf("%s was asked at %v (-want +got):\n%s", path, got["path"], diff)
		}
	}
	resp, text := b.send(t, "GET", "/v1/models", "")
	if resp.StatusCode != 200 || !strings.Contains(text, `"id":"public-name"`) || !strings.Contains(text, `"object":"list"`) {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	b.token = "ez-nobody"
	if resp, _ := b.send(t, "GET", "/v1/models", ""); resp.StatusCode != 401 {
		t.Errorf("models for nobody: %d", resp.StatusCode)
	}
}

func TestRetryAfterIsRead(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "30": 30 * time.Second, "-1": 0, "1.5": 0, "soon": 0, "999999999": 24 * time.Hour,
		"99999999999": 24 * time.Hour, "99999999999999999999": 24 * time.Hour,
		"Thu, 01 Jan 2026 12:01:00 GMT": time.Minute, "Thu, 01 Jan 2026 11:00:00 GMT": 0,
		"Sat, 01 Jan 2028 12:00:00 GMT": 24 * time.Hour,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}
