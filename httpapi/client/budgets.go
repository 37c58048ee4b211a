package client

import (
	"context"
	"net/url"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// BudgetsQuery selects budgets. Zero fields do not restrict.
type BudgetsQuery struct {
	Project string // of this one and all below it, and of their keys
	KeyID   int64
	Over    int64  // percent of the limit that is spent at least
	Limit   int    // keys and projects of one page; 0 is the server's default
	Cursor  string // Next of the page before
}

// Budget is how a budget stands.
type Budget struct {
	Target  string `json:"target"` // key/ID or project/PATH
	KeyID   int64  `json:"key_id,omitzero"`
	Project string `json:"project,omitempty"` // it, or the one that the key is in
	catalog.Budget
	Begins   time.Time       `json:"begins,omitzero"` // of the window that lasts now
	Ends     time.Time       `json:"ends,omitzero"`
	Spent    catalog.NanoUSD `json:"spent"`
	Percent  int64           `json:"percent"`
	Unpriced int64           `json:"unpriced_requests"`
	Holds    bool            `json:"holds"` // it is used up, and the key or the project is held for that
}

// Budgets returns a page of budgets, those of projects first.
func (c *Client) Budgets(ctx context.Context, q BudgetsQuery) (Page[Budget], error) {
	v := url.Values{}
	setTexts(v, map[string]string{"project": q.Project, "cursor": q.Cursor})
	setNumbers(v, map[string]int64{"key_id": q.KeyID, "over": q.Over, "limit": int64(q.Limit)})
	return getPage[Budget](ctx, c, "budgets", v)
}
