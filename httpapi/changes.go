package httpapi

import (
	"context"

	"github.com/ez-api/ez-api/catalog"
)

type listingChanges struct {
	After int64 `query:"after" minimum:"0" default:"0" doc:"Only changes after this revision are shown."`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"About so many; what belongs to one revision is never split."`
}

type changes struct {
	Body struct {
		Data      []catalog.Change `json:"data" doc:"The changes."`
		NextAfter int64            `json:"next_after" doc:"The after of the next page. Ask again with it for what comes later."`
	}
}

func (h *Handler) changes(ctx context.Context, in *listingChanges) (*changes, error) {
	out := &changes{}
	err := h.plane.Store().Read(ctx, func(r catalog.Reader) (err error) {
		out.Body.Data, err = r.Changes(ctx, catalog.Revision(in.After), in.Limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	out.Body.NextAfter = in.After
	if n := len(out.Body.Data); n > 0 {
		out.Body.NextAfter = int64(out.Body.Data[n-1].Revision)
	} else {
		out.Body.Data = []catalog.Change{}
	}
	return out, nil
}
