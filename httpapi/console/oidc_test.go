package console_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/httpapi/console"
)

// logBook is where a console writes its log.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// club is a console that an identity provider opens.
type club struct {
	*site
	idp *idp
	log *logBook
}

func newClub(t *testing.T, p *idp, claim string, opts console.Options) *club {
	t.Helper()
	log := &logBook{}
	opts.OIDC = must[*console.OIDC](t)(console.NewOIDC(console.OIDCOptions{
		Issuer: p.url, ClientID: idpClient, ClientSecret: catalog.NewSecret(idpSecret), Claim: claim,
		Clock: opts.Clock,
	}))
	opts.Logger = slog.New(slog.NewTextHandler(log, nil))
	c := &club{newSite(t, &opts), p, log}
	t.Cleanup(func() {
		for _, secret := range append(p.issued, idpSecret) {
			if strings.Contains(log.String(), secret) {
				t.Errorf("the log has %.20s…", secret)
			}
		}
	})
	return c
}

// enter signs in through the identity provider.
func (c *club) enter(b *browser) answer {
	b.t.Helper()
	got := b.get("signin/provider?next=" + url.QueryEscape("keys?group=a"))
	for _, secret := range append(c.idp.issued, idpSecret) {
		if strings.HasPrefix(got.url, c.url) && got.has(secret) {
			b.t.Errorf("the page has %.20s…", secret)
		}
	}
	return got
}

func (c *club) isIn(b *browser) bool { return !strings.Contains(b.get("keys").url, "signin") }

// TestSignInThroughProvider goes the whole way, and the audit shows who it was.
func TestSignInThroughProvider(t *testing.T) {
	for name, methods := range map[string][]string{"basic": nil, "post": {"client_secret_post"}} {
		t.Run(name, func(t *testing.T) {
			p := newIDP(t)
			p.methods = methods
			c := newClub(t, p, "groups", console.Options{})
			b := c.browser(t)
			if got := b.get("keys?group=a"); !got.has("signin/provider?next=keys%3fgroup%3da") {
				t.Errorf("the page to sign in does not lead to the provider: %s", got.body)
			}
			got := c.enter(b)
			if got.status != http.StatusOK || got.header.Get("Refresh") != "0; url="+c.url+"keys?group=a" ||
				!got.has("oidc:alice@example.com") {
				t.Fatalf("%d %v %s", got.status, got.header, got.text())
			}
			page := b.post("keys/new", url.Values{"name": {"made"}, "group": {"default"}})
			if page.status != http.StatusOK {
				t.Fatalf("a key: %d %s", page.status, page.text())
			}
			if feed := b.get("changes"); !feed.has("oidc:alice@example.com") {
				t.Errorf("the audit does not say who: %s", feed.text())
			}
			b.post("signout", nil)
			if c.isIn(b) {
				t.Error("the session outlives the sign-out")
			}
		})
	}
}

