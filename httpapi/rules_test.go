package httpapi_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/ez-api/ez-api"
)

// Every parameter that is documented refuses what is not of its kind in a whole sentence: the rule,
// and by it what to send instead. None speaks in the words of a library, or repeats the value.
func TestRulesOfParameters(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	rule := regexp.MustCompile(`^(must|is required, and must) (be|have) [^"]+$`)
	foreign := regexp.MustCompile(`expected|invalid|2006|layout|xx-wrong`)
	asked := 0
	for path, item := range s.document()["paths"].(object) {
		for method, op := range item.(object) {
			params, _ := op.(object)["parameters"].([]any)
			for _, p := range params {
				name, schema := p.(object)["name"].(string), p.(object)["schema"].(object)
				wrong := wrongValue(schema)
				if p.(object)["in"] != "query" || wrong == "" {
					continue
				}
				asked++
				target := strings.ReplaceAll(path, "{id}", "1") + "?" + name + "=" + url.QueryEscape(wrong)
				if path == "/sync/deltas" && name != "after" {
					target += "&after=1-1" // which it asks for first
				}
				a := s.do(admin, strings.ToUpper(method), target, object{})
				found := false
				for _, e := range a.problem(t, http.StatusUnprocessableEntity, "invalid").Errors {
					if strings.HasPrefix(e.Field, name) {
						found = rule.MatchString(e.Message) && !foreign.MatchString(e.Message)
					}
				}
				if !found {
					t.Errorf("%s %s: %s", method, target, a.body)
				}
			}
		}
	}
	if asked < 40 {
		t.Errorf("%d parameters were asked", asked)
	}
}

// wrongValue returns a value that breaks a schema; "" where any does.
func wrongValue(schema object) string {
	if items, ok := schema["items"].(object); ok {
		return wrongValue(items)
	}
	_, enum := schema["enum"]
	_, pattern := schema["pattern"]
	switch most, bounded := schema["maxLength"].(float64); {
	case schema["type"] != "string" || enum || pattern || schema["format"] != nil:
		return "xx-wrong"
	case bounded:
		return strings.Repeat("é", int(most)+1)
	}
	return ""
}

// The message says the rule: the bounds of a number, the values of an enum, an example of a time.
func TestRulesSayWhatToSend(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	for _, tc := range []struct{ target, message string }{
		{"/changes?since=2026", "must be a time as in RFC 3339, such as 2030-01-31T12:00:00Z"},
		{"/keys?limit=0", "must be a whole number from 1 to 1000"},
		{"/logs?key_id=-1", "must be a whole number of at least 1"},
		{"/keys?status=on", "must be active or disabled"},
		{"/keys?count=maybe", "must be true or false"},
		{"/explain?model=m", "is required, and must be a whole number of at least 1"},
		{"/changes?after=x", "must be a revision, or the next_cursor of a page"},
		{"/usage?group_by=colour", "must be key, project, provider, namespace, model or group"},
	} {
		p := s.do(admin, "GET", tc.target, nil).problem(t, http.StatusUnprocessableEntity, "invalid")
		if len(p.Errors) != 1 || p.Errors[0].Message != tc.message {
			t.Errorf("%s: %+v, want %q", tc.target, p.Errors, tc.message)
		}
	}
}

// Whoever sends logs with a parameter that is not there hears of it.
func TestLogsTakeNoParameters(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	p := s.do(balancer, "POST", "/logs?foo=bar", object{"model": "m"}).problem(t, http.StatusUnprocessableEntity,
		"invalid")
	if len(p.Errors) != 1 || p.Errors[0].Field != "foo" {
		t.Errorf("errors %+v", p.Errors)
	}
}
