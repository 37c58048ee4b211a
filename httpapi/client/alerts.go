package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/ez-api/ez-api/catalog/alerts"
)

// AlertsQuery selects alerts. Zero fields do not restrict.
type AlertsQuery struct {
	Kind   alerts.Kind
	Limit  int    // of one page; 0 is the server's default
	Cursor string // Next of the page before
}

// Alerts returns a page of what people were told of, newest first.
func (c *Client) Alerts(ctx context.Context, q AlertsQuery) (Page[alerts.Alert], error) {
	v := url.Values{}
	setTexts(v, map[string]string{"kind": string(q.Kind), "cursor": q.Cursor})
	setNumbers(v, map[string]int64{"limit": int64(q.Limit)})
	return getPage[alerts.Alert](ctx, c, "alerts", v)
}

// TestAlert has the server raise and deliver an alert that says it is a trial, and returns what became of it.
func (c *Client) TestAlert(ctx context.Context) (a alerts.Alert, err error) {
	_, err = c.do(ctx, call{method: http.MethodPost, path: "alerts/test"}, &a)
	return a, err
}
