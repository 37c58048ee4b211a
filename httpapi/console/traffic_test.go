package console_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// logged stores entries.
func (s *site) logged(t *testing.T, entries ...logbuf.Entry) {
	t.Helper()
	for i := range entries {
		e := &entries[i]
		e.ID, e.Namespace = uuid.Must(uuid.NewV7()), "default"
		if e.Time.IsZero() {
			e.Time = time.Now().Add(-time.Minute)
		}
	}
	if err := s.plane.Logs().Append(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	if err := s.plane.Logs().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func cost(nano int64) *int64 { return &nano }

const evilText = `=cmd|' /C calc'!A0<script>alert(1)</script>`

func TestLogsAndUsage(t *testing.T) {
	s := newSite(t, nil)
	key := must[catalog.Key](t)(s.plane.Keys.Create(t.Context(), catalog.Key{Name: "search-frontend"}))
	s.logged(
		t,
		logbuf.Entry{
			KeyID:       key.ID,
			Model:       "gpt",
			Status:      200,
			InputTokens: 12345,
			CostNanoUSD: cost(1_230_000_000),
			RequestID:   "r1",
		},
		logbuf.Entry{
			KeyID:  key.ID,
			Model:  evilText,
			Status: 502,
			Error:  evilText,
			User:   evilText,
			Tags:   map[string]string{"a": evilText},
			Failures: []logbuf.Failure{
				{ProviderID: 4, UpstreamModel: evilText, Class: logbuf.FailedServer, Status: 500},
			},
		},
	)
	b := s.signedIn(t, viewerToken)
	got := b.get("logs")
	for _, want := range []string{"search-frontend", "12,345", "$1.23", "502", "gpt"} {
		if !got.has(want) {
			t.Errorf("the logs do not show %s: %s", want, got.text())
		}
	}
	if got := b.get("logs?errors=1"); got.has("12,345") || !got.has("502") {
		t.Errorf("errors only: %s", got.text())
	}
	for _, query := range []string{"key_id=x", "since=yesterday", "tag=a", "status=7"} {
		if got := b.get("logs?" + query); got.status != http.StatusUnprocessableEntity || !got.has(`role="alert"`) {
			t.Errorf("%s: %d %s", query, got.status, got.text())
		}
	}
	entry := regexp.MustCompile(`href="(logs/entry\?[^"]+)"`).
		FindAllStringSubmatch(b.get("logs?errors=1").body, -1)
	if len(entry) != 1 {
		t.Fatalf("%d entries", len(entry))
	}
	page := b.get(unescape(entry[0][1]))
	if page.status != http.StatusOK || page.has("<script>alert") ||
		!strings.Contains(unescape(page.body), evilText) ||
		!page.has("Explain this now") {
		t.Errorf("an entry: %d %s", page.status, page.text())
	}
	if got := b.get("usage?group_by=model&group_by=key"); got.has("<script>alert") ||
		!got.has("search-frontend") ||
		!strings.Contains(unescape(got.body), evilText) ||
		!got.has("<svg") ||
		!got.has("$1.23") {
		t.Errorf("usage: %d %s", got.status, got.text())
	}
	if got := b.get("usage?interval=decade"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("an interval that is none: %d", got.status)
	}
}

// TestTablesRunNothing: no cell of a CSV begins as a formula does.
// formula is what a spreadsheet may run.
var formula = regexp.MustCompile(`^[\t\r\n]|(^|[;\t\r\n]) *[=+\-@＝＋－＠]`)

func TestTablesRunNothing(t *testing.T) {
	s := newSite(t, nil)
	for i, evil := range []string{evilText, "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\n=1", "＝1", "x;=1;y", " =1",
		"plain, with \"quotes\"\nand lines"} {
		s.logged(
			t,
			logbuf.Entry{Model: evil, User: evil, Balancer: evil, RequestID: evil, Status: 500, Error: evil, Group: evil,
				KeyID: int64(i + 1), CostNanoUSD: cost(2_500_000)},
		)
	}
	b := s.signedIn(t, viewerToken)
	for path, rows := range map[string]int{"logs.csv": 12, "usage.csv?group_by=model&group_by=group": 12} {
		got := b.get(path)
		if !strings.HasPrefix(got.header.Get("Content-Type"), "text/csv") ||
			!strings.Contains(got.header.Get("Content-Disposition"), "attachment") {
			t.Errorf("%s: %v", path, got.header)
		}
		table, err := csv.NewReader(strings.NewReader(got.body)).ReadAll()
		if err != nil || len(table) != rows {
			t.Errorf("%s: %d rows, %v", path, len(table), err)
		}
		for _, row := range table {
			for _, c := range row {
				if formula.MatchString(c) {
					t.Errorf("%s has the cell %q", path, c)
				}
			}
		}
		if !strings.Contains(got.body, "0.0025") {
			t.Errorf("%s has no cost: %s", path, got.body)
		}
	}
	var many []logbuf.Entry
	for range 2500 {
		many = append(many, logbuf.Entry{Model: "many", Status: 200})
	}
	s.logged(t, many...)
	if n := strings.Count(b.get("logs.csv?model=many").body, "\n"); n != 2501 {
		t.Errorf("%d lines of 2501", n)
	}
}

func TestExplainAndLookup(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	b.made("models", url.Values{"name": {"m"}, "kind": {"chat"}})
	b.made("providers", url.Values{"name": {"vendor"}, "type": {"openai"}, "models": {"m"}})
	got := b.post("keys/new", url.Values{"name": {"client"}})
	token := shownKey.FindStringSubmatch(got.body)[1]
	path := rowLink.FindStringSubmatch(b.get("keys").body)[1]
	id := strings.TrimPrefix(path, "keys/")
	eventually(t, "the key reaches the model", func() bool {
		page := b.get("explain?key_id=" + id + "&model=m")
		return page.has("The key reaches the model") && page.has("vendor")
	})
	if got := b.get("explain?key_id=" + id + "&model=" + url.QueryEscape("<script>alert(1)")); !got.has(
		"does not reach",
	) ||
		got.has("<script>alert") {
		t.Errorf("an unknown model: %s", got.text())
	}
	if got := b.get("explain?key_id=999&model=m"); got.status != http.StatusUnprocessableEntity ||
		!got.has(`role="alert"`) {
		t.Errorf("no key: %d %s", got.status, got.text())
	}
	for asked, says := range map[string]string{"client": "The key reaches", id: "The key reaches",
		"nobody": "No key has this"} {
		if got := b.get("explain?model=m&key=" + asked); !got.has(says) || !got.has(`name="key" value=`) {
			t.Errorf("the key %s: %d %s", asked, got.status, got.text())
		}
	}
	other := b.post("keys/new", url.Values{"name": {"client"}})
	if got := b.get("explain?model=m&key=client"); other.status != http.StatusOK || !got.has("Which one?") ||
		!got.has("explain?key_id="+id+"&amp;model=m") || got.has("The key reaches") {
		t.Errorf("two keys of one name: %s", got.text())
	}
	if got := b.post("lookup", url.Values{"token": {token}}); !strings.HasSuffix(got.url, path) || got.has(token) {
		t.Errorf("the token leads to %s", got.url)
	}
	if got := b.post("lookup", url.Values{"token": {"ez-nobody's"}}); got.status != http.StatusNotFound ||
		got.has("ez-nobody") {
		t.Errorf("nobody's token: %d %s", got.status, got.text())
	}
}

func TestChangesAndReverts(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	path := b.made("models", url.Values{"name": {"m"}, "kind": {"chat"}, "price_source": {"old-source"}})
	revision := b.revisionIn(path + "/status")
	form := b.filled(path + "/edit")
	form.Set("price_source", "new-source")
	b.post(path+"/edit", form)
	got := b.get("changes")
	if !got.has("<del>old-source</del>") || !got.has("<ins>new-source</ins>") || !got.has("revert?revision=") {
		t.Fatalf("the feed: %s", got.text())
	}
	if history := b.get("changes?kind=models&id=" + strings.TrimPrefix(path, "models/")); strings.Count(
		history.body,
		"<article",
	) != 2 {
		t.Errorf("the history of one: %s", history.text())
	}
	plan := b.get("revert?to=" + revision)
	expect := regexp.MustCompile(`name="expect" value="([0-9a-f]{64})"`).FindStringSubmatch(plan.body)
	if expect == nil || !plan.has("<del>new-source</del>") {
		t.Fatalf("the plan: %s", plan.text())
	}
	if m := must[catalog.Model](t)(s.plane.Models.Find(t.Context(), catalog.ByNaturalKey,
		"default.m")); m.PriceSource != "new-source" {
		t.Error("a plan has changed something")
	}
	if got := b.post("revert", url.Values{"to": {revision}, "expect": {strings.Repeat("0",
		64)}}); got.status != http.StatusPreconditionFailed ||
		!got.has("The plan is another one now") {
		t.Errorf("another plan: %d %s", got.status, got.text())
	}
	if got := b.post("revert", url.Values{"to": {revision}, "expect": {expect[1]}}); !got.has(
		"It is carried out",
	) {
		t.Errorf("revert: %d %s", got.status, got.text())
	}
	if m := must[catalog.Model](t)(s.plane.Models.Find(t.Context(), catalog.ByNaturalKey,
		"default.m")); m.PriceSource != "old-source" {
		t.Errorf("after the revert: %s", m.PriceSource)
	}
	viewer := s.signedIn(t, viewerToken)
	if got := viewer.get("changes"); got.has("revert?") || !got.has("old-source") {
		t.Errorf("a viewer: %s", got.text())
	}
	if got := viewer.get("revert?to=1"); got.status != http.StatusForbidden {
		t.Errorf("a viewer reverts: %d", got.status)
	}
}

// upload sends a form with a file.
func (b *browser) upload(path string, file []byte, form url.Values) answer {
	b.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name := range form {
		_ = w.WriteField(name, form.Get(name))
	}
	part, _ := w.CreateFormFile("file", "state.json")
	_, _ = part.Write(file)
	_ = w.Close()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.site.url+path, &body)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", w.FormDataContentType())
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.do(r)
}

var hiddenInput = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)