// TestProviderAnswersThatAreRefused spoils what the provider says, one thing at a time.
func TestProviderAnswersThatAreRefused(t *testing.T) {
	set := func(name string, v any) func(*idp) {
		return func(p *idp) { p.spoil = func(claims map[string]any) { claims[name] = v } }
	}
	for name, tc := range map[string]struct {
		spoil  func(*idp)
		status int
	}{
		"nonce of another":    {set("nonce", "other"), http.StatusBadGateway},
		"no nonce":            {set("nonce", nil), http.StatusBadGateway},
		"audience of another": {set("aud", "other"), http.StatusBadGateway},
		"issuer of another":   {set("iss", "https://other.example"), http.StatusBadGateway},
		"made for another":    {set("azp", "other"), http.StatusBadGateway},
		"two audiences":       {set("aud", []string{"other", idpClient}), http.StatusBadGateway},
		"expired":             {set("exp", time.Now().Add(-time.Minute).Unix()), http.StatusBadGateway},
		"no subject":          {set("sub", ""), http.StatusBadGateway},
		"alg none": {func(p *idp) {
			p.header = map[string]any{"alg": "none"}
			p.sign = func(signed string) string { return signed + "." }
		}, http.StatusBadGateway},
		"HS256 with the public key": {func(p *idp) {
			p.header = map[string]any{"alg": "HS256", "kid": "k1"}
			p.sign = func(signed string) string {
				mac := hmac.New(sha256.New, x509.MarshalPKCS1PublicKey(&p.key.PublicKey))
				mac.Write([]byte(signed))
				return signed + "." + b64(mac.Sum(nil))
			}
		}, http.StatusBadGateway},
		"signed by another": {func(p *idp) {
			p.sign = func(signed string) string { return signed + "." + b64(make([]byte, 256)) }
		}, http.StatusBadGateway},
		"no id_token":       {func(p *idp) { p.sign = func(string) string { return "" } }, http.StatusBadGateway},
		"claim missing":     {set("groups", nil), http.StatusForbidden},
		"claim of no use":   {set("groups", []string{"staff", "balancer", "admin:", "viewer:A b"}), http.StatusForbidden},
		"claim is a number": {set("groups", 7), http.StatusForbidden},
		"denied":            {func(p *idp) { p.refuse = "access_denied" }, http.StatusForbidden},
		"another's userinfo": {func(p *idp) {
			delete(p.claims, "groups")
			p.userinfo = map[string]any{"sub": "1", "groups": []string{"admin"}}
		}, http.StatusBadGateway},
	} {
		t.Run(name, func(t *testing.T) {
			p := newIDP(t)
			tc.spoil(p)
			c := newClub(t, p, "groups", console.Options{})
			b := c.browser(t)
			got := c.enter(b)
			if got.status != tc.status || !got.has(`role="alert"`) || !got.has(`name="token"`) {
				t.Errorf("%d %s", got.status, got.text())
			}
			if c.isIn(b) {
				t.Error("somebody is signed in")
			}
			if !strings.Contains(c.log.String(), "level=WARN") {
				t.Errorf("the log says nothing: %s", c.log)
			}
		})
	}
}

// TestCallbacksBelongToTheirBrowser: an answer of the provider is good once, for the browser that was
// sent to it, and for ten minutes.
func TestCallbacksBelongToTheirBrowser(t *testing.T) {
	now := time.Now()
	c := newClub(t, newIDP(t), "groups", console.Options{Clock: func() time.Time { return now }})
	// back returns a browser that was sent back, and the address that it was sent to.
	back := func() (*browser, string) {
		b := c.browser(t)
		b.http.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
			if strings.Contains(r.URL.Path, "callback") {
				return http.ErrUseLastResponse
			}
			return nil
		}
		got := c.enter(b)
		b.http.CheckRedirect = nil
		path, ok := strings.CutPrefix(got.header.Get("Location"), c.url)
		if !ok {
			t.Fatalf("%d %v", got.status, got.header)
		}
		return b, path
	}
	refused := func(what string, b *browser, path string, status int) {
		t.Helper()
		if got := b.get(path); got.status != status || c.isIn(b) {
			t.Errorf("%s: %d %s", what, got.status, got.text())
		}
	}
	b, path := back()
	refused("another browser", c.browser(t), path, http.StatusBadRequest)
	refused("another state", b, strings.Replace(path, "state=", "state=x", 1), http.StatusBadRequest)
	refused("a flow that has ended", b, path, http.StatusBadRequest)

	b, path = back()
	u, err := url.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("iss", "https://other.example")
	refused("an issuer that is another", b, "signin/callback?"+q.Encode(), http.StatusBadRequest)

	b, path = back()
	thief, other := back() // has a flow of its own, and the code of somebody else
	q, mine := must[*url.URL](t)(url.Parse(path)).Query(), must[*url.URL](t)(url.Parse(other)).Query()
	mine.Set("code", q.Get("code"))
	refused("a code of another flow", thief, "signin/callback?"+mine.Encode(), http.StatusBadGateway)
	refused("a code that was used", b, path, http.StatusBadGateway)

	b, path = back()
	now = now.Add(11 * time.Minute)
	refused("after 11 minutes", b, path, http.StatusBadRequest)

	now = time.Now()
	b, path = back()
	if got := b.get(path); got.status != http.StatusOK || !c.isIn(b) {
		t.Errorf("as it should be: %d %s", got.status, got.text())
	}
}

