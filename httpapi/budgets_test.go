package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/ez-api/ez-api"
)

// Budgets are shown with what was spent of them, in pages, and can be narrowed.
func TestBudgets(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	day := object{"limit": "2", "window": "day", "alert_at": []int{80}}
	s.must(http.StatusCreated, admin, "POST", "/projects", object{"name": "acme", "budgets": []object{day}})
	s.must(http.StatusCreated, admin, "POST", "/projects", object{"name": "zoo"})
	key := func(project string, limits ...string) string {
		body := object{"name": "k", "project": project}
		var all []object
		for i, limit := range limits {
			all = append(all, object{"limit": limit, "window": []string{"day", "total"}[i]})
		}
		body["budgets"] = all
		return fmt.Sprint(s.must(http.StatusCreated, admin, "POST", "/keys", body).object(t)["id"])
	}
	one, two := key("acme", "1", "10"), key("zoo", "5")
	key("zoo")
	for _, id := range []string{one, two} {
		s.must(http.StatusAccepted, admin, "POST", "/logs",
			fmt.Sprintf(`{"key_id":%s,"ts":"%s","cost_nano_usd":1600000000,"status":200}`, id,
				time.Now().UTC().Format(time.RFC3339)))
	}
	if err := s.plane.Logs().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	list := func(query string) (all []string, next string) {
		t.Helper()
		var page struct {
			Data []struct {
				Target, Window, Spent string
				Percent               int64
			}
			Next string `json:"next_cursor"`
		}
		if err := json.Unmarshal([]byte(s.must(http.StatusOK, viewer, "GET", "/budgets"+query, nil).body),
			&page); err != nil {
			t.Fatal(err)
		}
		for _, b := range page.Data {
			all = append(all, fmt.Sprintf("%s %s %s %d%%", b.Target, b.Window, b.Spent, b.Percent))
		}
		return all, page.Next
	}
	p, k1, k1all, k2 := "project/acme day 1.6 80%", "key/"+one+" day 1.6 160%", "key/"+one+" total 1.6 16%", "key/"+
		two+" day 1.6 32%"
	for query, want := range map[string][]string{
		"":                        {p, k1, k1all, k2},
		"?over=80":                {p, k1},
		"?over=81":                {k1},
		"?project=acme":           {p, k1, k1all},
		"?project=zoo":            {k2},
		"?project=none":           nil,
		"?key_id=" + two:          {k2},
		"?key_id=999":             nil,
		"?project=acme&over=1000": nil,
	} {
		if got, next := list(query); fmt.Sprint(got) != fmt.Sprint(want) || next != "" {
			t.Errorf("%s: %q, then %q; want %q", query, got, next, want)
		}
	}
	var all []string
	query := "?limit=1"
	for range 3 {
		got, next := list(query)
		all = append(all, got...)
		query = "?limit=1&cursor=" + next
		if next == "" {
			break
		}
	}
	if fmt.Sprint(all) != fmt.Sprint([]string{p, k1, k1all, k2}) {
		t.Errorf("in pages: %q", all)
	}
	for _, query := range []string{"?over=0", "?cursor=x", "?limit=0", "?key_id=-1", "?project="} {
		s.must(http.StatusUnprocessableEntity, viewer, "GET", "/budgets"+query, nil)
	}
}
