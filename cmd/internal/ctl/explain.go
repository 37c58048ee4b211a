package ctl

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ez-api/ez-api/httpapi/client"
)

type explainCommand struct {
	printing
	Key   string `arg:"" help:"Id, external_id or name of the key."`
	Model string `arg:"" help:"The model as a client names it."`
}

// Run says why a key can or cannot reach a model.
func (c *explainCommand) Run(ctx context.Context, a *app) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	key, err := find(ctx, api.Objects("keys"), c.Key)
	if err != nil {
		return err
	}
	e, err := api.Explain(ctx, idOf(key), c.Model)
	if err != nil {
		return err
	}
	if a.output != "table" {
		return a.print(e, nil)
	}
	verdict := a.style.green("can reach the model")
	if !e.Reachable {
		verdict = a.style.red("cannot reach the model: " + e.Reason)
	}
	fmt.Fprintf(a.stdout, "%s (as published at %s)\n\n", verdict, e.Position)
	return a.explanation(e)
}

func (a *app) explanation(e client.Explanation) error {
	steps := &table{titles: []string{"CHECK", "PASSED", "WHAT WAS FOUND"}, style: a.style}
	for _, s := range e.Steps {
		steps.add(s.Check, yesNo(s.OK), s.Detail)
	}
	if err := steps.write(a.stdout); err != nil || len(e.Targets) == 0 {
		return err
	}
	fmt.Fprintln(a.stdout)
	targets := &table{titles: []string{"PROVIDER", "ID", "UPSTREAM MODEL", "GROUP", "PRIORITY", "WEIGHT"}, style: a.style}
	for _, t := range e.Targets {
		targets.add(t.Provider, strconv.FormatInt(t.ProviderID, 10), t.UpstreamModel, t.ProviderGroup,
			strconv.Itoa(t.Priority), strconv.Itoa(t.Weight))
	}
	return targets.write(a.stdout)
}

func yesNo(ok bool) string {
	if ok {
		return "yes"
	}
	return "no"
}
