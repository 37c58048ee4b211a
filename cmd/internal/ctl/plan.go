package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
	"github.com/ez-api/ez-api/httpapi/client"
)

// planOptions say what a plan is for. They are kept with a plan, so that it is carried out as it
// was made.
type planOptions struct {
	Owner    string `json:"owner,omitempty"`
	TakeOver bool   `json:"take_over,omitempty"`
	Prune    bool   `json:"prune,omitempty"`
	Cascade  bool   `json:"cascade,omitempty"`
}

// changing are the flags of commands that make a plan of files.
type changing struct {
	printing
	reading
	TakeOver bool `help:"Also change what belongs to another owner, or to none, and make it the owner's."`
	Cascade  bool `help:"When a model is renamed or deleted, change the allow-lists that name it."`
	All      bool `help:"Show every change of a plan, however many there are."`
}

// doing are the flags of commands that carry a plan out.
type doing struct {
	Force     bool          `help:"Also delete more than half and more than 10 of a kind."`
	TokensOut string        `placeholder:"FILE" help:"Write the tokens of new keys to a file, which must not exist; - is standard output."`
	Wait      string        `enum:",published,applied" default:"" help:"Wait until it is published, or applied by all balancers."`
	Timeout   time.Duration `default:"1m" help:"How long to wait at most."`
}

type diffCommand struct {
	changing
	NoPrune  bool   `help:"Show what apply would change: delete nothing."`
	ExitCode bool   `help:"Exit with 2 when there is a difference."`
	Out      string `type:"path" placeholder:"FILE" help:"Keep the plan in a file, for apply --plan."`
}

type applyCommand struct {
	changing
	doing
	Plan string `type:"existingfile" placeholder:"FILE" help:"Do it only if it is still the plan that diff --out has kept."`
}

type syncCommand struct {
	changing
	doing
}

// Run shows what sync would change.
func (c *diffCommand) Run(ctx context.Context, a *app) error {
	j, err := c.job(a)
	if err != nil {
		return err
	}
	j.opts.Prune = j.opts.Owner != "" && !c.NoPrune
	plan, err := j.dryRun(ctx)
	if err != nil {
		return err
	}
	if err := j.print(plan, c.All); err != nil {
		return err
	}
	if c.Out != "" {
		if err := writePlan(c.Out, keptPlan{Version: 1, Options: j.opts, Plan: plan}); err != nil {
			return err
		}
	}
	if c.ExitCode && plan.Changes() {
		return &codeError{code: exitDifference}
	}
	return nil
}

// Run creates and changes what files name, or carries out a plan that was kept.
func (c *applyCommand) Run(ctx context.Context, a *app) error {
	j, err := c.job(a)
	if err != nil {
		return err
	}
	if c.Plan != "" {
		kept, err := readPlan(c.Plan)
		if err != nil {
			return err
		}
		if kept.Options.Owner != j.opts.Owner {
			return errors.New("--plan was made for another owner than the files have")
		}
		j.opts, j.expect = kept.Options, kept.Plan.Hash
	}
	return j.carryOut(ctx, &c.doing, c.All)
}

// Run makes the catalog as the files say: it deletes, too.
func (c *syncCommand) Run(ctx context.Context, a *app) error {
	j, err := c.job(a)
	if err != nil {
		return err
	}
	if j.opts.Owner == "" {
		return errors.New("sync deletes what the owner of the files owns and they do not name: " +
			"write owner: NAME at the top of a file, or use apply")
	}
	j.opts.Prune = true
	return j.carryOut(ctx, &c.doing, c.All)
}

// job is a plan that is made, and perhaps carried out.
type job struct {
	app    *app
	api    *client.Client
	set    *manifest.Set
	title  string
	opts   planOptions
	expect string // hash of the plan that it has to be; empty for any
}

func (c *changing) job(a *app) (*job, error) {
	set, err := c.read(a)
	if err != nil {
		return nil, err
	}
	api, err := a.client()
	if err != nil {
		return nil, err
	}
	return &job{
		app: a, api: api, set: set, title: joinSome(c.Files),
		opts: planOptions{Owner: set.Owner, TakeOver: c.TakeOver, Cascade: c.Cascade},
	}, nil
}

// send asks for the plan, or carries it out. j.app shows progress meanwhile.
func (j *job) send(ctx context.Context, opts catalog.ApplyOptions, more ...client.WriteOption) (catalog.Plan, error) {
	body, err := j.set.Body()
	if err != nil {
		return catalog.Plan{}, err
	}
	opts.Owner, opts.TakeOver, opts.Prune = j.opts.Owner, j.opts.TakeOver, j.opts.Prune
	if j.opts.Cascade {
		more = append(more, client.Cascade())
	}
	return j.api.Apply(ctx, body, &opts, more...)
}

