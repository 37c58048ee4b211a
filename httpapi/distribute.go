package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/outbox"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/snapshot"
)

const (
	defaultDeltaWait = 30 * time.Second
	maxDeltaWait     = time.Minute

	// untoldLook is the time between the two looks that find out that nobody tells of a delta.
	untoldLook = 2 * time.Second
)

func snapshotOperation() *huma.Operation {
	text := &huma.Schema{Type: huma.TypeString}
	op := &huma.Operation{
		OperationID: "getSnapshot", Summary: "Load everything that is published", Tags: []string{"sync"},
		Description: "Lines of JSON: {head}, then a document a line {kind, key, doc}, then {head} again. The head has the " +
			"fields that are published, as strings; a line's doc is a string of the exact bytes, which is what " +
			"the digest covers. " +
			"A document that comes again replaces what came before under its key; without doc it is gone.",
		Parameters: []*huma.Param{
			{Name: "If-None-Match", In: "header", Schema: text, Description: "The ETag of what the balancer has already."},
			{
				Name: "head", In: "query", Schema: &huma.Schema{Type: huma.TypeBoolean},
				Description: "Answer {head, beat} alone, as one JSON object.",
			},
		},
		Responses: map[string]*huma.Response{
			"200": {
				Description: "The snapshot.",
				Headers:     map[string]*huma.Param{"ETag": {Schema: text, Description: `"<epoch>-<revision>"`}},
				Content:     map[string]*huma.MediaType{ndjson: {Schema: text}, request.JSON: {}},
			},
			"304":     {Description: "What is published has the ETag of If-None-Match."},
			"default": problemResponse("Any other problem."),
		},
	}
	addProblems(op, problemMalformed, problemInvalid, problemUnpublished, problemDamaged, problemUnavailable)
	return op
}

