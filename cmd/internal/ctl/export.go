package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/cmd/internal/ctl/manifest"
	"github.com/ez-api/ez-api/httpapi/client"
)

type exportCommand struct {
	Out   string   `short:"o" type:"path" placeholder:"FILE" help:"File to write; its end says the form: .json, else YAML. Standard output by default."`
	Owner string   `help:"Only what this owner owns."`
	Kinds []string `name:"kind" help:"Only these kinds."`
	JSON  bool     `name:"json" help:"Write JSON."`
}

// Run prints the catalog as a file. It has no secrets, and applied again it changes nothing.
func (c *exportCommand) Run(ctx context.Context, a *app) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	set, err := a.export(ctx, api)
	if err != nil {
		return err
	}
	if err := c.choose(set); err != nil {
		return err
	}
	for kind, items := range set.Items {
		for i := range items {
			if err := ctx.Err(); err != nil {
				return err
			}
			items[i].Fields = manifest.Tidy(kind, items[i].Fields)
			withoutOwner(items[i].Fields, set.Owner)
		}
	}
	write := func(w io.Writer) error {
		return manifest.Write(writerIn(ctx, w), set, nil, c.JSON || strings.HasSuffix(c.Out, ".json"))
	}
	if c.Out == "" {
		return write(a.stdout)
	}
	return replaceFile(c.Out, write)
}

// choose leaves what was asked for. What has no owner is not the owner's.
func (c *exportCommand) choose(set *manifest.Set) error {
	if len(c.Kinds) > 0 {
		kept := map[catalog.Kind][]manifest.Item{}
		for _, word := range c.Kinds {
			kind, err := parseKind(word)
			if err != nil {
				return err
			}
			if items, ok := set.Items[kind]; ok {
				kept[kind] = items
			}
		}
		set.Items = kept
	}
	if c.Owner == "" {
		return nil
	}
	set.Owner = c.Owner
	for kind, items := range set.Items {
		kept := []manifest.Item{}
		for _, item := range items {
			if labels, _ := item.Fields["labels"].(map[string]any); labels[catalog.LabelOwner] == c.Owner {
				kept = append(kept, item)
			}
		}
		set.Items[kind] = kept
	}
	return nil
}

// withoutOwner removes the label that the owner of a file gives to everything in it.
func withoutOwner(fields fields, owner string) {
	labels, ok := fields["labels"].(map[string]any)
	if !ok || owner == "" {
		return
	}
	delete(labels, catalog.LabelOwner)
	if len(labels) == 0 {
		delete(fields, "labels")
	}
}

// export reads the whole catalog.
func (a *app) export(ctx context.Context, api *client.Client) (*manifest.Set, error) {
	a.progress.show("reading the catalog")
	defer a.progress.clear()
	var text bytes.Buffer
	if err := api.Export(ctx, &text); err != nil {
		return nil, err
	}
	set, damaged, err := parseExport(&text)
	if len(damaged) > 0 {
		a.progress.clear()
		fmt.Fprintf(a.stderr, "left out, because what is stored of them is damaged: %s\n", joinSome(damaged))
	}
	return set, err
}

// parseExport reads what the API exports: {"store": …, "providers": […], …}. What is damaged it
// names, and has nothing of.
func parseExport(r io.Reader) (set *manifest.Set, damaged []string, err error) {
	dec := json.NewDecoder(r)
	dec.UseNumber()
	var all map[string]json.RawMessage
	if err := dec.Decode(&all); err != nil {
		return nil, nil, errors.New("what the server exports cannot be read")
	}
	set = &manifest.Set{Items: map[catalog.Kind][]manifest.Item{}}
	for name, text := range all {
		if into := map[string]any{"store": &set.Store, "damaged": &damaged}[name]; into != nil {
			if err := json.Unmarshal(text, into); err != nil {
				return nil, nil, fmt.Errorf("what the server exports has %q in a form that cannot be read", name)
			}
			continue
		}
		if len(text) == 0 || text[0] != '[' {
			continue
		}
		var objects []json.RawMessage
		if err := json.Unmarshal(text, &objects); err != nil {
			return nil, nil, fmt.Errorf("what the server exports has %s that cannot be read", name)
		}
		items := make([]manifest.Item, len(objects))
		for i, o := range objects {
			object, err := parseFields(o)
			if err != nil {
				return nil, nil, fmt.Errorf("what the server exports has %s that cannot be read", name)
			}
			items[i].Fields = object
		}
		set.Items[catalog.Kind(name)] = items
	}
	return set, damaged, nil
}

type adoptCommand struct {
	printing
	reading
	All     bool          `help:"Show every change of a plan, however many there are."`
	Wait    string        `enum:",published,applied" default:"" help:"Wait until it is published, or applied by all balancers."`
	Timeout time.Duration `default:"1m" help:"How long to wait at most."`
}