func TestFilesAreAppliedAsPlanned(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	state := `{"providers":[{"name":"p","type":"openai","api_key":"sk-in-the-file-0123"}],` +
		`"models":[{"name":"<script>m"}]}`
	plan := b.upload("apply", []byte(state), url.Values{"owner": {"team"}})
	if plan.status != http.StatusOK || plan.has("sk-in-the-file") || plan.has("<script>m") {
		t.Fatalf("the plan: %d %s", plan.status, plan.text())
	}
	if n := must[int64](t)(s.plane.Providers.Count(t.Context(), catalog.Query{})); n != 0 {
		t.Fatal("a plan has changed something")
	}
	form := plan.hidden()
	if got := b.post("apply", form); !got.has("It is carried out") {
		t.Fatalf("apply: %d %s", got.status, got.text())
	}
	p := must[catalog.Provider](t)(s.plane.Providers.Find(t.Context(), catalog.ByNaturalKey, "p"))
	if p.APIKey.Reveal() != "sk-in-the-file-0123" || p.Labels["owner"] != "team" {
		t.Errorf("the provider: %+v", p)
	}
	if got := b.upload("apply", []byte(`{"models":[{"name":""}]}`),
		nil); got.status != http.StatusUnprocessableEntity ||
		!got.has("models[0]") {
		t.Errorf("a wrong file: %d %s", got.status, got.text())
	}
	if got := b.upload("apply", []byte("no json"), nil); got.status != http.StatusBadRequest {
		t.Errorf("no JSON: %d %s", got.status, got.text())
	}
	form.Set("state", form.Get("state")[2:])
	if got := b.post("apply", form); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a file that was not sealed here: %d", got.status)
	}
	exported := b.get("export.json")
	if !json.Valid([]byte(exported.body)) || !exported.has(`"p"`) || exported.has("sk-in-the-file") {
		t.Errorf("the export: %s", exported.body)
	}
	viewer := s.signedIn(t, viewerToken)
	for _, path := range []string{"export.json"} {
		if got := viewer.get(path); got.status != http.StatusForbidden {
			t.Errorf("a viewer gets %s: %d", path, got.status)
		}
	}
}

