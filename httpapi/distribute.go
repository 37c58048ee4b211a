package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/snapshot"
)

const (
	defaultDeltaWait = 30 * time.Second
	maxDeltaWait     = time.Minute

	// sendGrace is what a balancer may take to read what it has asked for.
	sendGrace = 5 * time.Minute
)

func snapshotOperation() *huma.Operation {
	text := &huma.Schema{Type: huma.TypeString}
	op := &huma.Operation{
		OperationID: "getSnapshot", Summary: "Load everything that is published", Tags: []string{"sync"},
		Description: "The first line is the head, and every other line is a document. The doc of a line is a string " +
			"of the exact bytes, which is what the digest covers.",
		Parameters: []*huma.Param{{
			Name: "If-None-Match", In: "header", Schema: text, Description: "The ETag of what the balancer has already.",
		}},
		Responses: map[string]*huma.Response{
			"200": {
				Description: "The snapshot.",
				Headers:     map[string]*huma.Param{"ETag": {Schema: text, Description: `"<epoch>-<revision>"`}},
				Content:     map[string]*huma.MediaType{ndjson: {Schema: text}},
			},
			"304":     {Description: "What is published has the ETag of If-None-Match."},
			"default": problemResponse("Any other problem."),
		},
	}
	addProblems(op, problemMalformed, problemInvalid, problemUnpublished, problemUnavailable)
	return op
}

// snapshot answers with everything that is published.
func (h *Handler) snapshot(w http.ResponseWriter, r *http.Request) error {
	if err := checkQuery(r, nil); err != nil {
		return err
	}
	pub := h.plane.Publisher()
	if seen := r.Header.Get("If-None-Match"); seen != "" {
		head, err := pub.Head(r.Context())
		if err == nil && strings.TrimPrefix(seen, "W/") == snapshot.ETag(head) {
			w.Header().Set("ETag", snapshot.ETag(head))
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	s, err := pub.Load(r.Context())
	if err != nil {
		return unreadable(err)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(sendGrace)) // where the server has one
	w.Header().Set("ETag", snapshot.ETag(s.Head))
	w.Header().Set("Content-Type", ndjson)
	_ = snapshot.WriteSnapshot(w, s) // the balancer has gone
	return nil
}

// unreadable is the error of a publisher that gives nothing; its cause is logged.
func unreadable(err error) error {
	if errors.Is(err, snapshot.ErrNone) || errors.Is(err, snapshot.ErrGap) {
		return err
	}
	return errors.Join(errPublished, err)
}

func deltasOperation() *huma.Operation {
	text := &huma.Schema{Type: huma.TypeString}
	op := &huma.Operation{
		OperationID: "getDeltas", Summary: "Follow what is published", Tags: []string{"sync"},
		Description: "Each line is a delta. They come as they are published, until the wait is over.",
		Parameters: []*huma.Param{
			{
				Name: "after", In: "query", Required: true,
				Schema:      &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9]+-[0-9]+$"},
				Description: "The position to go on from, <epoch>-<revision>. 0-0 waits for the first publish.",
			},
			{
				Name: "wait", In: "query", Schema: &huma.Schema{Type: huma.TypeString, Default: "30s", MaxLength: new(32)},
				Description: "How long to wait, such as 500ms or 30s; at most 1m.",
			},
		},
		Responses: map[string]*huma.Response{
			"200":     {Description: "Deltas, or none.", Content: map[string]*huma.MediaType{ndjson: {Schema: text}}},
			"default": problemResponse("Any other problem."),
		},
	}
	addProblems(op, problemGap, problemUnpublished, problemUnavailable)
	return op
}

// deltas answers with deltas as they come, until the wait is over.
func (h *Handler) deltas(w http.ResponseWriter, r *http.Request) error {
	if err := checkQuery(r, map[string]bool{"after": false, "wait": false}); err != nil {
		return err
	}
	query := r.URL.Query()
	after, err := snapshot.ParsePosition(query.Get("after"))
	if err != nil {
		return &catalog.FieldError{Field: "after", Message: "must be a position, <epoch>-<revision>"}
	}
	wait := defaultDeltaWait
	if text := query.Get("wait"); text != "" {
		if wait, err = request.Duration("wait", text, maxDeltaWait); err != nil {
			return err
		}
	}
	ctx, cancel := h.waiting(r.Context(), wait)
	defer cancel()
	out := http.NewResponseController(w)
	_ = out.SetWriteDeadline(time.Now().Add(wait + sendGrace)) // where the server has one
	for begun := false; ; begun = true {
		d, err := h.plane.Publisher().Next(ctx, after)
		switch {
		case ctx.Err() != nil:
			if !begun {
				w.Header().Set("Content-Type", ndjson)
				w.WriteHeader(http.StatusOK)
			}
			return nil
		case err != nil && begun:
			return nil // it asks again, and is told then
		case err != nil:
			return unreadable(err)
		}
		if !begun {
			w.Header().Set("Content-Type", ndjson)
		}
		if err := errors.Join(snapshot.WriteDelta(w, d), out.Flush()); err != nil {
			return nil // the balancer has gone
		}
		after = d.Head.Position
	}
}

type reporting struct{ Content request.Body }

// report records what a balancer says it has applied.
func (h *Handler) report(ctx context.Context, in *reporting) (*struct{}, error) {
	var r snapshot.Report
	if err := in.Content.Decode(&r); err != nil {
		return nil, err
	}
	if r.ID == "" || len(r.ID) > 256 {
		return nil, &catalog.FieldError{Field: "id", Message: "must be 1 to 256 bytes"}
	}
	err := h.plane.Publisher().Report(ctx, snapshot.Node{
		ID: r.ID, Position: r.Position, Digest: r.Digest, Version: cut(r.Version, 256), Error: cut(r.Error, 1024),
	})
	if err != nil {
		return nil, unreadable(err)
	}
	return nil, nil
}

// cut returns at most n bytes of what a balancer says.
func cut(s string, n int) string { return strings.ToValidUTF8(s[:min(len(s), n)], "") }
