package console

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ez-api/ez-api/httpapi"
)

// callbackPath is the page to which the identity provider sends browsers back.
const callbackPath = "signin/callback"

// A person is somebody whom the identity provider has named. Their session holds what that gave them.
type person struct {
	grant
	Actor  string `json:"actor"`
	Config string `json:"config"` // of the identity provider
}

func (who person) caller() httpapi.Caller {
	return httpapi.Caller{Role: who.Role, Project: who.Project, Actor: who.Actor}
}

// knows reports whether the identity provider is the one that has named somebody. A nil one knows nobody.
func (o *OIDC) knows(who *person) bool { return o != nil && who.Config == o.config }

// toProvider sends somebody to the identity provider.
func (p *page) toProvider() error {
	redirect := p.oidc.options.RedirectURL
	if redirect == "" {
		redirect = p.addressOf(callbackPath)
	}
	f, address, err := p.oidc.begin(p.ctx(), redirect, within(p.r.FormValue("next")))
	if err != nil {
		return p.notSignedIn(err)
	}
	sealed, err := p.sessions.seal("flow", f)
	if err != nil {
		return err
	}
	http.SetCookie(p.w, p.flowCookie(sealed, int(flowTime.Seconds())))
	http.Redirect(p.w, p.r, address, http.StatusSeeOther)
	return nil
}

// flowCookie returns the cookie of a sign-in that has begun. The browser comes back from another site,
// and brings the cookie only if it is lax.
func (p *page) flowCookie(value string, maxAge int) *http.Cookie {
	c := newCookie(p.r, cookieName(p.r)+"-flow", value)
	c.MaxAge, c.SameSite = maxAge, http.SameSiteLaxMode
	return c
}

// addressOf returns the whole address of a page, as the browser sees it. Beside this machine only
// https keeps a session, so it is https also behind a proxy that does not say so.
func (p *page) addressOf(path string) string {
	scheme := "https://"
	if isPlainLoopback(p.r) {
		scheme = "http://"
	}
	mount := ""
	if asked, err := url.ParseRequestURI(p.r.RequestURI); err == nil { // before any prefix was stripped
		mount = strings.TrimSuffix(asked.EscapedPath(), strings.TrimPrefix(p.r.URL.EscapedPath(), "/"))
	}
	return scheme + p.r.Host + mount + path
}

var (
	errFlow   = errors.New("the sign-in was not begun in this browser, or too long ago")
	errDenied = errors.New("the identity provider refuses")
)

// callback is where the browser comes back to, with a code or an error.
func (p *page) callback() error {
	f, err := p.takeFlow()
	if err != nil {
		return p.notSignedIn(err)
	}
	query := p.r.URL.Query()
	if query.Get("error") != "" {
		p.log.WarnContext(p.ctx(), "the identity provider refuses a sign-in", "error", clip(query.Get("error")))
		return p.notSignedIn(errDenied)
	}
	who, err := p.oidc.finish(p.ctx(), f, query.Get("code"))
	if err != nil {
		return p.notSignedIn(err)
	}
	actor := actorOf(who.subject, who.claims)
	grants := p.oidc.rule.grantsOf(who.claims)
	people := make([]person, len(grants))
	for i, g := range grants {
		people[i] = person{g, actor, p.oidc.config}
	}
	switch len(people) {
	case 0:
		p.log.WarnContext(p.ctx(), "somebody without a role was refused", "actor", actor, "claim", p.oidc.rule.claim)
		text := p.words.text("signin.nobody", actor, p.oidc.rule.claim)
		return p.render("signin", http.StatusForbidden, p.signInView(text, f.Next))
	case 1:
		return p.welcome(people[0], f)
	}
	return p.chooseForm(people, f)
}

// takeFlow returns the flow that this answer belongs to, and ends it.
func (p *page) takeFlow() (f flow, err error) {
	cookie := cookieValue(p.r, cookieName(p.r)+"-flow")
	http.SetCookie(p.w, p.flowCookie("", -1))
	query := p.r.URL.Query()
	age := time.Duration(0)
	if p.sessions.open("flow", cookie, &f) == nil {
		age = p.now().Sub(f.Begun)
	}
	issuer := query.Get("iss") // RFC 9207: who sends this, where the provider says so
	if f.State == "" || query.Get("state") != f.State || age > flowTime ||
		issuer != "" && issuer != p.oidc.options.Issuer {
		return flow{}, errFlow
	}
	return f, nil
}

// notSignedIn says why nobody was signed in. The log has what is for those who run the server.
func (p *page) notSignedIn(err error) error {
	status, text := http.StatusBadGateway, "signin.invalid"
	switch {
	case errors.Is(err, errFlow):
		status, text = http.StatusBadRequest, "signin.flow"
	case errors.Is(err, errDenied):
		status, text = http.StatusForbidden, "signin.denied"
	case errors.Is(err, errIssuerAway):
		status, text = http.StatusServiceUnavailable, "signin.away"
	}
	p.log.WarnContext(p.ctx(), "a sign-in through the identity provider failed", "error", err)
	return p.render("signin", status, p.signInView(p.words.text(text), ""))
}

// chooseView is for somebody who has several grants, of which none covers the others.
type chooseView struct {
	Actor   string
	Choices []grantChoice
	Next    string
}

type grantChoice struct {
	grant
	Sealed string
}

// An offer is a person whom somebody may choose to be.
type offer struct {
	Person person    `json:"person"`
	Made   time.Time `json:"made"`
}

func (p *page) chooseForm(people []person, f flow) error {
	view := chooseView{Actor: people[0].Actor, Next: f.Next}
	for _, who := range people {
		sealed, err := p.sessions.seal("offer", offer{who, p.now()})
		if err != nil {
			return err
		}
		view.Choices = append(view.Choices, grantChoice{who.grant, sealed})
	}
	return p.render("choose", http.StatusOK, view)
}

func (p *page) choose() error {
	if err := p.form(); err != nil {
		return err
	}
	var chosen offer
	err := p.sessions.open("offer", p.r.PostForm.Get("as"), &chosen)
	if err != nil || p.now().Sub(chosen.Made) > flowTime || !p.oidc.knows(&chosen.Person) {
		return p.notSignedIn(errFlow)
	}
	if err := p.begin(session{Person: &chosen.Person}); err != nil {
		return err
	}
	p.redirect(within(p.r.PostForm.Get("next")))
	return nil
}

// welcome begins a session, and goes on by a page of its own: a redirection would still be a part of
// the way from the identity provider, on which browsers do not send a strict cookie.
func (p *page) welcome(who person, f flow) error {
	if err := p.begin(session{Person: &who}); err != nil {
		return err
	}
	next := strings.TrimSuffix(f.Redirect, callbackPath) + f.Next
	p.w.Header().Set("Refresh", "0; url="+next)
	return p.render("welcome", http.StatusOK, struct{ Actor, Next string }{who.Actor, next})
}

// begin gives the browser a session that begins now.
func (p *page) begin(s session) error {
	s.Issued = p.now()
	s.Seen = s.Issued
	return p.sessions.send(p.w, p.r, s)
}

// clip returns an error code as it may stand in a log.
func clip(code string) string {
	if len(code) > 60 {
		code = code[:60]
	}
	return url.QueryEscape(code)
}
