package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// UsageQuery selects what usage is summed up. Zero fields do not restrict.
type UsageQuery struct {
	GroupBy    []logbuf.Dimension // what is told apart
	KeyID      int64
	Project    string // with all projects below it
	ProviderID int64
	Namespace  string
	Model      string
	Group      string
	Interval   logbuf.Interval // empty: days
	TZ         string          // IANA name; empty: UTC
	Since      string          // RFC 3339, or a span back from the present quarter of an hour: 90m, 24h, 7d
	Until      string          // the same
	Limit      int             // of the page; 0 is the server's default
	Cursor     string          // Next of the page before
}

// Usage is what a group has used in one interval. A dimension that was not grouped by is
// nil.
type Usage struct {
	Start            time.Time `json:"start"`
	KeyID            *int64    `json:"key_id,omitempty"`
	Project          *string   `json:"project,omitempty"`
	ProviderID       *int64    `json:"provider_id,omitempty"`
	Namespace        *string   `json:"namespace,omitempty"`
	Model            *string   `json:"model,omitempty"`
	Group            *string   `json:"group,omitempty"`
	Requests         int64     `json:"requests"`
	Errors           int64     `json:"errors"`
	InputTokens      int64     `json:"input_tokens"`
	CacheReadTokens  int64     `json:"cache_read_tokens"`
	CacheWriteTokens int64     `json:"cache_write_tokens"`
	OutputTokens     int64     `json:"output_tokens"`
	CostNanoUSD      int64     `json:"cost_nano_usd"` // of the requests whose cost is known
	UnpricedRequests int64     `json:"unpriced_requests"`
}

// UsagePage is a page of usage.
type UsagePage struct {
	Page[Usage]
	Since time.Time // what was summed up; Until is not included
	Until time.Time
	TZ    string
}

// Usage returns a page of usage, in order of intervals.
func (c *Client) Usage(ctx context.Context, q UsageQuery) (UsagePage, error) {
	v := url.Values{}
	setTexts(v, map[string]string{
		"project": q.Project, "namespace": q.Namespace, "model": q.Model, "group": q.Group,
		"interval": string(q.Interval), "tz": q.TZ, "since": q.Since, "until": q.Until, "cursor": q.Cursor,
	})
	setNumbers(v, map[string]int64{"key_id": q.KeyID, "provider_id": q.ProviderID, "limit": int64(q.Limit)})
	by := make([]string, len(q.GroupBy))
	for i, d := range q.GroupBy {
		by[i] = string(d)
	}
	setTexts(v, map[string]string{"group_by": strings.Join(by, ",")})
	var out struct {
		Data  []Usage   `json:"data"`
		Next  string    `json:"next_cursor"`
		Since time.Time `json:"since"`
		Until time.Time `json:"until"`
		TZ    string    `json:"tz"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: "usage", query: v, again: againAlways}, &out)
	return UsagePage{Page[Usage]{out.Data, out.Next}, out.Since, out.Until, out.TZ}, err
}
