package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/outbox"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/snapshot"
)

// planAnswer answers with a plan.
type planAnswer struct {
	request.Progress
	Body planResult
}

type planResult struct {
	catalog.Plan
	Tokens []issuedToken `json:"tokens,omitempty" doc:"The tokens that were made for new keys. Only this answer shows them."`
}

// issuedToken is the token of a new key.
type issuedToken struct {
	Item       string `json:"item" doc:"What of the request the key comes from, such as keys[3]."`
	ID         int64  `json:"id" doc:"The id of the key."`
	ExternalID string `json:"external_id,omitempty" doc:"The external_id of the key."`
	Name       string `json:"name" doc:"The name of the key."`
	Token      string `json:"token" doc:"The secret by which the client is known."`
}

// answer makes the answer of a plan that was made or carried out. What was refused has the plan
// besides.
func (h *Handler) answer(ctx context.Context, in request.CarryOut, limit time.Duration, plan catalog.Plan,
	err error) (*planAnswer, error) {
	if err != nil {
		p := h.problem(ctx, err)
		if errors.Is(err, catalog.ErrPlanChanged) || errors.Is(err, catalog.ErrForce) {
			p.Plan = &plan
		}
		return nil, p
	}
	out := &planAnswer{Body: planResult{Plan: plan}}
	for _, t := range plan.Tokens {
		out.Body.Tokens = append(out.Body.Tokens, issuedToken{t.Item, t.ID, t.ExternalID, t.Name, t.Token.Reveal()})
	}
	if in.DryRun {
		err := h.plane.Store().Read(ctx, func(r catalog.Reader) error {
			n, err := snapshot.CountTouched(ctx, h.plane.Tables, r, plan.Feed)
			out.Body.Documents = &n
			return err
		})
		return out, err
	}
	if plan.Applied {
		out.Progress = h.follow(ctx, in.Wait.Wait, limit, plan.Revision)
	}
	return out, nil
}

