package console

import (
	"net/http"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

const flashCookie = "ezapi-done"

// flash tells the next page what was done. It is sealed, so that nobody can make somebody read it.
type flash struct {
	Text     string           `json:"text"` // a key of the catalogue
	Revision catalog.Revision `json:"revision,omitempty"`
	Stage    client.Stage     `json:"stage,omitempty"`
	Nodes    string           `json:"nodes,omitempty"`
	Warnings []string         `json:"warnings,omitempty"`
	Follow   bool             `json:"-"` // whether the page may ask how far it comes
}

// maxFlash keeps the cookie below what browsers take.
const maxFlash = 1 << 10

// done leaves a flash and goes to another page.
func (p *page) done(path string, f flash) error {
	size := 0
	for i, w := range f.Warnings {
		if size += len(w); size > maxFlash {
			f.Warnings = f.Warnings[:i]
			break
		}
	}
	text, err := p.sessions.seal("flash", f)
	if err != nil {
		return err
	}
	http.SetCookie(p.w, newCookie(p.r, flashCookie, text))
	p.redirect(path)
	return nil
}

// takeFlash reads what the page before has left.
func (p *page) takeFlash() {
	cookie, err := p.r.Cookie(flashCookie)
	if err != nil || p.r.Method != http.MethodGet || p.r.Header.Get("X-Console-Fragment") != "" {
		return
	}
	var f flash
	if p.sessions.open("flash", cookie.Value, &f) == nil {
		f.Follow = !p.Limited()
		p.flash = &f
	}
	gone := newCookie(p.r, flashCookie, "")
	gone.MaxAge = -1
	http.SetCookie(p.w, gone)
}