// dryRun asks for the plan.
func (j *job) dryRun(ctx context.Context) (catalog.Plan, error) {
	j.app.progress.show("comparing %d resources", j.set.Len())
	defer j.app.progress.clear()
	plan, err := j.send(ctx, catalog.ApplyOptions{DryRun: true})
	return plan, j.located(err)
}

// located says where in the files the fields are that the server does not accept.
func (j *job) located(err error) error {
	problem, ok := errors.AsType[*client.Error](err)
	if !ok || len(problem.Fields) == 0 {
		return err
	}
	for _, f := range problem.Fields {
		f.Message = strings.ReplaceAll(f.Message, "take_over=true", "--take-over")
	}
	at := j.set.Locate(problem.Fields)
	if _, ok := errors.AsType[manifest.Problems](at); !ok {
		return err
	}
	if isRefusal(err) {
		return &codeError{exitRefused, at}
	}
	return at
}

// carryOut makes the plan, shows it and carries it out, unless it is another one by then.
func (j *job) carryOut(ctx context.Context, d *doing, all bool) error {
	plan, err := j.dryRun(ctx)
	if err != nil {
		return err
	}
	if j.expect != "" && plan.Hash != j.expect {
		return errors.Join(j.print(plan, all), refused("the plan has changed since it was made: look at the new one above, "+
			"and keep it with diff --out"))
	}
	if j.app.output == "table" {
		if err := j.print(plan, all); err != nil {
			return err
		}
	}
	begun := time.Now()
	if !plan.Changes() { // what was done before may still be on its way
		return errors.Join(j.printDone(plan), j.app.await(ctx, j.api, plan.Revision, d, begun, client.Progress{}))
	}
	if err := checkForce(plan, d.Force); err != nil {
		return err
	}
	made, plan, err := j.makeTokens(ctx, plan, d.TokensOut)
	if err != nil {
		return err
	}
	done, progress, err := j.apply(ctx, plan, d)
	made.finish(err)
	if err != nil {
		return err
	}
	if err := j.printDone(done); err != nil {
		return err
	}
	return j.app.await(ctx, j.api, done.Revision, d, begun, progress)
}

// printDone prints the plan that was carried out, for programs.
func (j *job) printDone(plan catalog.Plan) error {
	if j.app.output == "table" {
		if plan.Applied && plan.Changes() {
			j.app.say("\ndone, as revision %d", plan.Revision)
		}
		return nil
	}
	return j.app.print(plan, nil)
}

func checkForce(plan catalog.Plan, force bool) error {
	if len(plan.NeedsForce) == 0 || force {
		return nil
	}
	var kinds []string
	for _, k := range plan.NeedsForce {
		kinds = append(kinds, string(k))
	}
	return refused("more than half of the %s would be deleted; --force does it all the same",
		strings.Join(kinds, " and of the "))
}

// apply carries the plan out. Its progress is shown meanwhile.
func (j *job) apply(ctx context.Context, plan catalog.Plan, d *doing) (catalog.Plan, client.Progress, error) {
	var progress client.Progress
	var writes []client.WriteOption
	if d.Wait != "" {
		writes = append(writes, client.Wait(client.Stage(d.Wait), min(d.Timeout, maxWait), &progress))
	}
	stop := j.app.watchProgress(ctx, j.api, plan.Revision+1, d.Wait != "")
	j.app.progress.show("applying %d changes", plan.Summary.Create+plan.Summary.Update+plan.Summary.Delete)
	done, err := j.send(ctx, catalog.ApplyOptions{Expect: plan.Hash, Force: d.Force}, writes...)
	stop()
	j.app.progress.clear()
	return done, progress, j.outcome(err)
}

// outcome says of an error what has become of the plan.
func (j *job) outcome(err error) error {
	problem, answered := errors.AsType[*client.Error](err)
	switch {
	case err == nil:
		return nil
	case !answered:
		return &codeError{exitError, fmt.Errorf("%s\nwhether it was done is not known: diff shows what is left to do",
			j.app.errorText(err))}
	case problem.Status == http.StatusPreconditionFailed:
		return refused("the catalog has changed meanwhile, and so has the plan; nothing was done")
	}
	return j.located(err)
}

// keptPlan is what a file with a plan has.
type keptPlan struct {
	Version int          `json:"version"`
	Options planOptions  `json:"options"`
	Plan    catalog.Plan `json:"plan"`
}

func writePlan(path string, kept keptPlan) error {
	text, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

const maxPlan = 256 << 20 // bytes

func readPlan(path string) (kept keptPlan, err error) {
	f, err := os.Open(path)
	if err != nil {
		return kept, errors.New("--plan names a file that cannot be opened")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPlan))
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(text))
		err = dec.Decode(&kept)
	}
	if err != nil || kept.Version != 1 || kept.Plan.Hash == "" {
		return kept, errors.New("--plan names a file that is no plan of diff --out")
	}
	return kept, nil
}