// TestClaimsGrant says what values of the claim give.
func TestClaimsGrant(t *testing.T) {
	for name, tc := range map[string]struct {
		claim  string
		claims map[string]any
		want   string // who it is; "" is nobody
	}{
		"admin":        {"groups", map[string]any{"groups": "admin"}, "admin"},
		"viewer":       {"groups", map[string]any{"groups": []string{"x", "viewer"}}, "viewer"},
		"of a project": {"groups", map[string]any{"groups": []string{"admin:acme/search"}}, "admin acme/search"},
		"the wider": {"groups", map[string]any{"groups": []string{"viewer:acme", "admin:acme", "viewer:acme/a"}},
			"admin acme"},
		"everything": {"groups", map[string]any{"groups": []string{"viewer:acme", "admin", "viewer", "admin"}}, "admin"},
		"a path": {"realm_access.roles", map[string]any{
			"realm_access": map[string]any{"roles": []string{"viewer"}}}, "viewer"},
		"a name with dots": {"https://x.example/role", map[string]any{"https://x.example/role": "viewer"},
			"viewer"},
		"mapped": {"groups; cn=Ops,dc=x=admin; Search Team=viewer:acme;", map[string]any{
			"groups": []string{"Search Team"}}, "viewer acme"},
		"mapped with =":  {"groups; cn=Ops,dc=x=admin", map[string]any{"groups": []string{"cn=Ops,dc=x"}}, "admin"},
		"not mapped":     {"groups; ops=admin", map[string]any{"groups": []string{"admin"}}, ""},
		"all of a house": {"email; *@example.com=viewer", map[string]any{}, "viewer"},
		"of another":     {"email; *@example.com=viewer", map[string]any{"email": "eve@example.com.evil"}, ""},
		"not verified":   {"email; *=viewer", map[string]any{"email_verified": false}, ""},
		"anybody":        {"sub; *=viewer", map[string]any{}, "viewer"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newIDP(t)
			for k, v := range tc.claims {
				p.claims[k] = v
			}
			c := newClub(t, p, tc.claim, console.Options{})
			b := c.browser(t)
			got := c.enter(b)
			if tc.want == "" {
				if got.status != http.StatusForbidden || c.isIn(b) {
					t.Errorf("%d %s", got.status, got.text())
				}
				return
			}
			if got.status != http.StatusOK {
				t.Fatalf("%d %s", got.status, got.text())
			}
			role, project, limited := strings.Cut(tc.want, " ")
			page := b.get("keys")
			if want := " " + role + " English"; !strings.Contains(page.text(), want) {
				t.Errorf("the role is not %s: %s", want, page.text())
			}
			if limited && !page.has("· "+project) {
				t.Errorf("the project is not %s: %s", project, page.text())
			}
			if operators := b.get("operators").status; (operators == http.StatusForbidden) != limited {
				t.Errorf("operators: %d", operators)
			}
		})
	}
}

// TestWhoHasSeveralGrantsChooses: where none covers the others.
func TestWhoHasSeveralGrantsChooses(t *testing.T) {
	p := newIDP(t)
	p.claims["groups"] = []string{"viewer", "admin:acme", "admin:other"}
	c := newClub(t, p, "groups", console.Options{})
	b := c.browser(t)
	got := c.enter(b)
	if got.status != http.StatusOK || c.isIn(b) {
		t.Fatalf("%d %s", got.status, got.text())
	}
	_, rest, _ := strings.Cut(got.body, `name="as" value="`)
	_, rest, _ = strings.Cut(rest, `name="as" value="`) // the second: admin:acme
	sealed, _, _ := strings.Cut(rest, `"`)
	if refused := b.post("signin/as", url.Values{"as": {sealed + "x"}}); refused.status != http.StatusBadRequest {
		t.Errorf("a changed choice: %d", refused.status)
	}
	page := b.post("signin/as", url.Values{"as": {sealed}, "next": {"keys"}})
	if page.status != http.StatusOK || !page.has("· acme") {
		t.Errorf("%d at %s: %s", page.status, page.url, page.text())
	}
}

