package console_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

const (
	idpClient = "console"
	idpSecret = "idp-secret-0123456789"
)

// idp is an identity provider. Whoever comes is signed in at once, with its claims. Its fields are set
// before somebody comes.
type idp struct {
	url      string
	key      *rsa.PrivateKey
	claims   map[string]any              // of the id_token, beside those that every one has
	userinfo map[string]any              // nil: there is no such endpoint
	spoil    func(claims map[string]any) // changes the id_token before it is signed
	sign     func(signed string) string  // the id_token of a header and claims; nil: signed with RS256
	header   map[string]any              // of the id_token
	methods  []string                    // of authentication at the token endpoint
	refuse   string                      // the error with which somebody is sent back
	away     bool

	mu     sync.Mutex
	codes  map[string]url.Values // by code: what the browser was sent with
	issued []string              // codes and tokens, which nobody may write down
	asked  map[string]int        // requests by path
}

// idpKey makes the key of all providers, once: to find one takes longer than a sign-in.
var idpKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := idpKey()
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{
		key: key, codes: map[string]url.Values{}, asked: map[string]int{},
		header: map[string]any{"alg": "RS256", "kid": "k1", "typ": "JWT"},
		claims: map[string]any{"email": "alice@example.com", "email_verified": true, "groups": []string{"admin"}},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", p.keys)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, p.userinfo) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked[r.URL.Path]++
		away := p.away
		p.mu.Unlock()
		if away {
			http.Error(w, "a page that is long", http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (p *idp) discovery(w http.ResponseWriter, _ *http.Request) {
	says := map[string]any{
		"issuer": p.url, "authorization_endpoint": p.url + "/authorize", "token_endpoint": p.url + "/token",
		"jwks_uri": p.url + "/keys", "id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
		"scopes_supported": []string{"openid", "email", "groups"},
	}
	if p.userinfo != nil {
		says["userinfo_endpoint"] = p.url + "/userinfo"
	}
	if p.methods != nil {
		says["token_endpoint_auth_methods_supported"] = p.methods
	}
	reply(w, http.StatusOK, says)
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func (p *idp) keys(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "kid": "k1", "use": "sig", "alg": "RS256",
		"n": b64(p.key.N.Bytes()), "e": b64([]byte{1, 0, 1}),
	}}})
}

// authorize sends the browser back with a code.
func (p *idp) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != idpClient || q.Get("response_type") != "code" || q.Get("nonce") == "" ||
		q.Get("code_challenge_method") != "S256" || q.Get("scope") != "openid profile email groups" {
		http.Error(w, "a request that is not acceptable", http.StatusBadRequest)
		return
	}
	back := url.Values{"state": {q.Get("state")}, "iss": {p.url}}
	if p.refuse != "" {
		back.Set("error", p.refuse)
	} else {
		back.Set("code", p.made(rand.Text()))
		p.mu.Lock()
		p.codes[back.Get("code")] = q
		p.mu.Unlock()
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

// made remembers what nobody may write down.
func (p *idp) made(secret string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if secret != "" {
		p.issued = append(p.issued, secret)
	}
	return secret
}

// token takes a code once, from the client, with the verifier of its challenge.
func (p *idp) token(w http.ResponseWriter, r *http.Request) {
	id, secret, inHeader := r.BasicAuth()
	if p.methods != nil {
		id, secret = r.FormValue("client_id"), r.FormValue("client_secret")
	}
	p.mu.Lock()
	begun, ok := p.codes[r.FormValue("code")]
	delete(p.codes, r.FormValue("code"))
	p.mu.Unlock()
	challenge := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if id != idpClient || secret != idpSecret || inHeader != (p.methods == nil) {
		reply(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	if !ok || begun.Get("code_challenge") != b64(challenge[:]) ||
		begun.Get("redirect_uri") != r.FormValue("redirect_uri") {
		reply(w, http.StatusBadRequest, map[string]any{
			"error": "invalid_grant", "error_description": "the code was " + r.FormValue("code"),
		})
		return
	}
	claims := map[string]any{
		"iss": p.url, "aud": idpClient, "sub": "4711", "nonce": begun.Get("nonce"),
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
	}
	maps.Copy(claims, p.claims)
	if p.spoil != nil {
		p.spoil(claims)
	}
	reply(w, http.StatusOK, map[string]any{
		"access_token": p.made("at-" + rand.Text()), "token_type": "Bearer", "id_token": p.made(p.jwt(claims)),
	})
}

func (p *idp) jwt(claims map[string]any) string {
	header, _ := json.Marshal(p.header)
	payload, _ := json.Marshal(claims)
	signed := b64(header) + "." + b64(payload)
	if p.sign != nil {
		return p.sign(signed)
	}
	sum := sha256.Sum256([]byte(signed))
	signature, _ := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, sum[:])
	return signed + "." + b64(signature)
}
