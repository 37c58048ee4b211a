package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// english is what looks like a sentence in English: three words in a row.
var english = regexp.MustCompile(`[A-Za-z][a-z']* [a-z']+ [a-z']+`)

// notText is what of a page is not read as text, or is copied as it is.
var notText = regexp.MustCompile(`(?s)<(script|style|code|pre)\b.*?</(script|style|code|pre)>|<head>.*?</head>|<div class="top".*?</div>`)

// speaksChinese reports a page that says something in English.
func (a answer) speaksChinese(t *testing.T, page string) {
	t.Helper()
	if !strings.Contains(a.body, `<html lang="zh"`) {
		t.Errorf("%s is not in Chinese", page)
	}
	text := tags.ReplaceAllString(notText.ReplaceAllString(a.body, "|"), "|")
	for _, attr := range regexp.MustCompile(` (?:title|placeholder|aria-label|alt)="([^"]*)"`).FindAllStringSubmatch(a.body, -1) {
		text += "|" + attr[1]
	}
	for _, found := range english.FindAllString(text, -1) {
		t.Errorf("%s says %q", page, found)
	}
}

// TestNothingIsEnglishOnChinesePages: no page, and no answer to a form that is refused.
func TestNothingIsEnglishOnChinesePages(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	pages := everyPage()
	for _, sample := range samples() {
		path := b.made(sample.path, sample.form)
		pages = append(pages, sample.path, path, path+"/edit", path+"/status", path+"/delete", sample.path+"/new",
			sample.path+"?status=wrong", sample.path+"?cursor=wrong", path+"99")
		if sample.path == "keys" {
			explain := "explain?key_id=" + strings.TrimPrefix(path, "keys/") + "&model="
			eventually(t, "the key is published", func() bool { return b.get(explain + "a/b.c").has("key document") })
			pages = append(pages, explain+"a/b.c", explain+"unknown")
		}
		if sample.path == "keys" || sample.path == "operators" {
			pages = append(pages, path+"/rotate")
		}
	}
	s.logged(t, logbuf.Entry{KeyID: 1, ProviderID: 1, Model: "a/b.c", Status: 200, InputTokens: 1})
	pages = append(pages, "nowhere", "logs?since=never", "logs?tag=x", "logs?cursor=x", "usage?interval=minute",
		"usage?group_by=colour", "usage?span=9y", "changes?after=x", "changes?kind=x", "budgets?over=x", "budgets?cursor=x",
		"explain?key_id=1&model=unknown", "explain?key_id=99&model=m",
		"revert?revision=99", "revert?to=99", "revert?revision=3",
		"bindings/selector?selector_type=regex&selector_value=(", "models/prices", "logs?errors=1", "alerts?cursor=x")
	b.post("settings", url.Values{"language": {"zh"}})
	for _, page := range pages {
		if strings.HasSuffix(page, ".csv") || strings.HasSuffix(page, ".json") {
			continue
		}
		b.get(page).speaksChinese(t, page)
	}
	wrong := map[string]url.Values{
		"providers/new": {"name": {"x "}, "type": {"nope"}, "weight": {"-1"}, "priority": {"x"}, "base_url": {"ftp://x"},
			"options": {"[1]"}, "models": {"a*b"}, "api_key": {"Bearer x y"}, "labels": {"!=1"}, "prices[0].model": {"m"}},
		"models/new": {"name": {"*x"}, "kind": {"song"}, "input_price": {"-1"}, "context_window": {"0"},
			"price_tiers[0].above_input_tokens": {"5"}, "price_source": {"a b"}},
		"bindings/new": {"model": {"nothing"}, "selector_type": {"regex"}, "selector_value": {"("}, "priority": {"-9"}},
		"keys/new": {"name": {"\u202e"}, "project": {"nowhere"}, "expires_at": {"tomorrow"}, "allow_ips": {"300.1.1.1"},
			"rpm_limit": {"-1"}, "budgets[0].limit": {"x"}, "budgets[0].window": {"year"}, "budgets[0].timezone": {"Mars"},
			"default_namespace": {"n"}, "budgets[0].alert_at": {"500"}},
		"projects/new":      {"name": {"a//b"}, "max_keys": {"many"}},
		"holds/new":         {"target": {"planet/1"}, "until": {"2001-01-01T00:00"}},
		"operators/new":     {"name": {""}, "role": {"king"}},
		"providers/1/test":  {"kind": {"chat"}, "model": {"m"}},
		"revert?revision=1": {"expect": {"x"}},
		"apply":             {},
		"models/prices":     {},
		"lookup":            {"token": {"ez-nobody"}},
		"keys/1/rotate":     {"grace": {"9999999"}},
		"models/1/delete":   {"revision": {"1"}},
		"models/1/status":   {"revision": {"999"}, "status": {"odd"}},
		"projects/1/delete": {"revision": {"1"}},
		"system/resync":     {},
		"alerts/test":       {},
	}
	for page, form := range wrong {
		got := b.post(page, form)
		if got.status >= http.StatusInternalServerError {
			t.Errorf("%s: %d %s", page, got.status, got.text())
		}
		got.speaksChinese(t, "POST "+page)
	}
	for _, file := range []string{`{`, `{"keys":[{"name":"k"}]}`, `{"models":[{"name":"m","colour":1}],"stars":[]}`,
		`{"providers":[{"name":"vendor"}],"projects":[{"name":"acme"},{"name":"acme"}]}`} {
		b.upload("apply", []byte(file), nil).speaksChinese(t, "apply "+file)
		b.upload("apply", []byte(file), url.Values{"owner": {"ci"}, "prune": {"1"}}).speaksChinese(t, "apply as owner "+file)
	}
	b.upload("models/prices", []byte(`{}`), url.Values{"map": {"x"}}).speaksChinese(t, "prices")
	b.upload("models/prices", []byte(`{"m": {"litellm_provider": "openai", "input_cost_per_token": 1e-6}}`),
		url.Values{"map": {"openai=nobody"}}).speaksChinese(t, "prices of nobody")
	for name, token := range map[string]string{"viewer": viewerToken,
		"operator": s.token(t, catalog.Operator{Name: "lead", Role: catalog.RoleAdmin, Project: "acme"})} {
		other := s.signedIn(t, token)
		other.post("settings", url.Values{"language": {"zh"}})
		for _, page := range pages {
			if !strings.HasSuffix(page, ".csv") && !strings.HasSuffix(page, ".json") {
				other.get(page).speaksChinese(t, name+": "+page)
			}
		}
		other.post("models/new", url.Values{"name": {"y"}, "kind": {"chat"}}).speaksChinese(t, name+": POST")
	}
	nobody := s.browser(t)
	nobody.post("settings", url.Values{"language": {"zh"}})
	nobody.get("signin").speaksChinese(t, "signin")
	nobody.post("signin", url.Values{"token": {"wrong-token-0123456789"}}).speaksChinese(t, "a wrong token")
	nobody.post("signin", url.Values{"token": {balancerToken}}).speaksChinese(t, "a balancer's token")
	nobody.post("keys/new", url.Values{"name": {"k"}}).speaksChinese(t, "a form without session")
}
