package upstreams_test

import (
	stdcmp "cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/upstreams"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/memstore"
)

const upstreamKey = "sk-do-not-show-this"

// An upstream answers as it is told, and keeps what it was asked.
type upstreamDouble struct {
	*httptest.Server
	answer http.HandlerFunc
	asked  string // method, path and query
	header http.Header
	body   map[string]any
}

func newUpstream(t *testing.T, answer http.HandlerFunc) *upstreamDouble {
	u := &upstreamDouble{answer: answer}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.asked, u.header = r.Method+" "+r.URL.RequestURI(), r.Header
		u.body = nil
		_ = json.NewDecoder(r.Body).Decode(&u.body)
		u.answer(w, r)
	}))
	t.Cleanup(u.Close)
	return u
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// A desk is a catalog, and what asks its providers.
type desk struct {
	*catalog.Tables
	*upstreams.Tester
}

func newDesk(privacy catalog.Privacy) desk {
	tables := catalog.NewTables(memstore.New(nil), catalog.NewRandomKeyRing(),
		&catalog.Options{AllowPrivateUpstreams: true})
	return desk{tables, upstreams.NewTester(tables.Providers, privacy)}
}

func tested(t *testing.T, desk desk, p catalog.Provider) catalog.Provider {
	t.Helper()
	p.Name, p.APIKey = fmt.Sprint("p", time.Now().UnixNano()), catalog.NewSecret(upstreamKey)
	p, err := desk.Providers.Create(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Each type is asked in the words of its API.
func TestProviderIsAskedInItsWords(t *testing.T) {
	desk := newDesk(catalog.AllowPrivate)
	const openAI, gemini = `{"data":[{"id":"m1"},{"id":"m2"}]}`, `{"models":[{"name":"models/m1"},{"name":"models/m2"}]}`
	for name, c := range map[string]struct {
		typ, base          string
		list               string
		models, chat       string
		header, value, key string // and the body's field that bounds the answer
	}{
		"openai": {"openai", "/v1", openAI, "GET /v1/models", "POST /v1/chat/completions", "Authorization",
			"Bearer " + upstreamKey, "max_completion_tokens"},
		"without /v1": {"openai", "/", openAI, "GET /v1/models", "POST /v1/chat/completions", "Authorization",
			"Bearer " + upstreamKey, "max_completion_tokens"},
		"compatible": {"compatible", "/x/v1/", openAI, "GET /x/v1/models", "POST /x/v1/chat/completions",
			"Authorization", "Bearer " + upstreamKey, "max_tokens"},
		"not below /v1": {"compatible", "/api/paas/v4", openAI, "GET /api/paas/v4/models",
			"POST /api/paas/v4/chat/completions", "Authorization", "Bearer " + upstreamKey, "max_tokens"},
		"azure": {"azure", "", openAI, "GET /openai/models?api-version=2024-10-21",
			"POST /openai/deployments/org%2Fm/chat/completions?api-version=2024-10-21", "Api-Key", upstreamKey,
			"max_completion_tokens"},
		"azure, newer": {"azure", "/openai/v1", openAI, "GET /openai/v1/models",
			"POST /openai/v1/chat/completions", "Api-Key", upstreamKey, "max_completion_tokens"},
		"anthropic": {"anthropic", "", openAI, "GET /v1/models?limit=1000", "POST /v1/messages", "X-Api-Key",
			upstreamKey, "max_tokens"},
		"gemini": {"gemini", "", gemini, "GET /v1beta/models?pageSize=1000",
			"POST /v1beta/models/org%2Fm:generateContent", "X-Goog-Api-Key", upstreamKey, "generationConfig"},
		"gemini, with its path": {"gemini", "/v1beta", gemini, "GET /v1beta/models?pageSize=1000",
			"POST /v1beta/models/org%2Fm:generateContent", "X-Goog-Api-Key", upstreamKey, "generationConfig"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					answer(200, c.list)(w, r)
					return
				}
				field := map[string]string{"anthropic": "content", "gemini": "candidates"}[c.typ]
				answer(200, fmt.Sprintf(`{%q:[]}`, stdcmp.Or(field, "choices")))(w, r)
			})
			p := tested(t, desk, catalog.Provider{Type: c.typ, BaseURL: u.URL + c.base, Models: []string{"o*", "org/m"}})
			r, err := desk.Test(t.Context(), p.ID, upstreams.Models, "")
			if err != nil || !r.OK || r.Status != 200 || !slices.Equal(r.Models, []string{"m1", "m2"}) || r.Latency <= 0 {
				t.Errorf("models: %+v, %v", r, err)
			}
			if u.asked != c.models || u.header.Get(c.header) != c.value || u.body != nil {
				t.Errorf("asked %s with %v", u.asked, u.header)
			}
			r, err = desk.Test(t.Context(), p.ID, upstreams.Chat, "")
			if err != nil || !r.OK || r.Models != nil {
				t.Errorf("chat: %+v, %v", r, err)
			}
			if u.asked != c.chat || u.header.Get(c.header) != c.value || u.body[c.key] == nil {
				t.Errorf("asked %s with %v, %v", u.asked, u.header, u.body)
			}
		})
	}
}

