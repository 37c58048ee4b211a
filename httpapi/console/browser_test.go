package console_test

import (
	"context"
	"crypto/tls"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/httpapi/console"
)

const (
	adminToken    = "admin-token-0123456789abcdef0123456789"
	viewerToken   = "viewer-token-0123456789abcdef012345678"
	balancerToken = "balancer-token-0123456789abcdef01234567"
)

// site is a console that is mounted below a prefix.
type site struct {
	plane *ezapi.Plane
	url   string
}

func newSite(t *testing.T, opts *console.Options) *site {
	t.Helper()
	return newSiteOn(t, httptest.NewServer, opts)
}

func newSiteOn(t *testing.T, start func(http.Handler) *httptest.Server, opts *console.Options) *site {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	plane, err := ezapi.New(ezapi.Config{Logger: quiet, AllowPrivateUpstreams: true})
	if err != nil {
		t.Fatal(err)
	}
	auth := httpapi.Tokens(httpapi.TokenList{
		Admin: []string{adminToken}, Viewer: []string{viewerToken}, Balancer: []string{balancerToken},
	})
	pages, err := console.New(plane, auth, opts)
	if err != nil {
		t.Fatal(err)
	}
	server := start(http.StripPrefix("/some/where", pages))
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- plane.Run(ctx) }()
	t.Cleanup(func() {
		server.Close()
		stop()
		<-ran
		_ = plane.Close(context.Background())
	})
	return &site{plane, server.URL + "/some/where/"}
}

// browser is somebody who looks at the pages.
type browser struct {
	t    *testing.T
	site *site
	http *http.Client
}

func (s *site) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, s, &http.Client{Jar: jar, Transport: &http.Transport{DisableCompression: true}}}
}

// signedIn is a browser with a session.
func (s *site) signedIn(t *testing.T, token string) *browser {
	t.Helper()
	b := s.browser(t)
	if got := b.post("signin", url.Values{"token": {token}}); got.status != http.StatusOK || !got.has("signout") {
		t.Fatalf("sign in: %d %s", got.status, got.text())
	}
	return b
}

// answer is a page that came.
type answer struct {
	status int
	header http.Header
	body   string
	url    string
}

func (a answer) has(text string) bool { return strings.Contains(a.body, text) }

var tags = regexp.MustCompile(`<[^>]*>`)

// text returns the page without its tags.
func (a answer) text() string {
	return strings.Join(strings.Fields(tags.ReplaceAllString(a.body, " ")), " ")
}

// hidden returns the fields of the page's form that are not shown.
func (a answer) hidden() url.Values {
	form := url.Values{}
	for _, found := range hiddenInput.FindAllStringSubmatch(a.body[strings.Index(a.body, "<main"):], -1) {
		form.Set(unescape(found[1]), unescape(found[2]))
	}
	return form
}

func (b *browser) do(r *http.Request) answer {
	b.t.Helper()
	resp, err := b.http.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body), resp.Request.URL.String()}
}

func (b *browser) get(path string) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.site.url+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(r)
}

func (b *browser) post(path string, form url.Values) answer {
	b.t.Helper()
	return b.do(b.request(b.t.Context(), path, form))
}

// request returns a form that a browser sends.
func (b *browser) request(ctx context.Context, path string, form url.Values) *http.Request {
	b.t.Helper()
	body := strings.NewReader(form.Encode())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.site.url+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

func must[T any](t *testing.T) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (s *site) operator(t *testing.T, o catalog.Operator) (catalog.Operator, string) {
	t.Helper()
	made := must[catalog.Operator](t)(s.plane.Operators.Create(t.Context(), o))
	return made, made.Token.Reveal()
}

// token returns that of a new operator.
func (s *site) token(t *testing.T, o catalog.Operator) string {
	t.Helper()
	_, token := s.operator(t, o)
	return token
}

// eventually waits for what becomes true by itself.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for ; time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("it does not come true that " + what)
}

// insecureTransport takes the certificate of a test server.
func insecureTransport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
}

// unescape returns the text that HTML stands for.
func unescape(text string) string { return html.UnescapeString(text) }
