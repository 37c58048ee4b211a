package browser_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// An idp is a small identity provider, at which somebody presses a button to sign in.
type idp struct {
	url    string
	signer jose.Signer
	keys   jose.JSONWebKeySet

	mu     sync.Mutex
	groups []string              // of the one who signs in
	codes  map[string]url.Values // what the browser came with
}

const idpSecret = "idp-secret-0123456789"

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	own := jose.JSONWebKey{Key: key, KeyID: "k1", Algorithm: "RS256", Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: own}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{
		signer: signer, keys: jose.JSONWebKeySet{Keys: []jose.JSONWebKey{own.Public()}}, codes: map[string]url.Values{},
	}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	p.url = server.URL
	answer := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		}
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", answer(map[string]any{
		"issuer": p.url, "authorization_endpoint": p.url + "/authorize", "token_endpoint": p.url + "/token",
		"jwks_uri": p.url + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"},
	}))
	mux.HandleFunc("GET /keys", answer(p.keys))
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><html lang="en"><title>Identity provider</title><link rel="icon" href="data:,">
			<main><form method="post" action="/authorize?%s"><button>Sign in as dana</button></form></main>`,
			html.EscapeString(r.URL.RawQuery))
	})
	mux.HandleFunc("POST /authorize", p.authorize)
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		token, err := p.token(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(map[string]any{"access_token": "at", "token_type": "Bearer", "id_token": token})(w, r)
	})
	return p
}

// join says in which groups the one is who signs in.
func (p *idp) join(groups ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.groups = groups
}

// authorize sends the browser back with a code.
func (p *idp) authorize(w http.ResponseWriter, r *http.Request) {
	q, code := r.URL.Query(), rand.Text()
	p.mu.Lock()
	p.codes[code] = q
	p.mu.Unlock()
	back := url.Values{"state": {q.Get("state")}, "code": {code}}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusSeeOther)
}

// token returns the id_token of a code, which is good once, to the client with the verifier.
func (p *idp) token(r *http.Request) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	begun, ok := p.codes[r.FormValue("code")]
	delete(p.codes, r.FormValue("code"))
	_, secret, _ := r.BasicAuth()
	challenge := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if !ok || secret != idpSecret || begun.Get("redirect_uri") != r.FormValue("redirect_uri") ||
		begun.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(challenge[:]) {
		return "", fmt.Errorf("the code is not good")
	}
	return jwt.Signed(p.signer).Claims(map[string]any{
		"iss": p.url, "aud": "console", "sub": "4711", "nonce": begun.Get("nonce"), "iat": time.Now().Unix(),
		"exp": time.Now().Add(time.Minute).Unix(), "email": "dana@example.com", "email_verified": true,
		"groups": p.groups,
	}).Serialize()
}

// TestIdentityProvider signs in through an identity provider on another site, from which browsers send no strict
// cookie, and comes back to the page that was asked for. Who loses the claim is refused the next time.
func TestIdentityProvider(t *testing.T) {
	p := newIDP(t)
	p.join("staff")
	dir := t.TempDir()
	server := run(t, build(t, dir, "./cmd/server"), "EZ_API_PORT=0", "EZ_DATA_DIR="+dir+"/data",
		"EZ_REDIS_ADDR=embedded://127.0.0.1:0", "EZ_OIDC_ISSUER="+p.url, "EZ_OIDC_CLIENT_ID=console",
		"EZ_OIDC_CLIENT_SECRET="+idpSecret, "EZ_OIDC_CLAIM=groups; staff=admin; guests=viewer")
	b := open(t, strings.Replace(server, "127.0.0.1", "localhost", 1)+"/console/")
	source := axe(t)
	signIn := func() {
		t.Helper()
		b.press(t, "Sign in with "+strings.TrimPrefix(p.url, "http://"))
		b.sees(t, "Sign in as dana", false)
		b.press(t, "Sign in as dana")
	}

	b.visit(t, "keys?q=x")
	for _, fault := range b.audit(t, source) {
		t.Errorf("the page to sign in: %s", fault)
	}
	signIn()
	b.do(t, chromedp.WaitVisible("body.app"))
	b.sees(t, "oidc:dana@example.com", false)
	if here := evaluate[string](t, b, "location.pathname + location.search"); here != "/console/keys?q=x" {
		t.Errorf("the way leads to %s", here)
	}
	b.visit(t, "projects/new")
	b.fill(t, "name", "acme")
	b.press(t, "New project")
	b.sees(t, "It was created.", false)
	b.visit(t, "changes")
	b.sees(t, "by oidc:dana@example.com", false)

	signOut := func() {
		t.Helper()
		b.do(t, chromedp.Click(`form[action="signout"] button`), chromedp.WaitVisible("body.gate"))
	}
	signOut()
	p.join("guests")
	signIn()
	b.do(t, chromedp.WaitVisible("body.app")) // the page that leads back to the console says who it is, too
	b.visit(t, "projects")
	if text := b.text(t); !strings.Contains(text, "acme") || strings.Contains(text, "New project") {
		t.Errorf("a viewer sees %s", text)
	}
	signOut()
	p.join("nobody")
	signIn()
	b.sees(t, "gives you no role here", false)
	b.mu.Lock()
	b.noise = without(b.noise, "403") // the page that says so
	b.mu.Unlock()
	b.quiet(t)
	b.visit(t, "keys")
	b.sees(t, "Sign in", false)
}