func names(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("m", i))
	}
	return names
}

// longList is the answer of a provider with n models.
func longList(n int) string {
	return `{"data":[{"id":"` + strings.Join(names(n), `"},{"id":"`) + `"}]}`
}

// What a provider answers is not read beyond a bound, so that it cannot fill the memory.
func TestEndlessAnswersAreCutOff(t *testing.T) {
	desk := newDesk(catalog.AllowPrivate)
	cut := make(chan bool, 1)
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		block := strings.Repeat(" ", 1<<20)
		for range 64 {
			if _, err := io.WriteString(w, block); err != nil {
				cut <- true
				return
			}
		}
		cut <- false
	})
	p := tested(t, desk, catalog.Provider{Type: "compatible", BaseURL: u.URL})
	r, err := desk.Test(t.Context(), p.ID, upstreams.Models, "")
	if err != nil || r.Class != logbuf.FailedServer || !<-cut {
		t.Errorf("%+v, %v; want an answer that is not read to its end", r, err)
	}
}

// A chat that was answered with something else has not worked.
func TestAChatIsJudgedByItsAnswer(t *testing.T) {
	desk := newDesk(catalog.AllowPrivate)
	for body, works := range map[string]bool{
		`{"choices":[{}]}`: true, `{"data":[]}`: false, `{}`: false, `[]`: false, `{"choices":null}`: false, `<html>`: false,
	} {
		u := newUpstream(t, answer(200, body))
		p := tested(t, desk, catalog.Provider{Type: "compatible", BaseURL: u.URL, Models: []string{"m"}})
		r, err := desk.Test(t.Context(), p.ID, upstreams.Chat, "")
		if err != nil || r.OK != works || !works && r.Class != logbuf.FailedServer {
			t.Errorf("%s: %+v, %v", body, r, err)
		}
	}
}

// What an answer means, and that nothing of it but names is told.
func TestProviderAnswersAreClassified(t *testing.T) {
	desk := newDesk(catalog.AllowPrivate)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		class  logbuf.FailureClass
		models []string
		cut    bool
	}{
		"unauthorized":         {answer: answer(401, upstreamKey), class: "auth"},
		"forbidden":            {answer: answer(403, ""), class: "auth"},
		"Gemini's invalid key": {answer: answer(400, `{"error":{"details":[{"reason":"API_KEY_INVALID"}]}}`), class: "auth"},
		"Anthropic's credit":   {answer: answer(400, `{"error":{"message":"Your credit balance is too low"}}`), class: "billing"},
		"OpenAI's quota":       {answer: answer(429, `{"error":{"code":"insufficient_quota"}}`), class: "billing"},
		"payment required":     {answer: answer(402, ""), class: "billing"},
		"too many requests":    {answer: answer(429, ""), class: "rate"},
		"bad request":          {answer: answer(400, ""), class: "client"},
		"not found":            {answer: answer(404, ""), class: "client"},
		"elsewhere": {answer: func(w http.ResponseWriter,
			r *http.Request) {
			http.Redirect(w, r, "/else", http.StatusFound)
		}, class: "client"},
		"error":      {answer: answer(500, ""), class: "server"},
		"overloaded": {answer: answer(529, ""), class: "overload"},
		"cut off": {answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			class: "network"},
		"no JSON":                {answer: answer(200, "<html>"), class: "server"},
		"JSON of something else": {answer: answer(200, `{"data":"x"}`), class: "server"},
		"too large":              {answer: answer(200, strings.Repeat(" ", 5<<20)), class: "server"},
		"names that are none": {answer: answer(200, `{"data":[{"id":"a\u0000b"},{"id":7},{"id":"`+strings.Repeat("x", 257)+`"},{"id":"m"}]}`),
			models: []string{"m"}, cut: true},
		"a long list": {answer: answer(200, longList(10_001)), models: names(10_000), cut: true},
		"an echo, patterns and doubles": {answer: answer(200,
			`{"data":[{"id":"x`+upstreamKey+`"},{"id":"*"},{"id":"gpt-*"},{"id":"m"},{"id":"m"}]}`),
			models: []string{"m"}, cut: true},
		"no list": {answer: answer(200, `{"data":null}`), class: "server"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, c.answer)
			p := tested(t, desk, catalog.Provider{Type: "compatible", BaseURL: u.URL})
			r, err := desk.Test(t.Context(), p.ID, upstreams.Models, "")
			if err != nil || r.Class != c.class || r.OK != (c.class == "") || r.Cut != c.cut {
				t.Errorf("%+v, %v; want %s", r, err, c.class)
			}
			if diff := cmp.Diff(c.models, r.Models); diff != "" {
				t.Errorf("models (-want +got):\n%s", diff)
			}
			if text := fmt.Sprint(r, err); strings.Contains(text, upstreamKey) {
				t.Errorf("shows what the upstream sent: %s", text)
			}
		})
	}
}

