package console_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/console"
)

func TestSignIn(t *testing.T) {
	s := newSite(t, nil)
	b := s.browser(t)
	if got := b.get("keys?group=a"); !strings.HasSuffix(got.url, "/some/where/signin?next=keys%3Fgroup%3Da") {
		t.Errorf("nobody is sent to %s", got.url)
	}
	for token, status := range map[string]int{"": 401, "nobody's": 401, "with space": 401, balancerToken: 403} {
		if got := b.post("signin", url.Values{"token": {token}}); got.status != status ||
			len(got.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%q: %d %v", token, got.status, got.header)
		} else if token != "" && got.has(token) {
			t.Errorf("%q is shown again", token)
		}
	}
	got := b.post("signin", url.Values{"token": {adminToken}, "next": {"keys?group=a"}})
	if got.status != http.StatusOK || !strings.HasSuffix(got.url, "/some/where/keys?group=a") ||
		got.has(adminToken) {
		t.Errorf("signed in: %d at %s", got.status, got.url)
	}
	for _, next := range []string{"//evil.example", "https://evil.example/", "/etc", "../../x", `\\evil`,
		"javascript:alert(1)"} {
		got := s.browser(t).post("signin", url.Values{"token": {adminToken}, "next": {next}})
		if !strings.HasSuffix(got.url, "/some/where/") {
			t.Errorf("%s leads to %s", next, got.url)
		}
	}
	b.post("signout", nil)
	if got := b.get(""); !strings.Contains(got.url, "signin") {
		t.Errorf("after the sign-out: %s", got.url)
	}
}

func TestSignInIsThrottled(t *testing.T) {
	s := newSite(t, nil)
	friend := s.signedIn(t, adminToken)
	b := s.browser(t)
	for i := range 5 {
		if got := b.post("signin", url.Values{"token": {"guess"}}); got.status != http.StatusUnauthorized {
			t.Fatalf("try %d: %d", i, got.status)
		}
	}
	if got := b.post("signin", url.Values{"token": {viewerToken}}); got.status != http.StatusTooManyRequests ||
		got.header.Get("Retry-After") == "" {
		t.Errorf("the sixth: %d", got.status)
	}
	if got := friend.get("keys"); got.status != http.StatusOK {
		t.Errorf("who is signed in already: %d", got.status)
	}
}

func TestSessionsEnd(t *testing.T) {
	now := time.Now()
	s := newSite(t, &console.Options{Clock: func() time.Time { return now }})
	open := func(b *browser) bool { return !strings.Contains(b.get("keys").url, "signin") }
	idle := s.signedIn(t, adminToken)
	now = now.Add(29 * time.Minute)
	if !open(idle) {
		t.Fatal("the session ends too early")
	}
	now = now.Add(29 * time.Minute)
	if !open(idle) {
		t.Fatal("a request does not prolong the session")
	}
	now = now.Add(31 * time.Minute)
	if open(idle) {
		t.Error("the session outlives 31 idle minutes")
	}
	long := s.signedIn(t, adminToken)
	for range 12*3 - 1 {
		now = now.Add(20 * time.Minute)
		if !open(long) {
			t.Fatal("the session ends before 12 hours")
		}
	}
	now = now.Add(21 * time.Minute)
	if open(long) {
		t.Error("the session outlives 12 hours")
	}
}

func TestRevokedTokenEndsItsSession(t *testing.T) {
	s := newSite(t, nil)
	o, token := s.operator(t, catalog.Operator{Name: "eve", Role: catalog.RoleAdmin})
	b := s.signedIn(t, token)
	if !b.get("keys").has("operator:eve") {
		t.Error("the page does not say who is signed in")
	}
	must[catalog.Operator](t)(s.plane.Operators.Edit(t.Context(), o.ID,
		func(o *catalog.Operator) error { o.Status = catalog.Disabled; return nil }))
	eventually(t, "the session has ended", func() bool { return strings.Contains(b.get("keys").url, "signin") })
}

func TestCookiesAndHeaders(t *testing.T) {
	secure := newSiteOn(t, func(h http.Handler) *httptest.Server { return httptest.NewTLSServer(h) }, nil)
	insecure := newSite(t, nil)
	for name, s := range map[string]*site{"__Host-ezapi": secure, "ezapi-loopback": insecure} {
		b := s.browser(t)
		if s == secure {
			b.http.Transport = insecureTransport()
		}
		b.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		got := b.post("signin", url.Values{"token": {adminToken}})
		cookies := (&http.Response{Header: got.header}).Cookies()
		if len(cookies) != 1 {
			t.Fatalf("%s: %v", name, got.header)
		}
		c := cookies[0]
		if c.Name != name || c.Path != "/" || c.Domain != "" || !c.HttpOnly || c.Secure != (s == secure) ||
			c.SameSite != http.SameSiteStrictMode || strings.Contains(c.Value, adminToken) {
			t.Errorf("%s: %+v", name, c)
		}
		page := b.get("keys")
		csp := page.header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'",
			"frame-ancestors 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("CSP %q without %s", csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || page.header.Get("X-Content-Type-Options") != "nosniff" ||
			page.header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers %v", page.header)
		}
	}
}

