package console

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/ez-api/ez-api/httpapi"
)

// A sent is the outcome of a form.
type sent struct {
	show func(*page) error // answers with it, on every page that waits for it
	path string            // of what was made; "" says that nothing was, and that the form may be sent again
}

// onceForms carry out each form once, though a browser may send it twice: by a double click, or because
// its answer was lost. A form is known by a number that it was shown with. The numbers are in the
// memory of this server: two servers behind one address do not know each other's.
type onceForms struct {
	mu    sync.Mutex
	forms map[onceKey]*onceForm
}

// onceKey is the number of a form, and who has sent it: what it has made is shown to nobody else.
type onceKey struct {
	caller httpapi.Caller
	number string
}

// onceForm is a form that was sent. All but done is guarded by the mutex of onceForms.
type onceForm struct {
	begun   time.Time
	done    chan struct{} // closed once sent is set
	sent    sent          // without show once that is not needed any more, because it may hold a token
	waiting int           // for the answer
	shown   bool          // somebody was given it
}

const (
	maxOnce  = 4096             // forms that are remembered
	onceTime = longestTime      // for how long
	sendTime = 30 * time.Second // that carrying out a form may take, also when its sender has gone
)

// newOnce returns the number of a form.
func newOnce() string { return rand.Text() }

// once carries out the form that was sent, and answers. When the same form comes again while it is being
// carried out, both get the answer, because a browser shows only the last one. When it comes later, it
// is told that the form was sent already, and led to what it has made. An answer that nobody was there
// for is kept for the next who asks.
func (p *page) once(carryOut func() sent) error {
	key := onceKey{p.caller, p.r.PostForm.Get("once")}
	if key.number == "" || len(key.number) > 64 {
		return p.detached(carryOut).show(p)
	}
	f, first, joined := p.forms.enter(key, p.now())
	if first {
		p.carryOut(key, f, carryOut)
	}
	select {
	case <-f.done:
	case <-p.ctx().Done():
	}
	out := p.forms.take(f, joined, p.ctx().Err() == nil)
	switch {
	case p.ctx().Err() != nil:
		return p.ctx().Err()
	case out.show != nil:
		return out.show(p)
	case out.path == "":
		return errors.New("a form that was sent twice has failed")
	}
	return p.done(out.path, flash{Text: "done.already"})
}

// carryOut does what the form asks for, and lets go of those who wait, also when it panics.
func (p *page) carryOut(key onceKey, f *onceForm, do func() sent) {
	var out sent
	defer func() { p.forms.leave(key, f, out) }()
	out = p.detached(do)
}

// detached does something that goes on when the browser has gone: a second click breaks off the request
// of the first.
func (p *page) detached(do func() sent) sent {
	r := p.r
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), sendTime)
	defer cancel()
	p.r = r.WithContext(ctx)
	defer func() { p.r = r }()
	return do()
}

// enter returns the form of a number; first says that the caller carries it out, and joined that its
// answer is still to come.
func (o *onceForms) enter(key onceKey, now time.Time) (f *onceForm, first, joined bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f = o.forms[key]
	if f == nil {
		o.prune(now)
		f = &onceForm{begun: now, done: make(chan struct{})}
		o.forms[key] = f
		first = true
	}
	select {
	case <-f.done:
	default:
		f.waiting++
		joined = true
	}
	return f, first, joined
}

// leave says what has become of a form. One that has made nothing may be sent again.
func (o *onceForms) leave(key onceKey, f *onceForm, out sent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f.sent = out
	if out.path == "" {
		delete(o.forms, key)
	}
	close(f.done)
}

// take returns the outcome: with its answer for those who have joined, and for the first one who is
// there.
func (o *onceForms) take(f *onceForm, joined, there bool) sent {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := f.sent
	if !joined && f.shown {
		out.show = nil
	}
	f.shown = f.shown || there
	if joined {
		f.waiting--
	}
	if f.shown && f.waiting == 0 {
		f.sent.show = nil
	}
	return out
}

// prune makes room for another form.
func (o *onceForms) prune(now time.Time) {
	var oldest onceKey
	for key, f := range o.forms {
		if now.Sub(f.begun) > onceTime {
			delete(o.forms, key)
		} else if first := o.forms[oldest]; first == nil || f.begun.Before(first.begun) {
			oldest = key
		}
	}
	if len(o.forms) >= maxOnce {
		delete(o.forms, oldest)
	}
}
