package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// samples are forms that make one of each noun, in an order in which each finds what it refers to.
func samples() []struct {
	path string
	form url.Values
} {
	return []struct {
		path string
		form url.Values
	}{
		{
			"projects",
			url.Values{"name": {"acme"}, "max_keys": {"5"}, "budgets[0].limit": {"20"}, "budgets[0].window": {"day"},
				"budgets[0].alert_at": {"50, 80"}},
		},
		{"providers", url.Values{"name": {"vendor"}, "type": {"openai"}, "api_key": {"sk-0123456789abcdef"},
			"models": {"m\r\nn"}, "auto_ban": {"true"}, "labels": {"team=a b"}, "options": {`{"a": {"b": 1}}`},
			"prices[0].model": {"m"}, "prices[0].input_price": {"2"}, "prices[0].price_tiers": {`[{"above_input_tokens": 9,
				"input_price": "4"}]`}}},
		{
			"models",
			url.Values{"name": {"a/b.c"}, "kind": {"chat"}, "input_price": {"2.5"}, "supports_stream": {"true"},
				"price_tiers[0].above_input_tokens": {"200000"}, "price_tiers[0].input_price": {"5"}},
		},
		{"bindings", url.Values{"model": {"a/b.c"}, "selector_type": {"exact"}, "selector_value": {"m"}}},
		{
			"keys",
			url.Values{"name": {"client"}, "project": {"acme"}, "expires_at": {"2030-01-02T03:04"}, "rpm_limit": {"60"},
				"allow_ips": {"192.0.2.0/24"}},
		},
		{"holds", url.Values{"target": {"project/acme"}, "message": {"unpaid"}}},
		{"operators", url.Values{"name": {"dana"}, "role": {"viewer"}}},
	}
}

var (
	hidden   = regexp.MustCompile(`name="revision" value="(\d*)"`)
	rowLink  = regexp.MustCompile(`<th scope="row"><a href="([a-z]+/\d+)"`)
	shownKey = regexp.MustCompile(`<code id="token">(ezo?-[0-9A-Za-z]{49})</code>`)
)

// made makes one of a noun, and returns its path.
func (b *browser) made(path string, form url.Values) string {
	b.t.Helper()
	if got := b.post(path+"/new", form); got.status != http.StatusOK || got.has(`class="note bad"`) {
		b.t.Fatalf("new %s: %d %s", path, got.status, got.text())
	}
	found := rowLink.FindAllStringSubmatch(b.get(path).body, -1)
	if len(found) == 0 {
		b.t.Fatalf("%s lists nothing", path)
	}
	return found[len(found)-1][1]
}

func (b *browser) revisionIn(path string) string {
	b.t.Helper()
	found := hidden.FindStringSubmatch(b.get(path).body)
	if found == nil {
		b.t.Fatalf("%s has no revision", path)
	}
	return found[1]
}

func TestNounsAreMadeChangedAndDeleted(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	var paths []string
	for _, sample := range samples() {
		path := b.made(sample.path, sample.form)
		paths = append(paths, path)
		page := b.get(path)
		for name, values := range sample.form {
			if value := strings.Fields(strings.ReplaceAll(values[0], ",", " ")); name != "api_key" &&
				name != "expires_at" &&
				len(value) == 1 && values[0] != "true" &&
				values[0] != "200000" &&
				!page.has(values[0]) {
				t.Errorf("%s does not show %s: %s", path, name, page.text())
			}
		}
		// What is not changed in the form makes no revision.
		form := b.filled(path + "/edit")
		if got := b.post(path+"/edit", form); !got.has("Nothing was changed") {
			t.Errorf("%s: the form as it is changes something: %s", path, got.text())
		}
		form.Set("labels", "changed=yes")
		if got := b.post(path+"/edit", form); got.status != http.StatusOK || !got.has("changed=yes") {
			t.Errorf("edit %s: %d %s", path, got.status, got.text())
		}
	}
	p := must[catalog.Provider](t)(s.plane.Providers.Find(t.Context(), catalog.ByNaturalKey, "vendor"))
	if p.APIKey.Reveal() != "sk-0123456789abcdef" || !*p.AutoBan || len(p.Models) != 2 || p.Options["a"] == nil {
		t.Errorf("the provider is %+v", p)
	}
	for i := len(paths) - 1; i >= 0; i-- {
		revision := b.revisionIn(paths[i] + "/status")
		if got := b.post(paths[i]+"/status", url.Values{"revision": {revision}, "status": {"disabled"}}); !got.has(
			"disabled",
		) {
			t.Errorf("disable %s: %d %s", paths[i], got.status, got.text())
		}
		revision = b.revisionIn(paths[i] + "/delete")
		if got := b.post(paths[i]+"/delete", url.Values{"revision": {revision}}); !got.has("It is deleted") {
			t.Errorf("delete %s: %d %s", paths[i], got.status, got.text())
		}
		if got := b.get(paths[i]); got.status != http.StatusNotFound {
			t.Errorf("%s is %d after it was deleted", paths[i], got.status)
		}
	}
}

