package console

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/logbuf"
)

// usageView is what was used, as charts and as a table.
type usageView struct {
	Filters    []*input
	Spans      []choice
	Intervals  []choice
	Dimensions []choice
	Zone       string
	Problems   []string
	Use        use
	Charts     []chart
	Heads      []string
	Rows       []usageRow
	Next       string
	First      string
	CSV        string
}

// A choice is something that can be picked.
type choice struct {
	Value  string
	Chosen bool
}

type usageRow struct {
	Start *moment
	Names []usageName
	client.Usage
	Tokens int64
}

type answeredUsage struct {
	page client.UsagePage
	err  error
}

// usageName is what a row is about, in one of the dimensions.
type usageName struct {
	Reference *reference
	Text      string
}

// spans are those that the page offers.
func spans() []string { return []string{"24h", "7d", "30d", "90d", "365d"} }

func dimensions() []logbuf.Dimension {
	return []logbuf.Dimension{
		logbuf.ByKey,
		logbuf.ByProject,
		logbuf.ByProvider,
		logbuf.ByNamespace,
		logbuf.ByModel,
		logbuf.ByGroup,
	}
}

func (q *queryReader) usageQuery() client.UsageQuery {
	query := client.UsageQuery{
		KeyID: q.number("key_id"), Project: q.text("project"), ProviderID: q.number("provider_id"),
		Namespace: q.text("namespace"), Model: q.text("model"), Group: q.text("group"),
		Interval: logbuf.Interval(
			q.text("interval"),
		), TZ: q.page.zone.String(), Since: q.text("span"), Cursor: q.text("cursor"),
		Limit: pageSize,
	}
	if query.Since == "" {
		query.Since = spans()[0]
	}
	if query.Interval == "" {
		if query.Interval = logbuf.Day; query.Since == spans()[0] {
			query.Interval = logbuf.Hour
		}
	}
	for _, d := range q.values["group_by"] {
		query.GroupBy = append(query.GroupBy, logbuf.Dimension(d))
	}
	return query
}

func (p *page) usage() error {
	q := p.query()
	query := q.usageQuery()
	view := usageView{
		Filters: q.inputs("model", "key_id", "project", "provider_id", "namespace", "group"), Zone: query.TZ,
		Problems: q.wrong, CSV: "usage.csv?" + queryText(queryWithout(q.values, "cursor")),
	}
	if p.Limited() {
		view.Filters = slices.DeleteFunc(view.Filters, func(in *input) bool { return in.Name == "provider_id" })
	}
	for _, s := range spans() {
		view.Spans = append(view.Spans, choice{s, s == query.Since})
	}
	for _, i := range logbuf.Intervals() {
		view.Intervals = append(view.Intervals, choice{string(i), i == query.Interval})
	}
	for _, d := range dimensions() {
		view.Dimensions = append(view.Dimensions, choice{string(d), slices.Contains(query.GroupBy, d)})
	}
	if len(q.wrong) > 0 {
		return p.render("usage", http.StatusUnprocessableEntity, view)
	}
	err := p.fillUsage(&view, query)
	if messages, ok := p.problems(err); ok {
		view.Problems = messages
		return p.render("usage", http.StatusUnprocessableEntity, view)
	}
	if err != nil {
		return err
	}
	return p.render("usage", http.StatusOK, view)
}

// fillUsage asks for the sums, which are drawn, and at the same time for the rows. Without groups the
// sums are the rows, if a page holds them.
func (p *page) fillUsage(view *usageView, query client.UsageQuery) error {
	whole := query
	whole.GroupBy, whole.Cursor, whole.Limit = nil, "", maxBars
	ctx, cancel := context.WithCancel(p.ctx())
	defer cancel()
	rows := make(chan answeredUsage, 1)
	grouped := len(query.GroupBy) > 0 || query.Cursor != ""
	if grouped {
		go func() {
			found, err := p.client.Usage(ctx, query)
			rows <- answeredUsage{found, err}
		}()
	}
	sums, err := p.client.Usage(ctx, whole)
	if err != nil {
		return err
	}
	view.Use.add(sums.Data...)
	view.Charts = p.usageCharts(sums, query.Interval)
	if !grouped && len(sums.Data) > query.Limit {
		sums, err = p.client.Usage(ctx, query)
	}
	if !grouped {
		rows <- answeredUsage{sums, err}
	}
	answered := <-rows
	found, err := answered.page, answered.err
	if err != nil {
		return err
	}
	keys, providers := p.namesOf(catalog.KindKey), p.namesOf(catalog.KindProvider)
	for _, d := range query.GroupBy {
		view.Heads = append(view.Heads, "dimension."+string(d))
	}
	for _, u := range found.Data {
		row := usageRow{
			Start:  p.at(u.Start),
			Usage:  u,
			Tokens: u.InputTokens + u.CacheReadTokens + u.CacheWriteTokens + u.OutputTokens,
		}
		for _, d := range query.GroupBy {
			row.Names = append(row.Names, usageNameOf(u, d, keys, providers))
		}
		view.Rows = append(view.Rows, row)
	}
	view.Next, view.First = p.pager(found.Next)
	return nil
}

func usageNameOf(u client.Usage, d logbuf.Dimension, keys, providers *names) usageName {
	reference := func(n *names, id *int64) usageName {
		if id == nil || *id == 0 {
			return usageName{}
		}
		r := n.reference(*id)
		return usageName{Reference: &r}
	}
	switch d {
	case logbuf.ByKey:
		return reference(keys, u.KeyID)
	case logbuf.ByProvider:
		return reference(providers, u.ProviderID)
	}
	for _, text := range []struct {
		of   logbuf.Dimension
		text *string
	}{{logbuf.ByProject, u.Project}, {logbuf.ByNamespace, u.Namespace}, {logbuf.ByModel, u.Model},
		{logbuf.ByGroup, u.Group}} {
		if text.of == d && text.text != nil {
			return usageName{Text: *text.text}
		}
	}
	return usageName{}
}

// usageCSV sends all rows.
func (p *page) usageCSV() error {
	q := p.query()
	query := q.usageQuery()
	query.Limit = csvPage
	if len(q.wrong) > 0 {
		p.redirect("usage?" + q.values.Encode())
		return nil
	}
	out := newTable(
		p,
		"usage",
		"start",
		"key_id",
		"project",
		"provider_id",
		"namespace",
		"model",
		"group",
		"requests",
		"errors",
		"input_tokens",
		"cache_read_tokens",
		"cache_write_tokens",
		"output_tokens",
		"cost_usd",
		"unpriced_requests",
	)
	for {
		found, err := p.client.Usage(p.ctx(), query)
		if err != nil {
			return out.fail(err)
		}
		for _, u := range found.Data {
			out.row(
				u.Start.UTC().Format(time.RFC3339),
				maybe(u.KeyID),
				maybe(u.Project),
				maybe(u.ProviderID),
				maybe(u.Namespace),
				maybe(u.Model),
				maybe(u.Group),
				u.Requests,
				u.Errors,
				u.InputTokens,
				u.CacheReadTokens,
				u.CacheWriteTokens,
				u.OutputTokens,
				catalog.NanoUSD(u.CostNanoUSD).String(),
				u.UnpricedRequests,
			)
		}
		query.Cursor = found.Next
		if !out.send() || query.Cursor == "" {
			return nil
		}
	}
}

// maybe returns what a pointer points to, or nothing.
func maybe[T any](v *T) any {
	if v == nil {
		return ""
	}
	return *v
}
