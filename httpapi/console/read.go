package console

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/httpapi/internal/room"
)

// Bounds of forms, which somebody may send who is not signed in. The longest texts are lists of 10,000 models of 256
// characters, and the prices of a provider have the most fields.
const (
	maxForm   = 8 << 20  // bytes of a form
	maxFields = 100_000  // of a form
	maxForms  = 64 << 20 // bytes that all forms take at once
	maxOpen   = 16 << 20 // bytes that those take of who is not signed in, beside the others
	fieldSize = 256      // bytes that a field takes beside its text, about

	// parting is how long the rest of a form that is refused may take to come, before its sender is told why.
	parting = time.Second
)

var errManyFields = errors.New("the form has too many fields")

// readForm reads the fields of a form one by one: net/url takes no more than 10,000 at once. What they take counts
// until the page is done.
func (p *page) readForm() error {
	kind, _, err := mime.ParseMediaType(p.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		p.r.Body = http.MaxBytesReader(p.w, p.r.Body, maxForm)
		return p.r.ParseForm()
	}
	share := p.share()
	share.Wait()
	text, err := io.ReadAll(http.MaxBytesReader(p.w, charged{p.r.Body, share}, maxForm))
	if slow := share.Settle(); slow != nil {
		return slow
	}
	if err != nil {
		return err
	}
	if p.r.PostForm, err = p.parseFields(string(text)); err != nil {
		return err
	}
	p.r.Body = http.NoBody
	return p.r.ParseForm() // what the address has, beside the form
}

// share is what the page holds of the memory for forms. Who is not signed in takes none from others.
func (p *page) share() *room.Share {
	if p.held == nil {
		of := p.openRoom
		if p.known {
			of = p.room
		}
		p.held = of.Enter(http.NewResponseController(p.w).SetReadDeadline)
	}
	return p.held
}

// letGo gives back what the page holds.
func (p *page) letGo() {
	if p.held != nil {
		p.held.Leave()
	}
}

// charged counts what is read of a body.
type charged struct {
	io.ReadCloser
	share *room.Share
}

// Read implements [io.Reader].
func (c charged) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.share.Moved(int64(n))
	if full := c.share.Take(int64(n)); full != nil {
		return n, full
	}
	return n, err
}

// parseFields reads fields, and counts what they take.
func (p *page) parseFields(text string) (url.Values, error) {
	fields := strings.Count(text, "&") + 1
	if fields > maxFields {
		return nil, errManyFields
	}
	if err := p.share().Take(int64(fields) * fieldSize); err != nil {
		return nil, err
	}
	values := url.Values{}
	for pair := range strings.SplitSeq(text, "&") {
		field, err := url.ParseQuery(pair)
		if err != nil {
			return nil, err
		}
		for name, v := range field {
			values[name] = append(values[name], v...)
		}
	}
	return values, nil
}

// unread says why a form could not be read.
func (p *page) unread(err error) error {
	_, large := errors.AsType[*http.MaxBytesError](err)
	switch {
	case large || errors.Is(err, errManyFields):
		return &client.Error{Status: http.StatusRequestEntityTooLarge, Title: p.words.text("error.toolarge")}
	case errors.Is(err, room.ErrFull) || errors.Is(err, room.ErrGaveWay):
		p.letGo() // net/http reads what little is left before it answers, and that may never come
		_ = http.NewResponseController(p.w).SetReadDeadline(time.Now().Add(parting))
		p.w.Header().Set("Retry-After", "5")
		return &client.Error{Status: http.StatusServiceUnavailable, Title: p.words.text("error.crowded")}
	}
	return p.malformed()
}
