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
	KeyID      int64     `query:"key_id" minimum:"1"`
	ProviderID int64     `query:"provider_id" minimum:"1"`
	Namespace  string    `query:"namespace" maxLength:"1024"`
	Model      string    `query:"model" maxLength:"1024" doc:"Public name."`
	Status     int       `query:"status" minimum:"100" maximum:"599"`
	RequestID  string    `query:"request_id" maxLength:"1024"`
	Since      time.Time `query:"since" doc:"Inclusive; defaults to 24 hours before until."`
	Until      time.Time `query:"until" doc:"Exclusive; defaults to now."`
	Limit      int       `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"At most so many."`
	Cursor     string    `query:"cursor" maxLength:"1024" doc:"The next_cursor of the page before."`
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
	GroupBy  []string  `query:"group_by" enum:"key,provider,namespace,model,group" doc:"What to tell apart, comma-separated; nothing by default."`
	Interval string    `query:"interval" enum:"hour,day" default:"day" doc:"How long each row covers, in UTC."`
	Since    time.Time `query:"since" doc:"Inclusive, cut to the interval; defaults to 24 hours before until."`
	Until    time.Time `query:"until" doc:"Exclusive; defaults to now."`
}

// usageRow is what a group used in one interval.
type usageRow struct {
	Start            time.Time `json:"start" doc:"Of the interval."`
	KeyID            *int64    `json:"key_id,omitempty" doc:"With group_by key; 0: none."`
	ProviderID       *int64    `json:"provider_id,omitempty" doc:"With group_by provider; 0: none."`
	Namespace        *string   `json:"namespace,omitempty" doc:"With group_by namespace."`
	Model            *string   `json:"model,omitempty" doc:"With group_by model."`
	Group            *string   `json:"group,omitempty" doc:"With group_by group."`
	Requests         int64     `json:"requests"`
	Errors           int64     `json:"errors" doc:"Requests with a status of 400 or more, or with an error."`
	InputTokens      int64     `json:"input_tokens" doc:"Without what the cache read and wrote."`
	CacheReadTokens  int64     `json:"cache_read_tokens"`
	CacheWriteTokens int64     `json:"cache_write_tokens"`
	OutputTokens     int64     `json:"output_tokens"`
	CostNanoUSD      int64     `json:"cost_nano_usd" doc:"Of the requests whose cost is known, in billionths of a dollar."`
	UnpricedRequests int64     `json:"unpriced_requests" doc:"Requests whose cost is not known."`
}

type usage struct {
	Body struct {
		Data []usageRow `json:"data"`
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
