package httpapi

import (
	"context"
	"math/big"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/costs"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/logbuf"
)

// repriceBudget is how long one request computes costs anew, before it answers with how far it
// has come. It is well below what connections are kept open for.
const repriceBudget = time.Minute

// reprice is the body of a run that computes costs anew.
type reprice struct {
	Since         time.Time         `json:"since" doc:"Entries from this time on."`
	Until         time.Time         `json:"until,omitzero" doc:"Entries before this time. The default is now."`
	KeyID         request.Whole     `json:"key_id,omitzero" minimum:"1" doc:"Only entries of this key."`
	Project       string            `json:"project,omitempty" maxLength:"256" doc:"Only entries of this project and all below it."`
	ProviderID    request.Whole     `json:"provider_id,omitzero" minimum:"1" doc:"Only entries that this provider served."`
	Namespace     string            `json:"namespace,omitempty" maxLength:"256" doc:"Only entries of this namespace."`
	Model         string            `json:"model,omitempty" maxLength:"256" doc:"Only entries of this public name."`
	UpstreamModel string            `json:"upstream_model,omitempty" maxLength:"1024" doc:"Only entries of this model of a provider."`
	Group         string            `json:"group,omitempty" maxLength:"256" doc:"Only entries of this route group."`
	Balancer      string            `json:"balancer,omitempty" maxLength:"1024" doc:"Only entries of this balancer."`
	User          string            `json:"user,omitempty" maxLength:"1024" doc:"Only entries of this end user."`
	Tags          map[string]string `json:"tags,omitempty" maxProperties:"8" doc:"Only entries with all of these tags."`
	Status        request.Whole     `json:"status,omitzero" minimum:"100" maximum:"999" doc:"Only entries with this HTTP status."`
	Errors        bool              `json:"errors,omitzero" doc:"Only entries with a status of 400 or more, or with an error."`
	RequestID     string            `json:"request_id,omitempty" maxLength:"1024" doc:"Only the entries of this request."`

	Prices string `json:"prices,omitempty" enum:"now,then" default:"now" doc:"Which prices: those of the catalog as it is now, or as it was at the time of each entry."`
	Only   string `json:"only,omitempty" enum:"unpriced,all" default:"unpriced" doc:"Which entries: those without a cost, or all but those whose cost the balancer brought."`
	Own    bool   `json:"own,omitzero" doc:"Whether entries whose cost the balancer brought are priced, too."`
	DryRun bool   `json:"dry_run,omitzero" doc:"Whether to change nothing, and only say what would change."`
	Cursor string `json:"cursor,omitempty" maxLength:"1024" doc:"The next_cursor of a request whose time was up."`
}

// repriced says what a run has done.
type repriced struct {
	Read       int64  `json:"read" doc:"How many entries were looked at."`
	Changed    int64  `json:"changed" doc:"How many entries have another cost now."`
	Priced     int64  `json:"priced" doc:"How many entries had no cost, and have one now."`
	Unpriced   int64  `json:"unpriced" doc:"How many entries still have no cost."`
	CostBefore string `json:"cost_before" doc:"What the changed entries cost before, in USD."`
	CostAfter  string `json:"cost_after" doc:"What the changed entries cost now, in USD."`
	DryRun     bool   `json:"dry_run" doc:"Whether nothing was changed."`
	Revision   int64  `json:"revision,omitzero" doc:"The revision of the catalog that says so. Where nothing was changed, there is none."`
	NextCursor string `json:"next_cursor,omitempty" doc:"Where to go on: the time for one request was up. Without it, all was done."`
}

type repricing struct{ Content request.Body }

type repricedAnswer struct{ Body repriced }

// reprice computes the costs of stored entries anew.
func (h *Handler) reprice(ctx context.Context, in *repricing) (*repricedAnswer, error) {
	var body reprice
	if err := in.Content.Decode(&body); err != nil {
		return nil, err
	}
	asked, err := body.request()
	if err != nil {
		return nil, err
	}
	r, err := h.plane.Reprice(ctx, asked)
	if err != nil {
		return nil, err
	}
	return &repricedAnswer{repriced{
		Read: r.Read, Changed: r.Changed, Priced: r.Priced, Unpriced: r.Unpriced, DryRun: body.DryRun,
		CostBefore: usdText(r.CostBefore), CostAfter: usdText(r.CostAfter), Revision: int64(r.Revision), NextCursor: r.Next,
	}}, nil
}

func (b *reprice) request() (costs.RepriceRequest, error) {
	r := costs.RepriceRequest{
		Query: logbuf.LogQuery{
			KeyID: int64(b.KeyID), Project: b.Project, ProviderID: int64(b.ProviderID), Namespace: b.Namespace, Model: b.Model,
			UpstreamModel: b.UpstreamModel, Group: b.Group, Balancer: b.Balancer, User: b.User, Tags: b.Tags,
			Status: int(b.Status), Errors: b.Errors, RequestID: b.RequestID, Since: b.Since, Until: b.Until, Cursor: b.Cursor,
		},
		Prices: costs.RepricePrices(b.Prices), Own: b.Own, DryRun: b.DryRun, Budget: repriceBudget,
	}
	if b.Only == "all" {
		return r, nil
	}
	if b.Own {
		return r, &catalog.FieldError{Field: "own", Message: "needs only to be all: entries without a cost brought none"}
	}
	r.Query.Unpriced = true
	return r, nil
}

// usdText writes billionths of a dollar as dollars. The sum of many entries may be more than a
// catalog.NanoUSD holds.
func usdText(nano *big.Int) string {
	whole, rest := new(big.Int).QuoRem(nano, big.NewInt(1_000_000_000), new(big.Int))
	if rest.Sign() == 0 {
		return whole.String()
	}
	digits := rest.String()
	return whole.String() + "." + strings.TrimRight(strings.Repeat("0", 9-len(digits))+digits, "0")
}