var (
	inputTag  = regexp.MustCompile(`<(input|textarea|select)[^>]*\bname="([^"]*)"[^>]*>([^<]*)`)
	valueAttr = regexp.MustCompile(`\bvalue="([^"]*)"`)
	chosen    = regexp.MustCompile(`<option value="([^"]*)" selected>`)
)

// filled returns the fields of the form of a page, as a browser would send them.
func (b *browser) filled(path string) url.Values {
	b.t.Helper()
	body := b.get(path).body
	body = body[strings.Index(body, `<form class="form"`):]
	form := url.Values{}
	for _, found := range inputTag.FindAllStringSubmatchIndex(body, -1) {
		tag, kind, name := body[found[0]:found[1]], body[found[2]:found[3]], unescape(body[found[4]:found[5]])
		switch {
		case kind == "textarea":
			form.Set(name, unescape(strings.TrimPrefix(body[found[6]:found[7]], "\n")))
		case kind == "select":
			rest, _, _ := strings.Cut(body[found[0]:], "</select>")
			if v := chosen.FindStringSubmatch(rest); v != nil {
				form.Set(name, v[1])
			}
		case strings.Contains(tag, `type="checkbox"`):
			if strings.Contains(tag, "checked") {
				form.Set(name, "true")
			}
		default:
			if v := valueAttr.FindStringSubmatch(tag); v != nil {
				form.Set(name, unescape(v[1]))
			}
		}
	}
	return form
}

func TestWhatIsWrongStandsAtItsField(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	got := b.post("keys/new", url.Values{
		"name": {"kept as it is"}, "rpm_limit": {"many"}, "expires_at": {"tomorrow"}, "models": {"kept too"},
		"budgets[0].limit": {"5"}, "budgets[0].window": {"day"}, "budgets[0].timezone": {"Mars/Crater"},
	})
	if got.status != http.StatusUnprocessableEntity || !got.has("kept as it is") || !got.has("kept too") {
		t.Errorf("%d %s", got.status, got.text())
	}
	for _, field := range []string{"rpm_limit", "expires_at"} {
		if !regexp.MustCompile(`id="error-` + field + `"><p class="error">`).MatchString(got.body) {
			t.Errorf("no message at %s: %s", field, got.text())
		}
	}
	got = b.post("keys/new", url.Values{
		"name": {
			"kept",
		}, "allow_ips": {"192.0.2.1\nnonsense"}, "budgets[2].limit": {"5"}, "budgets[2].window": {"day"},
		"budgets[2].timezone": {"Mars/Crater"},
	})
	if !got.has(`id="error-allow_ips"><p class="error">[1] must be`) ||
		!got.has(`id="error-budgets[0].timezone"><p class="error">`) || !got.has(`value="Mars/Crater"`) {
		t.Errorf("no message at the budget's time zone: %s", got.text())
	}
	got = b.post(
		"providers/new",
		url.Values{"name": {"p"}, "type": {"openai"}, "api_key": {"sk-must-not-come-back"}, "weight": {"-1"}},
	)
	if got.status != http.StatusUnprocessableEntity || got.has("must-not-come-back") {
		t.Errorf("%d, and a secret that was sent comes back", got.status)
	}
	got = b.post("providers/new", url.Values{"name": {"p"}, "type": {"openai"}, "models": {"m"},
		"prices[0].model": {"m"}, "prices[0].input_price": {"1"}, "prices[1].input_price": {"2"},
		"prices[2].model": {"m"}, "prices[2].input_price": {"3"}})
	if got.status != http.StatusUnprocessableEntity || !got.has(`value="3"`) ||
		!got.has(`id="error-prices[1].model"><p class="error">is required`) ||
		!got.has(`id="error-prices[2].model"><p class="error">occurs twice`) {
		t.Errorf("two prices of one model: %d %s", got.status, got.text())
	}
	b.made("providers", url.Values{"name": {"p"}, "type": {"openai"}})
	if got := b.post("providers/new", url.Values{"name": {"p"},
		"type": {"openai"}}); got.status != http.StatusConflict ||
		!got.has(`id="error-name"`) {
		t.Errorf("a name that is taken: %d %s", got.status, got.text())
	}
	if n := must[int64](t)(s.plane.Keys.Count(t.Context(), catalog.Query{})); n != 0 {
		t.Errorf("%d keys were made", n)
	}
}

