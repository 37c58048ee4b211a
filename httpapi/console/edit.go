package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// writeWait is how long a page waits until a change is applied. It goes on to show how far it is.
const writeWait = 1500 * time.Millisecond

// outcome is what the API says about a write that it has made.
type outcome struct {
	progress client.Progress
	warnings []string
}

func (o *outcome) options(more ...client.WriteOption) []client.WriteOption {
	return append(more, client.Wait(client.Applied, writeWait, &o.progress), client.Warnings(&o.warnings))
}

func (o *outcome) flash(text string, r catalog.Revision) flash {
	return flash{Text: text, Revision: r, Stage: o.progress.Stage, Nodes: o.progress.Nodes, Warnings: o.warnings}
}

func (p *page) newForm(n *noun) error {
	f := n.fill(n.defaults(p.r.URL.Query()))
	return p.showForm(n, f, http.StatusOK)
}

func (p *page) showForm(n *noun, f *form, status int) error {
	p.suggest(n, f)
	for _, s := range f.Sections {
		for _, in := range s.Fields {
			in.Fixed = f.ID != 0 && n.fixed(in.Name)
		}
	}
	return p.render("form", status, f)
}

func (p *page) create(n *noun) error {
	if err := p.form(); err != nil {
		return err
	}
	body, err := json.Marshal(n.typed(p.r.PostForm, p.zone))
	if err != nil {
		return err
	}
	var out outcome
	made, err := p.client.Objects(n.kind).Create(p.ctx(), body, out.options()...)
	if err != nil {
		return p.refused(n, n.fill(p.r.PostForm), err)
	}
	o, err := decodeObject(made)
	if err != nil {
		return err
	}
	return p.made(n, o, &out, "done.created")
}

// made goes to what was made. A token is in this answer and nowhere else: not in an address, and not
// behind a redirection.
func (p *page) made(n *noun, o object, out *outcome, text string) error {
	f := out.flash(text, catalog.Revision(o.number("revision")))
	f.Follow = !p.Limited()
	if token := o.text("token"); token != "" {
		p.flash, p.secret = &f, true
		return p.render("token", http.StatusOK, tokenView{n.kind, o.number("id"), n.titleOf(o), token, p.anyModel(o)})
	}
	return p.done(n.path(o.number("id")), f)
}

type tokenView struct {
	Kind  catalog.Kind
	ID    int64
	Title string
	Token string
	Model string // that the token may be tried with
}

// anyModel returns the name of a model to try a key with.
func (p *page) anyModel(key object) string {
	if list, _ := key["models"].([]any); len(list) > 0 {
		if name := fmt.Sprint(list[0]); shellSafe(name) {
			return name
		}
	}
	for _, name := range p.names(catalog.KindModel) {
		if shellSafe(name) {
			return name
		}
	}
	return "MODEL"
}

// shellSafe reports whether a name stands for itself in a line that somebody copies into a shell.
func shellSafe(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune("._/:-", r) && !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r &&
			r <= '9')
	})
}

// refused shows the form again with what is wrong.
func (p *page) refused(n *noun, f *form, err error) error {
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Status == http.StatusNotFound || e.Status == http.StatusForbidden ||
		e.Status >= http.StatusInternalServerError {
		return err
	}
	f.blame(p.words, e.Fields)
	if len(e.Fields) == 0 {
		text := p.words.problem(e)
		if e.Detail != "" {
			text += ": " + e.Detail
		}
		f.Problems = append(f.Problems, formProblem{Text: text})
	}
	return p.showForm(n, f, e.Status)
}

// id returns the id in the path. What is no id names nothing.
func (p *page) id() (int64, error) {
	id, err := strconv.ParseInt(p.r.PathValue("id"), 10, 64)
	if err != nil || id <= 0 {
		return 0, errNoPage
	}
	return id, nil
}

// entity reads the entity that the page is about.
func (p *page) entity(n *noun) (object, error) {
	id, err := p.id()
	if err != nil {
		return nil, err
	}
	data, err := p.client.Objects(n.kind).Get(p.ctx(), id)
	if err != nil {
		return nil, err
	}
	return decodeObject(data)
}

func (p *page) editForm(n *noun) error {
	o, err := p.entity(n)
	if err != nil {
		return err
	}
	return p.showForm(n, n.formOf(o, n.valuesOf(o, p.zone)), http.StatusOK)
}

// formOf makes the form of an entity that is there.
func (n *noun) formOf(o object, values url.Values) *form {
	f := n.fill(values)
	f.ID, f.Title = o.number("id"), n.titleOf(o)
	return f
}

func (p *page) edit(n *noun) error {
	if err := p.form(); err != nil {
		return err
	}
	stored, err := p.entity(n)
	if err != nil {
		return err
	}
	typed := p.r.PostForm
	patch := n.patch(stored, typed, p.zone)
	if len(patch) == 0 {
		return p.done(n.path(stored.number("id")), flash{Text: "done.nothing"})
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	revision, err := strconv.ParseInt(typed.Get("revision"), 10, 64)
	if err != nil {
		return errNoPage
	}
	var out outcome
	after, err := p.client.Objects(n.kind).Patch(p.ctx(), stored.number("id"), body,
		out.options(client.IfMatch(catalog.Revision(revision)))...)
	if errors.Is(err, catalog.ErrConflict) {
		return p.conflict(n, stored, typed)
	}
	if err != nil {
		return p.refused(n, n.formOf(stored, typed), err)
	}
	o, err := decodeObject(after)
	if err != nil {
		return err
	}
	return p.done(n.path(o.number("id")), out.flash("done.changed", catalog.Revision(o.number("revision"))))
}

// A difference is a field that has two values.
type difference struct{ Label, Stored, Typed string }

// conflict shows both versions where somebody else was faster: the form has what was typed, and sent
// again it is written over what is stored.
func (p *page) conflict(n *noun, stored object, typed url.Values) error {
	before := n.valuesOf(stored, p.zone)
	f := n.formOf(stored, typed)
	f.Revision = before.Get("revision")
	for _, in := range n.inputs() {
		if in.Widget == widgetSecret || in.unchanged(before, typed) {
			continue
		}
		d := difference{Label: "field." + in.Name, Stored: before.Get(in.Name), Typed: typed.Get(in.Name)}
		if in.Widget == widgetRows {
			d.Stored, d.Typed = in.rowsText(before), in.rowsText(typed)
		}
		f.Conflict = append(f.Conflict, d)
	}
	return p.showForm(n, f, http.StatusPreconditionFailed)
}

// rowsText writes rows one a line, for people.
func (f *field) rowsText(values url.Values) (text string) {
	for _, row := range f.typedRows(values) {
		for _, column := range f.Columns {
			if v := row[column.Name]; v != "" {
				text += column.Name + " " + v + "  "
			}
		}
		text += "\n"
	}
	return text
}
