package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// A bench is a gateway with two upstreams, the first preferred, and a key.
type bench struct {
	url   string
	token string
	first http.HandlerFunc // what they answer with
	spare http.HandlerFunc
	logs  *notebook
	plane *ezapi.Plane
	g     *gateway
}

func newBench(t *testing.T) *bench {
	t.Helper()
	plane, err := ezapi.New(ezapi.Config{AllowPrivateUpstreams: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plane.Close(context.Background()) })
	b := &bench{first: reply("first"), spare: reply("spare"), logs: &notebook{}, plane: plane}
	ctx := t.Context()
	for i, handler := range []http.HandlerFunc{
		func(w http.ResponseWriter, r *http.Request) { b.first(w, r) },
		func(w http.ResponseWriter, r *http.Request) { b.spare(w, r) },
	} {
		upstream := httptest.NewServer(handler)
		t.Cleanup(upstream.Close)
		if _, err := plane.Providers.Create(ctx, ezapi.Provider{
			Name: fmt.Sprintf("p%d", i+1), Type: "compatible", BaseURL: upstream.URL +
				"/v1", APIKey: catalog.NewSecret(fmt.Sprintf("sk-upstream-%d", i+1)),
			Models: []string{"real-name"}, Priority: -i,
		}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := plane.Models.Create(ctx, ezapi.Model{Name: "public-name"}); err != nil {
		t.Fatal(err)
	}
	if _, err := plane.Bindings.Create(ctx, ezapi.Binding{Model: "public-name", SelectorValue: "real-name"}); err != nil {
		t.Fatal(err)
	}
	key, err := plane.Keys.Create(ctx, ezapi.Key{Name: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	b.token = key.Token.Reveal()

	b.g = &gateway{name: "test", breaker: snapshot.NewBreaker(nil),
		client: upstreamClient(catalog.AllowPrivate, time.Minute),
		logs:   b.logs, logger: slog.New(slog.DiscardHandler)}
	b.publish(t)
	server := httptest.NewServer(b.g.handler())
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

// publish makes the gateway see what the plane holds.
func (b *bench) publish(t *testing.T) {
	t.Helper()
	if _, err := b.plane.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	view, err := snapshot.LoadView(t.Context(), b.plane.Publisher(), nil)
	if err != nil {
		t.Fatal(err)
	}
	b.g.view = func() *snapshot.View { return view }
}

// post sends a chat request and returns status and body.
func (b *bench) post(t *testing.T, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+endpoint, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		text = append(text, " BROKEN OFF"...)
	}
	return resp.StatusCode, string(text)
}

// A notebook is a log buffer that keeps what it gets.
type notebook struct {
	logbuf.Buffer
	mu      sync.Mutex
	entries []logbuf.Entry
}

func (n *notebook) Append(_ context.Context, entries ...logbuf.Entry) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.entries = append(n.entries, entries...)
	return nil
}

// only returns the one entry that there has to be, soon.
func (n *notebook) only(t *testing.T) logbuf.Entry {
	t.Helper()
	for range 1000 {
		n.mu.Lock()
		entries := n.entries
		n.mu.Unlock()
		if len(entries) == 1 {
			return entries[0]
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("the log does not have one entry: %+v", n.entries)
	return logbuf.Entry{}
}

const endpoint = "/v1/chat/completions"

const chatBody = `{"model":"public-name","messages":[],"temperature":0.5}`

// reply answers with who answers, and what was asked.
func reply(who string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var asked map[string]any
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"from": who, "path": r.URL.Path, "authorization": r.Header.Get(
				"Authorization"), "asked": asked, "choices": []any{nil},
			"usage": map[string]any{"prompt_tokens": 10, "completion_tokens": 4,
				"prompt_tokens_details": map[string]any{"cached_tokens": 3}},
		})
	}
}

// answerWith answers with a status alone.
func answerWith(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func dropConnection(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestChat(t *testing.T) {
	b := newBench(t)
	status, text := b.post(t, b.token, chatBody)
	var got map[string]any
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	want := map[string]any{"model": "real-name", "messages": []any{}, "temperature": 0.5}
	if diff := cmp.Diff(want, got["asked"]); diff != "" {
		t.Errorf("the upstream was asked (-want +got):\n%s", diff)
	}
	if got["from"] != "first" || got["path"] != endpoint || got["authorization"] != "Bearer sk-upstream-1" {
		t.Errorf("answer %v", got)
	}
	e := b.logs.only(t)
	if e.Status != 200 || e.Attempts != 1 || e.Model != "public-name" || e.UpstreamModel != "real-name" ||
		e.KeyID == 0 || e.ProviderID == 0 ||
		e.InputTokens != 7 || e.CacheReadTokens != 3 || e.OutputTokens != 4 || e.Namespace != "default" ||
		e.Group != "default" ||
		e.LatencyMS == 0 || e.TTFTMS == 0 || e.RequestID == "" || e.ClientIP != "127.0.0.1" || e.Balancer != "test" ||
		e.Revision == "" || e.Error != "" {
		t.Errorf("logged %+v", e)
	}
}

func TestRetriesOnTheNextTarget(t *testing.T) {
	for name, tc := range map[string]struct {
		first, spare http.HandlerFunc
		status       int
		attempts     int
		contains     string
	}{
		"too many requests":    {first: answerWith(429), status: 200, attempts: 2, contains: `"spare"`},
		"server error":         {first: answerWith(503), status: 200, attempts: 2, contains: `"spare"`},
		"connection broken":    {first: dropConnection, status: 200, attempts: 2, contains: `"spare"`},
		"a client's own error": {first: answerWith(400), status: 400, attempts: 1},
		"the last one counts":  {first: answerWith(503), spare: answerWith(429), status: 429, attempts: 2},
		"nobody can be reached": {first: dropConnection, spare: dropConnection, status: 502, attempts: 2,
			contains: "no upstream"},
		"its credential is refused": {first: answerWith(401), status: 200, attempts: 2, contains: `"spare"`},
		"all credentials are refused": {first: answerWith(401), spare: answerWith(403), status: 502, attempts: 2,
			contains: "no upstream"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.first = tc.first
			if tc.spare != nil {
				b.spare = tc.spare
			}
			status, text := b.post(t, b.token, chatBody)
			if status != tc.status || !strings.Contains(text, tc.contains) {
				t.Errorf("%d %s, want %d with %s", status, text, tc.status, tc.contains)
			}
			if e := b.logs.only(t); e.Status != tc.status || e.Attempts != tc.attempts || (e.Error == "") != (tc.status == 200) {
				t.Errorf("logged %+v", e)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		token  string
		body   string
		edit   func(*ezapi.Key)
		status int
	}{
		"no token":      {token: " ", body: chatBody, status: 401},
		"unknown token": {token: "ez-nobody", body: chatBody, status: 401},
		"disabled key":  {edit: func(k *ezapi.Key) { k.Status = "disabled" }, body: chatBody, status: 401},
		"expired key": {edit: func(k *ezapi.Key) { k.ExpiresAt = time.Now().Add(-time.Hour) }, body: chatBody,
			status: 401},
		"elsewhere":          {edit: func(k *ezapi.Key) { k.AllowIPs = []string{"192.0.2.1"} }, body: chatBody, status: 403},
		"model not on list":  {edit: func(k *ezapi.Key) { k.Models = []string{"other"} }, body: chatBody, status: 403},
		"unknown model":      {body: `{"model":"nope"}`, status: 404},
		"nobody serves it":   {edit: func(k *ezapi.Key) { k.Group = "lonely" }, body: chatBody, status: 503},
		"no model":           {body: `{"messages":[]}`, status: 400},
		"not JSON":           {body: `model=x`, status: 400},
		"null":               {body: `null`, status: 400},
		"model is no string": {body: `{"model":7}`, status: 400},
		"too large":          {body: `{"model":"` + strings.Repeat("x", maxBody) + `"}`, status: 413},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if tc.edit != nil {
				_, err := b.plane.Keys.Edit(t.Context(), b.keyID(t), func(k *ezapi.Key) error { tc.edit(k); return nil })
				if err != nil {
					t.Fatal(err)
				}
				b.publish(t)
			}
			token := tc.token
			if token == "" {
				token = b.token
			}
			status, text := b.post(t, token, tc.body)
			if status != tc.status || !strings.Contains(text, `"error":{"message":`) {
				t.Errorf("%d %s, want %d", status, text, tc.status)
			}
			if e := b.logs.only(t); e.Status != tc.status || e.Error == "" || e.Attempts != 0 {
				t.Errorf("logged %+v", e)
			}
		})
	}
}

// A key that is held is told when to come back.
func TestHeldKey(t *testing.T) {
	b := newBench(t)
	_, err := b.plane.Holds.Create(t.Context(), catalog.Hold{
		Target: catalog.HoldTarget{KeyID: b.keyID(t)}.String(), Reason: catalog.HoldBudget, Until: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.publish(t)
	status, text := b.post(t, b.token, chatBody)
	if status != http.StatusTooManyRequests || !strings.Contains(text, "its budget is used up") {
		t.Errorf("%d %s", status, text)
	}
}

func (b *bench) keyID(t *testing.T) int64 {
	t.Helper()
	key, err := b.plane.Keys.Authenticate(t.Context(), catalog.NewSecret(b.token))
	if err != nil {
		t.Fatal(err)
	}
	return key.ID
}

// stream answers with server-sent events, after the upstream has checked that
// it is asked for the usage.
func stream(events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"include_usage":true`) {
			http.Error(w, "not asked for the usage", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range events {
			if e == "BREAK" {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprintf(w, "data: %s\n\n", e)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

const (
	piece     = `{"choices":[{"delta":{"content":"hi"}}],"usage":null}`
	lastUsage = `{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}`
)

func TestStream(t *testing.T) {
	for name, tc := range map[string]struct {
		options string
		events  []string
		want    string
		tokens  int64
		err     string
	}{
		"usage is kept back": {events: []string{piece, lastUsage, "[DONE]"},
			want: "data: " + piece + "\n\ndata: [DONE]\n\n", tokens: 5},
		"usage is passed on":     {options: `,"stream_options":{"include_usage":true}`, events: []string{lastUsage}, want: "data: " + lastUsage + "\n\n", tokens: 5},
		"other options are kept": {options: `,"stream_options":{"x":1}`, events: []string{piece}, want: "data: " + piece + "\n\n"},
		"a break is not an end": {events: []string{piece, "BREAK"}, want: "data: " + piece + "\n\n BROKEN OFF",
			err: "broke off"},
		"usage beside the content": {events: []string{`{"choices":[{}],"usage":{"prompt_tokens":9}}`}, want: "data: " + `{"choices":[{}],"usage":{"prompt_tokens":9}}` + "\n\n", tokens: 9},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.first = stream(tc.events...)
			status, text := b.post(t, b.token, `{"model":"public-name","stream":true`+tc.options+`}`)
			if status != http.StatusOK {
				t.Fatalf("%d %s", status, text)
			}
			if diff := cmp.Diff(tc.want, text); diff != "" {
				t.Errorf("streamed (-want +got):\n%s", diff)
			}
			e := b.logs.only(t)
			if tc.tokens == 0 { // no usage came
				tc.tokens = e.InputTokens
				if e.InputTokens == 0 || e.OutputTokens != 1 || e.Tags["usage"] != "estimated" {
					t.Errorf("an answer without usage is logged as %+v", e)
				}
			}
			if !e.Stream || e.InputTokens != tc.tokens || e.TTFTMS == 0 || !strings.Contains(e.Error, tc.err) ||
				(e.Error == "") != (tc.err == "") {
				t.Errorf("logged %+v", e)
			}
		})
	}
}

// TestStreamIsFlushed sees the first event while the upstream still waits.
func TestStreamIsFlushed(t *testing.T) {
	b := newBench(t)
	seen := make(chan struct{})
	b.first = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: %s\n\n", piece)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-seen:
		case <-r.Context().Done():
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+endpoint, strings.NewReader(`{"model":"public-name","stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, len(piece)+8)
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "data: "+piece+"\n\n" {
		t.Fatalf("read %q, %v", first, err)
	}
	close(seen)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("then %q, %v", rest, err)
	}
}

func TestHealthNeedsASnapshot(t *testing.T) {
	b := newBench(t)
	get := func() int {
		resp, err := http.Get(b.url + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if got := get(); got != http.StatusOK {
		t.Errorf("with a snapshot: %d", got)
	}
	b.g.view = func() *snapshot.View { return &snapshot.View{} }
	if got := get(); got != http.StatusServiceUnavailable {
		t.Errorf("without: %d", got)
	}
}

func TestOtherProtocolsAreNotSpoken(t *testing.T) {
	p := &snapshot.Provider{ProviderDoc: snapshot.ProviderDoc{Type: "anthropic"}}
	if _, err := upstreamURL(p, endpoint); err == nil {
		t.Error("no error")
	}
	for base, want := range map[string]string{
		"":                          "https://api.openai.com/v1/chat/completions",
		"https://proxy.example":     "https://proxy.example/v1/chat/completions",
		"https://proxy.example/v1/": "https://proxy.example/v1/chat/completions",
		"https://proxy.example/a":   "https://proxy.example/a/chat/completions",
	} {
		p.Type, p.BaseURL = "openai", base
		if got, err := upstreamURL(p, endpoint); err != nil || got != want {
			t.Errorf("upstreamURL(%q) = %q, %v; want %q", base, got, err, want)
		}
	}
}

// The gateway does not follow a redirect of an upstream, because the secret would go with it to an
// address that nobody has checked.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var reached atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer elsewhere.Close()
	upstream := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer upstream.Close()
	resp, err := upstreamClient(catalog.AllowPrivate, time.Minute).
		Post(upstream.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusTemporaryRedirect || reached.Load() {
		t.Errorf("status %d; the redirect was followed: %t", resp.StatusCode, reached.Load())
	}
}

// Where upstreams are to be public, a secret goes to no address of this machine, whatever the name was when
// it was checked.
func TestPrivateUpstreamsAreNotDialled(t *testing.T) {
	var reached atomic.Bool
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer upstream.Close()
	resp, err := upstreamClient(catalog.PublicOnly, time.Minute).Get(upstream.URL)
	if err == nil {
		resp.Body.Close() //nolint:errcheck // only read
	}
	if !errors.Is(err, catalog.ErrPrivateAddress) || reached.Load() {
		t.Errorf("%v; reached: %t", err, reached.Load())
	}
	for _, tc := range []struct {
		listen, setting string
		want            catalog.Privacy
		ok              bool
	}{
		{"127.0.0.1:9000", "", catalog.AllowPrivate, true}, {"[::1]:9000", "", catalog.AllowPrivate,
			true}, {"localhost:0", "", catalog.AllowPrivate, true},
		{"0.0.0.0:9000", "", catalog.PublicOnly, true}, {":9000", "", catalog.PublicOnly, true}, {"192.0.2.1:9000", "",
			catalog.PublicOnly, true},
		{"127.0.0.1:9000", "false", catalog.PublicOnly, true}, {":9000", "true", catalog.AllowPrivate, true}, {":9000",
			"yes", 0, false}, {"9000", "", 0, false},
	} {
		if got, err := (settings{listen: tc.listen, private: tc.setting}).upstreams(); got != tc.want ||
			(err == nil) != tc.ok {
			t.Errorf("%s %q: %v, %v", tc.listen, tc.setting, got, err)
		}
	}
}
