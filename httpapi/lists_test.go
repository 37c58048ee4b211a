package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
)

// names reads a whole list, page by page.
func (s *service) names(path, query string, limit int) (names []string) {
	s.t.Helper()
	for cursor := ""; ; {
		if cursor != "" {
			cursor = "&cursor=" + url.QueryEscape(cursor)
		}
		got := s.must(http.StatusOK, viewer, "GET", fmt.Sprintf("%s?limit=%d%s%s", path, limit, cursor, query),
			nil).object(s.t)
		data := got["data"].([]any)
		if len(data) > limit {
			s.t.Fatalf("a page of %d, want at most %d", len(data), limit)
		}
		for _, v := range data {
			name, _ := v.(object)["name"].(string)
			if name == "" {
				name, _ = v.(object)["route_group"].(string)
			}
			names = append(names, name)
		}
		next, more := got["next_cursor"].(string)
		if !more {
			return names
		}
		if len(data) < limit {
			s.t.Fatalf("a page of %d has a next one, want %d", len(data), limit)
		}
		cursor = next
	}
}

func TestPages(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	if got := s.must(http.StatusOK, viewer, "GET", "/keys", nil).body; got != "{\"data\":[]}\n" {
		t.Errorf("an empty list is %s", got)
	}
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprint("k", i))
		s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": want[i]})
	}
	for _, limit := range []int{1, 3, 5, 10, 11, 1000} {
		if diff := cmp.Diff(want, s.names("/keys", "", limit)); diff != "" {
			t.Errorf("in pages of %d (-want +got):\n%s", limit, diff)
		}
	}
}

func TestFilters(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	post := func(path string, body object) {
		t.Helper()
		s.must(http.StatusCreated, admin, "POST", path, body)
	}
	post("/providers", object{"name": "a", "type": "openai", "labels": object{"team": "x", "env": "p=1"}})
	post("/providers", object{"name": "b", "type": "openai", "group": "eu", "status": "disabled",
		"labels": object{"team": "x"}})
	post("/models", object{"name": "a"})
	post("/models", object{"name": "a/b", "namespace": "n"})
	post("/keys", object{"name": "a", "namespaces": []string{"default", "n"}})
	post("/keys", object{"name": "b", "group": "eu"})
	post("/bindings", object{"model": "a", "route_group": "us", "provider_group": "eu"})
	post("/bindings", object{"model": "a/b", "namespace": "n", "route_group": "eu"})
	for _, tc := range []struct {
		path, query string
		want        []string
	}{
		{"/providers", "&name=a", []string{"a"}},
		{"/providers", "&status=disabled", []string{"b"}},
		{"/providers", "&group=eu", []string{"b"}},
		{"/providers", "&label=team=x", []string{"a", "b"}},
		{"/providers", "&label=team=x&label=env=p%3D1", []string{"a"}},
		{"/providers", "&label=team=y", nil},
		{"/models", "&namespace=n", []string{"a/b"}},
		{"/models", "&name=a%2Fb", []string{"a/b"}},
		{"/keys", "&namespace=n", []string{"a"}},
		{"/keys", "&group=eu&status=active", []string{"b"}},
		{"/bindings", "&group=eu", []string{"us", "eu"}},
		{"/bindings", "&name=a", []string{"us"}},
		{"/bindings", "&namespace=n", []string{"eu"}},
	} {
		if got := s.names(tc.path, tc.query, 100); !slices.Equal(got, tc.want) {
			t.Errorf("%s %s: %q, want %q", tc.path, tc.query, got, tc.want)
		}
	}
}

// Under a prefix in another server everything works, links too.
func TestMounted(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	mux := http.NewServeMux()
	mux.Handle("/gateway/", http.StripPrefix("/gateway", s.api))
	server := httptest.NewServer(mux)
	defer server.Close()
	s.api = mux
	created := s.must(http.StatusCreated, admin, "POST", "/gateway/models", object{"name": "m"})
	base, err := url.Parse(server.URL + "/gateway/models")
	if err != nil {
		t.Fatal(err)
	}
	at, err := base.Parse(created.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	s.must(http.StatusOK, viewer, "GET", at.Path, nil)
	s.must(http.StatusOK, nobody, "GET", "/gateway/openapi.json", nil)
}

// Holds are selected by what they hold, and by why.
func TestHoldsByTargetAndReason(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	s.must(http.StatusCreated, admin, "POST", "/providers",
		object{"name": "p", "type": "openai", "models": []string{"m", "n"}})
	s.must(http.StatusCreated, admin, "POST", "/projects", object{"name": "a"})
	s.must(http.StatusCreated, admin, "POST", "/projects", object{"name": "a/b"})
	for _, target := range []string{"provider/1", "provider/1/m", "provider/1/n", "project/a", "project/a/b"} {
		s.must(http.StatusCreated, admin, "POST", "/holds", object{"target": target})
	}
	budget := catalog.Hold{Target: "project/a", Reason: catalog.HoldBudget}
	if _, err := s.plane.Holds.Create(t.Context(), budget); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"?target=provider/1":                 "provider/1 admin, provider/1/m admin, provider/1/n admin",
		"?target=provider/1/m":               "provider/1/m admin",
		"?target=provider/1/m&reason=budget": "",
		"?target=project/a":                  "project/a admin, project/a budget",
		"?target=project/a&reason=budget":    "project/a budget",
		"?reason=budget&count=true":          "project/a budget",
		"?target=key/9":                      "",
	} {
		var got []string
		list := s.must(http.StatusOK, viewer, "GET", "/holds"+query, nil).object(t)
		for _, v := range list["data"].([]any) {
			got = append(got, fmt.Sprint(v.(object)["target"], " ", v.(object)["reason"]))
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%s: %s; want %s", query, text, want)
		}
	}
	s.do(viewer, "GET", "/holds?target=model/1", nil).problem(t, http.StatusUnprocessableEntity, "invalid")
	s.do(viewer, "GET", "/keys?target=key/1", nil).problem(t, http.StatusUnprocessableEntity, "invalid")
}

// Resources may be large: a page ends at 4 MiB, and the next one goes on.
func TestPagesOfLargeResources(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	scopes := make([]string, 8000) // half a MiB
	for i := range scopes {
		scopes[i] = fmt.Sprintf("%060d", i)
	}
	const total = 20
	for i := range total {
		s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": fmt.Sprint(i), "scopes": scopes})
	}
	read := 0
	for cursor := ""; ; {
		page := s.must(http.StatusOK, viewer, "GET", "/keys?limit=1000"+cursor, nil)
		if len(page.body) > 5<<20 {
			t.Fatalf("a page has %d bytes", len(page.body))
		}
		got := page.object(t)
		read += len(got["data"].([]any))
		next, more := got["next_cursor"].(string)
		if !more {
			break
		}
		cursor = "&cursor=" + next
	}
	if read != total {
		t.Errorf("all pages have %d keys, want %d", read, total)
	}
}
