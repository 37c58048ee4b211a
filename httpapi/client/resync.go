package client

import (
	"context"
	"net/http"
	"net/url"
)

// ResyncOptions say how the whole catalog is published anew.
type ResyncOptions struct {
	NewEpoch bool // begin a new epoch, which every balancer takes for newer than all before
	Force    bool // overwrite what another catalog has published, or lose more than half of a kind
}

// Resync publishes the whole catalog anew, and returns what is published then. An answer that was
// lost is not asked for again.
func (c *Client) Resync(ctx context.Context, opts ResyncOptions, more ...WriteOption) (head PublishedHead, err error) {
	query, w := url.Values{}, newWrite(more)
	setFlags(query, map[string]bool{"new_epoch": opts.NewEpoch, "force": opts.Force})
	for name, values := range w.query {
		query[name] = values
	}
	header, err := c.do(ctx, call{method: http.MethodPost, path: "sync/snapshot", query: query, header: w.header}, &head)
	if err == nil {
		w.done(header)
	}
	return head, err
}
