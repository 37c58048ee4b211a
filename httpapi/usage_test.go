package httpapi_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

// usageService has a few entries of the last days.
func usageService(t *testing.T, entries ...logbuf.Entry) *service {
	t.Helper()
	sink := memstore.NewSink(nil)
	if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: entries}); err != nil {
		t.Fatal(err)
	}
	return newService(t, ezapi.Config{LogSink: sink}, nil)
}

func requestsOf(t *testing.T, s *service, query string) (sum float64, rows []any) {
	t.Helper()
	rows = s.must(http.StatusOK, viewer, "GET", "/usage?"+query, nil).object(t)["data"].([]any)
	for _, row := range rows {
		sum += row.(object)["requests"].(float64)
	}
	return sum, rows
}

// A local day is that day, and an entry is in one day only: the one that it happened on.
func TestUsageOfLocalDays(t *testing.T) {
	day := time.Now().UTC().AddDate(0, 0, -3).Truncate(24 * time.Hour)
	s := usageService(t, logbuf.Entry{ID: uuid.New(), Time: day.Add(20 * time.Hour), Namespace: "default",
		KeyID: 7, Status: 200})
	first, second := day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly)
	third := day.AddDate(0, 0, 2).Format(time.DateOnly)
	at := func(date string) string { return url.QueryEscape(date + "T00:00:00+05:30") }
	for _, c := range []struct {
		since, until string
		want         float64
	}{{at(first), at(second), 0}, {at(second), at(third), 1}} {
		if got, _ := requestsOf(t, s, "tz=Asia/Kolkata&interval=day&since="+c.since+"&until="+c.until); got != c.want {
			t.Errorf("the day from %s counts %v; want %v", c.since, got, c.want)
		}
	}
	answer := s.must(http.StatusOK, viewer, "GET", "/usage?tz=Asia/Kolkata&interval=day&since=7d", nil).object(t)
	rows := answer["data"].([]any)
	if len(rows) != 1 || rows[0].(object)["start"] != day.Add(18*time.Hour+30*time.Minute).Format(time.RFC3339) {
		t.Errorf("usage of seven days: %v; want the local day of the entry", rows)
	}
	if answer["tz"] != "Asia/Kolkata" {
		t.Errorf("the zone is %v", answer["tz"])
	}
}

// Spans end with the present quarter of an hour, and the answer says which time they are.
func TestUsageSpans(t *testing.T) {
	s := usageService(t)
	for _, c := range []struct {
		query string
		span  time.Duration
	}{{"", 24 * time.Hour}, {"since=24h", 24 * time.Hour}, {"since=90m", 90 * time.Minute},
		{"since=2w&until=7d", 7 * 24 * time.Hour}} {
		before := time.Now().Truncate(logbuf.Quarter)
		answer := s.must(http.StatusOK, viewer, "GET", strings.TrimSuffix("/usage?"+c.query, "?"), nil).object(t)
		since, err := time.Parse(time.RFC3339, answer["since"].(string))
		if err != nil {
			t.Fatal(err)
		}
		until, err := time.Parse(time.RFC3339, answer["until"].(string))
		if err != nil {
			t.Fatal(err)
		}
		if until.Sub(since) != c.span {
			t.Errorf("%q is from %s to %s; want %s", c.query, since, until, c.span)
		}
		if after := time.Now(); c.span == 24*time.Hour && (until.Before(before) || until.After(after.Add(logbuf.Quarter))) {
			t.Errorf("%q ends at %s; want the end of the present quarter", c.query, until)
		}
	}
}

// A quarter of an hour that ends between two pages moves no bound: nothing is counted twice, nothing
// is left out.
func TestPagesOfASpan(t *testing.T) {
	now := time.Date(2026, 3, 14, 4, 14, 56, 0, time.UTC)
	clock := func() time.Time { return now }
	sink := memstore.NewSink(&memstore.SinkOptions{Clock: clock})
	var entries []logbuf.Entry
	for n := range 6 { // of each of three keys one entry before 03:30, and one after
		entries = append(entries, logbuf.Entry{ID: uuid.New(), KeyID: int64(1 + n%3), Status: 200,
			Time: now.Truncate(time.Hour).Add(time.Duration(n/3)*30*time.Minute - 40*time.Minute)})
	}
	if _, err := sink.Write(t.Context(), logbuf.Batch{Entries: entries}); err != nil {
		t.Fatal(err)
	}
	s := newService(t, ezapi.Config{LogSink: sink, Clock: clock}, nil)
	query := "/usage?since=1h&group_by=key&interval=hour&limit=2"
	var sum float64
	for cursor := ""; ; now = now.Add(time.Minute) {
		answer := s.must(http.StatusOK, viewer, "GET", query+cursor, nil).object(t)
		for _, row := range answer["data"].([]any) {
			sum += row.(object)["requests"].(float64)
		}
		next, more := answer["next_cursor"].(string)
		if !more {
			break
		}
		cursor = "&cursor=" + next
	}
	if sum != 6 {
		t.Errorf("the pages count %v requests; want 6", sum)
	}
}

