package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/ez-api/ez-api/catalog"
)

// OIDCOptions say how people sign in through an OpenID Connect identity provider.
type OIDCOptions struct {
	// Issuer is the URL of the identity provider, letter by letter as its discovery document says it:
	// https, or http on this machine. Required.
	Issuer string

	// ClientID is how the identity provider knows the console. Required.
	ClientID string

	// ClientSecret authenticates the console to the identity provider. Without one the console is a
	// public client, which PKCE protects.
	ClientSecret catalog.Secret

	// Claim is the claim that says what somebody may do: a name such as groups, or a path such as
	// realm_access.roles. Its values are admin, viewer, admin:PROJECT or viewer:PROJECT. If it has
	// other values, say behind the name what each of them grants: "groups; platform=admin;
	// search=admin:acme/search; *@example.com=viewer". A value that begins with * stands for every
	// value that ends in what follows the *. Required.
	Claim string

	// RedirectURL is the address of the console's page signin/callback, for a console whose address
	// is changed by a proxy. Defaults to the host and the path of the request to sign in, with
	// https, or with http if the browser asks its own machine over plain http.
	RedirectURL string

	// Transport sends requests to the identity provider. Defaults to http.DefaultTransport.
	Transport http.RoundTripper

	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
}

// OIDC is an identity provider that people sign in through. It asks the provider for its addresses
// and keys when somebody first signs in, so that a server starts without it. It is safe for
// concurrent use.
type OIDC struct {
	options OIDCOptions
	rule    claimRule
	client  *http.Client
	config  string // tells sessions of other settings apart

	exchanges chan struct{} // a place for each sign-in that asks the provider

	mu       sync.Mutex
	found    *discovered
	failed   error
	asked    time.Time // when it was last asked
	inflight chan struct{}
}

// discovered is what the identity provider says of itself.
type discovered struct {
	provider *oidc.Provider
	oauth    oauth2.Config
}

const (
	issuerTimeout   = 10 * time.Second // of one request to the identity provider
	discoverAfter   = time.Hour        // what it says of itself is asked anew
	retryDiscovery  = 5 * time.Second
	exchangesAtOnce = 16
	maxIssuerAnswer = 1 << 20 // bytes
)

// NewOIDC returns an identity provider, without asking it anything. An error is a
// [catalog.FieldErrors] whose fields are issuer, client_id, claim and redirect_url.
func NewOIDC(options OIDCOptions) (*OIDC, error) {
	var errs catalog.FieldErrors
	refuse := func(field, message string) {
		errs = append(errs, &catalog.FieldError{Field: field, Message: message})
	}
	if !isIssuer(options.Issuer) {
		refuse("issuer", "must be the https URL of the identity provider, as its discovery document says it")
	}
	if options.ClientID == "" {
		refuse("client_id", "is required: it is how the identity provider knows the console")
	}
	rule, ok := parseClaimRule(options.Claim)
	if !ok {
		refuse("claim", claimForm)
	}
	if u, err := url.Parse(options.RedirectURL); options.RedirectURL != "" &&
		(err != nil || u.Host == "" || !strings.HasSuffix(u.Path, "/"+callbackPath) || u.RawQuery != "") {
		refuse("redirect_url", "must be an absolute URL that ends in /"+callbackPath)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	if options.Transport == nil {
		options.Transport = http.DefaultTransport
	}
	if options.Clock == nil {
		options.Clock = time.Now
	}
	sum := sha256.Sum256([]byte(options.Issuer + "\x00" + options.ClientID + "\x00" + options.Claim))
	return &OIDC{
		options: options, rule: rule, config: base64.RawURLEncoding.EncodeToString(sum[:12]),
		exchanges: make(chan struct{}, exchangesAtOnce),
		client: &http.Client{
			Transport: boundedAnswers{options.Transport}, Timeout: issuerTimeout,
			// A redirection could take the client's secret elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// isIssuer reports whether a text is the URL of an identity provider.
func isIssuer(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Host)
}

// isLoopback reports whether a host, with or without a port, is this machine.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.IsLoopback()
}

// boundedAnswers bounds what an answer may hold: the libraries read them whole.
type boundedAnswers struct{ http.RoundTripper }

func (t boundedAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = boundedBody{io.LimitReader(resp.Body, maxIssuerAnswer), resp.Body}
	}
	return resp, err
}

type boundedBody struct {
	io.Reader
	io.Closer
}

// Check asks whether people can sign in: whether the identity provider says where. What it said
// within the last hour is believed. It is a check for [httpapi.Options.Checks].
func (o *OIDC) Check(ctx context.Context) (note string, err error) {
	if _, err := o.discover(ctx); err != nil {
		return "the identity provider does not answer: people sign in with tokens", err
	}
	return "", nil
}

// Host returns the name of the identity provider's host.
func (o *OIDC) Host() string {
	u, _ := url.Parse(o.options.Issuer) // NewOIDC has parsed it
	return u.Host
}

var errIssuerAway = errors.New("the identity provider does not answer")

// discover returns what the identity provider says of itself. One request at a time asks it, also
// when its asker has gone; all others wait for that.
func (o *OIDC) discover(ctx context.Context) (*discovered, error) {
	o.mu.Lock()
	since := o.options.Clock().Sub(o.asked)
	if o.found != nil && since < discoverAfter || o.failed != nil && since < retryDiscovery {
		defer o.mu.Unlock()
		return o.answer()
	}
	if o.inflight == nil {
		o.inflight = make(chan struct{})
		go o.ask(o.inflight)
	}
	done := o.inflight
	o.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.answer()
}

// answer returns what was last found. An answer that is old is better than none.
func (o *OIDC) answer() (*discovered, error) {
	if o.found != nil {
		return o.found, nil
	}
	return nil, o.failed
}

func (o *OIDC) ask(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), issuerTimeout)
	defer cancel()
	found, err := o.request(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked, o.failed, o.inflight = o.options.Clock(), err, nil
	if err == nil {
		o.found = found
	}
	close(done)
}