// TestUserinfoCompletesShortTokens: some providers keep the claim out of the id_token.
func TestUserinfoCompletesShortTokens(t *testing.T) {
	p := newIDP(t)
	delete(p.claims, "groups")
	p.userinfo = map[string]any{"sub": "4711", "groups": []string{"viewer"}, "email": "another@example.com"}
	c := newClub(t, p, "groups", console.Options{})
	b := c.browser(t)
	if got := c.enter(b); got.status != http.StatusOK || !got.has("oidc:alice@example.com") || !c.isIn(b) {
		t.Errorf("%d %s", got.status, got.text())
	}
}

// TestActorsAreNotBorrowed: only a verified address stands alone.
func TestActorsAreNotBorrowed(t *testing.T) {
	p := newIDP(t)
	p.claims = map[string]any{"groups": "admin", "email": "boss@example.com", "email_verified": false}
	c := newClub(t, p, "groups", console.Options{})
	if got := c.enter(c.browser(t)); !got.has("oidc:boss@example.com (4711)") {
		t.Errorf("%s", got.text())
	}
}

// TestProviderThatIsAway: the console starts without it, says so, asks seldom, and goes on when it is back.
func TestProviderThatIsAway(t *testing.T) {
	now := time.Now()
	p := newIDP(t)
	p.away = true
	o := must[*console.OIDC](t)(console.NewOIDC(console.OIDCOptions{
		Issuer: p.url, ClientID: idpClient, ClientSecret: catalog.NewSecret(idpSecret), Claim: "groups",
		Clock: func() time.Time { return now },
	}))
	c := &club{newSite(t, &console.Options{OIDC: o}), p, &logBook{}}
	b := c.browser(t)
	for range 3 {
		if got := c.enter(b); got.status != http.StatusServiceUnavailable || !got.has(`name="token"`) {
			t.Errorf("%d %s", got.status, got.text())
		}
	}
	if n := p.asked["/.well-known/openid-configuration"]; n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	if _, err := o.Check(t.Context()); err == nil {
		t.Error("the check says that it is there")
	}
	if got := b.post("signin", url.Values{"token": {adminToken}}); !c.isIn(b) {
		t.Errorf("a token: %d", got.status)
	}
	b.post("signout", nil)
	p.mu.Lock()
	p.away = false
	p.mu.Unlock()
	now = now.Add(6 * time.Second)
	if got := c.enter(b); got.status != http.StatusOK || !c.isIn(b) {
		t.Errorf("it is back: %d %s", got.status, got.text())
	}
	if note, err := o.Check(t.Context()); err != nil {
		t.Error(note, err)
	}
	now = now.Add(2 * time.Hour) // what it said is old, and it is away again
	p.mu.Lock()
	p.away = true
	p.mu.Unlock()
	if _, err := o.Check(t.Context()); err != nil {
		t.Errorf("what was known is not used: %v", err)
	}
}

// TestSessionsOfPeopleEnd: as those of tokens, and with the settings of the provider.
func TestSessionsOfPeopleEnd(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	p := newIDP(t)
	p.spoil = func(claims map[string]any) { claims["exp"] = now.Add(time.Minute).Unix() }
	key := bytes.Repeat([]byte{7}, 32)
	c := newClub(t, p, "groups", console.Options{Clock: clock, Key: key})
	idle := c.browser(t)
	c.enter(idle)
	if now = now.Add(29 * time.Minute); !c.isIn(idle) {
		t.Fatal("the session ends too early")
	}
	if now = now.Add(31 * time.Minute); c.isIn(idle) {
		t.Error("it outlives 31 idle minutes")
	}
	long := c.browser(t)
	c.enter(long)
	for range 12*3 - 1 {
		if now = now.Add(20 * time.Minute); !c.isIn(long) {
			t.Fatal("the session ends before 12 hours")
		}
	}
	if now = now.Add(21 * time.Minute); c.isIn(long) {
		t.Error("it outlives 12 hours")
	}
	again := c.browser(t)
	c.enter(again)
	stays, changed := newClub(t, p, "groups", console.Options{Clock: clock, Key: key}),
		newClub(t, p, "groups; admin=viewer", console.Options{Clock: clock, Key: key})
	off := newSite(t, &console.Options{Clock: clock, Key: key})
	for name, tc := range map[string]struct {
		site *site
		in   bool
	}{"the same settings": {stays.site, true}, "another claim": {changed.site, false}, "no provider": {off, false}} {
		cookies := again.http.Jar.Cookies(must[*url.URL](t)(url.Parse(c.url)))
		b := tc.site.browser(t)
		b.http.Jar.SetCookies(must[*url.URL](t)(url.Parse(tc.site.url)), cookies)
		if got := !strings.Contains(b.get("keys").url, "signin"); got != tc.in {
			t.Errorf("%s: signed in %v", name, got)
		}
	}
}

