package httpapi_test

import (
	"net/http"
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

	for field, body := range map[string]object{
		"since":  {},
		"only":   {"since": since, "only": "some"},
		"prices": {"since": since, "prices": "tomorrow"},
		"own":    {"since": since, "own": true},
		"cursor": {"since": since, "cursor": "x"},
		"until":  {"since": since, "until": "1969-01-01T00:00:00Z"},
		"tag": {"since": since, "tags": object{"1": "", "2": "", "3": "", "4": "", "5": "", "6": "", "7": "",
			"8": "", "9": ""}},
		"filter": {"since": since, "filter": 1},
	} {
		p := s.must(http.StatusUnprocessableEntity, admin, "POST", "/logs/reprice", body).problem(t,
			http.StatusUnprocessableEntity, "invalid")
		if len(p.Errors) != 1 || p.Errors[0].Field != field {
			t.Errorf("errors %+v; want one of %s", p.Errors, field)
		}
	}
	s.must(http.StatusForbidden, viewer, "POST", "/logs/reprice", object{"since": since})
	plain := newService(t, ezapi.Config{LogSink: struct{ logbuf.Sink }{memstore.NewSink(nil)}}, nil)
	plain.must(http.StatusNotFound, admin, "POST", "/logs/reprice", object{"since": since})
}