func TestForeignFormsAreRefused(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	r, err := http.NewRequestWithContext(
		t.Context(),
		http.MethodPost,
		s.url+"keys/new",
		strings.NewReader("name=x"),
	)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if got := b.do(r); got.status != http.StatusForbidden {
		t.Errorf("a form of another site: %d", got.status)
	}
	if n := must[int64](t)(s.plane.Keys.Count(t.Context(), catalog.Query{})); n != 0 {
		t.Errorf("it has made %d keys", n)
	}
}

func TestForgedCookiesAreNothing(t *testing.T) {
	s, other := newSite(t, nil), newSite(t, nil)
	b := other.signedIn(t, adminToken)
	u, err := url.Parse(other.url)
	if err != nil {
		t.Fatal(err)
	}
	b.site = s // same host, so the cookie is sent; another key
	if got := b.get("keys"); !strings.Contains(got.url, "signin") {
		t.Errorf("a cookie of another console opens %s", got.url)
	}
	for _, c := range b.http.Jar.Cookies(u) {
		b.http.Jar.SetCookies(u, []*http.Cookie{{Name: c.Name, Value: c.Value[:len(c.Value)-2] + "AA", Path: "/"}})
	}
	if got := b.get("keys"); !strings.Contains(got.url, "signin") {
		t.Errorf("a changed cookie opens %s", got.url)
	}
}

// TestSessionsThatAreNotKept: who signs in where the browser keeps no session is told so.
func TestSessionsThatAreNotKept(t *testing.T) {
	s := newSite(t, nil)
	b := s.browser(t)
	b.http.Jar = nil
	if got := b.post("signin", url.Values{"token": {adminToken}, "next": {"keys"}}); !got.has("has not kept the session") {
		t.Errorf("%d %s", got.status, got.text())
	}
	got := s.browser(t).post("signin", url.Values{"token": {adminToken}, "next": {"keys"}})
	if got.status != http.StatusOK || got.url != s.url+"keys" {
		t.Errorf("a browser that keeps it: %d at %s", got.status, got.url)
	}
}

// TestFormsAfterTheSession: a form that is sent when the session is over says so, and leads nowhere.
func TestFormsAfterTheSession(t *testing.T) {
	s := newSite(t, nil)
	got := s.browser(t).post("keys/new", url.Values{"name": {"k"}})
	if got.status != http.StatusUnauthorized || !got.has("Your session has ended") || got.url != s.url+"keys/new" {
		t.Errorf("%d at %s: %s", got.status, got.url, got.text())
	}
}

// TestSettingsAreThoseThatExist: nobody is given a cookie of their choice.
func TestSettingsAreThoseThatExist(t *testing.T) {
	s := newSite(t, nil)
	b := s.browser(t)
	b.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for value, want := range map[string]bool{"zh": true, "x": false, strings.Repeat("x", 10_000): false} {
		got := b.post("settings", url.Values{"language": {value}})
		if set := got.header.Get("Set-Cookie") != ""; set != want {
			t.Errorf("%.10s: %t", value, set)
		}
	}
}

// TestProgressIsAPage: how far a change has come is a page, and a part of one for the script.
func TestProgressIsAPage(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	b.made("providers", url.Values{"name": {"p"}, "type": {"openai"}})
	if got := b.get("progress?revision=1"); got.status != http.StatusOK || !got.has("<h1>") || !got.has("Revision 1") {
		t.Errorf("the page: %d %s", got.status, got.text())
	}
	if got := b.get("progress?revision=999999"); !got.has("being published") {
		t.Errorf("a revision to come: %d %s", got.status, got.text())
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"progress?revision=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Console-Fragment", "1")
	if got := b.do(r); got.status != http.StatusOK || !strings.HasPrefix(got.body, "<p") || got.has("<html") {
		t.Errorf("the part: %d %s", got.status, got.body)
	}
	if got := b.get("progress?revision=x"); got.status != http.StatusNotFound {
		t.Errorf("no revision: %d", got.status)
	}
	if got := b.get("providers/1/test"); got.status != http.StatusOK || got.url != s.url+"providers/1" {
		t.Errorf("a test that is loaded again: %d at %s", got.status, got.url)
	}
}

// TestTokensOfTheServerAreReserved: what is applied through the pages cannot give a key a token of the server's either.
func TestTokensOfTheServerAreReserved(t *testing.T) {
	s := newSite(t, nil)
	b := s.signedIn(t, adminToken)
	for _, key := range []string{
		fmt.Sprintf(`{"external_id":"x","name":"x","token":%q}`, balancerToken),
		fmt.Sprintf(`{"external_id":"x","name":"x","token_hashes":[%q]}`, catalog.HashToken(balancerToken)),
	} {
		got := b.upload("apply", []byte(`{"keys":[`+key+`]}`), nil)
		if got.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %.300s", key, got.status, got.text())
		}
	}
}