// TestRedirectAddress: https and the host that was asked for, but on this machine.
func TestRedirectAddress(t *testing.T) {
	p := newIDP(t)
	o := must[*console.OIDC](t)(console.NewOIDC(console.OIDCOptions{Issuer: p.url, ClientID: idpClient,
		Claim: "groups"}))
	fixed := must[*console.OIDC](t)(console.NewOIDC(console.OIDCOptions{Issuer: p.url, ClientID: idpClient,
		Claim: "groups", RedirectURL: "https://door.example/x/signin/callback"}))
	plane := newSite(t, nil).plane
	for _, tc := range []struct {
		oidc              *console.OIDC
		host, proto, want string
	}{
		{o, "127.0.0.1:8080", "", "http://127.0.0.1:8080/mount/signin/callback"},
		{o, "gw.example", "", "https://gw.example/mount/signin/callback"},
		{o, "localhost", "https", "https://localhost/mount/signin/callback"},
		{fixed, "gw.example", "", "https://door.example/x/signin/callback"},
	} {
		pages := must[*console.Console](t)(console.New(plane, httpapi.Tokens(httpapi.TokenList{}),
			&console.Options{OIDC: tc.oidc}))
		r := httptest.NewRequest(http.MethodGet, "http://"+tc.host+"/mount/signin/provider?next=keys", nil)
		r.Header.Set("X-Forwarded-Proto", tc.proto)
		w := httptest.NewRecorder()
		http.StripPrefix("/mount", pages).ServeHTTP(w, r)
		to := must[*url.URL](t)(url.Parse(w.Header().Get("Location")))
		if got := to.Query().Get("redirect_uri"); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.host, got, tc.want)
		}
		for _, cookie := range w.Result().Cookies() {
			if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.MaxAge != 600 {
				t.Errorf("%+v", cookie)
			}
		}
	}
}

// TestSettingsOfProviders are refused by the field that is wrong.
func TestSettingsOfProviders(t *testing.T) {
	good := console.OIDCOptions{Issuer: "https://id.example/realms/x", ClientID: "c", Claim: "groups"}
	for field, spoil := range map[string][]func(*console.OIDCOptions){
		"issuer": {
			func(o *console.OIDCOptions) { o.Issuer = "" },
			func(o *console.OIDCOptions) { o.Issuer = "http://id.example" },
			func(o *console.OIDCOptions) { o.Issuer = "https://u:p@id.example" },
			func(o *console.OIDCOptions) { o.Issuer = "https://id.example?x" },
		},
		"client_id": {func(o *console.OIDCOptions) { o.ClientID = "" }},
		"claim": {
			func(o *console.OIDCOptions) { o.Claim = "" },
			func(o *console.OIDCOptions) { o.Claim = "groups=admin" },
			func(o *console.OIDCOptions) { o.Claim = "groups; ops" },
			func(o *console.OIDCOptions) { o.Claim = "groups; ops=root" },
			func(o *console.OIDCOptions) { o.Claim = "groups; ops=admin:Not A Path" },
			func(o *console.OIDCOptions) { o.Claim = "groups; ops=admin:" },
		},
		"redirect_url": {func(o *console.OIDCOptions) { o.RedirectURL = "https://x.example/" }},
	} {
		for i, change := range spoil {
			o := good
			change(&o)
			if _, err := console.NewOIDC(o); err == nil || !strings.HasPrefix(fmt.Sprint(err), field+" ") {
				t.Errorf("%s, %d: %v", field, i, err)
			}
		}
	}
	if _, err := console.NewOIDC(good); err != nil {
		t.Error(err)
	}
}
