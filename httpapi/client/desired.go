package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/ez-api/ez-api/catalog"
)

// Apply brings the catalog into a desired state, in JSON as catalog.ParseDesired reads it, and
// returns the plan that was carried out. The Tokens of the plan are in no other answer. An answer
// that was lost is therefore not asked for again, unless it is a dry run.
//
// When the plan is not the expected one, the error matches catalog.ErrPlanChanged, and when it has
// to be forced, catalog.ErrForce: then the plan that was not carried out is returned with it.
func (c *Client) Apply(ctx context.Context, state []byte, opts *catalog.ApplyOptions, more ...WriteOption) (
	catalog.Plan, error) {
	if opts == nil {
		opts = &catalog.ApplyOptions{}
	}
	query := planQuery(opts.DryRun, opts.Force, opts.Expect)
	setTexts(query, map[string]string{"owner": opts.Owner})
	setFlags(query, map[string]bool{"take_over": opts.TakeOver, "prune": opts.Prune})
	return c.plan(ctx, "apply", query, state, opts.DryRun, more)
}

// Revert brings the catalog back into the state that it had at a revision; see
// catalog.Tables.Revert, and Apply for the plan and the errors.
func (c *Client) Revert(ctx context.Context, to catalog.Revision, opts *catalog.RevertOptions, more ...WriteOption) (
	catalog.Plan, error) {
	return c.revert(ctx, map[string]catalog.Revision{"to": to}, opts, more)
}

// RevertOne takes back what was changed in one revision; see catalog.Tables.RevertOne, and Apply
// for the plan and the errors.
func (c *Client) RevertOne(ctx context.Context, revision catalog.Revision, opts *catalog.RevertOptions,
	more ...WriteOption) (catalog.Plan, error) {
	return c.revert(ctx, map[string]catalog.Revision{"revision": revision}, opts, more)
}

func (c *Client) revert(ctx context.Context, body map[string]catalog.Revision, opts *catalog.RevertOptions,
	more []WriteOption) (catalog.Plan, error) {
	if opts == nil {
		opts = &catalog.RevertOptions{}
	}
	return c.plan(ctx, "revert", planQuery(opts.DryRun, opts.Force, opts.Expect), body, opts.DryRun, more)
}

func planQuery(dryRun, force bool, expect string) url.Values {
	query := url.Values{}
	setFlags(query, map[string]bool{"dry_run": dryRun, "force": force})
	setTexts(query, map[string]string{"expect": expect})
	return query
}

// setFlags adds the parameters that are true.
func setFlags(v url.Values, flags map[string]bool) {
	for name, value := range flags {
		if value {
			v.Set(name, "true")
		}
	}
}

// plan calls an operation that answers with a plan.
func (c *Client) plan(ctx context.Context, path string, query url.Values, body any, dryRun bool,
	opts []WriteOption) (catalog.Plan, error) {
	w := newWrite(opts)
	for name, values := range w.query {
		query[name] = values
	}
	op := call{method: http.MethodPost, path: path, query: query, header: w.header, body: body}
	if dryRun {
		op.again = againAlways
	}
	var out struct {
		catalog.Plan
		Tokens []struct {
			Item       string `json:"item"`
			ID         int64  `json:"id"`
			ExternalID string `json:"external_id"`
			Name       string `json:"name"`
			Token      string `json:"token"`
		} `json:"tokens"`
	}
	header, err := c.do(ctx, op, &out)
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Plan != nil {
			return *e.Plan, err
		}
		return catalog.Plan{}, err
	}
	w.done(header)
	for _, t := range out.Tokens {
		out.Plan.Tokens = append(out.Plan.Tokens, catalog.IssuedToken{
			Item: t.Item, ID: t.ID, ExternalID: t.ExternalID, Name: t.Name, Token: catalog.NewSecret(t.Token),
		})
	}
	return out.Plan, nil
}

// Export writes the catalog as a desired state, in JSON, to w, as it comes. After an error what was
// written is not the whole.
func (c *Client) Export(ctx context.Context, w io.Writer) error {
	resp, err := c.open(ctx, call{method: http.MethodGet, path: "export"}, nil)
	if err != nil {
		return fmt.Errorf("GET export: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // what there is of it explains the status
		return fmt.Errorf("GET export: %w", newError(resp, text))
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("GET export: %w", err)
	}
	return nil
}
