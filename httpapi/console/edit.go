package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
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
	if p.Limited() && n.fields["project"] != nil && f.find("project").Value == "" {
		f.find("project").Value = p.caller.Project
	}
	return p.showForm(n, f, http.StatusOK)
}

func (p *page) showForm(n *noun, f *form, status int) error {
	p.suggest(n, f)
	p.typing = true
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
	typed := p.r.PostForm
	if p.paused {
		return p.showForm(n, n.fill(typed), http.StatusOK)
	}
	if wrong := n.mistakes(typed); len(wrong) > 0 {
		return p.mistaken(n, n.fill(typed), wrong)
	}
	body, err := json.Marshal(n.typed(typed, p.zone))
	if err != nil {
		return err
	}
	return p.once(func() sent {
		var out outcome
		made, err := p.client.Objects(n.kind).Create(p.ctx(), body, out.options()...)
		return n.sent(made, err, &out, "done.created", func(p *page, err error) error {
			return p.refused(n, n.fill(typed), err)
		})
	})
}

// sent is the outcome of a form that makes something, or a token of it.
func (n *noun) sent(made []byte, err error, out *outcome, text string, refused func(*page, error) error) sent {
	if err != nil {
		return sent{show: func(p *page) error { return refused(p, err) }}
	}
	o, err := decodeObject(made)
	if err != nil {
		return sent{show: func(*page) error { return err }}
	}
	show := func(p *page) error { return p.made(n, o, out, text) }
	return sent{show: show, path: n.path(o.number("id"))}
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

// mistaken shows the form again with mistakes that the console finds itself.
func (p *page) mistaken(n *noun, f *form, errs catalog.FieldErrors) error {
	f.blame(p.words, errs)
	return p.showForm(n, f, http.StatusUnprocessableEntity)
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
		f.Problems = append(f.Problems, formProblem{Text: p.words.sentence(e)})
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
	values := n.valuesOf(o, p.zone)
	f := n.formOf(o, values)
	f.Shown = pack(values)
	return p.showForm(n, f, http.StatusOK)
}

// formOf makes the form of an entity that is there.
func (n *noun) formOf(o object, values url.Values) *form {
	f := n.fill(values)
	f.ID, f.Title = o.number("id"), n.titleOf(o)
	return f
}

// editTries is how often a change is begun anew that somebody else comes before.
const editTries = 4

// edit sends what somebody has changed in the form, and nothing else: what others have changed meanwhile
// stays. Where both have changed the same field, both values are shown.
func (p *page) edit(n *noun) error {
	if err := p.form(); err != nil {
		return err
	}
	typed := p.r.PostForm
	shown, err := p.unpack(typed.Get("shown"))
	if err != nil {
		return p.unread(err)
	}
	mine := n.changed(shown, typed)
	for range editTries {
		var stored object
		if stored, err = p.entity(n); err != nil {
			return err
		}
		if p.paused {
			return p.showForm(n, n.formOf(stored, typed), http.StatusOK)
		}
		if wrong := n.mistakes(typed); len(wrong) > 0 {
			return p.mistaken(n, n.formOf(stored, typed), wrong)
		}
		now := n.valuesOf(stored, p.zone)
		theirs, missing := n.changed(shown, now), n.changed(now, typed)
		patch := []*field{}
		for _, f := range mine {
			if slices.Contains(theirs, f) && slices.Contains(missing, f) {
				return p.conflict(n, stored, mine, theirs)
			}
			if slices.Contains(missing, f) {
				patch = append(patch, f)
			}
		}
		if len(patch) == 0 {
			return p.done(n.path(stored.number("id")), flash{Text: "done.nothing"})
		}
		text := "done.changed"
		if len(theirs) > 0 {
			text = "done.merged"
		}
		if err = p.patch(n, stored, patch, text); !errors.Is(err, catalog.ErrConflict) {
			return err
		}
	}
	return err
}

// patch sends the fields that were changed.
func (p *page) patch(n *noun, stored object, changed []*field, text string) error {
	typed := p.r.PostForm
	body, err := json.Marshal(n.patch(stored, changed, typed, p.zone))
	if err != nil {
		return err
	}
	var out outcome
	shown := client.IfMatch(catalog.Revision(stored.number("revision")))
	after, err := p.client.Objects(n.kind).Patch(p.ctx(), stored.number("id"), body, out.options(shown)...)
	if errors.Is(err, catalog.ErrConflict) {
		return err
	}
	if err != nil {
		return p.refused(n, n.formOf(stored, typed), err)
	}
	o, err := decodeObject(after)
	if err != nil {
		return err
	}
	return p.done(n.path(o.number("id")), out.flash(text, catalog.Revision(o.number("revision"))))
}

// A difference is a field that has two values.
type difference struct{ Label, Stored, Typed string }

// conflict shows both values of what somebody else has changed, too. The form has what was typed, and the
// values of others where nothing was. Sent again, it is written over what is stored.
func (p *page) conflict(n *noun, stored object, mine, theirs []*field) error {
	typed, now := p.r.PostForm, n.valuesOf(stored, p.zone)
	values := n.valuesOf(stored, p.zone)
	for _, f := range mine {
		f.copyInputs(values, typed)
	}
	f := n.formOf(stored, values)
	f.Shown = pack(now)
	for _, in := range theirs {
		if !slices.Contains(mine, in) || in.unchanged(now, typed) {
			continue
		}
		d := difference{Label: "field." + in.Name, Stored: now.Get(in.Name), Typed: typed.Get(in.Name)}
		if in.Widget == widgetRows {
			d.Stored, d.Typed = in.rowsText(now), in.rowsText(typed)
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
