package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/logbuf"
)

// Objects do for every kind what the typed nouns do, in JSON.
func TestObjects(t *testing.T) {
	s := newService(t)
	c, ctx := s.client(t, admin), t.Context()
	for kind, text := range map[catalog.Kind]string{
		catalog.KindProvider: `{"name":"p","type":"openai","api_key":"sk-0123456789abcdef"}`,
		catalog.KindModel:    `{"name":"m"}`,
		catalog.KindKey:      `{"name":"k"}`,
	} {
		of := c.Objects(kind)
		if of.Kind() != kind {
			t.Errorf("the kind of %s is %s", kind, of.Kind())
		}
		made := must[client.Object](t)(of.Create(ctx, client.Object(text)))
		var seen struct {
			ID       int64            `json:"id"`
			Revision catalog.Revision `json:"revision"`
			Token    string           `json:"token"`
		}
		if err := json.Unmarshal(made, &seen); err != nil || seen.ID == 0 || (seen.Token != "") != (kind == catalog.KindKey) {
			t.Fatalf("made %s: %v", made, err)
		}
		must[client.Object](t)(of.Patch(ctx, seen.ID, []byte(`{"labels":{"a":"b"}}`), client.IfMatch(seen.Revision)))
		_, err := of.Patch(ctx, seen.ID, []byte(`{"labels":null}`), client.IfMatch(seen.Revision))
		if !errors.Is(err, catalog.ErrConflict) {
			t.Errorf("a patch of what has moved: %v", err)
		}
		n := 0
		for object, err := range of.All(ctx, client.Query{Labels: map[string]string{"a": "b"}}) {
			if err != nil || !json.Valid(object) {
				t.Fatal(object, err)
			}
			n++
		}
		if n != 1 {
			t.Errorf("%d %s have the label", n, kind)
		}
		if kind == catalog.KindKey {
			rotated := must[client.Object](t)(of.Rotate(ctx, seen.ID, time.Minute))
			var again struct{ Token string }
			if err := json.Unmarshal(rotated, &again); err != nil || again.Token == "" || again.Token == seen.Token {
				t.Errorf("the new token: %v", err)
			}
		}
		if err := of.Delete(ctx, seen.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := of.Get(ctx, seen.ID); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("after Delete: %v", err)
		}
	}
}

func logged(t *testing.T, s *service, entries ...logbuf.Entry) {
	t.Helper()
	if err := s.plane.Logs().Append(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	if err := s.plane.Logs().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func entry(model string, at time.Time, tags map[string]string) logbuf.Entry {
	cost := int64(5)
	return logbuf.Entry{ID: uuid.Must(uuid.NewV7()), Time: at, Namespace: "default", Model: model, KeyID: 7, Status: 200,
		InputTokens: 3, CostNanoUSD: &cost, Tags: tags}
}

func TestLogs(t *testing.T) {
	s := newService(t)
	c, ctx := s.client(t, admin), t.Context()
	now := time.Now().Truncate(time.Second)
	for i := range 5 {
		logged(t, s, entry("m", now.Add(-time.Duration(i)*time.Minute), map[string]string{"team": "a b"}))
	}
	logged(t, s, entry("n", now, nil))
	q := logbuf.LogQuery{Model: "m", KeyID: 7, Tags: map[string]string{"team": "a b"}, Status: 200, Limit: 2,
		Since: now.Add(-3 * time.Minute)}
	var got []logbuf.Entry
	for e, err := range c.AllLogs(ctx, q) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if len(got) != 4 || !got[0].Time.Equal(now) || got[0].CostNanoUSD == nil || *got[0].CostNanoUSD != 5 {
		t.Errorf("logs %+v", got)
	}
	if page := must[client.Page[logbuf.Entry]](t)(c.Logs(ctx, logbuf.LogQuery{Errors: true})); len(page.Data) != 0 {
		t.Errorf("failed requests: %+v", page.Data)
	}
	usage := must[client.UsagePage](t)(c.Usage(ctx, client.UsageQuery{
		GroupBy: []logbuf.Dimension{logbuf.ByModel, logbuf.ByKey}, Since: "24h", Interval: logbuf.Month, TZ: "Europe/Berlin",
	}))
	requests := map[string]int64{}
	for _, u := range usage.Data {
		if u.Model == nil || u.KeyID == nil || *u.KeyID != 7 || u.Project != nil || u.Start.IsZero() {
			t.Fatalf("usage %+v", u)
		}
		requests[*u.Model] += u.Requests
	}
	if requests["m"] != 5 || requests["n"] != 1 || usage.TZ != "Europe/Berlin" || !usage.Since.Before(usage.Until) {
		t.Errorf("usage %v of %+v", requests, usage)
	}
	if _, err := c.Usage(ctx, client.UsageQuery{TZ: "Nowhere"}); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("an unknown time zone: %v", err)
	}
}

// Following shows each entry once, also one that is stored after a later one.
func TestFollowLogs(t *testing.T) {
	s := newService(t)
	c := s.client(t, admin)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	logged(t, s, entry("before", time.Now().Add(-time.Second), nil))
	var first time.Time
	id := uuid.Must(uuid.NewV7()) // of each: they differ in their times
	feed := []string{"first", "late", "last"}
	next := func() {
		if len(feed) == 0 {
			return
		}
		model, at := feed[0], time.Now()
		switch feed = feed[1:]; model {
		case "first":
			first = at
		case "late": // its time is before that of the first, and after the beginning
			at = first.Add(-time.Millisecond)
		}
		e := entry(model, at, nil)
		e.ID = id
		logged(t, s, e)
	}
	time.AfterFunc(300*time.Millisecond, next) // by then it follows
	var got []string
	for e, err := range c.FollowLogs(ctx, logbuf.LogQuery{}) {
		if err != nil {
			t.Fatal(err, got)
		}
		if got = append(got, e.Model); len(got) == 3 {
			break
		}
		next()
	}
	if len(got) != 3 || got[0] != "first" || got[1] != "late" || got[2] != "last" {
		t.Errorf("followed %v", got)
	}
}

func TestStatus(t *testing.T) {
	s := newService(t)
	c, ctx := s.client(t, admin), t.Context()
	must[catalog.Key](t)(c.Keys.Create(ctx, catalog.Key{Name: "k"}))
	head := must[client.SyncStatus](t)(c.SyncStatus(ctx))
	if head.Revision != 1 || head.Lag != 1 || head.Published != nil {
		t.Errorf("before the publish: %+v", head)
	}
	if _, err := s.plane.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if head = must[client.SyncStatus](t)(c.SyncStatus(ctx)); head.Published == nil || head.Lag != 0 ||
		head.Published.Position.Revision != head.Revision || head.Published.Counts["keys"] != 1 {
		t.Errorf("after the publish: %+v", head)
	}
	if r := must[client.Readiness](t)(c.Ready(ctx)); r.Status != "ok" || r.Checks["catalog"].Status != "ok" {
		t.Errorf("readiness %+v", r)
	}
	unready := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":"unavailable","checks":{"catalog":{"status":"failed","note":"n"}}}`))
	}
	s.between.Store(&unready)
	if r := must[client.Readiness](t)(c.Ready(ctx)); r.Status != "unavailable" || r.Checks["catalog"].Note != "n" {
		t.Errorf("readiness of a server that can do nothing: %+v", r)
	}
	away := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	s.between.Store(&away)
	if _, err := c.Ready(ctx); err == nil {
		t.Error("a proxy's 503 is taken for an answer")
	}
}