// snapshot answers with everything that is published.
func (h *Handler) snapshot(w http.ResponseWriter, r *http.Request) error {
	if text := r.URL.Query().Get("head"); text != "" {
		if text != "true" && text != "false" {
			return &catalog.FieldError{Field: "head", Message: "must be true or false"}
		}
		if text == "true" {
			return h.head(w, r)
		}
	}
	pub := h.plane.Publisher()
	if seen := (request.Seen{IfNoneMatch: r.Header.Get("If-None-Match")}); seen.IfNoneMatch != "" {
		head, err := pub.Head(r.Context())
		if err == nil && seen.Has(snapshot.ETag(head)) {
			w.Header().Set("ETag", snapshot.ETag(head))
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	whole, err := h.exporter.Open(r.Context())
	if err != nil {
		return unreadable(err)
	}
	defer whole.Close()
	w.Header().Set("ETag", snapshot.ETag(whole.Head))
	w.Header().Set("Content-Type", ndjson)
	w.Header().Set("Content-Length", strconv.FormatInt(whole.Size(), 10))
	_, _ = whole.WriteTo(outbox.Through(w)) // the balancer has gone
	return nil
}

// head answers with the head and the last beat alone.
func (h *Handler) head(w http.ResponseWriter, r *http.Request) error {
	beat, err := h.plane.Publisher().LastBeat(r.Context())
	if err != nil {
		return unreadable(err)
	}
	head, err := h.plane.Publisher().Head(r.Context())
	switch {
	case err == nil:
		w.Header().Set("ETag", snapshot.ETag(head))
	case !errors.Is(err, snapshot.ErrNone) || beat.At.IsZero(): // else there is a beat to tell of
		return unreadable(err)
	}
	w.Header().Set("Content-Type", request.JSON)
	_ = marshal(w, snapshot.NewHeadAnswer(head, beat)) // the balancer has gone
	return nil
}

// unreadable is the error of a publisher that gives nothing; its cause is logged.
func unreadable(err error) error {
	if errors.Is(err, snapshot.ErrNone) || errors.Is(err, snapshot.ErrGap) || errors.Is(err, snapshot.ErrCorrupt) {
		return err
	}
	return errors.Join(errPublished, err)
}

func deltasOperation() *huma.Operation {
	text := &huma.Schema{Type: huma.TypeString}
	op := &huma.Operation{
		OperationID: "getDeltas", Summary: "Follow what is published", Tags: []string{"sync"},
		Description: "Deltas as they are published, until the wait is over: for each its changes, a line each as " +
			"in the snapshot, and " +
			"then {from, head}, the head after it. 410: load the snapshot again.",
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
	addProblems(op, problemGap, problemUnpublished, problemDamaged, problemUnavailable)
	return op
}

// deltas answers with deltas as they come, until the wait is over.
func (h *Handler) deltas(w http.ResponseWriter, r *http.Request) error {
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
	for begun := false; ; begun = true {
		d, err := h.next(ctx, after)
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

// next waits for the delta after a position. Where it is not told of what this server knows to be published, because
// the connection that it waits on is dead, it asks anew.
func (h *Handler) next(ctx context.Context, after snapshot.Position) (snapshot.Delta, error) {
	for {
		waiting, cancel := context.WithCancelCause(ctx)
		go h.watchNext(waiting, after, cancel)
		d, err := h.plane.Publisher().Next(waiting, after)
		untold := err != nil && ctx.Err() == nil && errors.Is(context.Cause(waiting), snapshot.ErrUntold)
		cancel(nil)
		if !untold {
			return d, err
		}
	}
}

// watchNext ends a wait after a position with ErrUntold when something later was published at two looks in a row.
func (h *Handler) watchNext(waiting context.Context, after snapshot.Position, end context.CancelCauseFunc) {
	for missed := false; ; {
		select {
		case <-waiting.Done():
			return
		case <-time.After(untoldLook):
		}
		later := h.plane.Relay().Status().Published.After(after)
		if later && missed {
			end(snapshot.ErrUntold)
			return
		}
		missed = later
	}
}

// nodeReport is what a balancer reports, for the OpenAPI document: it is read by
// snapshot.ParseNode, with every field that it may have, for all are signed.
type nodeReport struct {
	ID       string `json:"id" minLength:"1" maxLength:"200" doc:"The balancer's name and a random part, new in each process."`
	Position string `json:"position" maxLength:"40" pattern:"^[0-9]+-[0-9]+$" doc:"What it serves, <epoch>-<revision>; 0-0 is nothing."`
	Head     string `json:"head,omitempty" maxLength:"1024" doc:"The sig of the head that it serves."`
	Kinds    string `json:"kinds,omitempty" maxLength:"1024" doc:"The kinds of documents that it serves, sorted, separated by commas."`
	Store    string `json:"store,omitempty" maxLength:"1024" doc:"The catalog that it serves, as the head names it."`
	Version  string `json:"version,omitempty" maxLength:"1024" doc:"Of the program."`
	Error    string `json:"error,omitempty" maxLength:"1024" doc:"Its last problem; it begins with damaged: when digests or signatures are wrong."`
	Leaving  string `json:"leaving,omitempty" enum:"1" doc:"It stops in good order: its report is taken away."`
	Sig      string `json:"sig,omitempty" maxLength:"1024" doc:"Signature of all other fields, with a sync key."`
}

type reporting struct {
	Age     string `query:"age" maxLength:"32" doc:"How long ago a mirror has heard of it, which passes it on."`
	Content request.Body
}

type reported struct{ Body snapshot.ReportAnswer }

const (
	// maxAge bounds how old a report may be that is passed on.
	maxAge = 24 * time.Hour

	// maxAhead bounds how far ahead of the clock an epoch may be, which is a time.
	maxAhead = 24 * time.Hour
)

// report records what a balancer says it has applied.
func (h *Handler) report(ctx context.Context, in *reporting) (*reported, error) {
	var age time.Duration
	var err error
	if in.Age != "" {
		if age, err = request.Duration("age", in.Age, maxAge); err != nil {
			return nil, err
		}
	}
	text, err := in.Content.Bytes(request.JSON)
	if err != nil {
		return nil, err
	}
	if !json.Valid(text) || !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return nil, fmt.Errorf("a report is a JSON object: %w", request.ErrMalformed)
	}
	n, err := snapshot.ParseNode(text)
	if err != nil {
		return nil, err
	}
	if int64(n.Position.Epoch) > h.plane.Now().Add(maxAhead).Unix() {
		return nil, &catalog.FieldError{Field: "position", Message: "has an epoch that is more than a day ahead"}
	}
	n.Age = age
	answer, err := h.plane.Publisher().Report(ctx, n)
	if err != nil {
		return nil, unreadable(err)
	}
	return &reported{snapshot.NewReportAnswer(answer)}, nil
}
