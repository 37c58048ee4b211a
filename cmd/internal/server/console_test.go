package server

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
)

// TestConsoleIsServedBesideTheAPI: signed in with the token of the data directory, also after a
// restart, and not at all when it is off.
func TestConsoleIsServedBesideTheAPI(t *testing.T) {
	env := embeddedEnv(t)
	s := run(t, env...)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	body := func(resp *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := body(browser.Get(s.url + "/console")); !strings.Contains(got, `name="token"`) {
		t.Errorf("the console begins with %s", got)
	}
	got := body(browser.PostForm(s.url+"/console/signin", url.Values{"token": {s.token}}))
	if !strings.Contains(got, "Overview") {
		t.Errorf("signed in: %s", got)
	}
	if got := s.call(t, http.MethodGet, "/consoles", s.token, nil, nil); got != http.StatusNotFound {
		t.Errorf("a path that begins alike: %d", got)
	}
	s.end(t)

	again := run(t, env...)
	for _, c := range jar.Cookies(must(url.Parse(s.url))) { // the port may be another
		jar.SetCookies(must(url.Parse(again.url)), []*http.Cookie{c})
	}
	if got := body(browser.Get(again.url + "/console/keys")); !strings.Contains(got, "Keys") {
		t.Errorf("the restart has ended the session: %s", got)
	}
	again.end(t)

	off := run(t, embeddedEnv(t, "EZ_CONSOLE=false")...)
	if got := off.call(t, http.MethodGet, "/console/", off.token, nil, nil); got != http.StatusNotFound {
		t.Errorf("EZ_CONSOLE=false serves it: %d", got)
	}
	off.end(t)
}

func must(u *url.URL, err error) *url.URL {
	if err != nil {
		panic(err)
	}
	return u
}

// TestServerStartsWithoutItsIdentityProvider: it is asked only when somebody signs in, and readiness
// says that it is away.
func TestServerStartsWithoutItsIdentityProvider(t *testing.T) {
	s := run(t, embeddedEnv(t, "EZ_OIDC_ISSUER=http://127.0.0.1:1", "EZ_OIDC_CLIENT_ID=c",
		"EZ_OIDC_CLAIM=groups; ops=admin")...)
	resp, err := http.Get(s.url + "/console/signin/provider")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(page), `name="token"`) {
		t.Errorf("signing in: %d %s", resp.StatusCode, page)
	}
	var ready struct {
		Status string
		Checks map[string]struct{ Status string }
	}
	if got := s.call(t, http.MethodGet, "/readyz", "", nil, &ready); got != http.StatusOK ||
		ready.Status != "degraded" || ready.Checks["oidc"].Status != "failed" {
		t.Errorf("ready: %d %+v", got, ready)
	}
	s.end(t)
}