// Addresses are looked at when they are dialled, and those of the catalog before.
func TestProviderAtPrivateAddress(t *testing.T) {
	u := newUpstream(t, answer(200, `{"data":[]}`))
	public := newDesk(catalog.PublicOnly)
	p := tested(t, public, catalog.Provider{Type: "compatible", BaseURL: u.URL})
	if _, err := public.Test(t.Context(), p.ID, upstreams.Models, ""); !errors.Is(err, upstreams.ErrUntestable) ||
		u.asked != "" {
		t.Errorf("a private address: %v; asked %s", err, u.asked)
	}
}

// Others cannot be tested, and say why.
func TestProvidersThatCannotBeTested(t *testing.T) {
	desk := newDesk(catalog.AllowPrivate)
	u := newUpstream(t, answer(200, `{"data":[]}`))
	for name, p := range map[string]catalog.Provider{
		"bedrock":          {Type: "bedrock"},
		"custom":           {Type: "custom", BaseURL: u.URL},
		"only patterns":    {Type: "openai", BaseURL: u.URL, Models: []string{"gpt-*"}},
		"no models at all": {Type: "openai", BaseURL: u.URL},
	} {
		p = tested(t, desk, p)
		if _, err := desk.Test(t.Context(), p.ID, upstreams.Chat, ""); !errors.Is(err, upstreams.ErrUntestable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := desk.Test(t.Context(), 999, upstreams.Chat, ""); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("no provider: %v", err)
	}
	if u.asked != "" {
		t.Errorf("asked %s", u.asked)
	}
}

// People ask at most so often; a question ends with who asked it.
func TestProviderTestsAreLimited(t *testing.T) {
	desk := newDesk(catalog.AllowPrivate)
	u := newUpstream(t, answer(200, `{"data":[]}`))
	p := tested(t, desk, catalog.Provider{Type: "compatible", BaseURL: u.URL})
	other := tested(t, desk, catalog.Provider{Type: "compatible", BaseURL: u.URL})
	test := func(id int64) error {
		_, err := desk.Test(t.Context(), id, upstreams.Models, "")
		return err
	}
	for range 5 {
		if err := test(p.ID); err != nil {
			t.Fatal(err)
		}
	}
	soon, ok := errors.AsType[*upstreams.TooSoonError](test(p.ID))
	if !ok || soon.After <= 0 || soon.After > 10*time.Second || test(other.ID) != nil {
		t.Errorf("%+v", soon)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var reached atomic.Bool
	u.answer = func(_ http.ResponseWriter, r *http.Request) {
		reached.Store(true)
		cancel()
		<-r.Context().Done()
	}
	if _, err := desk.Test(ctx, other.ID, upstreams.Models, ""); !errors.Is(err, context.Canceled) ||
		!reached.Load() {
		t.Errorf("given up: %v", err)
	}
}