func TestConflictShowsBothVersions(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	path := b.made("models", url.Values{"name": {"m"}, "kind": {"chat"}, "price_source": {"first"}})
	mine := b.filled(path + "/edit")
	theirs := b.filled(path + "/edit")
	theirs.Set("price_source", "theirs")
	b.post(path+"/edit", theirs)
	mine.Set("price_source", "mine")
	got := b.post(path+"/edit", mine)
	if got.status != http.StatusPreconditionFailed || !got.has("<pre>theirs</pre>") ||
		!got.has("<pre>mine</pre>") ||
		!got.has(`value="mine"`) {
		t.Fatalf("%d %s", got.status, got.text())
	}
	if m := must[catalog.Model](t)(s.plane.Models.Find(t.Context(), catalog.ByNaturalKey,
		"default.m")); m.PriceSource != "theirs" {
		t.Errorf("it was written: %s", m.PriceSource)
	}
	mine.Set("shown", got.hidden().Get("shown"))
	b.post(path+"/edit", mine)
	if m := must[catalog.Model](t)(s.plane.Models.Find(t.Context(), catalog.ByNaturalKey,
		"default.m")); m.PriceSource != "mine" {
		t.Errorf("it was not written over: %s", m.PriceSource)
	}
	if got := b.post(path+"/delete", url.Values{"revision": {"1"}}); got.status != http.StatusPreconditionFailed {
		t.Errorf("what was not seen is deleted: %d", got.status)
	}
}

func TestTokensAreShownOnce(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	for _, noun := range []string{"keys", "operators"} {
		got := b.post(noun+"/new", url.Values{"name": {"n"}, "role": {"viewer"}})
		token := shownKey.FindStringSubmatch(got.body)
		if token == nil || got.header.Get("Cache-Control") != "no-store" || strings.Contains(got.url, token[1]) {
			t.Fatalf("%s: %d %s", noun, got.status, got.text())
		}
		path := rowLink.FindStringSubmatch(b.get(noun).body)[1]
		rotated := b.post(path+"/rotate", url.Values{"grace": {"60"}, "revision": {"1"}})
		again := shownKey.FindStringSubmatch(rotated.body)
		if again == nil || again[1] == token[1] {
			t.Fatalf("rotated %s: %d %s", noun, rotated.status, rotated.text())
		}
		for _, page := range []string{noun, path, path + "/edit", path + "/rotate"} {
			if got := b.get(page); got.has(token[1]) || got.has(again[1]) {
				t.Errorf("%s shows a token again", page)
			}
		}
	}
}

func TestViewersSeeNoButtonsThatWrite(t *testing.T) {
	s := newSite(t, nil)
	admin, viewer := s.signedIn(t, adminToken), s.signedIn(t, viewerToken)
	for _, sample := range samples() {
		path := admin.made(sample.path, sample.form)
		for _, page := range []string{sample.path, path} {
			got := viewer.get(page)
			if got.status != http.StatusOK || got.has("/new\"") || got.has("/edit\"") || got.has("/delete\"") ||
				got.has("/status\"") ||
				got.has("/rotate\"") {
				t.Errorf("%s: %d %s", page, got.status, got.text())
			}
		}
		revision := admin.revisionIn(path + "/status")
		for post, form := range map[string]url.Values{
			sample.path + "/new": sample.form, path + "/status": {"revision": {revision}, "status": {"disabled"}},
			path + "/delete": {"revision": {revision}}, path + "/edit": {"external_id": {"x"}},
		} {
			if got := viewer.post(post, form); got.status != http.StatusForbidden {
				t.Errorf("a viewer posts %s: %d", post, got.status)
			}
		}
	}
}

func TestOperatorsOfAProjectSeeNothingElse(t *testing.T) {
	s := newSite(t, nil)
	admin := s.signedIn(t, adminToken)
	for _, sample := range samples() {
		admin.made(sample.path, sample.form)
	}
	other := admin.made("projects", url.Values{"name": {"globex"}})
	outside := admin.made("keys", url.Values{"name": {"outsider"}, "project": {"globex"}})
	_, token := s.operator(t, catalog.Operator{Name: "lead", Role: catalog.RoleAdmin, Project: "acme"})
	b := s.signedIn(t, token)
	for _, page := range []string{"", "keys", "projects", "holds", "models", "bindings"} {
		got := b.get(page)
		if got.status != http.StatusOK || got.has("outsider") || got.has("globex") || got.has("vendor") ||
			got.has(`href="providers"`) || got.has(`href="operators"`) {
			t.Errorf("%q: %d %s", page, got.status, got.text())
		}
	}
	for page, status := range map[string]int{
		other: 404, outside: 404, outside + "/edit": 404, "providers": 403, "operators": 403,
		"progress?revision=1": 403,
		"models/1/edit":       200,
	} {
		if got := b.get(page); got.status != status && !(status == 200 && got.status == 404) || got.has("outsider") {
			t.Errorf("%s: %d, want %d", page, got.status, status)
		}
	}
	if got := b.get("models"); got.has("models/new") {
		t.Error("an operator of a project is shown a form for models")
	}
	for path, form := range map[string]url.Values{
		outside + "/delete": {"revision": {"1"}}, outside + "/status": {"revision": {"1"}, "status": {"disabled"}},
		outside + "/edit": {"name": {"x"}}, outside + "/rotate": {"grace": {"0"}},
	} {
		if got := b.post(path, form); got.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, got.status, got.text())
		}
	}
	if got := b.post("keys/new", url.Values{"name": {"own"}, "project": {"acme"}}); !shownKey.MatchString(
		got.body,
	) {
		t.Errorf("a key of its own: %d %s", got.status, got.text())
	}
	if got := b.post("keys/new", url.Values{"name": {"strange"},
		"project": {"globex"}}); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a key of another project: %d %s", got.status, got.text())
	}
}

