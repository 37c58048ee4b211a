package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// Costs are computed anew over HTTP, with the filters of the logs; what is wrong names its field.
func TestReprice(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	since := time.Now().Add(-time.Hour).Truncate(logbuf.Quarter)
	for _, model := range []string{"a", "b"} {
		s.must(http.StatusAccepted, balancer, "POST", "/logs", object{"model": model, "input_tokens": 1_000_000,
			"tags": object{"team": model}})
	}
	if err := s.plane.Logs().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, model := range []string{"a", "b"} {
		s.must(http.StatusCreated, admin, "POST", "/models", object{"name": model, "input_price": "2.5"})
	}
	run := func(body object) object {
		t.Helper()
		body["since"] = since
		return s.must(http.StatusOK, admin, "POST", "/logs/reprice", body).object(t)
	}
	want := func(got object, changed float64, after string, revision bool) {
		t.Helper()
		if _, has := got["revision"]; got["changed"] != changed || got["cost_before"] != "0" ||
			got["cost_after"] != after || has != revision {
			t.Errorf("answer %v; want %v changed, costing %s", got, changed, after)
		}
	}
	want(run(object{"dry_run": true}), 2, "5", false)
	want(run(object{"tags": object{"team": "a"}}), 1, "2.5", true)
	want(run(object{"prices": "now", "only": "all"}), 1, "2.5", true)
	want(run(object{}), 0, "0", false)
	changes := s.must(http.StatusOK, viewer, "GET", "/changes?after=2", nil).object(t)["data"].([]any)
	if len(changes) != 2 || changes[0].(object)["action"] != "reprice" {
		t.Errorf("changes %v", changes)
	}
	usage := s.must(http.StatusOK, viewer, "GET", "/usage", nil).object(t)["data"].([]any)
	if row := usage[len(usage)-1].(object); row["cost_nano_usd"] != 5e9 || row["unpriced_requests"] != 0.0 {
		t.Errorf("usage %v", usage)
	}

	s.must(http.StatusForbidden, viewer, "POST", "/logs/reprice", object{"since": since})
	plain := newService(t, ezapi.Config{LogSink: struct{ logbuf.Sink }{memstore.NewSink(nil)}}, nil)
	plain.must(http.StatusNotFound, admin, "POST", "/logs/reprice", object{"since": since})
}

// The body of a run is held to the rules of the queries of logs: what would select everything, or
// nothing, by mistake is refused before anything is done.
func TestRepriceBodies(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	const since = "2026-11-01T00:00:00Z"
	for _, tc := range []struct {
		field string
		body  any
	}{
		{"since", object{}},
		{"since", object{"since": nil}},
		{"since", object{"since": "yesterday"}},
		{"since", object{"since": ""}},
		{"only", object{"since": since, "only": "some"}},
		{"only", object{"since": since, "only": ""}},
		{"prices", object{"since": since, "prices": "tomorrow"}},
		{"own", object{"since": since, "own": true}},
		{"own", object{"since": since, "own": "yes"}},
		{"cursor", object{"since": since, "cursor": "x"}},
		{"until", object{"since": since, "until": "1969-01-01T00:00:00Z"}},
		{"filter", object{"since": since, "filter": 1}},
		{"model", object{"since": since, "model": ""}},
		{"model", object{"since": since, "model": 1}},
		{"model", object{"since": since, "model": strings.Repeat("é", 257)}},
		{"project", object{"since": since, "project": "a\x00b"}},
		{"key_id", object{"since": since, "key_id": 0}},
		{"key_id", object{"since": since, "key_id": -4}},
		{"key_id", `{"since":"` + since + `","key_id":4.5}`},
		{"key_id", `{"since":"` + since + `","key_id":1e30}`},
		{"provider_id", object{"since": since, "provider_id": 0}},
		{"status", object{"since": since, "status": 5}},
		{"status", object{"since": since, "status": "500"}},
		{"status", `{"since":"` + since + `","status":500,"status":500}`},
		{"tags", object{"since": since, "tags": object{"1": "", "2": "", "3": "", "4": "", "5": "", "6": "", "7": "",
			"8": "", "9": ""}}},
		{"tags", object{"since": since, "tags": object{"a": nil}}},
		{"tags", object{"since": since, "tags": object{"a\x00": "b"}}},
		{"tags", `{"since":"` + since + `","tags":{"a":"b","a":"b"}}`},
	} {
		p := s.do(admin, "POST", "/logs/reprice", tc.body).problem(t, http.StatusUnprocessableEntity, "invalid")
		if len(p.Errors) != 1 || p.Errors[0].Field != tc.field || strings.HasPrefix(p.Errors[0].Message, "is not of") {
			t.Errorf("%v: errors %+v; want one of %s", tc.body, p.Errors, tc.field)
		}
	}
	p := s.do(admin, "POST", "/logs/reprice", object{}).problem(t, http.StatusUnprocessableEntity, "invalid")
	if want := "is required, and must be a time"; !strings.HasPrefix(p.Errors[0].Message, want) {
		t.Errorf("without since: %q, want %q", p.Errors[0].Message, want)
	}
	for _, body := range []string{
		`{"since":"` + since + `","key_id":4.0,"status":5e2,"model":null,"tags":{"a":""},"dry_run":true}`,
	} {
		s.must(http.StatusOK, admin, "POST", "/logs/reprice", body)
	}
}
