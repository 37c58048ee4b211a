package console

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// A queryReader reads the filters of a page. What is no number or time is noted, and what the rest
// of a filter must be is for the API to say.
type queryReader struct {
	page   *page
	values url.Values
	wrong  []string // messages
}

func (p *page) query() *queryReader { return &queryReader{page: p, values: p.r.URL.Query()} }

func (q *queryReader) text(name string) string { return strings.TrimSpace(q.values.Get(name)) }

func (q *queryReader) number(name string) int64 {
	text := q.text(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		q.note(name, "query.number")
	}
	return n
}

func (q *queryReader) time(name string) time.Time {
	text := q.text(name)
	for _, layout := range []string{timeLayout, "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, q.page.zone); err == nil {
			return t
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil || text == "" {
		return t
	}
	q.note(name, "query.time")
	return time.Time{}
}

func (q *queryReader) note(name, text string) {
	w := q.page.words
	q.wrong = append(q.wrong, w.text("field."+name)+": "+w.text(text))
}

// problems returns the messages of an error that is about what somebody has asked for; ok is false
// for others.
func (p *page) problems(err error) (messages []string, ok bool) {
	e, ok := errors.AsType[*client.Error](err)
	if !ok || !errors.Is(err, catalog.ErrInvalid) && !errors.Is(err, catalog.ErrCompacted) &&
		!errors.Is(err, catalog.ErrNotFound) && !errors.Is(err, catalog.ErrUnavailable) {
		return nil, false
	}
	for _, f := range e.Fields {
		messages = append(messages, p.words.or("field.", f.Field)+": "+p.words.message(f.Message))
	}
	if len(messages) == 0 {
		messages = []string{p.words.sentence(e)}
	}
	return messages, true
}

// inputs makes the inputs of filters.
func (q *queryReader) inputs(names ...string) (all []*input) {
	for _, name := range names {
		in := newInput(&field{Name: name, Widget: widgetText}, name)
		switch name {
		case "since", "until":
			in.Widget = widgetTime
		}
		in.Value = q.values.Get(name)
		all = append(all, in)
	}
	return all
}

// names looks up what ids are called, each once and not more than it may take long.
type names struct {
	page  *page
	kind  catalog.Kind
	known map[int64]string
}

// maxNames bounds how many names a page looks up. The others are shown by their ids.
const maxNames = 40

func (p *page) namesOf(kind catalog.Kind) *names { return &names{p, kind, map[int64]string{}} }

// of returns the name of an id, or "" where there is none any more, or the caller is not shown it.
func (n *names) of(id int64) string {
	name, known := n.known[id]
	if known || id == 0 || len(n.known) >= maxNames || n.kind == catalog.KindProvider && n.page.Limited() {
		return name
	}
	if data, err := n.page.client.Objects(n.kind).Get(n.page.ctx(), id); err == nil {
		if o, err := decodeObject(data); err == nil {
			name = o.text("name")
		}
	}
	n.known[id] = name
	return name
}

// A reference is an entity by its id, with its name where that is known.
type reference struct {
	Kind catalog.Kind
	ID   int64
	Name string
}

func (n *names) reference(id int64) reference { return reference{n.kind, id, n.of(id)} }
