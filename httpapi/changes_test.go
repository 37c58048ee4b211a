package httpapi_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
)

// feed reads the whole feed that a query selects, page by page, and returns "revision kind id" of each change.
func (s *service) feed(query string, limit int) (all []string, pages int) {
	s.t.Helper()
	after := ""
	for {
		path := "/changes?limit=" + strconv.Itoa(limit) + query
		if after != "" {
			path += "&after=" + after
		}
		got := s.must(http.StatusOK, viewer, "GET", path, nil).object(s.t)
		for _, c := range got["data"].([]any) {
			c := c.(object)
			all = append(all, fmt.Sprintf("%s %s %s", number(c["revision"]), c["kind"], number(c["id"])))
		}
		pages++
		next := got["next_cursor"].(string)
		if n := len(got["data"].([]any)); n > limit {
			s.t.Fatalf("a page of %d, want at most %d", n, limit)
		}
		if next == after || len(got["data"].([]any)) == 0 {
			return all, pages
		}
		after = next
	}
}

// However the feed is cut into pages, and whatever is selected, it is the same feed.
func TestChangesInPages(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := newService(t, ezapi.Config{}, nil)
		var all []catalog.Change
		names := 0
		for range rapid.IntRange(0, 6).Draw(r, "commits") {
			ctx := catalog.WithActor(t.Context(), rapid.SampledFrom([]string{"alice", "bob"}).Draw(r, "actor"), "")
			_, err := s.plane.Update(ctx, func(tx *catalog.Tx) error {
				for range rapid.IntRange(1, 5).Draw(r, "writes") {
					names++
					var err error
					if rapid.Bool().Draw(r, "model") {
						_, err = tx.Models.Create(ctx, catalog.Model{Name: "m" + strconv.Itoa(names)})
					} else {
						_, err = tx.Keys.Create(ctx, catalog.Key{Name: "k"})
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				r.Fatal(err)
			}
		}
		_ = s.plane.Store().Read(t.Context(), func(reader catalog.Reader) (err error) {
			all, err = reader.Changes(t.Context(), catalog.Cursor{}, 1000)
			return err
		})
		kind := rapid.SampledFrom([]catalog.Kind{"", catalog.KindKey, catalog.KindModel}).Draw(r, "kind")
		actor := rapid.SampledFrom([]string{"", "alice", "carol"}).Draw(r, "only by")
		id := rapid.SampledFrom([]int64{0, 0, 2, 99}).Draw(r, "id")
		query := ""
		if kind != "" {
			query += "&kind=" + string(kind)
		}
		if actor != "" {
			query += "&actor=" + actor
		}
		if id != 0 {
			query += "&id=" + strconv.FormatInt(id, 10)
		}
		var want []string
		for _, c := range all {
			if (kind == "" || c.Kind == kind) && (actor == "" || c.Actor == actor) && (id == 0 || c.ID == id) {
				want = append(want, fmt.Sprintf("%d %s %d", c.Revision, c.Kind, c.ID))
			}
		}
		got, _ := s.feed(query, rapid.IntRange(1, 7).Draw(r, "limit"))
		if diff := cmp.Diff(want, got); diff != "" {
			r.Fatalf("the feed with %q (-want +got):\n%s", query, diff)
		}
	})
}

// The feed can be read from a time on, from where it is kept, and not from beyond its end.
func TestChangesFromATime(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s := newService(t, ezapi.Config{Clock: func() time.Time { return now }}, nil)
	for i := range 100 {
		now = now.Add(time.Minute)
		s.must(http.StatusCreated, admin, "POST", "/keys", object{"name": "k" + strconv.Itoa(i)})
	}
	since := "&since=" + url.QueryEscape(now.Add(-9*time.Minute).Format(time.RFC3339))
	got, pages := s.feed(since, 7)
	if len(got) != 10 || got[0] != "91 keys 91" || pages > 3 {
		t.Errorf("%d changes in %d pages: %q", len(got), pages, got)
	}
	after := s.must(http.StatusOK, viewer, "GET", "/changes?after=95"+since, nil).object(t)["data"].([]any)
	if len(after) != 5 || number(after[0].(object)["revision"]) != "96" {
		t.Errorf("since a time and after a revision: %v", after)
	}
	if got, _ := s.feed("&since=2031-01-01T00:00:00Z", 7); got != nil {
		t.Errorf("since a time that has not come: %q", got)
	}
	for _, wrong := range []string{"2031-01-01T0:00:00Z", "2031-01-01T00:00:00,5Z", "2031-01-01T00:00:00+24:00",
		"2031-01-01"} {
		answer := s.do(viewer, "GET", "/changes?since="+url.QueryEscape(wrong), nil)
		p := answer.problem(t, http.StatusUnprocessableEntity, "invalid")
		if diff := cmp.Diff([]string{"since"}, p.fields()); diff != "" {
			t.Errorf("since=%s: %s", wrong, diff)
		}
	}
	s.do(viewer, "GET", "/changes?after=101", nil).problem(t, http.StatusGone, "compacted")
	if got := s.must(http.StatusOK, viewer, "GET", "/changes?after=100.7", nil).object(t); got["next_cursor"] != "100" {
		t.Errorf("after more changes than the last revision has: %v", got)
	}

	if _, err := s.plane.Store().(catalog.Pruner).PruneChanges(t.Context(), now.Add(-19*time.Minute)); err != nil {
		t.Fatal(err)
	}
	s.do(viewer, "GET", "/changes?after=1", nil).problem(t, http.StatusGone, "compacted")
	if got, _ := s.feed("", 1000); len(got) != 20 || got[0] != "81 keys 81" {
		t.Errorf("what is kept: %q", got)
	}
	for _, after := range []string{"x", "1.", ".1", "1.x", "1.-1", "99999999999999999999", "1.99999999999999999999",
		"-1"} {
		p := s.do(viewer, "GET", "/changes?after="+after, nil).problem(t, http.StatusUnprocessableEntity, "invalid")
		if diff := cmp.Diff([]string{"after"}, p.fields()); diff != "" {
			t.Errorf("after=%s: %s", after, diff)
		}
	}
	s.do(viewer, "GET", "/changes?kind=cats", nil).problem(t, http.StatusUnprocessableEntity, "invalid")
}

// The feed passes over what was thinned out, from wherever one asks.
func TestChangesPassOverWhatWasThinned(t *testing.T) {
	s := newService(t, ezapi.Config{}, &httpapi.Options{})
	own := catalog.WithMachine(t.Context(), "budgets", "")
	for range 4 {
		key, err := s.plane.Keys.Create(t.Context(), catalog.Key{Name: "k"})
		if err == nil {
			_, err = s.plane.Holds.Create(own, catalog.Hold{Target: fmt.Sprint("key/", key.ID), Reason: catalog.HoldBudget})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.plane.Store().(catalog.Pruner).ThinChanges(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for after, want := range []string{
		"[1 3 5 7 8]", "[3 5 7 8]", "[3 5 7 8]", "[5 7 8]", "[5 7 8]", "[7 8]", "[7 8]", "[8]", "[]",
	} {
		for _, limit := range []int{1, 2, 100} {
			got := []any{}
			for at, last := fmt.Sprint(after), ""; at != last; {
				path := fmt.Sprintf("/changes?after=%s&limit=%d", at, limit)
				page := s.must(http.StatusOK, viewer, "GET", path, nil).object(t)
				for _, c := range page["data"].([]any) {
					got = append(got, number(c.(object)["revision"]))
				}
				at, last = page["next_cursor"].(string), at
			}
			if fmt.Sprint(got) != want {
				t.Errorf("after %d, %d at a time: revisions %v; want %s", after, limit, got, want)
			}
		}
	}
	s.do(admin, "POST", "/revert", object{"revision": 2}).problem(t, http.StatusGone, "compacted")
	s.must(http.StatusOK, admin, "POST", "/revert?dry_run=true", object{"to": 2})
}

// A page that nothing is selected for ends all the same, and the next goes on behind it.
func TestChangesLookAtNoMoreThanAPage(t *testing.T) {
	s := newService(t, ezapi.Config{}, &httpapi.Options{})
	for range 25 {
		_, err := s.plane.Update(t.Context(), func(tx *catalog.Tx) error {
			for range 500 {
				if _, err := tx.Keys.Create(t.Context(), catalog.Key{Name: "k"}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	got := s.must(http.StatusOK, viewer, "GET", "/changes?kind=models", nil).object(t)
	if len(got["data"].([]any)) != 0 || got["next_cursor"] != "20" {
		t.Errorf("the first page: %v", got)
	}
}

// A page of large changes ends by its bytes, and the next goes on: nothing is left out.
func TestChangesBoundTheBytesOfAPage(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	scopes := make([]string, 7000)
	for i := range scopes {
		scopes[i] = fmt.Sprintf("%060d", i)
	}
	key, err := s.plane.Keys.Create(t.Context(), catalog.Key{Name: "k", Scopes: scopes})
	if err != nil {
		t.Fatal(err)
	}
	const changes = 30
	for i := range changes - 1 {
		patch := fmt.Appendf(nil, `{"name": "k%d"}`, i)
		if _, err := s.plane.Keys.Patch(t.Context(), key.ID, 0, patch); err != nil {
			t.Fatal(err)
		}
	}
	first := s.must(http.StatusOK, viewer, "GET", "/changes?kind=keys&limit=1000", nil)
	if size := len(first.body); size < 4<<20 || size > 6<<20 {
		t.Errorf("the first page has %d bytes", size)
	}
	if all, pages := s.feed("&kind=keys", 1000); len(all) != changes || pages < 6 {
		t.Errorf("%d changes on %d pages, want %d on 6 or more", len(all), pages, changes)
	}
}