// Run makes the owner of files the owner of what they name, as it is: nothing else changes.
func (c *adoptCommand) Run(ctx context.Context, a *app) error {
	j, err := (&changing{printing: c.printing, reading: c.reading}).job(a)
	if err != nil {
		return err
	}
	if j.opts.Owner == "" {
		return errors.New("the files need an owner: write owner: NAME at the top of one of them")
	}
	all, err := a.export(ctx, j.api)
	if err != nil {
		return err
	}
	j.set, j.opts.TakeOver = adopted(j.set, all), true
	if j.set.Len() == 0 {
		a.say("the catalog has nothing that the files name")
		return nil
	}
	return j.carryOut(ctx, &doing{Wait: c.Wait, Timeout: c.Timeout}, c.All)
}

// adopted returns what a catalog has of what files name, as the catalog has it. An id names
// something only in the catalog that gave it.
func adopted(files, all *manifest.Set) *manifest.Set {
	set := &manifest.Set{Owner: files.Owner, Store: all.Store, Items: map[catalog.Kind][]manifest.Item{}}
	for kind, items := range files.Items {
		named := map[string]bool{}
		for _, item := range items {
			for _, name := range manifest.Names(kind, item.Fields) {
				named[name] = files.Store == all.Store || !strings.HasPrefix(name, manifest.ByID)
			}
		}
		for _, item := range all.Items[kind] {
			for _, name := range manifest.Names(kind, item.Fields) {
				if named[name] {
					withoutOwner(item.Fields, files.Owner)
					set.Items[kind] = append(set.Items[kind], item)
					break
				}
			}
		}
	}
	return set
}

type revertCommand struct {
	printing
	doing
	To     *int64 `xor:"what" required:"" placeholder:"REVISION" help:"Bring everything back to how it was at this revision."`
	Undo   int64  `xor:"what" required:"" placeholder:"REVISION" help:"Take back what this revision has changed."`
	DryRun bool   `short:"n" help:"Only show what would change."`
	All    bool   `help:"Show every change of a plan, however many there are."`
}

// Run brings the catalog back to a revision, or undoes one.
func (c *revertCommand) Run(ctx context.Context, a *app) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	j := &job{app: a, api: api, title: fmt.Sprintf("without revision %d,", c.Undo)}
	if c.To != nil {
		j.title = fmt.Sprintf("as of revision %d,", *c.To)
	}
	plan, err := c.send(ctx, api, catalog.RevertOptions{DryRun: true})
	if err != nil {
		return err
	}
	if a.output == "table" || c.DryRun {
		if err := j.print(plan, c.All); err != nil || c.DryRun {
			return err
		}
	}
	begun := time.Now()
	if !plan.Changes() {
		return errors.Join(j.printDone(plan), a.await(ctx, api, plan.Revision, &c.doing, begun, client.Progress{}))
	}
	if err := checkForce(plan, c.Force); err != nil {
		return err
	}
	var out *tokens
	if bringsKeysBack(plan) {
		if out, err = a.newTokens(c.TokensOut); err != nil {
			return err
		}
		defer out.close()
	}
	var progress client.Progress
	var writes []client.WriteOption
	if c.Wait != "" {
		writes = append(writes, client.Wait(client.Stage(c.Wait), min(c.Timeout, maxWait), &progress))
	}
	done, err := c.send(ctx, api, catalog.RevertOptions{Expect: plan.Hash, Force: c.Force}, writes...)
	if err != nil {
		return j.outcome(err)
	}
	for _, t := range done.Tokens {
		if err := out.write(t.ExternalID, t.Name, t.Token.Reveal()); err != nil {
			return err
		}
	}
	if out != nil {
		if err := out.flush(); err != nil {
			return err
		}
	}
	if err := j.printDone(done); err != nil {
		return err
	}
	return a.await(ctx, api, done.Revision, &c.doing, begun, progress)
}

// send asks for the plan, or carries it out.
func (c *revertCommand) send(ctx context.Context, api *client.Client, opts catalog.RevertOptions,
	more ...client.WriteOption) (catalog.Plan, error) {
	if c.To != nil {
		return api.Revert(ctx, catalog.Revision(*c.To), &opts, more...)
	}
	return api.RevertOne(ctx, catalog.Revision(c.Undo), &opts, more...)
}

// bringsKeysBack reports whether a plan makes keys, whose tokens only its answer has.
func bringsKeysBack(plan catalog.Plan) bool {
	for _, s := range plan.Steps {
		if s.Kind == catalog.KindKey && s.Action == catalog.ActionCreate {
			return true
		}
	}
	return false
}
