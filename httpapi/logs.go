package httpapi

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/logbuf"
)

type listingLogs struct {
	KeyID      int64     `query:"key_id" minimum:"1" doc:"Only entries of this key."`
	ProviderID int64     `query:"provider_id" minimum:"1" doc:"Only entries that this provider served."`
	Namespace  string    `query:"namespace" maxLength:"1024" doc:"Only entries of this namespace."`
	Model      string    `query:"model" maxLength:"1024" doc:"Only entries of this public name."`
	Status     int       `query:"status" minimum:"100" maximum:"599" doc:"Only entries with this HTTP status."`
	RequestID  string    `query:"request_id" maxLength:"1024" doc:"Only the entries of this request."`
	Since      time.Time `query:"since" doc:"Only entries from this time on. The default is 24 hours before until."`
	Until      time.Time `query:"until" doc:"Only entries before this time. The default is now."`
	Limit      int       `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"How many a page has at most."`
	Cursor     string    `query:"cursor" maxLength:"1024" doc:"The next_cursor of the page before. Without it the first page is shown."`
}

func (h *Handler) logs(ctx context.Context, in *listingLogs) (*page[logbuf.Entry], error) {
	archive, err := h.archive()
	if err != nil {
		return nil, err
	}
	if err := checkSpan(in.Since, in.Until); err != nil {
		return nil, err
	}
	found, err := archive.Logs(ctx, logbuf.LogQuery{
		KeyID: in.KeyID, ProviderID: in.ProviderID, Namespace: in.Namespace, Model: in.Model, Status: in.Status,
		RequestID: in.RequestID, Since: in.Since, Until: in.Until, Cursor: in.Cursor, Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	out := &page[logbuf.Entry]{}
	out.Body.Data, out.Body.NextCursor = append([]logbuf.Entry{}, found.Entries...), found.Next
	return out, nil
}

type summing struct {
	GroupBy  []string  `query:"group_by" enum:"key,provider,namespace,model,group" doc:"What to tell apart, separated by commas. By default everything is summed up."`
	Interval string    `query:"interval" enum:"hour,day" default:"day" doc:"How long the interval of each row is, in UTC."`
	Since    time.Time `query:"since" doc:"Only usage from this time on. The default is 24 hours before until."`
	Until    time.Time `query:"until" doc:"Only usage before this time. The default is now."`
}

// usageRow is what a group used in one interval.
type usageRow struct {
	Start            time.Time `json:"start" doc:"When the interval begins."`
	KeyID            *int64    `json:"key_id,omitempty" doc:"With group_by key: the id of the key, or 0 when there is none."`
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
		Data []usageRow `json:"data" doc:"The usage of each group in each interval."`
	}
}

func (h *Handler) usage(ctx context.Context, in *summing) (*usage, error) {
	archive, err := h.archive()
	if err != nil {
		return nil, err
	}
	if err := checkSpan(in.Since, in.Until); err != nil {
		return nil, err
	}
	q := logbuf.UsageQuery{Interval: logbuf.Interval(in.Interval), Since: in.Since, Until: in.Until}
	for _, d := range in.GroupBy {
		q.GroupBy = append(q.GroupBy, logbuf.Dimension(d))
	}
	out := &usage{}
	out.Body.Data = []usageRow{}
	for q.Limit = 1000; ; {
		page, err := archive.Usage(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range page.Rows {
			out.Body.Data = append(out.Body.Data, newUsageRow(&page.Rows[i], q.GroupBy))
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return out, nil
		}
	}
}

// newUsageRow shows the dimensions that were asked for, whatever they hold.
func newUsageRow(u *logbuf.Usage, by []logbuf.Dimension) usageRow {
	row := usageRow{
		Start: u.Start.UTC(), Requests: u.Requests, Errors: u.Errors, InputTokens: u.InputTokens, CacheReadTokens: u.CacheReadTokens,
		CacheWriteTokens: u.CacheWriteTokens, OutputTokens: u.OutputTokens, CostNanoUSD: u.CostNanoUSD, UnpricedRequests: u.Unpriced,
	}
	if slices.Contains(by, logbuf.ByKey) {
		row.KeyID = &u.KeyID
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

var errNoArchive = errors.New("no archive")

// archive returns what answers questions about logs.
func (h *Handler) archive() (logbuf.Archive, error) {
	if a := h.plane.Archive(); a != nil {
		return a, nil
	}
	return nil, errNoArchive
}

func checkSpan(since, until time.Time) error {
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return &catalog.FieldError{Field: "since", Message: "must be before until"}
	}
	return nil
}
