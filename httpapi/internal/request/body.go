package request

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// MaxBody is the most bytes that a Body may have.
const MaxBody = 1 << 20

var (
	// ErrTooLarge says that a body is larger than it may be.
	ErrTooLarge = errors.New("body too large")

	// ErrMediaType says that a body is not of a type that can be read here.
	ErrMediaType = errors.New("unsupported media type")
)

// The media types of bodies.
const (
	JSON       = "application/json"
	MergePatch = "application/merge-patch+json"
)

// Body is the raw body of a request. It is a resolver, for huma reads a body
// only to validate it, and repeats its values in what it has to say about them.
type Body struct {
	media    string
	encoding string
	data     []byte
	err      error
}

var _ huma.Resolver = (*Body)(nil)

// Resolve reads the body. What is wrong with it Bytes says.
func (b *Body) Resolve(ctx huma.Context) []error {
	b.read(ctx, MaxBody)
	return nil
}

func (b *Body) read(ctx huma.Context, limit int64) {
	b.media, b.encoding = ctx.Header("Content-Type"), ctx.Header("Content-Encoding")
	if declared, err := strconv.ParseInt(ctx.Header("Content-Length"), 10, 64); err == nil && declared > limit {
		b.err = TooLarge(limit) // unread: a client that asked first, by Expect, need not send it
		return
	}
	b.data, b.err = Read(ctx.BodyReader(), limit)
}

// Read reads all, up to a limit. The error wraps ErrTooLarge or ErrMalformed.
func Read(r io.Reader, limit int64) ([]byte, error) {
	var buf bytes.Buffer
	_, err := buf.ReadFrom(io.LimitReader(r, limit+1))
	if int64(buf.Len()) > limit {
		return nil, TooLarge(limit)
	}
	if err != nil {
		return nil, fmt.Errorf("the body ends too early: %w", ErrMalformed)
	}
	return buf.Bytes(), nil
}

// TooLarge returns the ErrTooLarge of a limit in bytes.
func TooLarge(limit int64) error {
	return fmt.Errorf("the body may have at most %d bytes: %w", limit, ErrTooLarge)
}

// MaxLarge is the most bytes that a Large body may have.
const MaxLarge = 64 << 20

// Large is a Body that may be as large as a whole catalog.
type Large struct{ body Body }

var _ huma.Resolver = (*Large)(nil)

// Resolve reads the body. What is wrong with it Bytes says.
func (l *Large) Resolve(ctx huma.Context) []error {
	l.body.read(ctx, MaxLarge)
	return nil
}

// Bytes returns the body, which must be of one of the media types or of none.
func (l *Large) Bytes(types ...string) ([]byte, error) { return l.body.Bytes(types...) }

// Bytes returns the body, which must be of one of the media types or of none.
func (b *Body) Bytes(types ...string) ([]byte, error) {
	if b.encoding != "" && !strings.EqualFold(b.encoding, "identity") {
		return nil, fmt.Errorf("the body must not be compressed here: %w", ErrMediaType)
	}
	if media, _, err := mime.ParseMediaType(b.media); b.media != "" && (err != nil || !slices.Contains(types, media)) {
		return nil, fmt.Errorf("the body must be %s: %w", strings.Join(types, " or "), ErrMediaType)
	}
	return b.data, b.err
}

// Empty reports whether there is no body.
func (b *Body) Empty() bool { return b.err == nil && len(bytes.TrimSpace(b.data)) == 0 }
