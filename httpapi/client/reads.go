package client

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

// ChangesQuery selects changes of the catalog. Zero fields do not restrict.
type ChangesQuery struct {
	After string // a revision, or the Next of the page before; empty begins with the oldest that is kept
	Kind  catalog.Kind
	ID    int64
	Actor string
	Since time.Time
	Limit int // of the page; 0 is the server's default
}

// Changes returns a page of the change feed, oldest first. Its Next is always there: ask
// with it as After for what comes later. The error matches catalog.ErrCompacted when
// the feed does not reach back to After.
func (c *Client) Changes(ctx context.Context, q ChangesQuery) (Page[catalog.Change], error) {
	v := url.Values{}
	setTexts(v, map[string]string{"after": q.After, "kind": string(q.Kind), "actor": q.Actor, "since": timeText(q.Since)})
	setNumbers(v, map[string]int64{"id": q.ID, "limit": int64(q.Limit)})
	return getPage[catalog.Change](ctx, c, "changes", v)
}

// timeText writes a time as a parameter; the zero time is none.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// Explanation says why a key can or cannot reach a model.
type Explanation struct {
	Position  snapshot.Position `json:"position"` // of the documents that it was computed from
	Reachable bool              `json:"reachable"`
	Reason    string            `json:"reason"` // why not, in the words that a client is told
	Steps     []ExplainStep     `json:"steps"`
	Targets   []ExplainTarget   `json:"targets"` // in the order in which they are tried
}

// ExplainStep is a check on the way to a model.
type ExplainStep struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// ExplainTarget is a provider that may serve a request.
type ExplainTarget struct {
	ProviderID    int64  `json:"provider_id"`
	Provider      string `json:"provider"`
	UpstreamModel string `json:"upstream_model"`
	Namespace     string `json:"namespace"`
	Model         string `json:"model"`
	RouteGroup    string `json:"route_group"`
	ProviderGroup string `json:"provider_group"`
	Priority      int    `json:"priority"`
	Weight        int    `json:"weight"`
}

// Explain says why the key with the id can or cannot reach a model, as balancers see it.
func (c *Client) Explain(ctx context.Context, keyID int64, model string) (e Explanation, err error) {
	query := url.Values{"key_id": {strconv.FormatInt(keyID, 10)}, "model": {model}}
	_, err = c.do(ctx, call{method: http.MethodGet, path: "explain", query: query, again: againAlways}, &e)
	return e, err
}

// decodeNumbers reads JSON and keeps numbers as they are written.
func decodeNumbers(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return dec.Decode(into)
}