// takeTurn reads what the request says, and waits for its turn: a plan may take as much memory as
// the catalog, so one is made at a time. done ends the turn.
func (h *Handler) takeTurn(ctx context.Context, in request.CarryOut) (limit time.Duration, done func(), err error) {
	if limit, err = in.Limit(); err != nil {
		return 0, nil, err
	}
	select {
	case h.planning <- struct{}{}:
		return limit, func() { <-h.planning }, nil
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
}

const applyText = "Of each kind that the body names it has all resources that are wanted. They are found by " +
	"external_id, or else by the fields that make them unique, and are created, or made equal: fields that are left " +
	"out get their defaults, but status, the labels owner and protected, a secret, tokens and prices that an importer " +
	"has set stay as they are. It is one revision, or none if there is nothing to do. References and what is unique are " +
	"judged by what there is at the end, so the order does not matter. At most 100,000 resources and 64 MiB."

type applying struct {
	request.CarryOut
	Owner    string `query:"owner" maxLength:"256" doc:"Labels everything owner=NAME, and refuses to touch what belongs to another owner, or to none."`
	TakeOver bool   `query:"take_over" default:"false" doc:"Whether what belongs to another owner, or to none, becomes the owner's."`
	Prune    bool   `query:"prune" default:"false" doc:"Whether to delete what the owner owns, of the kinds that the body names, and the body does not have. What has the label protected=true stays."`
	Content  request.Large
}

// apply brings the catalog into a desired state.
func (h *Handler) apply(ctx context.Context, in *applying) (*planAnswer, error) {
	limit, done, err := h.takeTurn(ctx, in.CarryOut)
	if err != nil {
		return nil, err
	}
	data, err := in.Content.Bytes(request.JSON)
	if err != nil {
		done()
		return nil, err
	}
	plan, err := h.planState(in.Cascade.In(ctx), in, data)
	done()
	return h.answer(ctx, in.CarryOut, limit, plan, err)
}

func (h *Handler) planState(ctx context.Context, in *applying, data []byte) (catalog.Plan, error) {
	state, err := catalog.ParseDesired(data)
	if err != nil {
		return catalog.Plan{}, err
	}
	opts := catalog.PlanOptions{Owner: in.Owner, TakeOver: in.TakeOver, Prune: in.Prune}
	return h.plane.Apply(ctx, state, &catalog.ApplyOptions{
		PlanOptions: opts, Expect: in.Expect, Force: in.Force, DryRun: in.DryRun,
	})
}

const revertText = "With to, everything becomes what it was at that revision. With revision, what that one revision " +
	"has changed is taken back; what was changed again since is a conflict. Either way it is a new " +
	"revision. Secrets and " +
	"tokens of what exists stay. What was deleted comes back under its old id: a provider disabled and without api_key, " +
	"and a key with a new token, which is in the answer."

type reverting struct {
	request.CarryOut
	Content request.Body
}

// reversion is the body of a return to how the catalog was.
type reversion struct {
	To       *request.Whole `json:"to,omitempty" minimum:"0" doc:"The revision to return to."`
	Revision *request.Whole `json:"revision,omitempty" minimum:"1" doc:"The revision to take back."`
}

// revert returns to how the catalog was.
func (h *Handler) revert(ctx context.Context, in *reverting) (*planAnswer, error) {
	if _, err := in.Limit(); err != nil { // before anything takes its turn
		return nil, err
	}
	var body reversion
	if err := in.Content.Decode(&body); err != nil {
		return nil, err
	}
	switch {
	case body.To != nil && body.Revision != nil:
		return nil, &catalog.FieldError{Field: "revision", Message: "must not be sent together with to; send one of the two"}
	case body.To == nil && body.Revision == nil:
		return nil, &catalog.FieldError{Field: "to", Message: "is required, or else revision; send one of the two"}
	}
	limit, done, err := h.takeTurn(ctx, in.CarryOut)
	if err != nil {
		return nil, err
	}
	opts := &catalog.RevertOptions{Expect: in.Expect, Force: in.Force, DryRun: in.DryRun}
	var plan catalog.Plan
	if body.To != nil {
		plan, err = h.plane.Revert(in.Cascade.In(ctx), catalog.Revision(*body.To), opts)
	} else {
		plan, err = h.plane.RevertOne(in.Cascade.In(ctx), catalog.Revision(*body.Revision), opts)
	}
	done()
	return h.answer(ctx, in.CarryOut, limit, plan, err)
}

func exportOperation() *huma.Operation {
	op := &huma.Operation{
		OperationID: "exportState", Summary: "Show the catalog as a desired state", Tags: []string{"export"},
		Description: "Applied again, it changes nothing. It has no secrets and no tokens. A resource " +
			"without external_id has " +
			"its id, which counts in this catalog, named by store, and in no other.",
		Responses: map[string]*huma.Response{
			"200": {
				Description: "The catalog at one revision, an entity a line.",
				Content:     map[string]*huma.MediaType{request.JSON: {Schema: refTo("DesiredState")}},
			},
			"default": problemResponse("Any other problem."),
		},
	}
	addProblems(op, problemCrowded)
	return op
}

const (
	// exportsAtOnce is how many exports are read at once, so that slow clients cannot hold all
	// connections of the catalog, and exportTurn how long another waits for its turn.
	exportsAtOnce = 2
	exportTurn    = 10 * time.Second
)

// export shows the catalog as a desired state.
func (h *Handler) export(w http.ResponseWriter, r *http.Request) error {
	turn, cancel := context.WithTimeout(r.Context(), exportTurn)
	defer cancel()
	select {
	case h.exports <- struct{}{}:
		defer func() { <-h.exports }()
	case <-turn.Done():
		return cmp.Or(r.Context().Err(), errExporting)
	}
	out := &partWriter{w: w}
	err := h.plane.Export(r.Context(), out)
	if err != nil && out.begun {
		h.log.WarnContext(r.Context(), "an export was broken off", "error", err, "request_id", exchangeOf(r.Context()).id)
		panic(http.ErrAbortHandler) // whoever reads it has to see that it has no end
	}
	return err
}

// partWriter sends an answer part by part, for meanwhile a transaction is open.
type partWriter struct {
	w     http.ResponseWriter
	begun bool
}

func (w *partWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.begun = true
		w.w.Header().Set("Content-Type", request.JSON)
	}
	n, err := outbox.Through(w.w).Write(p)
	if err != nil {
		return n, fmt.Errorf("write an answer: %w", err)
	}
	return n, nil
}
