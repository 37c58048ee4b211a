package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/logbuf"
)

// accepted answers to POST /logs.
type accepted struct {
	Accepted   int                `json:"accepted" doc:"Entries that were taken."`
	Rejected   []logbuf.Rejection `json:"rejected" doc:"Entries that are not acceptable, and why."`
	Durability logbuf.Durability  `json:"durability" enum:"memory,disk" doc:"What the taken entries survive: memory: queued in this process, drained when it ends, lost when it crashes; disk: everything."`
}

// ingest takes access logs. It is the one hot path: under overload it refuses
// before it reads, or at least before it decodes, and it appends nothing before all is read.
func (h *Handler) ingest(w http.ResponseWriter, r *http.Request) error {
	if err := h.plane.LogsReady(); err != nil {
		return err
	}
	media, err := logsMedia(r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	d := h.inbox.begin(w)
	defer d.end()
	if err := d.read(r); err != nil {
		return err
	}
	decoded, err := h.decodeInTime(r.Context(), d.buf.Bytes(), media)
	if err != nil {
		return err
	}
	defer h.decoder.Recycle(decoded)
	if h.observer != nil {
		h.observer.Ingest(decoded)
	}
	if len(decoded.Entries) == 0 {
		return noneValid(decoded.Rejected)
	}
	if err := h.plane.AppendLogs(r.Context(), decoded.Entries...); err != nil {
		return err
	}
	answer := accepted{len(decoded.Entries), decoded.Rejected, h.plane.Logs().Stats().Durability}
	if answer.Rejected == nil {
		answer.Rejected = []logbuf.Rejection{}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(answer) // the entries are taken, whether that is heard or not
	return nil
}

// decode decodes no more bodies at once than there are processors: it would not
// be faster, and those that wait learn meanwhile whether there is still room.
func (h *Handler) decode(ctx context.Context, body []byte, media string) (logbuf.Decoded, error) {
	select {
	case h.decoding <- struct{}{}:
		defer func() { <-h.decoding }()
	case <-ctx.Done():
		return logbuf.Decoded{}, ctx.Err()
	}
	if err := h.plane.LogsReady(); err != nil {
		return logbuf.Decoded{}, err
	}
	return h.decoder.Decode(body, media)
}

// decodeInTime decodes a body, once more where the store's clock had to be read first: when times are
// wrong or not given, it may be our clock that is wrong. Nobody's turn to decode is held up by that.
func (h *Handler) decodeInTime(ctx context.Context, body []byte, media string) (logbuf.Decoded, error) {
	decoded, err := h.decode(ctx, body, media)
	if err != nil || decoded.Undated == 0 && !slices.ContainsFunc(decoded.Rejected, isBadTime) {
		return decoded, err
	}
	read, err := h.plane.LogClockReady(ctx)
	switch {
	case err != nil:
		return logbuf.Decoded{}, err
	case read:
		return h.decode(ctx, body, media)
	}
	return decoded, nil
}

func isBadTime(r logbuf.Rejection) bool { return r.Reason == logbuf.BadTime }

// logsMedia checks the type of a body of entries. None is JSON.
func logsMedia(header string) (string, error) {
	if header == "" {
		return request.JSON, nil
	}
	media, _, err := mime.ParseMediaType(header)
	if err == nil {
		switch media {
		case request.JSON, "application/x-ndjson", "application/ndjson", "application/jsonl":
			return media, nil
		}
	}
	return "", fmt.Errorf("the body must be application/json or application/x-ndjson: %w", request.ErrMediaType)
}

// mostShown is how many rejected entries a 422 lists.
const mostShown = 100

// noneValid says what is wrong with a body of which nothing can be taken.
func noneValid(rejected []logbuf.Rejection) error {
	errs := catalog.FieldErrors{}
	for _, r := range rejected[:min(len(rejected), mostShown)] {
		field := "[" + strconv.Itoa(r.Index) + "]"
		if r.Field != "" {
			field += "." + r.Field
		}
		errs = append(errs, &catalog.FieldError{Field: field, Message: r.Message})
	}
	if len(errs) == 0 {
		return &catalog.FieldError{Field: "body", Message: "must hold at least one entry"}
	}
	return errs
}
