package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

const gateway = `{
	"providers": [{"name": "p", "type": "openai", "api_key": "sk-0123456789abcdef", "models": ["gpt"]}],
	"models": [{"name": "gpt"}], "bindings": [{"model": "gpt"}], "keys": [{"external_id": "k", "name": "k"}]}`

// A dry run says how many documents are published when the plan is carried out.
func TestDryRunsCountDocuments(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	ctx := t.Context()
	publish := func() snapshot.Head {
		t.Helper()
		head, err := s.plane.Sync(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return head
	}
	at := publish()
	for i, state := range []string{
		gateway,
		`{"providers": [{"name": "p", "type": "openai", "models": ["gpt"], "weight": 7}]}`,
		`{"models": [{"name": "other"}, {"name": "third"}], "bindings": [{"model": "other", "provider_group": "g"}]}`,
		`{"providers": [{"name": "p", "type": "openai", "models": ["gpt", "third"]},
			{"name": "q", "type": "openai", "group": "g", "models": ["other", "thi*"]}]}`,
		`{"providers": [{"name": "p", "type": "openai", "group": "g", "models": ["other"]}], "projects": [{"name": "a"}]}`,
		`{"models": [{"name": "gpt", "namespace": "eu"}], "keys": [{"external_id": "k", "name": "renamed"},
			{"external_id": "k2", "name": "k2", "project": "a"}]}`,
	} {
		planned := s.must(http.StatusOK, admin, "POST", "/apply?dry_run=true", state).object(t)
		applied := s.must(http.StatusOK, admin, "POST", "/apply", state).object(t)
		now := publish()
		delta, err := s.plane.Publisher().Next(ctx, at.Position)
		if err != nil {
			t.Fatal(err)
		}
		if delta.Head.Position != now.Position || planned["documents"] != float64(len(delta.Changes)) ||
			applied["documents"] != nil {
			t.Errorf("state %d: %v documents were announced, and %d published: %v", i, planned["documents"],
				len(delta.Changes), delta.Changes)
		}
		at = now
	}
}

// A state is planned, applied when it is what was expected, exported, changed, and returned to.
func TestDesiredState(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	planned := s.must(http.StatusOK, admin, "POST", "/apply?dry_run=true&owner=me", gateway).object(t)
	if s.must(http.StatusOK, admin, "GET", "/models", nil).object(t)["data"].([]any) == nil ||
		planned["applied"] != false {
		t.Errorf("planned %v", planned)
	}
	path := fmt.Sprintf("/apply?owner=me&prune=true&wait=published&expect=%s", planned["plan"])
	a := s.must(http.StatusOK, admin, "POST", path, gateway)
	applied := a.object(t)
	if applied["revision"] != 1.0 || applied["applied"] != true || a.Header.Get("EZ-Sync") != "published" {
		t.Errorf("%v %v", a.Header, applied)
	}
	token := applied["tokens"].([]any)[0].(object)
	s.must(http.StatusOK, admin, "POST", "/keys/lookup", object{"token": token["token"]})

	again := s.must(http.StatusPreconditionFailed, admin, "POST", path, gateway).object(t)["plan"].(object)
	if again["summary"].(object)["unchanged"] != 4.0 || again["plan"] == planned["plan"] {
		t.Errorf("the new plan %v", again)
	}
	exported := s.must(http.StatusOK, admin, "GET", "/export", nil).body
	if strings.Contains(exported, "sk-0123456789") || strings.Contains(exported, token["token"].(string)) {
		t.Errorf("the export has secrets: %s", exported)
	}
	same := s.must(http.StatusOK, admin, "POST", "/apply?owner=me&prune=true", exported).object(t)
	revision := same["revision"].(float64) // publishing for the first time makes one, too
	if !strings.Contains(exported, fmt.Sprintf(`"revision":%v,`, revision)) || same["summary"].(object)["unchanged"] != 4.0 {
		t.Errorf("the export, applied: %v", same)
	}

	s.must(http.StatusOK, admin, "POST", "/apply?owner=me&prune=true", `{"bindings": [], "models": [], "keys": []}`)
	back := s.must(http.StatusOK, admin, "POST", "/revert", object{"to": revision}).object(t)
	if back["revision"] != revision+2 || len(back["tokens"].([]any)) != 1 {
		t.Errorf("reverted %v", back)
	}
	if now := s.must(http.StatusOK, admin, "GET", "/export", nil).body; strings.Replace(now, fmt.Sprintf(`"revision":%v`,
		revision+2), fmt.Sprintf(`"revision":%v`, revision), 1) != exported {
		t.Errorf("after the revert: %s\nwant %s", now, exported)
	}
	undone := s.must(http.StatusOK, admin, "POST", "/revert?dry_run=true", object{"revision": revision + 2}).object(t)
	if undone["summary"].(object)["delete"] != 3.0 {
		t.Errorf("taken back %v", undone)
	}
	feed := s.must(http.StatusOK, viewer, "GET", fmt.Sprintf("/changes?after=%v", revision+1),
		nil).object(t)["data"].([]any)
	if reason := feed[0].(object)["reason"]; reason != fmt.Sprintf("return to revision %v", revision) {
		t.Errorf("reason %v", reason)
	}
}

// What deletes most of a kind is answered with its plan, and done when it is forced.
func TestDesiredStateForced(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	var d catalog.Desired
	for i := range 12 {
		catalog.Want(&d, catalog.Model{Name: fmt.Sprint("m", i)})
	}
	opts := &catalog.ApplyOptions{PlanOptions: catalog.PlanOptions{Owner: "me"}}
	if _, err := s.plane.Apply(t.Context(), d, opts); err != nil {
		t.Fatal(err)
	}
	const none = `{"models": []}`
	refused := s.must(http.StatusConflict, admin, "POST", "/apply?owner=me&prune=true", none).object(t)
	if refused["type"] != "urn:ezapi:force-required" || fmt.Sprint(refused["plan"].(object)["needs_force"]) != "[models]" {
		t.Errorf("%v", refused)
	}
	s.must(http.StatusOK, admin, "POST", "/apply?owner=me&prune=true&dry_run=true", none)
	s.must(http.StatusOK, admin, "POST", "/apply?owner=me&prune=true&force=true", none)
}

// A body may have 64 MiB and 100,000 resources.
func TestDesiredStateTooLarge(t *testing.T) {
	s := newService(t, ezapi.Config{}, nil)
	many := `{"models": [` + strings.Repeat(`{"name":"m"},`, catalog.MaxDesired) + `{}]}`
	wide := `{"models": [{"name": "` + strings.Repeat("x", 64<<20) + `"}]}`
	for _, body := range []string{many, wide} {
		s.must(http.StatusRequestEntityTooLarge, admin, "POST", "/apply?dry_run=true", body)
	}
}
