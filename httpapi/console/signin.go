package console

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/ez-api/ez-api/httpapi"
)

// signInView is what the page to sign in shows.
type signInView struct {
	Problem  string // what is wrong, in words
	Next     string // where to go afterwards
	Provider string // where people can sign in as well; "" is nowhere
	Typed    string // in the form that has met the sign-in, packed
}

func (p *page) signInView(problem, next string) signInView {
	view := signInView{Problem: problem, Next: next}
	if p.oidc != nil {
		view.Provider = p.oidc.Host()
	}
	return view
}

// sendToSignIn asks who somebody is, and brings them back afterwards.
func (p *page) sendToSignIn() error {
	switch {
	case p.r.Header.Get("X-Console-Fragment") != "": // a script asks, and nobody would see the page
		p.w.WriteHeader(http.StatusUnauthorized)
		return nil
	case p.r.Method != http.MethodGet:
		return p.signInAgain()
	}
	target := "signin"
	if here := p.Here(); here != "" {
		target += "?" + url.Values{"next": {here}}.Encode()
	}
	p.redirect(target)
	return nil
}

// signInAgain asks who sends a form without a session. The page carries what was typed in the form.
func (p *page) signInAgain() error {
	view := p.signInView(p.words.text("signin.ended"), p.Here())
	if p.keeps {
		typed, err := p.typedWithoutSecrets()
		if err != nil {
			return err
		}
		if view.Typed = typed; typed != "" {
			view.Problem = p.words.text("signin.kept")
		}
	}
	return p.render("signin", http.StatusUnauthorized, view)
}

func (p *page) signInForm() error {
	view := p.signInView("", within(p.r.FormValue("next")))
	if p.r.FormValue("kept") == "no" { // after a token was taken
		if _, kept := p.sessions.of(p.r, p.now()); kept {
			p.redirect(view.Next)
			return nil
		}
		view.Problem = p.words.text("signin.nocookie")
	}
	return p.render("signin", http.StatusOK, view)
}

// signIn begins a session with a token that is valid.
func (p *page) signIn() error {
	if err := p.form(); err != nil {
		return err
	}
	token, next := strings.TrimSpace(p.r.PostForm.Get("token")), within(p.r.PostForm.Get("next"))
	again := func(status int, text string) error {
		view := p.signInView(text, next)
		view.Typed = p.r.PostForm.Get("carried")
		return p.render("signin", status, view)
	}
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return again(http.StatusUnauthorized, p.words.text("signin.wrong"))
	}
	caller, err := p.callerOf(token)
	if throttled, ok := errors.AsType[*httpapi.ThrottledError](err); ok {
		p.w.Header().Set("Retry-After", "60")
		return again(http.StatusTooManyRequests, p.words.text("signin.throttled", int(throttled.After.Seconds())+1))
	}
	switch {
	case errors.Is(err, httpapi.ErrUnauthenticated):
		return again(http.StatusUnauthorized, p.words.text("signin.wrong"))
	case err != nil:
		return err
	case caller.Role != httpapi.Admin && caller.Role != httpapi.Viewer:
		return again(http.StatusForbidden, p.words.text("signin.role"))
	}
	if err := p.begin(session{Token: token}); err != nil {
		return err
	}
	if typed := p.r.PostForm.Get("carried"); typed != "" {
		return p.render("resume", http.StatusOK, signInView{Next: next, Typed: typed})
	}
	// The page to sign in sees whether the browser has kept the session, and goes on.
	p.redirect("signin?" + url.Values{"kept": {"no"}, "next": {next}}.Encode())
	return nil
}

func (p *page) signOut() error {
	p.sessions.end(p.w, p.r)
	p.redirect("signin")
	return nil
}

// settings keeps how somebody likes their pages.
func (p *page) settings() error {
	if err := p.form(); err != nil {
		return err
	}
	p.redirect(within(p.r.PostForm.Get("back")))
	return nil
}

// within returns a path if it leads to a page of the console, and nothing else.
func within(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || strings.HasPrefix(u.Path, "/") ||
		strings.Contains(u.Path, "..") || strings.ContainsAny(path, "\\\r\n") || strings.HasPrefix(u.Path, "sign") {
		return ""
	}
	return path
}
