package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// Options are the settings of [New]; nil and zero fields mean the defaults.
type Options struct {
	// HTTP sends the requests. Defaults to a client without a timeout: contexts
	// say how long a call may take.
	HTTP *http.Client

	// Tries is how often a request is sent at most. Defaults to 4; with 1 it is never repeated. A
	// request is repeated when it was certainly not carried out (the server could not be reached,
	// or answered 429). If doing it twice does no harm, it is also repeated when there was no
	// answer, or the answer was 502, 503 or 504. An error that matches catalog.ErrUnconfirmed is
	// returned at once.
	Tries int

	// Backoff is about how long the first pause between two tries is; it doubles each time. A
	// longer Retry-After of the server counts instead. No pause is longer than 30 s. Defaults to
	// 200 ms.
	Backoff time.Duration

	// UserAgent is sent with each request. Defaults to "ez-api-client".
	UserAgent string
}

// Client is a client of the HTTP API. It is safe for concurrent use.
type Client struct {
	Projects  Nouns[catalog.Project]
	Providers Nouns[catalog.Provider]
	Models    Nouns[catalog.Model]
	Bindings  Nouns[catalog.Binding]
	Keys      Keys
	Operators Operators
	Holds     Nouns[catalog.Hold]

	base  *url.URL
	token catalog.Secret
	opts  Options
}

// New returns a client of the API at a URL, such as https://ez.example.com/gateway, with
// a token of the role that its calls need. It sends nothing. The error wraps
// catalog.ErrInvalid.
func New(base, token string, opts *Options) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, &catalog.FieldError{Field: "url", Message: "must be an http or https URL without a query"}
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, &catalog.FieldError{Field: "token",
			Message: "must be printable ASCII without spaces; is there a line feed at its end?"}
	}
	c := &Client{base: u, token: catalog.NewSecret(token)}
	if opts != nil {
		c.opts = *opts
	}
	if c.opts.HTTP == nil {
		c.opts.HTTP = &http.Client{}
	}
	if c.opts.Tries <= 0 {
		c.opts.Tries = 4
	}
	if c.opts.Backoff <= 0 {
		c.opts.Backoff = 200 * time.Millisecond
	}
	if c.opts.UserAgent == "" {
		c.opts.UserAgent = "ez-api-client"
	}
	c.Projects = nounsOf[catalog.Project](c, catalog.KindProject)
	c.Providers = nounsOf[catalog.Provider](c, catalog.KindProvider)
	c.Models = nounsOf[catalog.Model](c, catalog.KindModel)
	c.Bindings = nounsOf[catalog.Binding](c, catalog.KindBinding)
	c.Keys = Keys{nounsOf[catalog.Key](c, catalog.KindKey)}
	c.Operators = Operators{nounsOf[catalog.Operator](c, catalog.KindOperator)}
	c.Holds = nounsOf[catalog.Hold](c, catalog.KindHold)
	return c, nil
}

func nounsOf[T catalog.Noun](c *Client, kind catalog.Kind) Nouns[T] {
	return Nouns[T]{resource[wire[T]]{c, kind}}
}

// call is one call of an operation.
type call struct {
	method string
	path   string
	query  url.Values
	body   any // nil: none; []byte as it is; else written as JSON
	header http.Header
	again  again
}

const (
	maxAnswer = 256 << 20 // bytes; the plan of a whole catalog is the longest

	mergePatch = "application/merge-patch+json"
)

// do calls an operation, again where that is safe, and reads its answer into out.
func (c *Client) do(ctx context.Context, op call, out any) (http.Header, error) {
	body, err := encodeBody(op.body)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		answer, err := c.send(ctx, op, body)
		if err == nil {
			return answer.header, answer.decode(out)
		}
		pause, ok := c.pause(op, err, try)
		if !ok {
			return nil, fmt.Errorf("%s %s: %w", op.method, op.path, err)
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, fmt.Errorf("%s %s: %w", op.method, op.path, err)
		}
		if op.again == againOrGone { // the try before may have deleted it
			op.again = againAndGone
		}
	}
}

func encodeBody(v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []byte:
		return v, nil
	default:
		return json.Marshal(v)
	}
}

// answer is an answer that was read.
type answer struct {
	header http.Header
	body   []byte
}

func (a answer) decode(out any) error {
	if out == nil || len(a.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		return fmt.Errorf("the answer cannot be read: %w", err)
	}
	return nil
}

// send sends a request once, and reads the answer.
func (c *Client) send(ctx context.Context, op call, body []byte) (answer, error) {
	resp, err := c.open(ctx, op, body)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer{}, err
	case len(text) > maxAnswer:
		return answer{}, errors.New("the answer is too large")
	case resp.StatusCode == http.StatusNotFound && op.again == againAndGone:
		return answer{header: resp.Header}, nil
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return answer{}, newError(resp, text)
	}
	return answer{resp.Header, text}, nil
}

// open sends a request once. The body of the answer is to be read, and closed.
func (c *Client) open(ctx context.Context, op call, body []byte) (*http.Response, error) {
	u := c.base.JoinPath(op.path)
	u.RawQuery = op.query.Encode()
	r, err := http.NewRequestWithContext(ctx, op.method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range op.header {
		r.Header[name] = values
	}
	if body != nil && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("User-Agent", c.opts.UserAgent)
	if !c.token.IsZero() {
		r.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	}
	return c.opts.HTTP.Do(r)
}
