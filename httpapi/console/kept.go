package console

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ez-api/ez-api/httpapi/client"
)

// typedForm is the id of the form of a page that holds what somebody has typed. The buttons that
// switch the language and the theme send this form, so that a switch loses nothing.
const typedForm = "typed"

// pack writes the fields of a form into one. What is packed can be read and changed by everybody, so
// nothing is packed but what the same browser has sent or was shown.
func pack(values url.Values) string {
	return base64.RawURLEncoding.EncodeToString(zip([]byte(values.Encode())))
}

// unpack returns what pack was given. Nothing is an empty form.
func (p *page) unpack(packed string) (url.Values, error) {
	if packed == "" {
		return url.Values{}, nil
	}
	zipped, err := base64.RawURLEncoding.DecodeString(packed)
	if err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxForm+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxForm {
		return nil, errors.New("what is packed is longer than a form may be")
	}
	if err := p.share().Take(int64(len(text))); err != nil {
		return nil, err
	}
	return p.parseFields(string(text))
}

// resume looks whether a form was sent for something else than to be carried out: to show the page in
// another language or theme, or to go on with it after a new sign-in. The page is then paused: it shows
// the form again, with what was typed.
func (p *page) resume() error {
	form := p.r.PostForm
	if form.Has("typed") {
		values, err := p.unpack(form.Get("typed"))
		if err != nil {
			return p.unread(err)
		}
		p.r.PostForm, p.paused, p.resumed = values, true, true
	}
	if p.prefer(form) {
		p.paused = true
	}
	return nil
}

func (p *page) malformed() error {
	return &client.Error{Status: http.StatusBadRequest, Title: p.words.text("error.malformed")}
}

// prefer keeps the language and the theme that somebody has chosen. It reports whether there are any.
func (p *page) prefer(form url.Values) (chosen bool) {
	keep := func(name, value string) {
		c := newCookie(p.r, name, value)
		c.MaxAge, c.SameSite = 365*24*3600, http.SameSiteLaxMode
		http.SetCookie(p.w, c)
		chosen = true
	}
	if lang := form.Get("language"); slices.Contains(languages(), lang) {
		keep(languageCookie, lang)
		p.words = p.views.byLanguage[lang].words
	}
	if theme := form.Get("theme"); slices.Contains([]string{"auto", "light", "dark"}, theme) {
		keep(themeCookie, theme)
		p.theme = strings.TrimPrefix(theme, "auto")
	}
	return chosen
}

// typedWithoutSecrets returns what was typed in the form that was sent, for the page to sign in, which
// carries it. Secrets are left out: they are typed again.
func (p *page) typedWithoutSecrets() (string, error) {
	if err := p.form(); err != nil {
		return "", err
	}
	values := p.r.PostForm
	for _, n := range p.nouns {
		for name, f := range n.fields {
			if f.Widget == widgetSecret {
				values.Del(name)
			}
		}
	}
	if len(values) == 0 {
		return "", nil
	}
	return pack(values), nil
}
