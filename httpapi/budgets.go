package httpapi

import (
	"context"
	"encoding/base64"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/budgets"
)

type listingBudgets struct {
	Project string `query:"project" maxLength:"256" doc:"Only budgets of this project and of all below it, and of their keys."`
	KeyID   int64  `query:"key_id" minimum:"1" doc:"Only budgets of this key."`
	Over    int64  `query:"over" minimum:"1" maximum:"1000000" doc:"Only budgets of which at least this percentage is spent."`
	Limit   int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"Of how many keys and projects a page has the budgets at most."`
	Cursor  string `query:"cursor" maxLength:"1024" doc:"The next_cursor of the page before. Without it the first page is shown."`
}

// budgetRow is how a budget stands.
type budgetRow struct {
	Target  string `json:"target" doc:"Whose budget it is: key/ID or project/PATH."`
	KeyID   int64  `json:"key_id,omitzero" doc:"The id of the key, if it is a key's."`
	Project string `json:"project,omitempty" doc:"The project, or the one that the key is in."`
	catalog.Budget
	Begins  time.Time       `json:"begins,omitzero" doc:"When the window that lasts now began. One that is total has no beginning."`
	Ends    time.Time       `json:"ends,omitzero" doc:"When it ends. One that is total has no end."`
	Spent   catalog.NanoUSD `json:"spent" doc:"What the requests in the window have cost, in USD, as far as a number of 64 bits tells."`
	Percent int64           `json:"percent" doc:"Which percentage of the limit that is, rounded down; 100 of a limit of 0."`
	Unknown int64           `json:"unpriced_requests" doc:"How many requests in the window have a cost that is not known."`
	Holds   bool            `json:"holds" doc:"Whether the budget is used up, and the key or the project is held for that."`
}

// budgets answers with a page of budgets: those of projects, by path, then those of keys, by id.
func (h *Handler) budgets(ctx context.Context, in *listingBudgets) (*page[budgetRow], error) {
	q := budgets.Query{
		KeyID: in.KeyID, Project: within(ctx, in.Project), Over: in.Over, Limit: in.Limit,
	}
	if in.Cursor != "" {
		var err error
		if q.After, err = targetOfCursor(in.Cursor); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	found, next, err := h.plane.Budgets(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &page[budgetRow]{}
	out.Body.Data = make([]budgetRow, len(found))
	for i := range found {
		out.Body.Data[i] = newBudgetRow(&found[i])
	}
	if next != (catalog.HoldTarget{}) {
		out.Body.NextCursor = cursorOfTarget(next)
	}
	return out, nil
}

// cursorOfTarget returns the cursor of the page after a target.
func cursorOfTarget(t catalog.HoldTarget) string {
	return base64.RawURLEncoding.EncodeToString([]byte(t.String()))
}

// targetOfCursor returns the target that a page starts after.
func targetOfCursor(cursor string) (catalog.HoldTarget, error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	t, ok := catalog.ParseHoldTarget(string(text))
	if !ok || err != nil {
		return t, &catalog.FieldError{Field: "cursor", Message: "must be the next_cursor of the page before"}
	}
	return t, nil
}

func newBudgetRow(r *budgets.Report) budgetRow {
	return budgetRow{
		Target: r.Of.String(), KeyID: r.Of.KeyID, Project: r.Project, Budget: r.Budget, Begins: r.Begins, Ends: r.Ends,
		Spent: catalog.NanoUSD(r.Spent.Nearest()), Percent: r.Percent, Unknown: r.Spent.Unpriced, Holds: r.Holds,
	}
}
