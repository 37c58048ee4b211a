package ctl

import (
	"context"
	"errors"
	"strconv"

	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/httpapi/client"
)

type alertsCommand struct {
	printing
	Kind  string `help:"Only of this kind, such as budget_exhausted."`
	Limit int    `default:"100" help:"At most so many, the newest first; 0 is all."`
	Test  bool   `help:"Raise an alert that says it is a trial, and say whether it arrived."`
}

// Run lists alerts, or raises one.
func (c *alertsCommand) Run(ctx context.Context, a *app) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	if c.Test {
		trial, err := api.TestAlert(ctx)
		if err != nil {
			return err
		}
		err = a.print(trial, func() *table { return alertTable([]alerts.Alert{trial}) })
		if err == nil && trial.State != alerts.Delivered {
			err = errors.New("the alert was not delivered: " + trial.Error)
		}
		return err
	}
	found, err := collect(c.Limit, func(cursor string) (client.Page[alerts.Alert], error) {
		return api.Alerts(ctx, client.AlertsQuery{Kind: alerts.Kind(c.Kind), Cursor: cursor})
	})
	if err != nil {
		return err
	}
	return a.print(found, func() *table { return alertTable(found) })
}

func alertTable(found []alerts.Alert) *table {
	t := &table{titles: []string{"ID", "TIME", "SEVERITY", "KIND", "SUBJECT", "STATE", "MESSAGE"}}
	for i := range found {
		v := &found[i]
		t.add(strconv.FormatInt(v.ID, 10), timeCell(v.At), string(v.Severity), string(v.Kind), v.Subject, string(v.State),
			v.Message)
	}
	return t
}