func (o *OIDC) request(ctx context.Context) (*discovered, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, o.client), o.options.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: %.300s", errIssuerAway, err) // it may hold a page of the answer
	}
	var says struct {
		Scopes  []string `json:"scopes_supported"`
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := provider.Claims(&says); err != nil {
		return nil, fmt.Errorf("%w: its discovery document: %.300s", errIssuerAway, err)
	}
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader // the default of the standard
	if o.options.ClientSecret.IsZero() ||
		len(says.Methods) > 0 && !slices.Contains(says.Methods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	scopes := []string{oidc.ScopeOpenID, "profile", "email"}
	if slices.Contains(says.Scopes, "groups") {
		scopes = append(scopes, "groups")
	}
	return &discovered{provider, oauth2.Config{
		ClientID: o.options.ClientID, ClientSecret: o.options.ClientSecret.Reveal(), Endpoint: endpoint,
		Scopes: scopes,
	}}, nil
}

// A flow is a sign-in that has begun. The browser keeps it, sealed, while it is at the identity provider.
type flow struct {
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	Redirect string    `json:"redirect"`
	Next     string    `json:"next"`
	Begun    time.Time `json:"begun"`
}

// flowTime is how long somebody may take at the identity provider.
const flowTime = 10 * time.Minute

// begin returns a new flow, and the address of the identity provider to send the browser to.
func (o *OIDC) begin(ctx context.Context, redirect, next string) (flow, string, error) {
	found, err := o.discover(ctx)
	if err != nil {
		return flow{}, "", err
	}
	f := flow{
		State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Redirect: redirect,
		Next: next, Begun: o.options.Clock(),
	}
	config := found.oauth
	config.RedirectURL = redirect
	return f, config.AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), nil
}

// An identity is who somebody is, by the claims of the identity provider.
type identity struct {
	subject string
	claims  map[string]any
}

// finish exchanges the code that the browser has brought for who somebody is. Its errors hold no
// code, token or secret.
func (o *OIDC) finish(ctx context.Context, f flow, code string) (identity, error) {
	select {
	case o.exchanges <- struct{}{}:
		defer func() { <-o.exchanges }()
	case <-ctx.Done():
		return identity{}, ctx.Err()
	}
	found, err := o.discover(ctx)
	if err != nil {
		return identity{}, err
	}
	ctx = oidc.ClientContext(ctx, o.client)
	config := found.oauth
	config.RedirectURL = f.Redirect
	tokens, err := config.Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return identity{}, exchangeError(err)
	}
	raw, _ := tokens.Extra("id_token").(string)
	verifier := found.provider.Verifier(&oidc.Config{ClientID: o.options.ClientID, Now: o.options.Clock})
	token, err := verifier.Verify(ctx, raw)
	if err != nil {
		return identity{}, fmt.Errorf("the id_token is not valid: %.300s", err)
	}
	who := identity{subject: token.Subject}
	if err := token.Claims(&who.claims); err != nil {
		return identity{}, fmt.Errorf("the claims of the id_token cannot be read: %.300s", err)
	}
	if err := o.isForUs(token, who, f); err != nil {
		return identity{}, err
	}
	if !o.rule.has(who.claims) && found.provider.UserInfoEndpoint() != "" {
		return who, o.complete(ctx, found, tokens, &who)
	}
	return who, nil
}

// isForUs checks what the library leaves to us.
func (o *OIDC) isForUs(token *oidc.IDToken, who identity, f flow) error {
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(f.Nonce)) != 1 {
		return errors.New("the nonce of the id_token is not that of this sign-in")
	}
	if party, named := who.claims["azp"]; named && party != o.options.ClientID ||
		!named && len(token.Audience) > 1 {
		return errors.New("the id_token was made for another client (azp)")
	}
	if token.Subject == "" {
		return errors.New("the id_token names no subject")
	}
	return nil
}

// complete adds what the provider says of somebody beside the id_token, which some keep short.
func (o *OIDC) complete(ctx context.Context, found *discovered, tokens *oauth2.Token, who *identity) error {
	info, err := found.provider.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	if err != nil {
		return fmt.Errorf("the userinfo of the identity provider cannot be read: %w", exchangeError(err))
	}
	if info.Subject != who.subject {
		return errors.New("the userinfo of the identity provider is about somebody else")
	}
	var more map[string]any
	if err := info.Claims(&more); err != nil {
		return fmt.Errorf("the claims of the userinfo cannot be read: %.300s", err)
	}
	for name, value := range more {
		if _, known := who.claims[name]; !known {
			who.claims[name] = value
		}
	}
	return nil
}

// exchangeError says what went wrong, without what was sent or answered.
func exchangeError(err error) error {
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return fmt.Errorf("the identity provider refuses the code: status %d, error %.60q",
			refused.Response.StatusCode, refused.ErrorCode)
	}
	if unreached, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("%w: %w", errIssuerAway, unreached.Err)
	}
	return errors.New("the identity provider's answer cannot be read")
}
