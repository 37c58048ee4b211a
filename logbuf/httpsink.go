package logbuf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/klauspost/compress/gzip"
)

var _ Sink = (*HTTPSink)(nil)

// HTTPOptions are the settings of an [HTTPSink]; nil and zero fields mean the defaults.
type HTTPOptions struct {
	// Client makes the requests. Defaults to a client that waits as long as the
	// queue's WriteTimeout lets it.
	Client *http.Client

	// Gzip compresses bodies, to a tenth or less, for 2 microseconds an entry.
	// Defaults to off.
	Gzip bool

	// Dead is told about each entry that the receiver does not take and never
	// will; otherwise only a counter knows. It must not keep the queue waiting.
	// Defaults to nothing.
	Dead func(Entry, Rejection)
}

// An HTTPSink sends entries to the POST /logs of a control plane. With a [Queue]
// in front of it, which makes ids, collects batches and tries again, it is what a
// balancer embeds: sending an entry twice stores it once.
//
// Entries that the receiver rejects are counted as dead. When the receiver is
// overloaded or not there, the queue tries again, no sooner than Retry-After
// says. Answers that an operator has to do something about, such as 401, are
// errors that wrap [ErrPaused]. An HTTPSink is safe for concurrent use; one
// write at a time is under way.
type HTTPSink struct {
	url   string
	token string
	opts  HTTPOptions

	mu   sync.Mutex
	body bytes.Buffer
	gzip *gzip.Writer
}

// NewHTTPSink returns a sink that posts to baseURL + "/logs" with a bearer token
// of the role balancer.
func NewHTTPSink(baseURL, token string, opts *HTTPOptions) *HTTPSink {
	s := &HTTPSink{url: strings.TrimRight(baseURL, "/") + "/logs", token: token}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Client == nil {
		s.opts.Client = &http.Client{}
	}
	return s
}

// Write implements [Sink]. A batch that is too large for one request is sent in
// several; when one fails, all are sent again. There is no checkpoint.
func (s *HTTPSink) Write(ctx context.Context, b Batch) (Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(ctx, b.Entries, MaxEntries)
}

// send sends entries, at most limit in a request.
func (s *HTTPSink) send(ctx context.Context, entries []Entry, limit int) (sum Result, err error) {
	for len(entries) > 0 {
		n := s.encode(entries, limit)
		if n == 0 { // to try again would be no better
			sum.Dead += s.dead(entries[:1], BadTime, "ts is no time that JSON can hold").Dead
			entries = entries[1:]
			continue
		}
		r, err := s.post(ctx, entries[:n])
		if isTooLarge(err) {
			// A proxy's limit is lower than ours: halve until it fits.
			if n > 1 {
				r, err = s.send(ctx, entries[:n], (n+1)/2)
			} else {
				r, err = s.dead(entries[:1], TooLarge, "is too large for the receiver"), nil
			}
		}
		if err != nil {
			return Result{}, err
		}
		sum.Stored += r.Stored
		sum.Dead += r.Dead
		entries = entries[n:]
	}
	return sum, nil
}

// encode makes a body of as many entries as fit a request: at least one, or
// none when the first has a time that JSON does not know.
func (s *HTTPSink) encode(entries []Entry, limit int) (n int) {
	s.body.Reset()
	for n < len(entries) && n < limit {
		before := s.body.Len()
		err := json.MarshalWrite(&s.body, &entries[n])
		s.body.WriteByte('\n')
		if err != nil || s.body.Len() > MaxBody && n > 0 {
			s.body.Truncate(before)
			break
		}
		n++
	}
	return n
}

// post sends the body, which holds the given entries.
func (s *HTTPSink) post(ctx context.Context, entries []Entry) (Result, error) {
	body := s.body.Bytes()
	if s.opts.Gzip {
		var err error
		if body, err = s.compress(body); err != nil {
			return Result{}, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		// The URL is not said: it may hold a password.
		return Result{}, fmt.Errorf("%w: log shipper: the URL cannot be used", ErrPaused)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+s.token)
	if s.opts.Gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := s.opts.Client.Do(req)
	if err != nil {
		return Result{}, fmt.Errorf("log shipper: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Result{}, fmt.Errorf("log shipper: read the answer: %w", err)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted:
		return s.accepted(entries, answer)
	case http.StatusUnprocessableEntity:
		// A proxy's word is not enough to give entries up.
		media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		if media == "application/problem+json" {
			return s.dead(entries, Refused, "is not valid, says the receiver"), nil
		}
	}
	return Result{}, answerError(resp)
}

// maxAnswer is how much of an answer is read: room for 10,000 rejections.
const maxAnswer = 4 << 20

// accepted reads the answer to a request that was taken.
func (s *HTTPSink) accepted(entries []Entry, answer []byte) (Result, error) {
	var a struct {
		Accepted int         `json:"accepted"`
		Rejected []Rejection `json:"rejected"`
	}
	if err := json.Unmarshal(answer, &a); err != nil || a.Accepted+len(a.Rejected) != len(entries) {
		return Result{}, errors.New("log shipper: the answer is not one of POST /logs")
	}
	if s.opts.Dead != nil {
		for _, r := range a.Rejected {
			if r.Index >= 0 && r.Index < len(entries) {
				r.Reason = Refused
				s.opts.Dead(entries[r.Index], r)
			}
		}
	}
	return Result{Stored: a.Accepted, Dead: len(a.Rejected)}, nil
}

// dead gives entries up.
func (s *HTTPSink) dead(entries []Entry, reason Reason, message string) Result {
	if s.opts.Dead != nil {
		for i, e := range entries {
			s.opts.Dead(e, Rejection{Index: i, Message: message, Reason: reason})
		}
	}
	return Result{Dead: len(entries)}
}

func (s *HTTPSink) compress(body []byte) ([]byte, error) {
	var out bytes.Buffer
	if s.gzip == nil {
		s.gzip, _ = gzip.NewWriterLevel(&out, gzip.BestSpeed) // the level is a valid one
	} else {
		s.gzip.Reset(&out)
	}
	_, err := s.gzip.Write(body)
	if err = errors.Join(err, s.gzip.Close()); err != nil {
		return nil, fmt.Errorf("log shipper: compress: %w", err)
	}
	return out.Bytes(), nil
}

// statusError is an answer that is neither 202 nor 422.
type statusError struct {
	status int
	after  time.Duration
}

func (e *statusError) Error() string {
	return fmt.Sprintf("log shipper: the receiver answered %d %s", e.status, http.StatusText(e.status))
}

// Unwrap returns ErrPaused when trying again helps only after somebody has done
// something: changed the token, the URL, the receiver.
func (e *statusError) Unwrap() error {
	switch {
	case e.status >= 500, e.status == http.StatusTooManyRequests, e.status == http.StatusRequestTimeout,
		e.status == http.StatusTooEarly:
		return nil
	}
	return ErrPaused
}

// RetryAfter returns how long the receiver asks to be left alone.
func (e *statusError) RetryAfter() time.Duration { return e.after }

func isTooLarge(err error) bool {
	var e *statusError
	return errors.As(err, &e) && e.status == http.StatusRequestEntityTooLarge
}

// maxRetryAfter bounds what a receiver, or a proxy on the way, may ask for.
const maxRetryAfter = 5 * time.Minute

func answerError(resp *http.Response) error {
	e := &statusError{status: resp.StatusCode}
	text := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		e.after = time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		e.after = min(max(time.Until(at), 0), maxRetryAfter)
	}
	return e
}
