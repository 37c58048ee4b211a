package console

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// planView is what will be done, or was done.
type planView struct {
	Title   string // key of the catalogue
	Arg     string // of the title
	Action  string // where to send the form that carries it out
	Hidden  []hiddenValue
	Once    string     // the number of that form
	Options *applyView // to plan anew with others; nil where there are none
	Plan    catalog.Plan
	Steps   []planStep
	Left    int // steps that are not shown
	Problem []string
	Notes   []planNote
	Moved   bool // the plan is another than the one that was agreed to
	Tokens  []catalog.IssuedToken
	Done    bool
}

type hiddenValue struct{ Name, Value string }

// Back returns the page that the plan was asked for on.
func (v planView) Back() string {
	if strings.HasPrefix(v.Action, "revert?") {
		return "changes"
	}
	return v.Action
}

type planStep struct {
	catalog.Step
	Fields []difference
}

// maxSteps bounds how many steps a page shows.
const maxSteps = 300

// fill shows the steps that do something.
func (v *planView) fill(p *page, plan catalog.Plan) {
	v.Plan = plan
	for _, s := range plan.Steps {
		if s.Action == catalog.Unchanged {
			continue
		}
		if len(v.Steps) == maxSteps {
			v.Left++
			continue
		}
		shown := planStep{Step: s}
		for _, d := range s.Fields {
			shown.Fields = append(shown.Fields, p.planned(d))
		}
		v.Steps = append(v.Steps, shown)
	}
}

func (p *page) planned(d catalog.Difference) difference {
	if d.Changed {
		return difference{p.words.or("field.", d.Field), "•••", "•••"}
	}
	var before, after any
	_ = decodeJSON(d.Before, &before) // an absent side is nothing
	_ = decodeJSON(d.After, &after)
	return difference{p.words.or("field.", d.Field), p.plainly(before), p.plainly(after)}
}

// doPlan makes a plan, or carries it out.
type doPlan func(expect string, dryRun bool, more ...client.WriteOption) (catalog.Plan, error)

// carry makes a plan or carries it out, and shows it. What the form agrees to is carried out, and
// nothing else.
func (p *page) carry(view planView, do doPlan) error {
	p.typing = true
	view.Once = newOnce()
	expect := p.r.PostForm.Get("expect")
	if expect == "" || p.paused {
		plan, err := do("", true)
		return p.showPlan(view, plan, err)
	}
	return p.once(func() sent {
		var out outcome
		plan, err := do(expect, false, out.options()...)
		if err != nil {
			return sent{show: func(p *page) error { return p.showPlan(view, plan, err) }}
		}
		view.Done, view.Tokens = true, plan.Tokens
		f := out.flash("plan.done", 0)
		if plan.Changes() {
			f.Revision = plan.Revision
		}
		f.Follow = true
		return sent{path: view.Back(), show: func(p *page) error {
			p.flash, p.secret = &f, len(plan.Tokens) > 0
			return p.showPlan(view, plan, nil)
		}}
	})
}

// showPlan answers with a plan, or with why there is none.
func (p *page) showPlan(view planView, plan catalog.Plan, err error) error {
	status := http.StatusOK
	switch {
	case errors.Is(err, catalog.ErrPlanChanged):
		view.Moved, status = true, http.StatusPreconditionFailed
	case errors.Is(err, catalog.ErrForce):
		status = http.StatusConflict
	case errors.Is(err, errMoved):
		return p.wrongPrices(p.words.text("prices.moved"))
	case err != nil:
		e, ok := asProblem(err)
		if !ok || e.Status == http.StatusForbidden || e.Status >= http.StatusInternalServerError {
			return err
		}
		status = e.Status
		for _, f := range e.Fields {
			view.Problem = append(view.Problem, p.words.field(f))
		}
		if len(e.Fields) == 0 {
			view.Problem = append(view.Problem, p.words.sentence(e))
		}
	}
	view.fill(p, plan)
	return p.render("plan", status, view)
}

