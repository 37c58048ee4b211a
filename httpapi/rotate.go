package httpapi

import (
	"context"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
)

type rotating struct {
	request.ID
	request.Match
	request.Wait
	Content request.Body
}

// rotation is the body of a rotation; there may be none.
type rotation struct {
	GraceSeconds request.Whole `json:"grace_seconds,omitempty" minimum:"0" maximum:"2592000" default:"0" doc:"How many seconds the current tokens stay valid."`
}

// serveRotation registers the operation that gives an entity of a noun a new token.
func serveRotation[T catalog.Noun, W any](
	h *Handler, words string, table catalog.Table[T],
	rotate func(context.Context, int64, time.Duration, catalog.Revision) (T, error), show func(T) W,
) {
	kind := table.Kind()
	do := func(ctx context.Context, in *rotating) (*shown[W], error) {
		id, match, wait, err := aim(in.ID, in.Match, in.Wait)
		if err != nil {
			return nil, err
		}
		var r rotation
		if !in.Content.Empty() {
			if err := in.Content.Decode(&r); err != nil {
				return nil, err
			}
		}
		v, err := rotate(ctx, id, time.Duration(r.GraceSeconds)*time.Second, match)
		if err != nil {
			return nil, matched(match, err)
		}
		revision := table.Meta(v).Revision
		out := &shown[W]{ETag: request.ETag(revision), Body: show(v)}
		out.Progress = h.follow(ctx, in.Wait.Wait, wait, revision)
		return out, nil
	}
	handle(h, Admin, "POST /"+string(kind)+"/{id}/rotate", "rotate"+nameOf(kind), "Give "+words+" a new token", do,
		takes(optional(bodyOf("Rotation", request.JSON))), explains("Only this answer shows the new token."))
}
