package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

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
	buf := h.inbox.buffer()
	defer h.inbox.put(buf)
	if err := h.inbox.read(buf, r); err != nil {
		return err
	}
	decoded, err := h.decode(r.Context(), buf.Bytes(), media)
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

const (
	maxWindow = 8 << 20 // bytes of history that a zstd stream may ask us to keep
	keepBelow = 1 << 20 // larger buffers are not kept for the next request

	// maxHeld is how many bytes of bodies may be here at once, read and not yet
	// answered. What they are decoded to takes some times as much.
	maxHeld = 4 * logbuf.MaxBody
)

// errHeld refuses a body for the sake of those that are here already.
var errHeld = fmt.Errorf("%w: too many bodies at once", logbuf.ErrFull)

// inbox reads bodies, with what earlier requests no longer need.
type inbox struct {
	buffers sync.Pool // of *bytes.Buffer
	gzips   sync.Pool // of *gzip.Reader
	zstds   sync.Pool // of *zstd.Decoder
	held    atomic.Int64
}

func (in *inbox) buffer() *bytes.Buffer {
	if b, ok := in.buffers.Get().(*bytes.Buffer); ok {
		return b
	}
	return new(bytes.Buffer)
}

func (in *inbox) put(b *bytes.Buffer) {
	in.held.Add(-int64(b.Len()))
	if b.Cap() <= keepBelow {
		b.Reset()
		in.buffers.Put(b)
	}
}

// read reads a whole body into buf, decompressed.
func (in *inbox) read(buf *bytes.Buffer, r *http.Request) error {
	if in.held.Load()+max(r.ContentLength, 0) > maxHeld {
		return errHeld
	}
	var err error
	switch encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
		if r.ContentLength > logbuf.MaxBody {
			return request.TooLarge(logbuf.MaxBody)
		}
		err = in.readInto(buf, r.Body)
	case "gzip", "x-gzip":
		err = in.gunzip(buf, r.Body)
	case "zstd":
		err = in.unzstd(buf, r.Body)
	default:
		return fmt.Errorf("the body may be compressed with gzip or zstd alone: %w", request.ErrMediaType)
	}
	if err != nil && !errors.Is(err, request.ErrTooLarge) && !errors.Is(err, errHeld) {
		return fmt.Errorf("the body ends too early, or is not what Content-Encoding says: %w", request.ErrMalformed)
	}
	return err
}

func (in *inbox) gunzip(buf *bytes.Buffer, body io.Reader) error {
	z, ok := in.gzips.Get().(*gzip.Reader)
	if !ok {
		z = new(gzip.Reader)
	}
	defer in.gzips.Put(z)
	if err := z.Reset(body); err != nil {
		return err
	}
	return in.readInto(buf, z)
}

func (in *inbox) unzstd(buf *bytes.Buffer, body io.Reader) error {
	z, ok := in.zstds.Get().(*zstd.Decoder)
	if !ok {
		var err error
		// One at a time: no goroutines, so that one that is not put back needs no Close.
		if z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true)); err != nil {
			return err
		}
	}
	defer in.zstds.Put(z)
	if err := z.Reset(body); err != nil {
		return err
	}
	err := in.readInto(buf, z)
	_ = z.Reset(nil) // let go of the body
	return err
}

// readInto reads all there is, up to what a body may have.
func (in *inbox) readInto(buf *bytes.Buffer, r io.Reader) error {
	_, err := buf.ReadFrom(io.LimitReader(holder{in, r}, logbuf.MaxBody+1))
	if buf.Len() > logbuf.MaxBody {
		return request.TooLarge(logbuf.MaxBody)
	}
	return err
}

// holder counts what is read as held.
type holder struct {
	in *inbox
	r  io.Reader
}

func (h holder) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if h.in.held.Add(int64(n)) > maxHeld {
		return n, errHeld
	}
	return n, err
}
