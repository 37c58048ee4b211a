package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
)

// A token is in the answers that make it, and in no other.
func TestTokenIsShownOnce(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	created := s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "alice"}).object(t)
	token, _ := created["token"].(string)
	if !catalog.IsToken(token) || !strings.HasSuffix(token, created["token_hint"].(string)) {
		t.Fatalf("created %v", created)
	}
	path := "/keys/" + number(created["id"])
	rotated := s.must(http.StatusOK, admin, "POST", path+"/rotate", object{"grace_seconds": 60}).object(t)
	second, _ := rotated["token"].(string)
	if !catalog.IsToken(second) || second == token || rotated["rotated_at"] == nil {
		t.Fatalf("rotated %v", rotated)
	}
	for name, tok := range map[string]string{"in its grace": token, "current": second} {
		if _, err := s.plane.Keys.Authenticate(t.Context(), catalog.NewSecret(tok)); err != nil {
			t.Errorf("the token %s: %v", name, err)
		}
	}
	third := s.must(http.StatusOK, admin, "POST", path+"/rotate", nil).object(t)["token"].(string)
	for name, tok := range map[string]string{"first": token, "second": second} {
		if _, err := s.plane.Keys.Authenticate(t.Context(), catalog.NewSecret(tok)); err == nil {
			t.Errorf("the %s token still works", name)
		}
	}
	for _, path := range []string{path, "/keys", "/changes"} {
		body := s.must(http.StatusOK, admin, "GET", path, nil).body
		for _, tok := range []string{token, second, third} {
			if strings.Contains(body, tok) || strings.Contains(body, catalog.HashToken(tok)) {
				t.Errorf("GET %s holds a token or its hash", path)
			}
		}
	}
	patched := s.must(http.StatusOK, admin, "PATCH", path, object{"name": "bob"}).object(t)
	if _, shown := patched["token"]; shown {
		t.Error("PATCH shows a token")
	}
}

func TestImportTokens(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	const token = "my-own-token-0123456789"
	shows(t, s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "a", "token": token}).object(t),
		object{"token": token})
	got := s.must(http.StatusCreated, admin, "POST", "/keys",
		object{"name": "b", "token_hashes": []string{catalog.HashToken("another")}}).object(t)
	if got["token"] != nil {
		t.Errorf("the token of a hash is %q", got["token"])
	}
	s.do(admin, "POST", "/keys", object{"name": "c", "token": token}).problem(t, http.StatusConflict, "exists")
	s.do(admin, "POST", "/keys", object{"name": "c", "token": "short"}).problem(t,
		http.StatusUnprocessableEntity, "invalid")
	s.do(admin, "PATCH", "/keys/1", object{"token": token}).problem(t, http.StatusUnprocessableEntity, "invalid")
}

// A key shows what it has used, which is nobody's to write and no reason for
// another ETag.
func TestKeysShowTheirUsage(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	created := s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "alice", "budgets": []any{
		object{"limit": 5, "window": "day"}, object{"limit": 9, "window": "total", "timezone": "Asia/Shanghai"},
	}}).object(t)
	path := "/keys/" + number(created["id"])
	before := s.must(http.StatusOK, viewer, "GET", path, nil)
	spends := func(day, total string) []any {
		return []any{
			object{"window": "day", "timezone": "UTC", "spent": day, "unpriced_requests": 0.0},
			object{"window": "total", "timezone": "Asia/Shanghai", "spent": total, "unpriced_requests": 0.0},
		}
	}
	shows(t, before.object(t), object{"spend": spends("0", "0"), "last_used_at": nil})

	now := time.Now().UTC()
	for _, e := range []object{
		{"key_id": created["id"], "ts": now, "cost_nano_usd": 1_500_000_000},
		{"key_id": created["id"], "ts": now.AddDate(0, 0, -1), "cost_nano_usd": 40_000_000_000},
		{"key_id": 999, "ts": now, "cost_nano_usd": 7},
	} {
		s.must(http.StatusAccepted, balancer, "POST", "/logs", e)
	}
	if err := s.plane.Logs().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := s.must(http.StatusOK, viewer, "GET", path, nil)
	shows(t, after.object(t), object{"spend": spends("1.5", "41.5"),
		"last_used_at": now.Truncate(time.Minute).Format(time.RFC3339)})
	if a, b := before.Header.Get("ETag"), after.Header.Get("ETag"); a != b {
		t.Errorf("using a key changes its ETag from %s to %s", a, b)
	}
	all := s.must(http.StatusOK, viewer, "GET", "/keys", nil).object(t)["data"].([]any)
	shows(t, all[0].(object), object{"spend": spends("1.5", "41.5")})

	// What clocks that run ahead have logged for the next window is not of this one.
	hourly := s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "bob", "budgets": []any{
		object{"limit": 5, "window": "hour"}, object{"limit": 9, "window": "total"},
	}}).object(t)
	next := time.Now().UTC().Truncate(time.Hour).Add(time.Hour)
	for ts, cost := range map[time.Time]int{next: 2_000_000_000, next.Add(-time.Hour): 1_000_000_000} {
		s.must(http.StatusAccepted, balancer, "POST", "/logs",
			object{"key_id": hourly["id"], "ts": ts, "cost_nano_usd": cost})
	}
	if err := s.plane.Logs().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	spend := s.must(http.StatusOK, viewer, "GET", "/keys/"+number(hourly["id"]), nil).object(t)["spend"].([]any)
	if hour, total := spend[0].(object)["spent"], spend[1].(object)["spent"]; hour != "1" || total != "3" {
		t.Errorf("this hour %v, in total %v; want 1 and 3", hour, total)
	}

	// A request that comes late does not take back when a key was used.
	used := s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "carol"}).object(t)
	later := now.Add(9 * time.Minute)
	for _, ts := range []time.Time{later, now.Add(5 * time.Minute)} {
		s.must(http.StatusAccepted, balancer, "POST", "/logs", object{"key_id": used["id"], "ts": ts})
		if err := s.plane.Logs().Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	shows(t, s.must(http.StatusOK, viewer, "GET", "/keys/"+number(used["id"]), nil).object(t),
		object{"last_used_at": later.Truncate(time.Minute).Format(time.RFC3339)})

	// What was read can be sent again.
	patched := s.must(http.StatusOK, admin, "PATCH", path, after.body, "If-Match", after.Header.Get("ETag"))
	if a, b := after.Header.Get("ETag"), patched.Header.Get("ETag"); a != b {
		t.Errorf("sending a key as it is changes its ETag from %s to %s", a, b)
	}
}