// Bounds off a quarter of an hour, and other things that cannot be answered, are refused with the
// field and the remedy.
func TestUsageRefuses(t *testing.T) {
	s := usageService(t)
	for _, c := range []struct{ query, field, message string }{
		{"since=2026-03-14T00:07:00Z", "since", "2026-03-14T00:00:00Z and 2026-03-14T00:15:00Z"},
		{"since=2026-03-14T00:00:00Z&until=2026-03-14T10:59:59Z", "until", "2026-03-14T10:45:00Z and 2026-03-14T11:00:00Z"},
		{"since=yesterday", "since", "24h"}, {"since=10m", "since", "24h"}, {"since=-24h", "since", "24h"},
		{"since=99999999999999999999w", "since", "24h"}, {"since=4000000000w", "since", "24h"}, {"until=d", "until", "24h"},
		{"since=1969-12-31T00:00:00Z", "since", "1970"}, {"tz=Mars/Olympus", "tz", "IANA"}, {"tz=Local", "tz", "IANA"},
		{"tz=right/UTC", "tz", "IANA"}, {"tz=posixrules", "tz", "IANA"},
		{"since=1h&until=2h", "since", "before until"}, {"cursor=abc", "cursor", "next_cursor"},
		{"interval=month&group_by=model&cursor=" + base64.RawURLEncoding.EncodeToString(
			[]byte(`{"s":0,"u":31536000000,"t":0,"m":"\u0000"}`)), "cursor", "next_cursor"},
		{"until=1970-01-01T00:00:00Z", "until", "after the beginning of 1970"},
		{"since=9999-12-31T00:00:00Z", "since", "before the end of 9999"},
	} {
		problem := s.do(viewer, "GET", "/usage?"+c.query, nil).problem(t, http.StatusUnprocessableEntity, "invalid")
		text := fmt.Sprint(problem)
		if !strings.Contains(text, c.field) || !strings.Contains(text, c.message) {
			t.Errorf("%q: %s; want the field %s and %q", c.query, text, c.field, c.message)
		}
	}
	for _, c := range []struct{ query, field string }{
		{"since=0001-01-02T00:00:00Z&key_id=1", "since"}, {"tag=env", "tag"}, {"tag=a=1&tag=a=2", "tag"},
	} {
		problem := s.do(viewer, "GET", "/logs?"+c.query, nil).problem(t, http.StatusUnprocessableEntity, "invalid")
		if text := fmt.Sprint(problem); !strings.Contains(text, c.field) {
			t.Errorf("logs by %q: %s; want the field %s", c.query, text, c.field)
		}
	}
}

// Every filter of logs and usage gets where it belongs.
func TestLogAndUsageFilters(t *testing.T) {
	now := time.Now().UTC()
	wanted := logbuf.Entry{
		ID: uuid.New(), Time: now.Add(-time.Hour), KeyID: 7, Project: "acme/search", ProviderID: 3,
		Namespace: "team", Model: "m",
		UpstreamModel: "up", Group: "vip", Balancer: "lb", User: "u", Tags: map[string]string{"env": "a=b"},
		Status: 502, RequestID: "r",
	}
	other := logbuf.Entry{ID: uuid.New(), Time: now.Add(-time.Hour), Namespace: "default", Status: 200}
	s := usageService(t, wanted, other)
	for _, query := range []string{
		"key_id=7", "project=acme", "project=acme/search", "provider_id=3", "namespace=team", "model=m", "group=vip",
	} {
		if got, _ := requestsOf(t, s, query); got != 1 {
			t.Errorf("usage by %s counts %v; want 1", query, got)
		}
	}
	for _, query := range []string{
		"key_id=7", "project=acme", "provider_id=3", "namespace=team", "model=m", "upstream_model=up", "group=vip",
		"balancer=lb",
		"user=u", "tag=env=a=b", "status=502", "errors=true", "request_id=r",
	} {
		page := s.must(http.StatusOK, viewer, "GET", "/logs?"+query, nil).object(t)["data"].([]any)
		if len(page) != 1 || page[0].(object)["id"] != wanted.ID.String() {
			t.Errorf("logs by %s: %v; want the one entry", query, page)
		}
	}
	var pages int
	for cursor := ""; ; pages++ {
		query := "/usage?group_by=key,project&limit=1"
		if cursor != "" {
			query += "&cursor=" + cursor
		}
		answer := s.must(http.StatusOK, viewer, "GET", query, nil).object(t)
		if len(answer["data"].([]any)) != 1 {
			t.Fatalf("page %d: %v", pages, answer)
		}
		next, more := answer["next_cursor"].(string)
		if !more {
			break
		}
		cursor = next
	}
	if pages != 1 {
		t.Errorf("%d more pages; want one", pages)
	}
}