// revert shows what taking back a revision does, or returning to one, and does it.
func (p *page) revert() error {
	if err := p.form(); err != nil {
		return err
	}
	which, name := p.r.Form.Get("revision"), "revision"
	if which == "" {
		which, name = p.r.Form.Get("to"), "to"
	}
	n, err := strconv.ParseInt(which, 10, 64)
	if err != nil || n < 0 {
		return errNoPage
	}
	// The revision is in the address, so that the page can be loaded again.
	view := planView{Title: "revert." + name, Arg: which, Action: link("revert", name, which)}
	return p.carry(view, func(expect string, dryRun bool, more ...client.WriteOption) (catalog.Plan, error) {
		opts := &catalog.RevertOptions{Expect: expect, Force: p.r.PostForm.Get("force") != "", DryRun: dryRun}
		if name == "to" {
			return p.client.Revert(p.ctx(), catalog.Revision(n), opts, more...)
		}
		return p.client.RevertOne(p.ctx(), catalog.Revision(n), opts, more...)
	})
}

// maxUpload bounds a file that is uploaded. The command line takes larger ones.
const maxUpload = 4 << 20

// applyView is the form of a file, as it was filled in.
type applyView struct {
	Problem  string
	Owner    string
	Prune    bool
	TakeOver bool
	State    string // the file, sealed, once it is uploaded
}

func applyViewOf(form url.Values) applyView {
	return applyView{
		Owner: form.Get("owner"), Prune: form.Get("prune") != "", TakeOver: form.Get("take_over") != "",
	}
}

func (p *page) applyForm() error { return p.showApplyForm(http.StatusOK, "") }

func (p *page) showApplyForm(status int, problem string) error {
	p.typing = true
	view := applyViewOf(p.r.PostForm)
	view.Problem = problem
	return p.render("apply", status, view)
}

// apply plans what a file says, and carries it out. Between the two the browser keeps the file,
// sealed, because it may hold secrets.
func (p *page) apply() error {
	p.r.Body = http.MaxBytesReader(p.w, p.r.Body, 2*maxUpload)
	if err := p.r.ParseMultipartForm(maxUpload); err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return p.showApplyForm(http.StatusRequestEntityTooLarge, p.words.text("apply.toolarge", maxUpload>>20))
	}
	if err := p.resume(); err != nil {
		return err
	}
	form := p.r.PostForm
	if p.paused && form.Get("state") == "" {
		return p.applyForm()
	}
	state, err := p.uploaded()
	if err != nil {
		return p.showApplyForm(http.StatusUnprocessableEntity, p.words.text("apply.file", maxUpload>>20))
	}
	sealed, err := p.sealFile(state)
	if err != nil {
		return err
	}
	options := applyViewOf(form)
	options.State = sealed
	view := planView{
		Title: "apply.plan", Action: "apply", Hidden: []hiddenValue{{"state", sealed}}, Options: &options,
	}
	for _, name := range []string{"owner", "take_over", "prune"} {
		if v := form.Get(name); v != "" {
			view.Hidden = append(view.Hidden, hiddenValue{name, v})
		}
	}
	return p.carry(view, func(expect string, dryRun bool, more ...client.WriteOption) (catalog.Plan, error) {
		return p.client.Apply(p.ctx(), state, &catalog.ApplyOptions{
			PlanOptions: catalog.PlanOptions{
				Owner: options.Owner, TakeOver: options.TakeOver, Prune: options.Prune,
			},
			Expect: expect, Force: form.Get("force") != "", DryRun: dryRun,
		}, more...)
	})
}

// uploaded returns the file, from the form that has it or from the one that the plan was shown in.
func (p *page) uploaded() ([]byte, error) {
	if sealed := p.r.PostForm.Get("state"); sealed != "" {
		return p.openFile(sealed)
	}
	file, _, err := p.r.FormFile("file")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	state, err := io.ReadAll(io.LimitReader(file, maxUpload+1))
	if err == nil && (len(state) == 0 || len(state) > maxUpload) {
		err = errNoPage
	}
	return state, err
}

func (p *page) sealFile(state []byte) (string, error) { return p.sessions.seal("file", zip(state)) }

func (p *page) openFile(sealed string) ([]byte, error) { return p.unzipped("file", sealed, maxUpload) }

// unzipped opens what was compressed and sealed for a purpose.
func (p *page) unzipped(purpose, sealed string, most int64) ([]byte, error) {
	var zipped []byte
	if err := p.sessions.open(purpose, sealed, &zipped); err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, most))
}