func TestSystem(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	b.made("models", url.Values{"name": {"m"}, "kind": {"chat"}})
	if got := b.get("system"); got.status != http.StatusOK || !got.has("Publish everything anew") ||
		!got.has("Catalog") {
		t.Errorf("system: %d %s", got.status, got.text())
	}
	if got := b.post("system/resync", nil); !got.has("was published anew") {
		t.Errorf("resync: %d %s", got.status, got.text())
	}
	viewer := s.signedIn(t, viewerToken)
	if got := viewer.get("system"); got.has("<button>Publish") || got.has("export.json") {
		t.Errorf("a viewer sees buttons that write: %s", got.text())
	}
	if got := viewer.post("system/resync", nil); got.status != http.StatusForbidden {
		t.Errorf("a viewer publishes anew: %d", got.status)
	}
	for path, want := range map[string]int{"nothing": 404, "keys/x": 404, "keys/999": 404,
		"static/none.css": 404} {
		if got := b.get(path); got.status != want {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}

// TestPagesAreSmall: what a first look ships, and what follows.
func TestPagesAreSmall(t *testing.T) {
	s := newSite(t, nil)
	for i := range 120 {
		must[catalog.Key](t)(s.plane.Keys.Create(t.Context(), catalog.Key{Name: fmt.Sprintf("key-%03d", i)}))
	}
	var entries []logbuf.Entry
	for i := range 500 {
		entries = append(
			entries,
			logbuf.Entry{
				Model:     fmt.Sprintf("m%d", i%20),
				KeyID:     int64(i%100 + 1),
				Status:    200,
				RequestID: fmt.Sprint(i),
			},
		)
	}
	s.logged(t, entries...)
	b := s.signedIn(t, adminToken)
	first := 0
	for i, path := range []string{"", "keys", "keys/new", "logs", "usage?group_by=key&group_by=model",
		"changes", "system", "explain"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", "gzip")
		got := b.do(r)
		if got.header.Get("Content-Encoding") != "gzip" || len(got.body) > 20<<10 {
			t.Errorf("%q: %s, %d bytes", path, got.header.Get("Content-Encoding"), len(got.body))
		}
		if i > 0 {
			continue
		}
		first = len(got.body)
		static := regexp.MustCompile(`(?:href|src)="(static/[^"]+)"`)
		for _, found := range static.FindAllStringSubmatch(b.get(path).body, -1) {
			r.URL.Path = "/some/where/" + found[1]
			file := b.do(r)
			if first += len(file.body); file.header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
				t.Errorf("%s: %v", found[1], file.header)
			}
		}
	}
	if first > 100<<10 {
		t.Errorf("a first look ships %d bytes", first)
	}
	t.Logf("a first look ships %d bytes", first)
}

func TestAlertsArriveOnThePage(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	if got := b.get("alerts"); got.status != http.StatusOK || !got.has("Nothing was alerted") {
		t.Fatalf("no alerts: %d %s", got.status, got.text())
	}
	if got := b.get("alerts?kind=none"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a kind that is none: %d", got.status)
	}
	if got := s.signedIn(t, viewerToken).get("alerts"); got.status != http.StatusOK || got.has("alerts/test") {
		t.Errorf("a viewer: %d %s", got.status, got.text())
	}
}

func TestFirstRunShowsTheWay(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	if got := b.get(""); !got.has("The way to the first request") || !got.has(`href="providers/new"`) {
		t.Errorf("an empty catalog: %s", got.text())
	}
	if got := s.signedIn(t, viewerToken).get(""); got.has("providers/new") {
		t.Error("a viewer is shown a form that writes")
	}
	b.made("providers", url.Values{"name": {"vendor"}, "type": {"openai"}, "models": {"gpt-4o"}})
	b.made("models", url.Values{"name": {"a'; rm -rf /"}, "kind": {"chat"}})
	b.made("models", url.Values{"name": {"gpt-4o"}, "kind": {"chat"}})
	if got := b.get(""); got.has(`href="providers/new"`) || !got.has(`href="keys/new"`) {
		t.Errorf("after the first steps: %s", got.text())
	}
	got := b.post("keys/new", url.Values{"name": {"client"}})
	if text := unescape(got.body); !strings.Contains(text, `"model": "gpt-4o"`) || strings.Contains(text,
		"rm -rf") {
		t.Errorf("the line to try the key: %s", got.text())
	}
	if got := b.get(""); got.has("The way to the first request") {
		t.Error("the way is shown to whoever has gone it")
	}
}

func TestSelectorsSayWhatTheyHit(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	b.made("providers", url.Values{"name": {"vendor"}, "type": {"openai"}, "models": {"gpt-4o\ngpt-4o-mini"}})
	for query, want := range map[string]string{
		"model=gpt-4o": "gpt-4o</span>", "model=x&selector_value=gpt-4o-mini": "gpt-4o-mini</span>",
		"selector_type=regex&selector_value=gpt.*": "hits 2", "selector_value=none": "hits nothing",
		"selector_type=regex&selector_value=(": "RE2", "provider_group=nobody&model=m": "No provider of group nobody",
	} {
		if got := b.get("bindings/selector?" + query); got.status != http.StatusOK || !got.has(want) {
			t.Errorf("%s: %d %s", query, got.status, got.text())
		}
	}
	if got := b.get("bindings/new"); !got.has(`data-follow="bindings/selector"`) {
		t.Error("the form does not follow what is typed")
	}
}

func TestBudgets(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	b.made("keys", url.Values{"name": {"spender"}, "budgets[0].limit": {"2"}, "budgets[0].window": {"day"},
		"budgets[0].action": {"alert"}})
	keys := must[[]catalog.Key](t)(s.plane.Keys.List(t.Context(), catalog.Query{Limit: 1}))
	s.logged(t, logbuf.Entry{KeyID: keys[0].ID, Model: "m", Status: 200, CostNanoUSD: cost(1_900_000_000),
		Time: time.Now()})
	eventually(t, "the budget is shown as spent", func() bool {
		got := b.get("budgets")
		return got.has("spender") && got.has("95 %") && got.has("$1.90 / $2.00")
	})
	if got := b.get(""); !got.has("80 % or more") || !got.has("spender") {
		t.Errorf("the overview: %s", got.text())
	}
	if got := b.get("budgets?over=96"); got.has("spender") {
		t.Errorf("over 96 %%: %s", got.text())
	}
	if got := b.get("budgets?over=x"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("no percentage: %d", got.status)
	}
}

// TestPricesAreImportedAsPlanned: what a price list changes is shown first, and done only if it is still
// the same. Prices that somebody has set stay.
func TestPricesAreImportedAsPlanned(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	b.made("providers", url.Values{"name": {"main"}, "type": {"openai"}, "models": {"gpt-x\nset\nfree"}})
	for _, fields := range []url.Values{{"name": {"gpt-x"}}, {"name": {"set"}, "input_price": {"7"}}, {"name": {"free"}}} {
		b.made("models", fields)
	}
	list := []byte(`{"gpt-x": {"litellm_provider": "openai", "input_cost_per_token": 1.5e-07,
			"output_cost_per_token": 8e-06},
		"set": {"litellm_provider": "openai", "input_cost_per_token": 1e-06},
		"free": {"litellm_provider": "openai", "input_cost_per_token": 0, "output_cost_per_token": 0}}`)
	price := func(name string) string {
		m := must[catalog.Model](t)(s.plane.Models.Find(t.Context(), catalog.ByNaturalKey, catalog.ModelKey("default", name)))
		if m.InputPrice == nil {
			return "unknown"
		}
		return m.InputPrice.String() + " of " + m.PriceSource
	}
	if got := b.get("models"); !got.has(`href="models/prices"`) {
		t.Error("the list of models does not lead to the import")
	}
	fields := url.Values{"map": {"openai=main\n"}}
	plan := b.upload("models/prices", list, fields)
	if plan.status != http.StatusOK || !plan.has("0.15") ||
		!plan.has("default.set</b>: has prices that a person has set") || !plan.has("default.free</b>: costs 0 by the list") {
		t.Fatalf("the plan: %d %s", plan.status, plan.text())
	}
	if got := price("gpt-x"); got != "unknown" {
		t.Fatalf("a plan has set the price %s", got)
	}
	if got := b.post("models/prices", plan.hidden()); !got.has("It is carried out") {
		t.Fatalf("apply: %d %s", got.status, got.text())
	}
	if x, set, free := price("gpt-x"), price("set"), price("free"); x != "0.15 of litellm" || set != "7 of manual" ||
		free != "unknown" {
		t.Errorf("prices: %s, %s, %s", x, set, free)
	}

	fields.Set("accept_free", "1")
	plan = b.upload("models/prices", list, fields)
	m := must[catalog.Model](t)(s.plane.Models.Find(t.Context(), catalog.ByNaturalKey, "default.free"))
	m.ContextWindow = 4711
	must[catalog.Model](t)(s.plane.Models.Put(t.Context(), m))
	if got := b.post("models/prices", plan.hidden()); got.status != http.StatusUnprocessableEntity ||
		!got.has("has changed meanwhile") || price("free") != "unknown" {
		t.Errorf("a model that has changed: %d %s", got.status, got.text())
	}

	for _, tc := range []struct{ list, mapped, want string }{
		{"no list", "openai=main", "is no price list"},
		{string(list), "", "the list has the providers openai"},
		{string(list), "azure=main", "does not have: it has openai"},
		{string(list), "openai=nobody", "no provider has this id"},
		{string(list), "openai", "must be THEIRS=OURS"},
	} {
		got := b.upload("models/prices", []byte(tc.list), url.Values{"map": {tc.mapped}})
		if got.status != http.StatusUnprocessableEntity || !got.has(tc.want) || !got.has(">"+tc.mapped+"</textarea>") {
			t.Errorf("%q: %d %s", tc.mapped, got.status, got.text())
		}
	}
	if got := s.signedIn(t, viewerToken).upload("models/prices", list, fields); got.status != http.StatusForbidden {
		t.Errorf("a viewer: %d", got.status)
	}
}

// TestNewestChangesAreShown: after a revision of many changes, the newest are shown all the same.
func TestNewestChangesAreShown(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	for _, many := range []int{1000, 30} {
		must[catalog.Revision](t)(s.plane.Update(t.Context(), func(tx *catalog.Tx) error {
			for i := range many {
				if _, err := tx.Keys.Create(t.Context(), catalog.Key{Name: fmt.Sprint("many-", i)}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	b.made("models", url.Values{"name": {"the-newest"}, "kind": {"chat"}})
	for _, path := range []string{"", "changes"} {
		if got := b.get(path); !got.has("the-newest") {
			t.Errorf("%q does not show the newest change: %.500s", path, got.text())
		}
	}
	got := b.get("changes")
	for range 2 { // a revision before the newest, and the one with many
		older := regexp.MustCompile(`href="(changes\?before=\d+)"`).FindStringSubmatch(got.body)
		if older == nil {
			t.Fatal("there is nothing older")
		}
		got = b.get(older[1])
	}
	next := regexp.MustCompile(`href="(changes\?after=[^"]+)"`).FindStringSubmatch(got.body)
	if !got.has("many-199") || next == nil {
		t.Fatalf("of a revision of many changes: %.500s", got.text())
	}
	if got := b.get(strings.ReplaceAll(next[1], "&amp;", "&")); !got.has("many-200") {
		t.Errorf("what comes next: %.500s", got.text())
	}
}
