package console

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// actionView asks whether something is meant, and says what it will do.
type actionView struct {
	Kind     catalog.Kind
	ID       int64
	Title    string
	Revision string
	Action   string // status, delete or rotate
	Before   string
	After    string
	Use      *use
	Related  []related
	Once     string // the number of the form
	Moved    bool   // somebody else has changed it meanwhile
	Problem  string
	Values   map[string]string // what was chosen
}

// ask shows what an action will do.
func (p *page) ask(n *noun, action string, o object, status int, change func(*actionView)) error {
	u, _, err := p.useOf(n, o)
	if err != nil {
		return err
	}
	view := actionView{
		Kind: n.kind, ID: o.number("id"), Title: n.titleOf(o), Revision: strconv.FormatInt(o.number("revision"), 10),
		Action: action, Once: newOnce(), Use: u, Related: p.related(n, o), Values: map[string]string{},
	}
	if action == "status" {
		view.Before, view.After = o.text("status"), otherStatus(o)
	}
	if change != nil {
		change(&view)
	}
	return p.render("action", status, view)
}

func otherStatus(o object) string {
	if o.text("status") == string(catalog.Active) {
		return string(catalog.Disabled)
	}
	return string(catalog.Active)
}

// asked makes the page that asks.
func (p *page) asked(n *noun, action string) error {
	o, err := p.entity(n)
	if err != nil {
		return err
	}
	return p.ask(n, action, o, http.StatusOK, nil)
}

func (p *page) statusForm(n *noun) error { return p.asked(n, "status") }
func (p *page) deleteForm(n *noun) error { return p.asked(n, "delete") }
func (p *page) rotateForm(n *noun) error { return p.asked(n, "rotate") }

// confirmed reads what was agreed to: the id, and the revision that was shown.
func (p *page) confirmed() (id int64, shown catalog.Revision, err error) {
	if err = p.form(); err != nil {
		return
	}
	if id, err = p.id(); err != nil {
		return
	}
	n, err := strconv.ParseInt(p.r.PostForm.Get("revision"), 10, 64)
	if err != nil || n < 1 {
		return 0, 0, errNoPage
	}
	return id, catalog.Revision(n), nil
}

// again asks once more where an action was refused.
func (p *page) again(n *noun, action string, err error) error {
	e, ok := asProblem(err)
	moved := errors.Is(err, catalog.ErrConflict)
	if !ok || !moved && e.Status != http.StatusConflict && e.Status != http.StatusUnprocessableEntity {
		return err
	}
	o, getErr := p.entity(n)
	if getErr != nil {
		return getErr
	}
	return p.ask(n, action, o, e.Status, func(view *actionView) {
		if view.Moved = moved; !moved {
			view.Problem = p.words.sentence(e)
			for _, f := range e.Fields {
				view.Problem += " (" + p.words.field(f) + ")"
			}
		}
		for name := range p.r.PostForm {
			view.Values[name] = p.r.PostForm.Get(name)
		}
	})
}

func (p *page) setStatus(n *noun) error {
	id, shown, err := p.confirmed()
	if err != nil {
		return err
	}
	status := p.r.PostForm.Get("status")
	body, err := json.Marshal(map[string]string{"status": status})
	if err != nil {
		return err
	}
	var out outcome
	after, err := p.client.Objects(n.kind).Patch(p.ctx(), id, body, out.options(client.IfMatch(shown))...)
	if err != nil {
		return p.again(n, "status", err)
	}
	o, err := decodeObject(after)
	if err != nil {
		return err
	}
	return p.done(n.path(id), out.flash("done."+p.statusWord(status), catalog.Revision(o.number("revision"))))
}

func (p *page) statusWord(status string) string {
	if status == string(catalog.Active) {
		return "enabled"
	}
	return "disabled"
}

func (p *page) delete(n *noun) error {
	id, shown, err := p.confirmed()
	if err != nil {
		return err
	}
	var out outcome
	opts := out.options(client.IfMatch(shown))
	if p.r.PostForm.Get("cascade") != "" {
		opts = append(opts, client.Cascade())
	}
	if err := p.client.Objects(n.kind).Delete(p.ctx(), id, opts...); err != nil {
		return p.again(n, "delete", err)
	}
	return p.done(string(n.kind), out.flash("done.deleted", 0))
}

func (p *page) rotate(n *noun) error {
	if err := p.form(); err != nil {
		return err
	}
	id, err := p.id()
	if err != nil {
		return err
	}
	minutes, err := strconv.ParseInt(p.r.PostForm.Get("grace"), 10, 32)
	if err != nil {
		minutes = -1 // which the API refuses in its own words
	}
	return p.once(func() sent {
		var out outcome
		data, err := p.client.Objects(n.kind).Rotate(p.ctx(), id, time.Duration(minutes)*time.Minute, out.options()...)
		return n.sent(data, err, &out, "done.rotated", func(p *page, err error) error {
			return p.again(n, "rotate", err)
		})
	})
}
