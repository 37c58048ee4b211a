package ctl

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ez-api/ez-api/httpapi/client"
)

type budgetsCommand struct {
	printing
	Project string `help:"Only of this project and of all below it, and of their keys."`
	Key     int64  `help:"Only of the key with this id."`
	Over    int64  `help:"Only those of which at least this percentage is spent."`
	Limit   int    `default:"100" help:"At most so many; 0 is all."`
}

// Run lists how budgets stand.
func (c *budgetsCommand) Run(ctx context.Context, a *app) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	found, err := collect(c.Limit, func(cursor string) (client.Page[client.Budget], error) {
		return api.Budgets(ctx, client.BudgetsQuery{Project: c.Project, KeyID: c.Key, Over: c.Over, Cursor: cursor})
	})
	if err != nil {
		return err
	}
	return a.print(found, func() *table { return budgetTable(found) })
}

func budgetTable(found []client.Budget) *table {
	t := &table{titles: []string{"TARGET", "WINDOW", "TIMEZONE", "LIMIT", "SPENT", "PERCENT", "UNPRICED", "ENDS", "HOLDS"}}
	for i := range found {
		b := &found[i]
		limit, ends := "", ""
		if b.Limit != nil {
			limit = b.Limit.String()
		}
		if !b.Ends.IsZero() {
			ends = timeCell(b.Ends)
		}
		t.add(b.Target, b.Window, b.Timezone, limit, b.Spent.String(), fmt.Sprintf("%d%%", b.Percent),
			strconv.FormatInt(b.Unpriced, 10), ends, strconv.FormatBool(b.Holds))
	}
	return t
}
