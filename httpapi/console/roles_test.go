package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// everyPage are the pages that are no noun's.
func everyPage() []string {
	return []string{"", "logs", "usage?group_by=key&group_by=provider&group_by=project", "explain?key_id=1&model=a/b.c",
		"changes", "budgets", "alerts", "unpriced", "system", "apply", "lookup", "revert?revision=1",
		"bindings/selector?model=m", "logs.csv", "usage.csv", "export.json", "progress?revision=1"}
}

// forms returns where the forms of a page that write lead to.
func forms(t *testing.T, page string) (actions []string) {
	t.Helper()
	tree, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range tree.Descendants() {
		attr := map[string]string{}
		for _, a := range n.Attr {
			attr[a.Key] = a.Val
		}
		own := []string{"settings", "signout"} // how pages look, and who looks at them
		if n.Type == html.ElementNode && n.Data == "form" && strings.EqualFold(attr["method"], "post") &&
			!slices.Contains(own, attr["action"]) {
			actions = append(actions, attr["action"])
		}
	}
	return actions
}

// TestViewersAreShownNoFormThatWrites, on any page that they are led to, and are refused what others post.
func TestViewersAreShownNoFormThatWrites(t *testing.T) {
	s := newSite(t, nil)
	admin, viewer := s.signedIn(t, adminToken), s.signedIn(t, viewerToken)
	pages, found := everyPage(), 0
	for _, sample := range samples() {
		path := admin.made(sample.path, sample.form)
		pages = append(pages, sample.path, path)
	}
	for _, page := range pages {
		for _, action := range forms(t, admin.get(page).body) {
			found++
			got := viewer.post(action, url.Values{"revision": {"1"}, "token": {"some-token"}})
			if action == "apply" {
				got = viewer.upload(action, []byte(`{"keys": []}`), nil)
			}
			if got.status != http.StatusForbidden {
				t.Errorf("a viewer posts %s: %d", action, got.status)
			}
		}
		got := viewer.get(page)
		if strings.HasPrefix(page, "apply") || strings.HasPrefix(page, "lookup") || strings.HasPrefix(page, "revert") {
			continue // nothing leads a viewer there
		}
		if actions := forms(t, got.body); len(actions) > 0 {
			t.Errorf("%s shows a viewer the forms %v", page, actions)
		}
		for _, link := range []string{`href="apply"`, `href="lookup"`, `href="revert`, `/new"`, `/edit"`, `/delete"`,
			`/rotate"`, `/status"`, `upstream-models"`} {
			if got.has(link) {
				t.Errorf("%s leads a viewer to %s", page, link)
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d forms were found for admins", found)
	}
}

// TestNothingOfOthersIsShown: no page has anything of what is outside of the project of an operator.
func TestNothingOfOthersIsShown(t *testing.T) {
	s := newSite(t, nil)
	admin := s.signedIn(t, adminToken)
	const secret = "globex"
	admin.made("providers", url.Values{"name": {secret + "-vendor"}, "type": {"openai"}, "group": {"default"},
		"api_key": {"sk-0123456789abcdef"}, "models": {"m"}})
	admin.made("models", url.Values{"name": {"m"}, "kind": {"chat"}})
	admin.made("bindings", url.Values{"model": {"m"}})
	for _, name := range []string{"acme", secret} {
		admin.made("projects", url.Values{"name": {name}, "budgets[0].limit": {"1"}, "budgets[0].window": {"day"}})
		admin.post("keys/new", url.Values{"name": {name + "-key"}, "project": {name}})
	}
	admin.made("holds", url.Values{"target": {"project/" + secret}, "message": {"by " + secret}})
	keys := must[[]catalog.Key](t)(s.plane.Keys.List(t.Context(), catalog.Query{}))
	for _, k := range keys {
		s.logged(t, logbuf.Entry{KeyID: k.ID, Project: k.Project, ProviderID: 1, Model: k.Name, Status: 200,
			User: k.Name, CostNanoUSD: cost(990_000_000)})
	}
	_, token := s.operator(t, catalog.Operator{Name: "lead", Role: catalog.RoleAdmin, Project: "acme"})
	b := s.signedIn(t, token)
	pages := append(everyPage(), "keys", "projects", "holds", "models", "bindings", "providers", "operators",
		"models/2", "bindings/3", "logs?project="+secret, "keys?project="+secret, "usage?project="+secret,
		"budgets?project="+secret, "changes?actor=admin", "changes?kind=projects")
	for i := range int64(12) {
		for _, kind := range catalog.Kinds() {
			pages = append(pages, fmt.Sprintf("%s/%d", kind, i), fmt.Sprintf("changes?kind=%s&id=%d", kind, i))
		}
	}
	eventually(t, "its own traffic is shown", func() bool { return b.get("logs").has("acme-key") })
	for _, page := range pages {
		got := b.get(page)
		text := strings.ReplaceAll(got.body, url.QueryEscape(page), "")
		if strings.Contains(page, secret) { // what was asked for stands in the filter
			text = strings.ReplaceAll(strings.ReplaceAll(text, `value="`+secret+`"`, ""), "project="+secret, "")
		}
		if strings.Contains(text, secret) || got.status >= http.StatusInternalServerError {
			t.Errorf("%s: %d %s", page, got.status, got.text())
		}
	}
}
