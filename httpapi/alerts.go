package httpapi

import (
	"context"

	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/httpapi/internal/request"
)

type listingAlerts struct {
	request.Page
	Kind string `query:"kind" enum:"budget_threshold,budget_exhausted,provider_held,provider_failing,provider_recovered,node_lost,publishing_failing,dead_letters,unknown_price,key_expiring,test" doc:"Only alerts of this kind."`
}

// alerts answers with a page of alerts. Its cursor is that of an id, as in lists of entities; the ids fall.
func (h *Handler) alerts(ctx context.Context, in *listingAlerts) (*page[alerts.Alert], error) {
	before, err := in.After()
	if err != nil {
		return nil, err
	}
	q := alerts.Query{Before: before, Kind: alerts.Kind(in.Kind), Project: within(ctx, ""), Limit: in.Limit + 1}
	found, err := h.plane.Alerts(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &page[alerts.Alert]{}
	if len(found) > in.Limit { // one more tells whether there is a next page
		found = found[:in.Limit]
		out.Body.NextCursor = request.Cursor(found[in.Limit-1].ID)
	}
	out.Body.Data = append([]alerts.Alert{}, found...)
	return out, nil
}

type alertAnswer struct{ Body alerts.Alert }

func (h *Handler) testAlert(ctx context.Context, _ *struct{}) (*alertAnswer, error) {
	trial, err := h.plane.TestAlert(ctx)
	return &alertAnswer{trial}, err
}
