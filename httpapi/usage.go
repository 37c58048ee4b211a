package httpapi

import (
	"context"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

type summing struct {
	GroupBy    []string `query:"group_by" enum:"key,project,provider,namespace,model,group" doc:"What to tell apart, separated by commas. By default everything is summed up."`
	KeyID      int64    `query:"key_id" minimum:"1" doc:"Only usage of this key."`
	Project    string   `query:"project" maxLength:"256" doc:"Only usage of this project and of all below it."`
	ProviderID int64    `query:"provider_id" minimum:"1" doc:"Only usage of this provider."`
	Namespace  string   `query:"namespace" maxLength:"256" doc:"Only usage of this namespace."`
	Model      string   `query:"model" maxLength:"256" doc:"Only usage of this public name."`
	Group      string   `query:"group" maxLength:"256" doc:"Only usage of this route group."`
	Interval   string   `query:"interval" enum:"hour,day,week,month" doc:"How long the interval of each row is: those of the time zone. The first and the last may be parts. The default is day."`
	TZ         string   `query:"tz" maxLength:"64" default:"UTC" doc:"The IANA time zone whose hours, days, weeks (from Monday) and months are meant."`
	Since      string   `query:"since" maxLength:"64" doc:"Only usage from this time on, on a quarter of an hour. Or a span back from the end of the present quarter: 90m, 24h, 7d. The default is 24 hours before until."`
	Until      string   `query:"until" maxLength:"64" doc:"Only usage before this time, on a quarter of an hour, or a span as for since. The default is the end of the present quarter. Without since and until, and with an interval, the answer has the whole intervals that the last 24 hours touch."`
	Limit      int      `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"How many rows a page has at most."`
	Cursor     string   `query:"cursor" maxLength:"8192" doc:"The next_cursor of the page before. Without it the first page is shown."`
}

// usageRow is what a group used in one interval.
type usageRow struct {
	Start            time.Time `json:"start" doc:"When the interval begins, or the query when that begins later."`
	KeyID            *int64    `json:"key_id,omitempty" doc:"With group_by key: the id of the key, or 0 when there is none."`
	Project          *string   `json:"project,omitempty" doc:"With group_by project: the path of the project."`
	ProviderID       *int64    `json:"provider_id,omitempty" doc:"With group_by provider: the id of the provider, or 0 when there is none."`
	Namespace        *string   `json:"namespace,omitempty" doc:"With group_by namespace: the namespace."`
	Model            *string   `json:"model,omitempty" doc:"With group_by model: the public name."`
	Group            *string   `json:"group,omitempty" doc:"With group_by group: the route group."`
	Requests         int64     `json:"requests" doc:"How many requests were made."`
	Errors           int64     `json:"errors" doc:"How many requests had a status of 400 or more, or an error."`
	InputTokens      int64     `json:"input_tokens" doc:"The input tokens, without cache_read_tokens and cache_write_tokens."`
	CacheReadTokens  int64     `json:"cache_read_tokens" doc:"The input tokens that providers read from their caches."`
	CacheWriteTokens int64     `json:"cache_write_tokens" doc:"The input tokens that providers wrote to their caches."`
	OutputTokens     int64     `json:"output_tokens" doc:"The output tokens, those of reasoning included."`
	CostNanoUSD      int64     `json:"cost_nano_usd" doc:"The cost of the requests whose cost is known, in billionths of a US dollar."`
	UnpricedRequests int64     `json:"unpriced_requests" doc:"How many requests have a cost that is not known."`
}

type usage struct {
	Body struct {
		Data       []usageRow `json:"data" doc:"The usage of each group in each interval."`
		NextCursor string     `json:"next_cursor,omitempty" doc:"The cursor of the next page. The last page has none."`
		Since      time.Time  `json:"since" doc:"From when on usage was summed up."`
		Until      time.Time  `json:"until" doc:"Until when usage was summed up; that time is not included."`
		TZ         string     `json:"tz" doc:"The time zone of the intervals."`
	}
}

func (h *Handler) usage(ctx context.Context, in *summing) (*usage, error) {
	archive, err := h.archive()
	if err != nil {
		return nil, err
	}
	q, err := in.query(h.plane.LogTime())
	if err != nil {
		return nil, err
	}
	q.Project = within(ctx, in.Project)
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	found, err := archive.Usage(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &usage{}
	out.Body.Data = make([]usageRow, len(found.Rows))
	for i := range found.Rows {
		out.Body.Data[i] = newUsageRow(&found.Rows[i], q.GroupBy)
	}
	out.Body.NextCursor, out.Body.TZ = found.Next, q.Zone.String()
	out.Body.Since, out.Body.Until = found.Since.UTC(), found.Until.UTC()
	return out, nil
}

// query reads the parameters.
func (in *summing) query(now time.Time) (q logbuf.UsageQuery, err error) {
	q = logbuf.UsageQuery{Interval: logbuf.Interval(in.Interval), Cursor: in.Cursor, Limit: in.Limit}
	q.Project, q.ProviderID, q.Namespace, q.Model, q.Group = in.Project, in.ProviderID, in.Namespace, in.Model, in.Group
	if in.KeyID != 0 {
		q.KeyIDs = []int64{in.KeyID}
	}
	for _, d := range in.GroupBy {
		q.GroupBy = append(q.GroupBy, logbuf.Dimension(d))
	}
	if q.Zone, err = catalog.LoadZone(in.TZ); err != nil {
		return q, renamed(err, "tz")
	}
	end := now.UTC().Truncate(logbuf.Quarter).Add(logbuf.Quarter)
	q.Since, q.Until, err = parseBounds(in.Since, in.Until, end, logbuf.Quarter)
	return q, err
}

// newUsageRow shows the dimensions that were asked for, whatever they hold.
func newUsageRow(u *logbuf.Usage, by []logbuf.Dimension) usageRow {
	row := usageRow{
		Start: u.Start.UTC(), Requests: u.Requests, Errors: u.Errors, InputTokens: u.InputTokens,
		CacheReadTokens:  u.CacheReadTokens,
		CacheWriteTokens: u.CacheWriteTokens, OutputTokens: u.OutputTokens, CostNanoUSD: u.CostNanoUSD,
		UnpricedRequests: u.Unpriced,
	}
	if slices.Contains(by, logbuf.ByKey) {
		row.KeyID = &u.KeyID
	}
	if slices.Contains(by, logbuf.ByProject) {
		row.Project = &u.Project
	}
	if slices.Contains(by, logbuf.ByProvider) {
		row.ProviderID = &u.ProviderID
	}
	if slices.Contains(by, logbuf.ByNamespace) {
		row.Namespace = &u.Namespace
	}
	if slices.Contains(by, logbuf.ByModel) {
		row.Model = &u.Model
	}
	if slices.Contains(by, logbuf.ByGroup) {
		row.Group = &u.Group
	}
	return row
}
