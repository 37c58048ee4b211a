package console_test

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/html"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// hostileTexts are those that every field of a noun takes, without white space: groups have none.
func hostileTexts() map[string]string {
	return map[string]string{
		"script":  `<script>alert(1)</script>"'{{.}}` + "`</textarea></title>",
		"emoji":   strings.Repeat("😀", 256),
		"formula": `=HYPERLINK("http://evil","x")`,
		"arabic":  "ابجد-العربية",
		"event":   `"onmouseover="alert(1)`,
		"address": "javascript:alert(1)",
		"path":    `../../%2e%2e/?a=b&c#d`,
	}
}

// made makes one of each noun with a text in every field that takes it, and returns their pages.
func (s *site) hostile(t *testing.T, i int, text string) (pages []string) {
	t.Helper()
	ctx := catalog.WithActor(t.Context(), text, text)
	short := shortOf(text)
	meta := func() catalog.Meta {
		return catalog.Meta{ExternalID: text, Labels: map[string]string{"l": text}}
	}
	group := short
	price := catalog.NanoUSD(1_000_000_000)
	provider := must[catalog.Provider](t)(s.plane.Providers.Create(ctx, catalog.Provider{
		Meta: meta(), Name: text, Type: "openai", APIKey: catalog.NewSecret("sk-0123456789abcdef"), Group: group,
		Models: []string{short}, Options: map[string]any{text: map[string]any{text: text}},
		Prices: map[string]catalog.Prices{short: {InputPrice: &price}},
	}))
	model := must[catalog.Model](t)(s.plane.Models.Create(ctx, catalog.Model{
		Meta: meta(), Name: short, Kind: "chat", PriceSource: short,
	}))
	binding := must[catalog.Binding](t)(s.plane.Bindings.Create(ctx, catalog.Binding{
		Meta: meta(), Model: short, RouteGroup: group, ProviderGroup: group, SelectorValue: short,
	}))
	project := must[catalog.Project](t)(s.plane.Projects.Create(ctx, catalog.Project{
		Meta: meta(), Name: fmt.Sprintf("p%d", i), Models: []string{short}, Groups: []string{group},
	}))
	key := must[catalog.Key](t)(s.plane.Keys.Create(ctx, catalog.Key{
		Meta: meta(), Name: text, Project: project.Name, Group: group, Models: []string{short},
		Scopes: []string{short},
	}))
	hold := must[catalog.Hold](t)(s.plane.Holds.Create(ctx, catalog.Hold{
		Meta: meta(), Target: fmt.Sprintf("provider/%d/%s", provider.ID, short), Message: text,
	}))
	operator := must[catalog.Operator](t)(s.plane.Operators.Create(ctx, catalog.Operator{
		Meta: meta(), Name: short, Role: catalog.RoleViewer,
	}))
	ids := map[catalog.Kind]int64{
		catalog.KindProvider: provider.ID, catalog.KindModel: model.ID, catalog.KindBinding: binding.ID,
		catalog.KindProject: project.ID, catalog.KindKey: key.ID, catalog.KindHold: hold.ID,
		catalog.KindOperator: operator.ID,
	}
	for kind, id := range ids {
		path := fmt.Sprintf("%s/%d", kind, id)
		pages = append(pages, string(kind), string(kind)+"?q="+url.QueryEscape(text), path, path+"/edit",
			path+"/status", path+"/delete", string(kind)+"/new?name="+url.QueryEscape(text),
			fmt.Sprintf("changes?kind=%s&id=%d", kind, id))
	}
	e := logbuf.Entry{
		ID: uuid.Must(uuid.NewV7()), Time: time.Now(), Status: 500, KeyID: key.ID, ProviderID: provider.ID,
		RequestID: text, Balancer: text, Namespace: text, Model: short, UpstreamModel: text, Group: text, Endpoint: text,
		Error: text + "\u202e", ClientIP: text, UserAgent: "\u202e" + text, User: text,
		Tags: map[string]string{"t": text, short: text}, Revision: text, Project: project.Name,
	}
	s.logged(t, e, logbuf.Entry{Status: 200, Model: short, ProviderID: provider.ID, KeyID: key.ID, InputTokens: 1})
	explain := fmt.Sprintf("explain?key_id=%d&model=%s", key.ID, url.QueryEscape(short))
	return append(pages, explain, "bindings/selector?provider_group="+url.QueryEscape(group)+"&model="+
		url.QueryEscape(short), "keys/new?project="+project.Name+"&group="+url.QueryEscape(text),
		"logs?model="+url.QueryEscape(short), "logs?user="+url.QueryEscape(text),
		"usage?group_by=model&group_by=key&group_by=provider&model="+url.QueryEscape(short))
}

