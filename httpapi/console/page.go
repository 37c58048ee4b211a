package console

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/httpapi/internal/room"
)

// A page is one request, and what its answer depends on.
type page struct {
	*Console
	w      http.ResponseWriter
	r      *http.Request
	words  *words
	theme  string
	zone   *time.Location // of the viewer
	caller httpapi.Caller // zero on pages that are open to everybody
	flash  *flash         // what the page before has done

	keeps   bool // what was typed is carried through a sign-in
	paused  bool // the form that was sent is shown again, and not carried out; see resume
	resumed bool // it comes from before the sign-in
	typing  bool // the page has a form with what was typed
	secret  bool // the answer holds something that is shown once

	known bool        // who asks is signed in
	held  *room.Share // of the memory for forms; nil: nothing
}

// The cookies that hold what somebody prefers. Nothing depends on them but how pages look.
const (
	languageCookie = "ezapi-language"
	themeCookie    = "ezapi-theme"
	zoneCookie     = "ezapi-zone" // set by the script, which knows the zone of the browser
)

func (c *Console) newPage(w http.ResponseWriter, r *http.Request) *page {
	p := &page{Console: c, w: w, r: r, words: c.views.wordsOf(r), zone: time.UTC}
	if theme := cookieValue(r, themeCookie); theme == "light" || theme == "dark" {
		p.theme = theme
	}
	if name := cookieValue(r, zoneCookie); name != "" && name != "Local" && len(name) <= 64 {
		if zone, err := time.LoadLocation(name); err == nil {
			p.zone = zone
		}
	}
	return p
}

func cookieValue(r *http.Request, name string) string {
	if c, err := r.Cookie(name); err == nil {
		return c.Value
	}
	return ""
}

// open makes a handler of a page that everybody may see.
func (c *Console) open(do func(*page) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := c.newPage(w, r)
		defer p.letGo()
		if err := do(p); err != nil {
			p.fail(err)
		}
	}
}

// signedIn makes a handler of a page for those who are signed in; others are sent to sign in.
func (c *Console) signedIn(do func(*page) error) http.HandlerFunc {
	return c.signedInAs(do, func(*page) {})
}

func (c *Console) signedInAs(do func(*page) error, prepare func(*page)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := c.newPage(w, r)
		defer p.letGo()
		prepare(p)
		err := p.authenticate()
		if errors.Is(err, httpapi.ErrUnauthenticated) {
			err = p.sendToSignIn()
		} else if err == nil {
			p.known = true
			p.takeFlash()
			err = do(p)
		}
		if err != nil {
			p.fail(err)
		}
	}
}

// kept makes a handler as signedIn does, of a form that comes back after a sign-in as it was filled in.
func (c *Console) kept(do func(*page) error) http.HandlerFunc {
	return c.signedInAs(do, func(p *page) { p.keeps = true })
}

// authenticate finds out who asks, by the session. A token that was revoked ends it, and so do other
// settings of the identity provider.
func (p *page) authenticate() error {
	now := p.now()
	s, ok := p.sessions.of(p.r, now)
	if !ok {
		return httpapi.ErrUnauthenticated
	}
	caller, err := p.callerIn(s)
	if errors.Is(err, httpapi.ErrUnauthenticated) {
		p.sessions.end(p.w, p.r)
		return err
	}
	if err != nil {
		return err
	}
	if now.Sub(s.Seen) > renewAfter {
		s.Seen = now
		if err := p.sessions.send(p.w, p.r, s); err != nil {
			return err
		}
	}
	p.become(caller)
	return nil
}

func (p *page) callerIn(s session) (httpapi.Caller, error) {
	switch {
	case s.Person == nil:
		return p.callerOf(s.Token)
	case !p.oidc.knows(s.Person):
		return httpapi.Caller{}, httpapi.ErrUnauthenticated
	}
	return s.Person.caller(), nil
}

// callerOf asks the API whose token it is.
func (p *page) callerOf(token string) (httpapi.Caller, error) {
	r := p.r.Clone(p.r.Context())
	r.Header = http.Header{"Authorization": {"Bearer " + token}}
	return p.api.Caller(r)
}

// become makes the page that of a caller.
func (p *page) become(caller httpapi.Caller) {
	p.caller = caller
	p.r = p.r.WithContext(withCaller(p.r.Context(), caller))
}

func (p *page) ctx() context.Context { return p.r.Context() }

// MayWrite reports whether forms that write are shown. Whether they work is decided by the API.
func (p *page) MayWrite() bool { return p.caller.Role == httpapi.Admin }

// Limited reports whether the caller is limited to a project.
func (p *page) Limited() bool { return p.caller.Project != "" }

// root returns what leads from the page to the overview: "../" for each part of its path.
func (p *page) root() string {
	if depth := strings.Count(strings.TrimPrefix(p.r.URL.Path, "/"), "/"); depth > 0 {
		return strings.Repeat("../", depth)
	}
	return "./"
}

// redirect sends the browser to another page of the console. The address is relative, because the
// console may be mounted anywhere.
func (p *page) redirect(path string) {
	p.w.Header().Set("Location", p.root()+path)
	p.w.WriteHeader(http.StatusSeeOther)
}

// backTo is for the address of a form that has no page of its own.
func (p *page) backTo(path string) error {
	p.redirect(path)
	return nil
}

// render answers with a page.
func (p *page) render(name string, status int, data any) error {
	var b bytes.Buffer
	if err := p.views.render(&b, name, p, data); err != nil {
		return err
	}
	h := p.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Vary", "Accept-Encoding, Accept-Language, Cookie")
	body := b.Bytes()
	// What is shown once is not compressed beside what was sent: its length would tell of it.
	if takesGzip(p.r) && !p.secret {
		h.Set("Content-Encoding", "gzip")
		body = zip(body)
	}
	p.w.WriteHeader(status)
	_, _ = p.w.Write(body) // who does not read it has gone
	return nil
}

var errNoPage = &client.Error{Status: http.StatusNotFound, Type: "urn:ezapi:not-found"}

// failure is what a page of an error shows.
type failure struct {
	Status        int
	Title, Detail string
	Fields        []string
	RequestID     string
}

// fail answers with what the API says of an error. Others are the server's fault, and are logged.
func (p *page) fail(err error) {
	f := failure{Status: http.StatusInternalServerError, Title: p.words.text("error.internal")}
	if e, ok := errors.AsType[*client.Error](err); ok {
		f = failure{Status: e.Status, Title: p.words.problem(e), Detail: p.words.message(e.Detail), RequestID: e.RequestID}
		for _, field := range e.Fields {
			f.Fields = append(f.Fields, p.words.field(field))
		}
	} else if p.ctx().Err() == nil {
		p.log.ErrorContext(p.ctx(), "a page of the console failed", "path", p.r.URL.Path, "error", err)
	}
	if err := p.render("error", f.Status, f); err != nil {
		p.log.ErrorContext(p.ctx(), "the page of an error failed", "error", err)
		http.Error(p.w, f.Title, f.Status)
	}
}

// form reads the fields of a form that was sent; see resume.
func (p *page) form() error {
	if err := p.readForm(); err != nil {
		return p.unread(err)
	}
	return p.resume()
}
