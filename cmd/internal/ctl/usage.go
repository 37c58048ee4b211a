package ctl

import (
	"context"
	"strconv"

	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/logbuf"
)

type usageCommand struct {
	printing
	By        []string `help:"What to tell apart: key, project, provider, namespace, model, group."`
	Interval  string   `enum:",hour,day,week,month" default:"" help:"Length of the intervals: hour, day, week or month."`
	TZ        string   `name:"tz" help:"Time zone of the intervals, such as Europe/Berlin; UTC by default."`
	Key       string   `help:"Only of this key: its id, external_id or name."`
	Provider  string   `help:"Only of this provider: its id, external_id or name."`
	Project   string   `help:"Only of this project, and of all below it."`
	Namespace string   `help:"Only of this namespace."`
	Model     string   `help:"Only of this model, by its public name."`
	Group     string   `help:"Only of this route group."`
	Since     string   `help:"From when on: RFC 3339 on a quarter of an hour, or a span such as 24h, 7d."`
	Until     string   `help:"Until when."`
}

// Run sums up usage.
func (c *usageCommand) Run(ctx context.Context, a *app) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	q := client.UsageQuery{
		Project: c.Project, Namespace: c.Namespace, Model: c.Model, Group: c.Group, Interval: logbuf.Interval(c.Interval),
		TZ: c.TZ, Since: c.Since, Until: c.Until, Limit: 1000,
	}
	for _, word := range c.By {
		q.GroupBy = append(q.GroupBy, logbuf.Dimension(word))
	}
	if q.KeyID, err = idFor(ctx, api.Objects("keys"), c.Key); err != nil {
		return err
	}
	if q.ProviderID, err = idFor(ctx, api.Objects("providers"), c.Provider); err != nil {
		return err
	}
	rows := []client.Usage{}
	for {
		page, err := api.Usage(ctx, q)
		if err != nil {
			return err
		}
		rows = append(rows, page.Data...)
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	return a.print(rows, func() *table { return usageTable(rows, q.GroupBy) })
}

func usageTable(rows []client.Usage, by []logbuf.Dimension) *table {
	t := &table{titles: []string{"FROM"}}
	for _, d := range by {
		t.titles = append(t.titles, map[logbuf.Dimension]string{
			logbuf.ByKey: "KEY", logbuf.ByProject: "PROJECT", logbuf.ByProvider: "PROVIDER", logbuf.ByNamespace: "NAMESPACE",
			logbuf.ByModel: "MODEL", logbuf.ByGroup: "GROUP",
		}[d])
	}
	t.titles = append(t.titles, "REQUESTS", "ERRORS", "INPUT", "CACHE READ", "CACHE WRITE", "OUTPUT", "USD", "UNPRICED")
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	for _, u := range rows {
		row := []string{timeCell(u.Start)}
		for _, d := range by {
			row = append(row, dimensionCell(u, d))
		}
		t.add(append(row, number(u.Requests), number(u.Errors), number(u.InputTokens), number(u.CacheReadTokens),
			number(u.CacheWriteTokens), number(u.OutputTokens), usd(u.CostNanoUSD), number(u.UnpricedRequests))...)
	}
	return t
}

func dimensionCell(u client.Usage, d logbuf.Dimension) string {
	texts := map[logbuf.Dimension]*string{
		logbuf.ByProject: u.Project, logbuf.ByNamespace: u.Namespace, logbuf.ByModel: u.Model, logbuf.ByGroup: u.Group,
	}
	numbers := map[logbuf.Dimension]*int64{logbuf.ByKey: u.KeyID, logbuf.ByProvider: u.ProviderID}
	if n := numbers[d]; n != nil && *n != 0 {
		return strconv.FormatInt(*n, 10)
	}
	if s := texts[d]; s != nil {
		return cell(*s)
	}
	return "-"
}
