package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// onceSite is a console that carries out forms, and knows nothing else.
func onceSite(t *testing.T) *Console {
	t.Helper()
	s, err := newSealer(bytes.Repeat([]byte{7}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	return &Console{sessions: sessions{s}, now: time.Now, forms: &onceForms{forms: map[onceKey]*onceForm{}}}
}

// sending is a page that a browser has sent a form to.
func (c *Console) sending(ctx context.Context, number string) (*page, *httptest.ResponseRecorder) {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/keys/new", nil)
	r.PostForm = url.Values{"once": {number}}
	return &page{Console: c, w: w, r: r}, w
}

// TestAnswersThatWereLost: a form whose sender has gone is carried out to its end, and its answer is for the
// next who sends it; after that there is none any more.
func TestAnswersThatWereLost(t *testing.T) {
	c := onceSite(t)
	runs := 0
	shown := func(p *page) error { _, err := p.w.Write([]byte("token")); return err }
	ctx, leave := context.WithCancel(t.Context())
	p, w := c.sending(ctx, "n")
	err := p.once(func() sent {
		runs++
		leave()
		if err := p.ctx().Err(); err != nil {
			t.Errorf("what is carried out is broken off: %v", err)
		}
		return sent{shown, "keys/1"}
	})
	if !errors.Is(err, context.Canceled) || w.Body.Len() > 0 {
		t.Errorf("who has gone was answered: %v %s", err, w.Body)
	}
	again := func() *httptest.ResponseRecorder {
		p, w := c.sending(t.Context(), "n")
		if err := p.once(func() sent { runs++; return sent{shown, "keys/2"} }); err != nil {
			t.Error(err)
		}
		return w
	}
	if w := again(); w.Body.String() != "token" {
		t.Errorf("the next one: %d %s", w.Code, w.Body)
	}
	if w := again(); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "../keys/1" || w.Body.Len() > 0 {
		t.Errorf("the one after: %d %v", w.Code, w.Header())
	}
	if runs != 1 {
		t.Errorf("it was carried out %d times", runs)
	}
}

// TestFormsThatFailMayBeSentAgain: also after a panic, which lets go of those who wait.
func TestFormsThatFailMayBeSentAgain(t *testing.T) {
	c := onceSite(t)
	func() {
		defer func() { _ = recover() }()
		p, _ := c.sending(t.Context(), "n")
		_ = p.once(func() sent { panic("a fault") })
	}()
	p, w := c.sending(t.Context(), "n")
	err := p.once(func() sent {
		return sent{show: func(p *page) error { _, err := p.w.Write([]byte("ok")); return err }, path: "keys/1"}
	})
	if err != nil || w.Body.String() != "ok" {
		t.Errorf("%v %s", err, w.Body)
	}
}

// TestRememberedFormsAreBounded: the oldest goes first, and each after half a day.
func TestRememberedFormsAreBounded(t *testing.T) {
	o := &onceForms{forms: map[onceKey]*onceForm{}}
	start := time.Now()
	send := func(name string, at time.Time) {
		f, _, _ := o.enter(onceKey{number: name}, at)
		o.leave(onceKey{number: name}, f, sent{path: "x"})
	}
	for i := range maxOnce + 10 {
		send(fmt.Sprint(i), start.Add(time.Duration(i)*time.Millisecond))
	}
	if len(o.forms) != maxOnce || o.forms[onceKey{number: "9"}] != nil || o.forms[onceKey{number: "10"}] == nil {
		t.Errorf("%d forms are remembered", len(o.forms))
	}
	send("later", start.Add(2*onceTime))
	if len(o.forms) != 1 {
		t.Errorf("%d forms are remembered after half a day", len(o.forms))
	}
}
