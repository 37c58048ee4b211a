package httpapi_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/ez-api/ez-api"
)

// The API goes by the clock of the plane: what a key has spent in its window, whether it has
// expired, and how far ahead a balancer's epoch is.
func TestTheAPIHasThePlanesClock(t *testing.T) {
	now := time.Date(2020, 5, 17, 12, 0, 0, 0, time.UTC)
	s := newService(t, ezapi.Config{Clock: func() time.Time { return now }}, nil)
	s.must(http.StatusCreated, admin, "POST", "/providers", object{"name": "p", "type": "openai", "api_key": "sk-1",
		"models": []string{"m"}})
	s.must(http.StatusCreated, admin, "POST", "/models", object{"name": "m", "input_price": "0.5"})
	s.must(http.StatusCreated, admin, "POST", "/bindings", object{"model": "m"})
	s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "k", "expires_at": "2021-01-01T00:00:00Z",
		"budgets": []object{{"window": "day", "limit": "5"}}})
	s.must(http.StatusAccepted, balancer, "POST", "/logs", object{"model": "m", "key_id": 4, "input_tokens": 1_000_000})
	if err := s.plane.Logs().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	spend, _ := s.must(http.StatusOK, viewer, "GET", "/keys/4", nil).object(t)["spend"].([]any)
	if len(spend) != 1 || spend[0].(object)["spent"] != "0.5" {
		t.Errorf("the key has spent %v today, want 0.5", spend)
	}
	if _, err := s.plane.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := s.must(http.StatusOK, viewer, "GET", "/explain?key_id=4&model=m", nil).object(t)
	if got["reachable"] != true {
		t.Errorf("a key that ends next year: %v", got)
	}
	s.do(balancer, "POST", "/sync/nodes", object{"id": "n", "position": "1700000000-1"}).problem(t,
		http.StatusUnprocessableEntity, "invalid") // years ahead of this clock, though not of others
}