func TestLongListsComeInPages(t *testing.T) {
	s := newSite(t, nil)
	for i := range 120 {
		must[catalog.Key](t)(s.plane.Keys.Create(t.Context(), catalog.Key{Name: fmt.Sprintf("key-%03d", i)}))
	}
	b := s.signedIn(t, viewerToken)
	next, seen := "keys?q=key", 0
	for range 4 {
		got := b.get(next)
		seen += len(rowLink.FindAllString(got.body, -1))
		found := regexp.MustCompile(`<a class="button" href="([^"]*)">Next page`).FindStringSubmatch(got.body)
		if found == nil {
			break
		}
		next = unescape(found[1])
	}
	if seen != 120 {
		t.Errorf("the pages have %d keys", seen)
	}
}

// TestProjectsAreATree: each below its parent, whenever it was made, with what was spent.
func TestProjectsAreATree(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	for _, name := range []string{"b", "a", "b/x", "a/y", "a/y/z", "a-b", "a/x"} {
		form := url.Values{"name": {name}}
		if name == "a/y" {
			form = url.Values{"name": {name}, "budgets[0].limit": {"10"}, "budgets[0].window": {"day"}}
		}
		b.made("projects", form)
	}
	s.logged(t, logbuf.Entry{Project: "a/y/z", Status: 200, CostNanoUSD: cost(2_500_000_000)})
	rows := regexp.MustCompile(`<th scope="row"( class="depth\d")?><a href="projects/\d+">([^<]*)</a>`)
	tree := ""
	for _, found := range rows.FindAllStringSubmatch(b.get("projects").body, -1) {
		tree += found[2] + strings.TrimPrefix(found[1], " class=") + " "
	}
	if want := `a a/x"depth1" a/y"depth1" a/y/z"depth2" a-b b b/x"depth1" `; tree != want {
		t.Errorf("the tree is %s, want %s", tree, want)
	}
	eventually(t, "the spend is shown", func() bool { return b.get("projects").has("$2.50 / $10.00") })
}

// TestUnpricedAndCandidates: what has no price, and the order in which providers are tried.
func TestUnpricedAndCandidates(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	for name, priority := range map[string]string{"low": "1", "high": "9"} {
		b.made("providers", url.Values{"name": {name}, "type": {"openai"}, "api_key": {"sk-0123456789abcdef"},
			"models": {name}, "priority": {priority}})
	}
	b.made("models", url.Values{"name": {"m"}, "kind": {"chat"}})
	path := b.made("bindings", url.Values{"model": {"m"}, "selector_value": {"low"}})
	page := b.get(path).text()
	_, candidates, _ := strings.Cut(page, "Candidates, in order")
	if high, low := strings.Index(candidates, "1 high"), strings.Index(candidates, "2 low"); high < 0 || low < high ||
		!strings.Contains(candidates[high:low], "hits nothing") {
		t.Errorf("the candidates are %s", candidates)
	}
	if got := b.get("unpriced"); !got.has("has a price") {
		t.Errorf("nothing is unpriced: %s", got.text())
	}
	s.logged(t, logbuf.Entry{ProviderID: 1, Model: "dear", Status: 200, InputTokens: 1},
		logbuf.Entry{ProviderID: 1, Model: "cheap", Status: 200, CostNanoUSD: cost(1)})
	eventually(t, "the unpriced model is listed", func() bool { return b.get("unpriced").has("models?name=dear") })
	if got := b.get("unpriced"); got.has("cheap") || !got.has("models/new?name=dear") {
		t.Errorf("unpriced: %s", got.text())
	}
	if got := s.signedIn(t, viewerToken).get("unpriced"); got.status != http.StatusOK || got.has("models/new") {
		t.Errorf("a viewer: %d %s", got.status, got.text())
	}
}
