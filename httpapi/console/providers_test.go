package console_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

// vendor is a provider that lists models and answers one token of chat. It knows one credential.
func vendor(t *testing.T, models ...string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	allowed := func(w http.ResponseWriter, r *http.Request) bool {
		ok := r.Header.Get("Authorization") == "Bearer sk-vendor-0123456789"
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
		}
		return ok
	}
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		if !allowed(w, r) {
			return
		}
		var list []string
		for _, m := range models {
			list = append(list, fmt.Sprintf(`{"id": %q}`, m))
		}
		_, _ = io.WriteString(w, `{"object": "list", "data": [`+strings.Join(list, ",")+`]}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		if allowed(w, r) {
			_, _ = io.WriteString(w, `{"object": "chat.completion", "choices": [{"message": {"content": "a"}}],
				"usage": {"prompt_tokens": 1, "completion_tokens": 1}}`)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// TestProvidersAreAskedAndFilled: a test of each kind, what it lists, and what was ticked.
func TestProvidersAreAskedAndFilled(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	const evil = "<script>alert(1)</script>"
	server := vendor(t, "large", "small", "other", evil)
	form := url.Values{"name": {"v"}, "type": {"compatible"}, "base_url": {server.URL + "/v1"}, "models": {"large"},
		"api_key": {"sk-vendor-0123456789"}}
	path := b.made("providers", form)
	for kind, label := range map[string]string{"models": "list models", "chat": "one token of chat"} {
		got := b.post(path+"/test", url.Values{"kind": {kind}})
		if got.status != http.StatusOK || !got.has("answered as it should") || !got.has(label) {
			t.Errorf("%s: %d %s", kind, got.status, got.text())
		}
	}
	got := b.get(path + "/upstream-models")
	if got.status != http.StatusOK || !got.has("Models: 4.") || !got.has(`checked disabled>large`) ||
		!got.has(`value="small"`) || got.has("<script>alert") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := b.get(path + "/upstream-models?q=SMA"); !got.has(`value="small"`) || got.has(`value="other"`) {
		t.Errorf("the filter: %s", got.text())
	}
	// Somebody else adds one meanwhile: nothing is lost.
	must[catalog.Provider](t)(s.plane.Providers.Edit(t.Context(), 1,
		func(p *catalog.Provider) error { p.Models = append(p.Models, "theirs"); return nil }))
	got = b.post(path+"/upstream-models", url.Values{"models": {"small", "other"}})
	p := must[catalog.Provider](t)(s.plane.Providers.Get(t.Context(), 1))
	if got.status != http.StatusOK || fmt.Sprint(p.Models) != "[large theirs small other]" {
		t.Errorf("%d: it serves %v", got.status, p.Models)
	}

	viewer := s.signedIn(t, viewerToken)
	if page := viewer.get(path); page.has("/test\"") || page.has("upstream-models") {
		t.Error("a viewer is shown what only admins may do")
	}
	for _, refused := range []answer{
		viewer.post(path+"/test", url.Values{"kind": {"models"}}), viewer.get(path + "/upstream-models"),
		viewer.post(path+"/upstream-models", url.Values{"models": {"x"}}),
	} {
		if refused.status != http.StatusForbidden {
			t.Errorf("a viewer: %d %s", refused.status, refused.text())
		}
	}

	form.Set("name", "w")
	form.Set("api_key", "sk-another-0123456789")
	wrong := b.made("providers", form)
	if got := b.post(wrong+"/test", url.Values{"kind": {"models"}}); got.status != http.StatusOK ||
		!got.has("credential is refused") || !got.has("status was 401") {
		t.Errorf("with another credential: %d %s", got.status, got.text())
	}
}

// TestProviderPageSaysHowItDoes: its health, over time and now; what holds it; and what uses it.
func TestProviderPageSaysHowItDoes(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	path := b.made("providers", url.Values{"name": {"v"}, "type": {"openai"}, "api_key": {"sk-0123456789abcdef"},
		"models": {"large"}})
	b.made("models", url.Values{"name": {"m"}, "kind": {"chat"}})
	b.made("models", url.Values{"name": {"n"}, "kind": {"chat"}})
	b.made("bindings", url.Values{"model": {"m"}, "selector_value": {"large"}})
	b.made("bindings", url.Values{"model": {"n"}, "selector_value": {"nothing"}})
	b.made("holds", url.Values{"target": {"provider/1/large"}, "message": {"maintenance"}})
	for _, status := range []int{200, 503} {
		e := logbuf.Entry{ID: uuid.Must(uuid.NewV7()), Time: time.Now(), Namespace: "default", KeyID: 1, ProviderID: 1,
			Model: "m", UpstreamModel: "large", Status: status}
		if status == 503 {
			e.Failures = []logbuf.Failure{{ProviderID: 1, UpstreamModel: "large", Class: logbuf.FailedServer}}
		}
		if err := s.plane.AppendLogs(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.plane.Logs().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := b.get(path)
	for _, want := range []string{"default.m", "default.n", "none", "maintenance", "Failures by class", `class="failed"`,
		`href="holds/new?target=provider%2f1"`} {
		if !got.has(want) {
			t.Errorf("the page does not say %s: %s", want, got.text())
		}
	}
	eventually(t, "the health is shown", func() bool { return b.get(path).has("server error 1") })
	if got := b.get(""); !strings.Contains(got.text(), "v · large") || !got.has("maintenance") {
		t.Errorf("the overview does not name what is held: %s", got.text())
	}
}