// shortOf returns as much of a text as every field takes.
func shortOf(text string) string {
	r := []rune(text)
	return string(r[:min(len(r), 63)])
}

var nameless = regexp.MustCompile(`^(projects/\d+/(status|delete)|holds/new.*)$`)

// TestHostileNames: whatever text a field of any noun takes is text on every page, list, chart and CSV.
func TestHostileNames(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	i := 0
	for name, text := range hostileTexts() {
		i++
		pages := append(s.hostile(t, i, text), "", "logs", "usage?group_by=model&group_by=group", "changes", "budgets",
			"unpriced", "alerts", "system", "revert?to=1")
		found := b.get("logs?model=" + url.QueryEscape(shortOf(text))).body
		entry := regexp.MustCompile(`logs/entry\?[^"]*`).FindString(found)
		for _, page := range append(pages, unescape(entry)) {
			got := b.get(page)
			if got.status != http.StatusOK {
				t.Errorf("%s, %s: %d %s", name, page, got.status, got.text())
			}
			for _, fault := range foreignParts(t, got.body) {
				t.Errorf("%s, %s: %s", name, page, fault)
			}
			// Of projects and holds, these pages show names that are paths and targets.
			shown := strings.Contains(page, "/") && !nameless.MatchString(page)
			if shown && !strings.Contains(unescape(got.body), shortOf(text)) {
				t.Errorf("%s: %s does not show it", name, page)
			}
		}
		for _, path := range []string{"logs.csv?model=" + url.QueryEscape(shortOf(text)),
			"usage.csv?group_by=model&group_by=key&model=" + url.QueryEscape(shortOf(text))} {
			table, err := csv.NewReader(strings.NewReader(b.get(path).body)).ReadAll()
			if err != nil || len(table) < 2 {
				t.Errorf("%s: %d rows, %v", path, len(table), err)
			}
			for _, cell := range slices.Concat(table...) {
				if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
					t.Errorf("%s has the cell %q", path, cell)
				}
			}
		}
	}
}

// TestOverridesAreRefused: a text that is shown as another is no name, in any field of any noun.
func TestOverridesAreRefused(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	for _, sample := range samples() {
		for field := range sample.form {
			if slices.Contains([]string{"api_key", "type", "kind", "role", "selector_type", "expires_at", "auto_ban",
				"supports_stream"}, field) {
				continue
			}
			form := url.Values{}
			for name, values := range sample.form {
				form[name] = values
			}
			form.Set(field, "a\u202eb")
			if got := b.post(sample.path+"/new", form); got.status != http.StatusUnprocessableEntity {
				t.Errorf("%s of %s: %d", field, sample.path, got.status)
			}
		}
		if sample.path != "holds" { // a project is what the hold is about
			b.made(sample.path, sample.form)
		}
	}
}

// foreignParts finds what a page has that the console has not put there.
func foreignParts(t *testing.T, page string) (faults []string) {
	t.Helper()
	tree, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range tree.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if slices.Contains([]string{"iframe", "object", "embed", "style", "template"}, n.Data) {
			faults = append(faults, "an element "+n.Data)
		}
		src := ""
		for _, a := range n.Attr {
			if a.Key == "src" {
				src = a.Val
			}
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "srcdoc" {
				faults = append(faults, "an attribute "+a.Key)
			}
			if slices.Contains([]string{"href", "src", "action", "formaction"}, a.Key) &&
				(strings.HasPrefix(strings.TrimSpace(a.Val), "javascript:") || strings.Contains(a.Val, "://")) {
				faults = append(faults, a.Key+" "+a.Val)
			}
		}
		if n.Data == "script" && !strings.HasPrefix(src, "static/console.") {
			faults = append(faults, "a script "+src)
		}
	}
	return faults
}
